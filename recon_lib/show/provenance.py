"""What a run's result rests on: the photos' hashes, what was asked beyond the defaults, versions, machine, weights, licences.

Licences are those that bind what the run made, not this project's code: a component that ran may restrict its outputs.
"""

import html
from pathlib import Path
from typing import Any

from recon_lib import files
from recon_lib.show.tables import Table
from recon_lib.stages import COARSE, REFINE
from recon_lib.weights import store

MASK_OF = "mask_of_"  # with a network's name, the kind of a finding that says that it made masks
NVDIFFRAST = "NVIDIA Source Code License: for research and evaluation, so a run that used it is for research."
MACHINE = ("started", "ended", "device", "gpu", "platform", "cpus", "seed")
SHORT = 16  # digits of a hash that are shown


def section(run_dir: Path, record: dict[str, Any], defaults: dict[str, dict[str, Any]]) -> str:
    """HTML of the section; `defaults` are those of each stage's parameters, empty where nobody knows them."""
    hashes = record.get("inputs") or {}
    photos = Table(
        [(name, digest[:SHORT]) for name, digest in sorted(hashes.items())], ("file", "SHA-256, its beginning")
    )
    folded = f"<details><summary>{len(hashes)} files that were read, by hash</summary>{photos.html()}</details>"
    facts = [(name, str(record[name])) for name in MACHINE if record.get(name) not in (None, "")]
    facts += [*record.get("versions", {}).items(), *_meshes(record)]
    return (
        f"<h3>Asked beyond the defaults</h3>{_asked(record, defaults)}{folded}"
        f"<h3>Made with</h3>{Table(facts).html()}{_weights(run_dir)}"
        f"<h3>Licences that bind what was made</h3>{_licences(run_dir, record)}"
    )


def _asked(record: dict[str, Any], defaults: dict[str, dict[str, Any]]) -> str:
    rows = [
        (f"{stage}.{name}", str(value), str(defaults.get(stage, {}).get(name, "")))
        for stage, entry in record["stages"].items()
        for name, value in entry.get("parameters", {}).items()
        if name in defaults.get(stage, {}) and value != defaults[stage][name] and name != "photos"
    ]
    return Table(rows, ("parameter", "value", "default")).html() if rows else "<p>Every parameter had its default.</p>"


def _meshes(record: dict[str, Any]) -> list[tuple[str, str]]:
    name = record.get("final_mesh")
    outputs = {path: digest for entry in record["stages"].values() for path, digest in entry.get("outputs", {}).items()}
    return [(f"SHA-256 of {name}", outputs[name])] if name in outputs else []


def _weights(run_dir: Path) -> str:
    """What stage 2 says of the networks that it used, if any."""
    made = files.read_json(run_dir / "coarse" / "coarse.json") or {}
    told = {
        name: value for name, value in made.get("provenance", {}).items() if isinstance(value, str | int | float | bool)
    }
    rows = [(name, str(value)) for name, value in told.items()]
    return f"<details><summary>how the coarse mesh was made</summary>{Table(rows).html()}</details>" if rows else ""


def licences(run_dir: Path, record: dict[str, Any]) -> list[tuple[str, str]]:
    """Each component that ran and whose licence reaches to what it made, with that licence; of our own parts none does."""
    found = []
    if record["stages"].get(COARSE, {}).get("backend") == "reconviagen":
        found += [(need.id, need.licence) for need in store.NEEDED]
    if str(record["stages"].get(REFINE, {}).get("device", "cpu")) != "cpu":
        found.append(("nvdiffrast", NVDIFFRAST))
    kinds = [finding["kind"] for finding in files.read_json(run_dir / "scene" / "findings.json") or []]
    networks = [f"({kind.removeprefix(MASK_OF)})" for kind in kinds if kind.startswith(MASK_OF)]
    needs = (*store.PHOTOS, *store.ISNET)
    return found + [(need.id, need.licence) for need in needs if any(name in need.purpose for name in networks)]


def _licences(run_dir: Path, record: dict[str, Any]) -> str:
    rows = licences(run_dir, record)
    if not rows:
        return "<p>None: everything that ran is under licences that leave its outputs free. The photos' own rights remain.</p>"
    says = "<p>What this run made is bound by these, besides the photos' own rights:</p>"
    return says + Table(rows, ("component", "its licence")).html()


def summary(run_dir: Path, record: dict[str, Any]) -> str:
    """One sentence for the report's first screen; empty where nothing binds."""
    names = ", ".join(name for name, _ in licences(run_dir, record))
    return f"Licences bind what was made here: {html.escape(names)}; see below." if names else ""
