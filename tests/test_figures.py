"""Figures: names are whole and apart, and the cameras stand where they stood."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from recon_lib import camera
from recon_lib.photos.scene import Scene
from recon_lib.photos.search.locate import LeftOut
from recon_lib.show import figures

LONG = "a_photo_named_by_a_camera_that_likes_$long$_names_0123456789"


def drawn(figure):
    FigureCanvasAgg(figure).draw()
    return figure


def circle(count: int) -> Scene:
    """A red disc seen from all sides; every third view is held out."""
    rows, columns = np.mgrid[:48, :64]
    image = np.zeros((48, 64, 4), np.uint8)
    image[(rows - 24) ** 2 + (columns - 32) ** 2 < 100] = (200, 30, 30, 255)
    views = camera.orbit(count, 0.3, 2.5, 0.5, 64)
    views = camera.cropped(views, views.sizes.new_tensor([[0.0, 8, 64, 56]]).float(), 64, 48)
    names = tuple(f"{i}_{LONG}" for i in range(count))
    return Scene(names, (image,) * count, views, np.arange(count) % 3 == 2, np.array([0.0, 1, 0]))


def assert_titles_are_whole_and_apart(figure, names):
    axes = figure.axes[: len(names)]
    assert [axis.get_title().replace("\n", "") for axis in axes] == list(names)
    boxes = [axis.title.get_window_extent() for axis in axes]
    for box in boxes:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
    for one, other in combinations([*boxes, *(axis.get_window_extent() for axis in axes)], 2):
        assert not one.shrunk(0.98, 0.98).overlaps(other.shrunk(0.98, 0.98))


@pytest.mark.parametrize("count", range(1, 13))
def test_titles_of_a_sheet_lie_inside_the_figure_and_overlap_nothing(count):
    pictures = {LONG[: 5 + 30 * (i % 3)] + str(i): np.zeros((40, (40, 80, 30)[i % 3], 3)) for i in range(count)}
    assert_titles_are_whole_and_apart(drawn(figures.sheet(pictures)), pictures)


def test_titles_of_a_contact_sheet_lie_inside_the_figure_and_overlap_nothing():
    scene = circle(11)
    assert_titles_are_whole_and_apart(drawn(figures.contact_sheet(scene)), scene.names)


def test_photos_left_out_are_crossed_and_say_why():
    assert figures.left_out([]) is None
    photos = [
        LeftOut(f"{i}.jpg", image, "its mask shows the table: the hull agrees with its mask by 0.41, needed 0.8")
        for i, image in enumerate(circle(3).images)
    ]
    figure = drawn(figures.left_out(photos))
    assert_titles_are_whole_and_apart(figure, [f"{one.label}: {one.why}" for one in photos])
    for axis in figure.axes:
        crossed = [line for line in axis.lines if line.get_color() == figures.LEFT_OUT_COLOUR]
        assert sorted(line.get_ydata()[0] for line in crossed) == [0, 1]


def test_exactly_the_held_out_photos_stand_in_a_drawn_orange_frame():
    scene = circle(11)
    axes = drawn(figures.contact_sheet(scene)).axes
    orange = [
        axis.axison and axis.spines["left"].get_edgecolor()[:3] == to_rgb(figures.HELD_OUT_COLOUR) for axis in axes[:11]
    ]
    assert orange == scene.held_out.tolist()


def outlined(figure, colour: str) -> int:
    """Polygons whose edges have that colour and whose faces one sees through."""
    polygons = figure.axes[0].collections[-1]
    edges, faces = polygons._edgecolor3d, polygons._facecolor3d
    return int((np.isclose(edges[:, :3], to_rgb(colour)).all(1) & (faces[:, 3] < 0.5)).sum())


@pytest.mark.parametrize("count", [1, 3, 40])
def test_there_is_a_frustum_of_four_sides_for_each_camera(ball, count):
    scene = circle(count)
    figure = drawn(figures.cameras(scene, ball))
    held_out = int(scene.held_out.sum())
    assert outlined(figure, figures.HELD_OUT_COLOUR) == 4 * held_out
    assert outlined(figure, figures.USED_COLOUR) == 4 * (count - held_out)


def test_memory_that_was_never_written_is_not_drawn(ball, monkeypatch):
    """matplotlib puts polygons of three and of four corners into one array that it does not fill."""
    empty = np.empty

    def unwritten(shape, dtype=float, *args, **kwargs):
        made = empty(shape, dtype, *args, **kwargs)
        if made.dtype.kind == "f":
            made.fill(np.finfo(made.dtype).max)
        return made

    monkeypatch.setattr(np, "empty", unwritten)
    assert np.isfinite(drawn(figures.cameras(circle(12), ball)).axes[0].get_zlim()).all()


def test_the_photos_stand_on_the_frusta_and_the_object_between_them():
    """Without a mesh, the disc's silhouettes bound a ball of radius 10 / 64 * 2.5 * 0.51 around the origin."""
    figure = drawn(figures.cameras(circle(12)))
    points, polygons = figure.axes[0].collections
    x, y, z = points._offsets3d
    assert np.sqrt(x**2 + y**2 + z**2).max() == pytest.approx(0.2, rel=0.2)
    assert (np.isclose(polygons._facecolor3d[:, :3], np.array([200, 30, 30]) / 255, atol=0.02).all(1)).sum() >= 12


def test_up_is_up_whatever_the_scenes_axis():
    scene = circle(6)
    lying = replace(scene, up=np.array([0.0, 0, 1]))
    assert figures.cameras(scene).axes[0].get_zlim()[0] > 0 - 0.7  # all eyes at one height above the object
    assert figures.cameras(lying).axes[0].get_zlim()[0] < -2


def test_legend_and_cameras_do_not_overlap(ball):
    figure = drawn(figures.cameras(circle(12), ball))
    assert figure.legends[0].get_window_extent().y0 >= figure.axes[0].get_tightbbox().y1
