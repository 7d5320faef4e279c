"""Lenses against COLMAP's own projection, lenses that fold, intrinsics of photos of another size, poses and up."""

import numpy as np
import pycolmap
import pytest
from folder_kinds import shots
from ingest_folders import colmap_model, complaint, disc, line_about, ngp, poses, save, write
from scipy.spatial.transform import Rotation

from recon_lib.photos import metashape, realityscan, sizes, up
from recon_lib.photos.distortion import Distortion, distort, folds, largest_r2
from recon_lib.photos.ingest import IngestConfig, read
from recon_lib.photos.lenses import MODELS, of_colmap
from recon_lib.photos.poses import far_offset, rigid

CONFIG = IngestConfig()
LENSES = {
    "SIMPLE_RADIAL": [-0.12],
    "RADIAL": [-0.12, 0.03],
    "OPENCV": [-0.12, 0.03, 0.004, -0.006],
    "FULL_OPENCV": [-0.12, 0.03, 0.004, -0.006, 0.02, 0.05, -0.01, 0.003],
    "SIMPLE_FISHEYE": [],
    "FISHEYE": [],
    "SIMPLE_RADIAL_FISHEYE": [0.02],
    "RADIAL_FISHEYE": [0.02, -0.004],
    "OPENCV_FISHEYE": [0.02, -0.004, 0.001, -0.0002],
    "THIN_PRISM_FISHEYE": [0.02, -0.004, 0.0, 0.0, 0.001, -0.0002, 0.0, 0.0],
    "RAD_TAN_THIN_PRISM_FISHEYE": [0.02, -0.004, 0.001, -0.0002, 0.0003, -0.0001, *[0.0] * 6],
}


@pytest.mark.parametrize("model", LENSES)
def test_every_lens_shows_a_point_where_colmap_shows_it(model):
    one_focal = len(pycolmap.Camera.create_from_model_name(1, model, 1.0, 9, 9).focal_length_idxs()) == 1
    pinhole = [70.0, 50.0, 37.0] if one_focal else [70.0, 72.0, 50.0, 37.0]
    parameters = (*pinhole, *LENSES[model])
    oracle = pycolmap.Camera(model=model, width=100, height=74, params=list(parameters))
    x, y = np.meshgrid(np.linspace(-0.6, 0.6, 13), np.linspace(-0.5, 0.5, 11))
    expected = oracle.img_from_cam(np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)).reshape(*x.shape, 2)
    lens = of_colmap(model, parameters)
    u, v = distort(x, y, lens.distortion)
    np.testing.assert_allclose(u * lens.fx + lens.cx, expected[..., 0], atol=1e-9)
    np.testing.assert_allclose(v * lens.fy + lens.cy, expected[..., 1], atol=1e-9)


def test_a_fisheye_photo_becomes_the_pinhole_photo(tmp_path):
    k, radial = (60.0, 61.0, 48.0, 40.0), [0.02, -0.004, 0.001, 0.0]
    lens = pycolmap.Camera(model="OPENCV_FISHEYE", width=96, height=80, params=[*k, *radial])
    v, u = np.mgrid[:80, :96] + 0.5

    def scene(x, y):
        return np.clip(np.dstack([127 + 100 * x, 127 + 100 * y, 127 + 60 * np.sin(4 * x) * np.cos(3 * y)]), 0, 255)

    rays = lens.cam_from_img(np.stack([u.ravel(), v.ravel()], -1)).reshape(80, 96, 2)
    photo = np.dstack([scene(rays[..., 0], rays[..., 1]), np.full((80, 96), 255)]).round().astype(np.uint8)
    photo[:3, :3, 3] = 0
    for i in range(3):
        save(tmp_path / "images" / f"v{i}.png", photo)
    colmap_model(tmp_path / "sparse", "OPENCV_FISHEYE", [*k, *radial], size=(96, 80))
    image = read(tmp_path, CONFIG).scene.images[0]
    expected = scene((u - k[2]) / k[0], (v - k[3]) / k[1])
    inner = image[..., 3] == 255
    assert inner.mean() > 0.9 and np.abs(image[..., :3] - expected)[inner].max() < 2
    assert np.abs(photo[..., :3] - expected)[inner].max() > 8


