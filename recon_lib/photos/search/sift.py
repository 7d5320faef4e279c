"""Features by SIFT (Lowe 2004) and their matches, both by COLMAP."""

from pathlib import Path

import pycolmap

from recon_lib.photos.search import mapper
from recon_lib.photos.search.mapper import Matched, Shot
from recon_lib.progress import Progress

MOST_FEATURES = 2000  # per photo
AT_ONCE = 10  # so many photos are read between two reports of progress
ALL_PAIRS = 60  # so many photos are matched each with each, more in their order


def match(shots: list[Shot], folder: Path, progress: Progress) -> Matched:
    """Finds features and matches them between the photos; writes the database and shrunk photos into the folder."""
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.sift.max_num_features = MOST_FEATURES
    lenses = mapper.write_photos(shots, folder)
    with pycolmap.Database.open(folder / "matches.db"):
        pass
    done = 0
    for (_, focal), names in lenses.items():
        reader = mapper.reader(folder, names[0], focal)
        # Entered first, so that their numbers follow their order and not who is done first.
        pycolmap.import_images(folder / "matches.db", folder / "images", pycolmap.CameraMode.SINGLE, names, reader)
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            progress(0.5 * done / len(shots), f"SIFT features of {len(shots)} photos, {done} done")
            pycolmap.extract_features(
                folder / "matches.db", folder / "images", some, pycolmap.CameraMode.SINGLE, reader, extraction
            )
            done += len(some)
    progress(0.5, f"SIFT matches between {len(shots)} photos")
    match_pairs = pycolmap.match_exhaustive if len(shots) <= ALL_PAIRS else pycolmap.match_sequential
    options = pycolmap.FeatureMatchingOptions(num_threads=mapper.THREADS)
    match_pairs(folder / "matches.db", options, verification_options=mapper.verification())
    return mapper.count(folder, len(shots))
