"""Posed photos from Metashape's camera file (File > Export > Export Cameras, Agisoft XML).

Its transforms are camera-to-chunk with OpenCV axes; the chunk's own transform to a map is left out, so the world is the
chunk's. Lenses are those of the manual's appendix "Camera models": the principal point counts from the photo's middle, b1 is
added to the focal length in x, and p1 and p2 are OpenCV's p2 and p1. Camera labels are file names, mostly without the
extension.
"""

import posixpath

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml import ElementTree as xml

from recon_lib.photos import listing
from recon_lib.photos.distortion import Distortion
from recon_lib.photos.findings import Problem, counted, finding, problem
from recon_lib.photos.folder import Folder
from recon_lib.photos.listing import Entry, Lens, Listing
from recon_lib.photos.up import MEASURED

HEAD = 65536  # bytes in which the file shows what it is


def sources(folder: Folder) -> list[str]:
    """The XML files that hold Metashape's cameras, those at the top first."""
    return folder.with_head(".xml", lambda head: b"<chunk" in head and b"<sensor" in head, HEAD)


def read(folder: Folder, label: str, max_bytes: float) -> Listing:
    """Lists the photos of one XML file. Problems are returned."""
    path = folder.path(label)
    if path.stat().st_size > max_bytes:
        return _refused(problem(label, "bytes", path.stat().st_size, f"at most {max_bytes:.0f}"))
    try:
        chunk = xml.fromstring(path.read_bytes(), forbid_dtd=True).find("chunk")
        sensors = {sensor.get("id"): _read_sensor(sensor) for sensor in chunk.iterfind("sensors/sensor")}
        entries, unposed = [], 0
        for camera in chunk.find("cameras").iter("camera"):
            transform = camera.findtext("transform")
            if transform is None or camera.get("sensor_id") not in sensors:
                unposed += 1
                continue
            lens, size = sensors[camera.get("sensor_id")]
            T = np.array(transform.split(), float).reshape(4, 4) * [1, -1, -1, 1]
            entries.append(Entry(camera.get("label"), T, lens, size))
    except (xml.ParseError, DefusedXmlException, LookupError) as e:  # LookupError: an unknown encoding
        return _refused(problem(label, "XML", e, "well-formed XML without a DTD"))
    except (AttributeError, TypeError, ValueError) as e:
        return _refused(problem(label, "cameras", e, "sensors with a calibration, and cameras with a transform"))
    photos, missing, problems = listing.gather(folder, entries, posixpath.dirname(label))
    findings = [
        finding(
            "cameras", f"{counted(len(photos), 'posed photo')} from Metashape's {label}, in the chunk's own coordinates"
        )
    ]
    if unposed:
        findings.append(finding("ignored", f"{counted(unposed, 'camera')} of {label} left out: no pose"))
    return Listing(
        tuple(photos), tuple(problems), tuple(findings), None, MEASURED, stored_pixels=True,
        missing=tuple(missing), sources=(label,),
    )  # fmt: skip


def _read_sensor(sensor) -> tuple[Lens, tuple[int, int]]:
    """Raises AttributeError or ValueError where a value is absent or no number."""
    kind = sensor.get("type", "frame")
    if kind not in ("frame", "fisheye"):
        raise ValueError(f"a sensor of type {kind}")
    calibration = next((c for c in sensor.iterfind("calibration") if c.get("class") == "adjusted"), None)
    calibration = sensor.find("calibration") if calibration is None else calibration
    resolution = calibration.find("resolution")
    resolution = sensor.find("resolution") if resolution is None else resolution
    width, height = int(resolution.get("width")), int(resolution.get("height"))

    def value(name: str) -> float:
        return float(calibration.findtext(name, "0"))

    f = value("f") or value("fx")
    if not f > 0:
        raise ValueError(f"a focal length of {f:g}")
    if value("b2"):
        raise ValueError(f"a skew (b2) of {value('b2'):g}")
    radial = (value("k1"), value("k2"), value("k3"), value("k4"))
    fisheye = kind == "fisheye"
    lens = Distortion(radial, (0.0, 0.0) if fisheye else (value("p2"), value("p1")), fisheye=fisheye)
    return Lens(f + value("b1"), f, value("cx") + width / 2, value("cy") + height / 2, distortion=lens), (width, height)


def _refused(one: Problem) -> Listing:
    return Listing((), (one,), (), None, "")