def test_nerfstudio_s_fisheye_is_the_same_lens_as_colmap_s(tmp_path):
    data = ngp(tmp_path, camera_model="OPENCV_FISHEYE", k1=0.02, k2=-0.004, k3=0.001, k4=-0.0002)
    ours = read(tmp_path, CONFIG).scene
    (tmp_path / "transforms.json").unlink()
    colmap_model(
        tmp_path, "OPENCV_FISHEYE", [data[key] for key in ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "k3", "k4")]
    )
    theirs = read(tmp_path, CONFIG).scene
    assert all(map(np.array_equal, ours.images, theirs.images))


@pytest.mark.parametrize(
    ("lens", "folded"),
    [
        (Distortion((-45.0, 1017.0), (0.62, 0.94)), True),
        (Distortion((-3.0,)), True),
        (Distortion((-0.12, 0.03), (0.004, -0.006)), False),
        (Distortion((0.3, 0.2)), False),
        (Distortion((-0.3,)), False),  # folds at 1.05, beyond the corners of this photo
        (Distortion((0.02, -0.004), fisheye=True), False),
        (Distortion((-5.0,), fisheye=True), True),
    ],
)
def test_a_lens_that_shows_two_points_at_one_place_inside_the_frame_is_seen(lens, folded):
    assert folds(lens, (100.0, 100.0, 50.0, 40.0), 100, 80) == folded


def test_the_radius_of_the_fold_is_where_the_distorted_radius_is_largest():
    for lens in (
        Distortion((-0.3, 0.0)),
        Distortion((-0.2, -0.05, 0.01)),
        Distortion((0.1,), denominator=(0.6, 0.1, 0.0)),
    ):
        r = np.linspace(0, 8, 800_001)
        u, _ = distort(r[None], np.zeros_like(r)[None], lens)
        falls = np.flatnonzero(np.diff(u[0]) < 0)
        assert (
            largest_r2(lens) == pytest.approx(r[falls[0]] ** 2, rel=1e-4) if len(falls) else largest_r2(lens) == np.inf
        )


def test_a_folding_lens_is_refused_by_its_numbers(tmp_path):
    write(tmp_path, ngp(tmp_path, k1=-3.0))
    assert line_about(complaint(tmp_path), "3 files", "distortion: got (-3.0, 0.0, 0.0, 0.0)", "fold")


K = (100.0, 101.0, 60.0, 40.0)


def test_intrinsics_follow_a_photo_that_was_shrunk():
    followed = sizes.follow(K, (120, 80), (60, 40), True)
    assert followed.intrinsics == (50, 50.5, 30, 20) and followed.notes == (sizes.SCALED,)
    assert sizes.follow(K, (120, 80), (41, 27), True).notes == (sizes.SCALED,)  # to whole pixels


def test_intrinsics_stay_where_a_strip_was_cut_off_right_and_below():
    followed = sizes.follow((100.0, 100.0, 60.0, 40.0), (124, 83), (120, 80), True)
    assert followed.intrinsics == (100, 100, 60, 40) and followed.notes == (sizes.CROPPED,)


@pytest.mark.parametrize(
    ("photo", "all_alike"),
    # The first was cut all around, or cut and shrunk: its principal point is the middle of what it was cut from.
    [((116, 74), True), ((60, 60), True), ((240, 80), True), ((60, 40), False)],
)
def test_a_photo_of_another_shape_or_the_only_one_of_its_size_is_refused(photo, all_alike):
    with pytest.raises(ValueError, match=r"size: got .* needed 120 x 80"):
        sizes.follow(K, (120, 80), photo, all_alike)


