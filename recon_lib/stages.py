"""The stages of a run: their names, in order, what each writes, and which of them a mode runs.

A stage's name is that of its notebook. No other list of stages or modes stands anywhere.
"""

STAGES = ("1_ingest", "2_reconviagen", "3_nvdiffrec", "4_metrics", "5_preview")
INGEST, COARSE, REFINE, METRICS, PREVIEW = STAGES
OUTPUTS = dict(zip(STAGES, ("scene", "coarse", "refined", "metrics", "preview"), strict=True))  # the folder of each
MODES = {  # by what makes the mesh: stage 2's backend, and the stages
    "both": ("reconviagen", STAGES),
    "reconviagen": ("reconviagen", tuple(stage for stage in STAGES if stage != REFINE)),
    "nvdiffrec": ("hull", STAGES),
}
FINISHED = ("done", "reused")  # the states of a stage whose result stands


def after(stage: str) -> tuple[str, ...]:
    """The stages whose results rest on this one's."""
    return STAGES[STAGES.index(stage) + 1 :]
