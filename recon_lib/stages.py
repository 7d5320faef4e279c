"""The stages of a run: their names in order, the folder that each writes, and the stages that each mode runs.

A stage has the name of its notebook. This is the only list of stages and modes.
"""

STAGES = ("1_ingest", "2_reconviagen", "3_nvdiffrec", "4_metrics", "5_preview")
INGEST, COARSE, REFINE, METRICS, PREVIEW = STAGES
OUTPUTS = dict(zip(STAGES, ("scene", "coarse", "refined", "metrics", "preview"), strict=True))  # the folder of each
MODES = {  # name of the mode -> backend of stage 2, stages that run
    "both": ("reconviagen", STAGES),
    "reconviagen": ("reconviagen", tuple(stage for stage in STAGES if stage != REFINE)),
    "nvdiffrec": ("hull", STAGES),
}
LIVE = ".refined.live.jpg"  # pictures of a fit that runs, in the run folder, unless a person watches it in its notebook
FINISHED = ("done", "reused")  # the states of a stage whose result is valid


def after(stage: str) -> tuple[str, ...]:
    """The stages whose results depend on this stage's result."""
    return STAGES[STAGES.index(stage) + 1 :]