def test_a_principal_point_outside_the_photo_is_refused_with_the_size_that_it_seems_to_be_of(tmp_path):
    data = ngp(tmp_path, cx=64.0, cy=64.0)
    write(tmp_path, {key: value for key, value in data.items() if key not in ("w", "h")})
    assert line_about(complaint(tmp_path), "cx, cy: got (64, 64)", "128 x 128 pixels: give it as w and h")


def test_a_pose_loses_its_factor_and_its_scale_and_keeps_its_place():
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_euler("xyz", [0.3, 0.2, 0.1]).as_matrix(), (1.0, 2.0, 3.0)
    scaled = T @ np.diag([0.33, 0.33, 0.33, 1])
    for given, notes in (
        (T, ()),
        (0.0012 * T, ("pose_homogeneous",)),
        (-2 * T, ("pose_homogeneous",)),
        (scaled, ("pose_scale",)),
    ):
        found, said = rigid(given)
        np.testing.assert_allclose(found, T, atol=1e-12)
        assert said == notes
    with pytest.raises(ValueError, match="mirrored"):
        rigid(T @ np.diag([-1.0, 1, 1, 1]))


def test_coordinates_are_moved_only_where_float32_would_blur_them():
    T = np.array(poses(8))
    assert not far_offset(T).any()
    T[:, :3, 3] += (300.0, 0, 0)
    assert not far_offset(T).any()
    T[:, :3, 3] += (453_201.4, 5_411_877.2, 312.0)
    assert np.abs(far_offset(T) - T[:, :3, 3].mean(0)).max() <= 0.5
    assert np.array_equal(far_offset(T), np.round(far_offset(T)))


def tilted(count: int, seed: int, steep: float = 0.6) -> np.ndarray:
    """Level poses on an arc for up = z; from straight down they are tilted by `steep` to 3 times that, radians."""
    chance = np.random.default_rng(seed)
    out = []
    for angle in chance.uniform(0, 2, count):
        T = np.eye(4)
        T[:3, :3] = Rotation.from_euler("ZX", [angle, chance.uniform(steep, 3 * steep)]).as_matrix()
        out.append(T)
    return np.array(out)


@pytest.mark.parametrize("steep", [0.6, 0.45])
def test_up_is_found_also_where_two_in_five_photos_were_taken_with_the_camera_turned(steep):
    T = tilted(30, 0, steep)
    T[:12, :3, :3] = T[:12, :3, :3] @ Rotation.from_euler("z", np.pi / 2).as_matrix()
    found = up.of_cameras(T)
    assert found.is_sure and up.degrees(found.up, np.array([0.0, 0, 1])) < 0.5


def test_up_of_cameras_that_all_look_one_way_is_across_their_right_axis():
    T = np.array([shots()[0].T_world_cam] * 4)
    found = up.of_cameras(T)
    assert abs(found.up @ T[0, :3, 0]) < 1e-9 and found.up @ T[0, :3, 1] > 0.99 and not found.is_sure


def test_up_of_cameras_that_were_held_sideways_all_along_is_not_sure():
    T = tilted(30, 1)
    T[:, :3, :3] = T[:, :3, :3] @ Rotation.from_euler("z", np.pi / 2).as_matrix()
    found = up.of_cameras(T)
    assert found is None or not found.is_sure


def test_cameras_from_one_side_do_not_overrule_the_convention(tmp_path):
    data = ngp(tmp_path, 12)
    for i, frame in enumerate(data["frames"]):
        T = np.eye(4)  # looks down steeply, so that the mean of the cameras' ups lies far from z
        T[:3, :3] = Rotation.from_euler("ZX", [0.01 * i, 0.5]).as_matrix()
        frame["transform_matrix"] = T.tolist()
    write(tmp_path, data)
    assert read(tmp_path, CONFIG).scene.up.tolist() == [0, 0, 1]


