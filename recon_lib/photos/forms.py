"""Which form a folder has: it is told by the files of cameras in it, at the top or in a folder further down.

The first that is there is read: `transforms*.json` (see `transforms`), a COLMAP model (`colmap`), exports of Metashape,
RealityScan, Polycam and Record3D (`metashape`, `realityscan`, `phones`), exactly six square images named front, back, right,
left, top, bottom (`camera.canonical_six`), and photos without cameras (`plain`). Files of `transforms*.json` at the top go
before a COLMAP model, those further down after it, and there must be one set of them.
"""

import posixpath

from recon_lib.photos import boxes, colmap, metashape, phones, plain, realityscan, transforms
from recon_lib.photos.findings import finding, named
from recon_lib.photos.folder import IMAGE_FOLDERS, Folder, is_image, is_mask
from recon_lib.photos.listing import Listing

FORMS = """needed one of
  transforms.json, or transforms_train.json with transforms_test.json, and the photos they name;
  a COLMAP model (cameras and images; .bin or .txt) in the folder, sparse/, sparse/0/ or any folder in it;
  Metashape's cameras (XML), RealityScan's (CSV), Polycam's raw data, or Record3D's frames, with the photos;
  exactly six square images named front, back, right, left, top, bottom;
  photos without cameras, in the folder or in images/, which are searched for them"""

# ends of the names of files with cameras in forms that are not read
UNREAD = ("poses_bounds.npy", ".nvm", "bundle.out", ".sfm", ".psx", ".psz", ".rcproj", ".rsproj", ".xmp", "database.db")


def is_source(label: str) -> bool:
    """Whether the file is one of cameras, in a form that is read, or of boxes."""
    return transforms.is_source(label) or colmap.is_source(label) or boxes.is_source(label)


def looks_like_photo(label: str, listed: Listing) -> bool:
    """Whether a file lies among the listed photos and is an image, but no mask."""
    places = {posixpath.dirname(photo.label) for photo in listed.photos}
    return is_image(label) and not is_mask(label) and posixpath.dirname(label) in places


def read(folder: Folder, max_bytes: float) -> Listing:
    """Lists the photos of the folder. Raises ValueError for a folder without photos."""
    places = sorted({posixpath.dirname(n) for n in folder.labels if transforms.is_source(n)}, key=_order)
    models = colmap.models(folder)
    depth = [_depth(place) for place in places]
    if places and (depth[0] == 0 or not models):
        if len(places) > 1 and depth[0] > 0 and depth[1] == depth[0]:
            needed = "one of them as the photos folder"
            raise ValueError(f"{folder.root}: form: got cameras in several folders ({named(places)}), needed {needed}")
        return _told(transforms.read(folder, places[0], max_bytes), places[0])
    if models:
        return colmap.read(folder, models, max_bytes)
    if found := metashape.sources(folder):
        return metashape.read(folder, found[0], max_bytes)
    if found := realityscan.sources(folder):
        return realityscan.read(folder, found[0], max_bytes)
    if (place := phones.polycam_place(folder)) is not None:
        return phones.read_polycam(folder, place, max_bytes)
    if (label := phones.record3d_source(folder, max_bytes)) is not None:
        return phones.read_record3d(folder, label, max_bytes)
    return _read_photos(folder)


def _read_photos(folder: Folder) -> Listing:
    """The photos of a folder in which no cameras were found."""
    listed, place = plain.read(folder, ""), ""
    if listed is None:
        holding = sorted({posixpath.dirname(n) for n in folder.labels if is_image(n) and not is_mask(n)})
        if len(holding) > 1:
            needed = "all in one folder, or cameras that name them"
            raise ValueError(
                f"{folder.root}: form: got photos in several folders ({named(holding)}), needed them {needed}"
            )
        place = holding[0] if holding else ""
        listed = plain.read(folder, place)
    if listed is not None and listed.unposed and (above := _cameras_above(folder)):
        needed = f"the folder {folder.root.parent}, with cameras and photos"
        raise ValueError(
            f"{folder.root}: form: got the photos of cameras that lie one folder up, in {above}, needed {needed}"
        )
    if listed is None:
        if archives := [n for n in folder.labels if n.lower().endswith(".zip")]:
            raise ValueError(
                f"{folder.root}: photos: got the archive {archives[0]}, needed its path as the photos folder"
            )
        if videos := [n for n in folder.labels if posixpath.splitext(n)[1].lower() in plain.VIDEOS]:
            needed = "photos: take its sharp frames with `recon frames VIDEO FOLDER`"
            raise ValueError(f"{folder.root}: photos: got the video {videos[0]}, needed {needed}")
        raise ValueError(f"{folder.root}: photos: got no photos, {FORMS}")
    if unread := [n for n in folder.labels if posixpath.basename(n).endswith(UNREAD)]:
        text = f"cameras of a form that is not read ({named(unread)}): export a COLMAP model or transforms.json"
        listed = listed._replace(findings=(*listed.findings, finding("ignored", text, unread)))
    return _told(listed, place)


def _cameras_above(folder: Folder) -> str | None:
    """Cameras beside a folder images/, given as the photos folder by mistake; None if there are none."""
    if folder.root.name.casefold() not in IMAGE_FOLDERS or not folder.follows_links:
        return None
    above = folder.root.parent
    places = [place for place in (*colmap.USUAL, "colmap_text", "distorted/sparse/0") for end in ("bin", "txt")
              if (above / place / f"images.{end}").is_file()]  # fmt: skip
    named_in = sorted(path.name for path in above.glob("transforms*.json"))
    return next(iter([*named_in, *places]), None)


def _depth(place: str) -> int:
    return len(place.split("/")) if place else 0


def _order(place: str) -> tuple[int, str]:
    return _depth(place), place


def _told(listed: Listing, place: str) -> Listing:
    """The listing, with a finding where it was not found at the top."""
    if not place:
        return listed
    return listed._replace(findings=(finding("layout", f"read from the folder {place}/ inside"), *listed.findings))
