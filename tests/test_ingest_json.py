"""Faults of transforms.json: values, poses, keys and paths, each named with its file and field."""

import json

import pytest
from ingest_folders import complaint, disc, line_about, ngp, save, write

NAN, INFINITY = float("nan"), float("inf")
POSES = {
    "NaN": lambda T: T[0].__setitem__(3, NAN),
    "infinite": lambda T: T[2].__setitem__(3, INFINITY),
    "text": lambda T: T[0].__setitem__(0, "1.0"),
    "true": lambda T: T[0].__setitem__(0, True),
    "three rows": lambda T: T.pop(),
    "a long row": lambda T: T[1].append(0.0),
    "a nested row": lambda T: T.__setitem__(1, 3.0),
    "scaled in one axis": lambda T: [row.__setitem__(1, 2 * row[1]) for row in T[:3]],
    "sheared": lambda T: T[0].__setitem__(1, T[0][1] + 0.01),
    "mirrored": lambda T: [row.__setitem__(0, -row[0]) for row in T[:3]],
    "last row": lambda T: T[3].__setitem__(0, 0.5),
    "a huge integer": lambda T: T[0].__setitem__(3, 10**400),
}


@pytest.mark.parametrize("fault", POSES)
def test_a_pose_that_is_no_rigid_4x4_is_refused(tmp_path, fault):
    data = ngp(tmp_path)
    POSES[fault](data["frames"][1]["transform_matrix"])
    write(tmp_path, data)
    assert line_about(complaint(tmp_path), "images/v1.png: transform_matrix: got")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fl_x", 0), ("fl_x", -3), ("fl_y", NAN), ("fl_x", INFINITY), ("fl_x", "40"), ("fl_x", None), ("fl_y", True),
        ("cx", [1]), ("cy", NAN), ("w", 0), ("w", 31.5), ("h", "32"), ("h", -32), ("k1", "a"), ("p2", INFINITY),
        ("k5", 0.1), ("k6", -0.1), ("k4", "a"), ("camera_angle_x", 4), ("is_fisheye", "yes"),
        ("camera_model", "EQUIRECTANGULAR"),
        ("up", [0, 0, 0]), ("up", [0, 1]), ("up", "z"), ("canonical_rig", 1), ("frames", {}), ("frames", []),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_a_bad_value_at_the_top_level_is_named_once(tmp_path, key, value):
    write(tmp_path, ngp(tmp_path) | {key: value})
    message = complaint(tmp_path)
    assert sum(f": {key}: got" in line for line in message.splitlines()) == 1
    assert line_about(message, "transforms.json: ")


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("fl_x", -1, "images/v1.png"), ("w", "a", "images/v1.png"), ("held_out", "yes", "images/v1.png"),
        ("file_path", 7, "frames[1]"), ("file_path", "", "frames[1]"), ("k2", {}, "images/v1.png"),
        ("file_path", "/etc/hostname", "absolute"), ("file_path", "C:\\a.png", "absolute"),
        ("file_path", "../out.png", "leaves"), ("file_path", "images/../../out", "leaves"),
        ("file_path", ".", "leaves"), ("file_path", "images/\0", "got"), ("file_path", "a" * 5000, "no such"),
        ("file_path", "\ud800", "got"),
    ],
)  # fmt: skip
def test_a_bad_value_in_a_frame_is_named(tmp_path, key, value, where):
    folder = tmp_path / "photos"
    data = ngp(folder)
    save(tmp_path / "out.png", disc())
    data["frames"][1][key] = value
    write(folder, data)
    assert line_about(complaint(folder), key, where)


@pytest.mark.parametrize("key", ["file_path", "transform_matrix"])
def test_a_missing_key_of_a_frame_is_named(tmp_path, key):
    data = ngp(tmp_path)
    del data["frames"][2][key]
    write(tmp_path, data)
    assert line_about(complaint(tmp_path), key, "no such key")


def test_missing_keys_of_the_file_are_named(tmp_path):
    data = ngp(tmp_path)
    write(tmp_path, {key: value for key, value in data.items() if key != "fl_x"})
    assert line_about(complaint(tmp_path), "transforms.json", "fl_x", "camera_angle_x")
    write(tmp_path, {"fl_x": 3})
    assert line_about(complaint(tmp_path), "transforms.json", "frames", "['fl_x']")


def test_malformed_json_is_told_with_its_line(tmp_path):
    text = json.dumps(ngp(tmp_path), indent=1)
    (tmp_path / "transforms.json").write_text(text.replace('"cx"', "cx"))
    line = 1 + text[: text.index('"cx"')].count("\n")
    assert line_about(complaint(tmp_path), "transforms.json: JSON", f"line {line} column 2")


@pytest.mark.parametrize(
    "text", ["[]", "3", "", "[" * 100_000, '{"frames": [3]}', "\xff\xfe", '{"a": ' + "1" * 5000 + "}"]
)
def test_json_of_another_shape_is_refused(tmp_path, text):
    (tmp_path / "transforms.json").write_bytes(text.encode("latin-1"))
    assert "transforms.json: " in complaint(tmp_path)