def test_up_as_the_file_gives_it_is_kept_and_a_disagreement_of_more_than_20_degrees_is_told(tmp_path):
    for angle, told in ((10.0, False), (30.0, True)):
        tilt = Rotation.from_euler("x", angle, degrees=True).as_matrix() @ [0.0, 0, 1]
        write(tmp_path, ngp(tmp_path, 12, up=tilt.tolist()))
        got = read(tmp_path, CONFIG)
        np.testing.assert_allclose(got.scene.up, tilt)
        texts = {finding["kind"]: finding["text"] for finding in got.findings}
        assert f"{angle:.1f} degrees from the cameras' own" in texts["up"] and ("disagreement" in texts) == told


def test_a_world_that_nerfstudio_says_is_level_keeps_z_up(tmp_path):
    data = ngp(tmp_path, 12, orientation_override="none")
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("x", 40, degrees=True).as_matrix()
    for frame in data["frames"]:
        frame["transform_matrix"] = (turn @ np.array(frame["transform_matrix"])).tolist()
    write(tmp_path, data)
    assert read(tmp_path, CONFIG).scene.up.tolist() == [0, 0, 1]
    del data["orientation_override"]
    write(tmp_path, data)
    np.testing.assert_allclose(read(tmp_path, CONFIG).scene.up, turn[:3, 2], atol=1e-6)


def test_metashape_s_tangential_terms_are_opencv_s_exchanged(tmp_path):
    from defusedxml import ElementTree as xml

    sensor = xml.fromstring(
        '<sensor id="0" type="frame"><resolution width="100" height="80"/><calibration class="adjusted"><f>90</f><b1>2</b1>'
        "<cx>1</cx><cy>-2</cy><k1>0.1</k1><k4>0.01</k4><p1>0.003</p1><p2>0.005</p2></calibration></sensor>"
    )
    lens, size = metashape._read_sensor(sensor)
    assert size == (100, 80) and (lens.fx, lens.fy, lens.cx, lens.cy) == (92, 90, 51, 38)
    x, y = np.array([[0.2]]), np.array([[-0.3]])
    r2 = 0.13
    u, v = distort(x, y, lens.distortion)
    # the manual: x' = x (1 + K1 r² + … + K4 r⁸) + P1 (r² + 2 x²) + 2 P2 x y
    assert u.item() == pytest.approx(0.2 * (1 + 0.1 * r2 + 0.01 * r2**4) + 0.003 * (r2 + 0.08) + 2 * 0.005 * -0.06)
    assert v.item() == pytest.approx(-0.3 * (1 + 0.1 * r2 + 0.01 * r2**4) + 0.005 * (r2 + 0.18) + 2 * 0.003 * -0.06)


def test_a_metashape_file_with_an_entity_is_refused(tmp_path):
    save(tmp_path / "images" / "v0.png", disc())
    body = '<document><chunk><sensors><sensor id="0"/></sensors><cameras>&a;</cameras></chunk></document>'
    (tmp_path / "c.xml").write_text('<!DOCTYPE d [<!ENTITY a "aaaa">]>' + body)
    assert line_about(complaint(tmp_path), "c.xml: XML", "DTD")


@pytest.mark.parametrize(
    ("angles", "looks", "top"),
    [((0, 0, 0), (0, 0, -1), (0, 1, 0)), ((0, 90, 0), (0, 1, 0), (0, 0, 1)), ((90, 90, 0), (1, 0, 0), (0, 0, 1))],
)
def test_a_realityscan_camera_looks_down_at_0_north_at_pitch_90_and_east_at_heading_90(angles, looks, top):
    names = dict(zip(("heading", "pitch", "roll"), map(float, angles), strict=True))
    T = realityscan._pose({"x": 1.0, "y": 2.0, "alt": 3.0, **names})
    np.testing.assert_allclose(T[:3, 3], (1, 2, 3))
    np.testing.assert_allclose(-T[:3, 2], looks, atol=1e-12)
    np.testing.assert_allclose(T[:3, 1], top, atol=1e-12)


def test_the_table_of_models_has_no_model_that_colmap_has_not():
    assert set(MODELS) <= set(pycolmap.CameraModelId.__members__)
