"""Figures of what the coarse mesh rests on say what the data say: depths, outlines, and the colour of each source."""

import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from recon_lib.coarse import sources
from recon_lib.coarse.one_body import Kept
from recon_lib.coarse.stereo.stereo import Fields, StereoMesh
from recon_lib.coarse.stereo.views import Views
from recon_lib.mesh import icosphere
from recon_lib.show import evidence, tables

UP = np.array([0.0, 0.0, 1.0])
NAMES = tuple(f"photo_{i}" for i in range(7))


def drawn(figure):
    FigureCanvasAgg(figure).draw()
    return figure


@pytest.fixture
def found() -> StereoMesh:
    """A ball of radius 0.4 around (0.1, 0, 0) in a hull of radius 0.5; the left halves of photos have depths from 2 to 3."""
    p = np.stack(np.meshgrid(*[np.linspace(-0.7, 0.7, 57)] * 3, indexing="ij"), -1).astype(np.float32)
    hull, surface = (np.linalg.norm(p - np.float32([x, 0, 0]), axis=-1) - r for x, r in ((0.0, 0.5), (0.1, 0.4)))
    fields = Fields(hull, surface, np.full(3, -0.7), 0.025)
    depths = np.zeros((7, 20, 30), np.float32)
    depths[:, :, :15] = np.linspace(2, 3, 15)
    costs = np.full(depths.shape, 0.25, np.float32)
    shown = Views(
        np.full(depths.shape, 0.5, np.float32), np.ones(depths.shape, bool), *[np.zeros((7, n, n)) for n in (3, 4)]
    )
    ball = icosphere(2)
    return StereoMesh(
        ball,
        np.ones(len(ball.verts), bool),
        Kept(1, 0, 0, 0.0, 0, 0.0),
        shown,
        depths,
        costs,
        fields,
        [0.0] * len(depths),
    )


def test_three_photos_stand_beside_their_depths_and_confidence(found):
    figure = drawn(evidence.depth_maps(found, NAMES))
    pictures = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in pictures[::3]] == ["photo_0", "photo_2", "photo_4"]
    assert {axis.get_title() for axis in pictures[1::3]} == {"depth of 50%"}
    depth = pictures[1].images[0].get_array()
    assert depth[:, :15].min() == 2 and depth[:, :15].max() == 3 and np.isnan(np.ma.filled(depth, np.nan)[:, 15:]).all()
    assert (pictures[2].images[0].get_array() == 0.75).all()
    units = {axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()}
    assert units == {"scene units", "correlation"}


def outlines(axis) -> dict[str, np.ndarray]:
    return {name: np.concatenate([p.vertices for p in lines.get_paths()])
            for name, lines in zip(("hull", "stereo"), axis.collections, strict=True)}  # fmt: skip


def test_cuts_show_both_outlines_where_they_are_with_up_upwards(found):
    axes = drawn(evidence.cuts(found, UP)).axes
    assert [axis.get_xlabel()[0] + axis.get_ylabel()[0] for axis in axes] == ["yz", "xz", "xy"]
    assert all(axis.get_xlabel().endswith("scene units") for axis in axes)
    for axis, middle in zip(axes, ([0.0, 0.0], [0.1, 0.0], [0.1, 0.0]), strict=True):
        lines = outlines(axis)
        assert np.allclose(np.linalg.norm(lines["stereo"] - middle, axis=1), 0.4, atol=0.01)
        assert np.ptp(lines["hull"], 0).min() > 0.95


def test_an_outline_that_the_grid_cuts_is_closed(found):
    fields = found.fields
    halved = Fields(fields.hull[:, :, :28], fields.surface[:, :, :28], fields.origin, fields.spacing)
    line = outlines(drawn(evidence.cuts(replace(found, fields=halved), UP)).axes[1])["stereo"]
    flat = line[line[:, 1] > -0.04]
    assert flat[:, 0].max() > 0.45 and flat[:, 0].min() < -0.25 and len(flat) > 20


def test_a_cut_of_a_world_whose_up_is_another_axis_is_turned(found):
    axes = drawn(evidence.cuts(found, np.array([-1.0, 0.0, 0.0]))).axes
    assert [axis.get_ylabel()[0] for axis in axes][1:] == ["x", "x"]
    assert axes[1].yaxis_inverted() and not axes[0].yaxis_inverted()
    assert np.allclose(np.linalg.norm(outlines(axes[1])["stereo"] - [0.0, 0.1], axis=1), 0.4, atol=0.01)


def test_each_triangle_has_the_colour_of_its_source_and_the_legend_their_shares():
    ball = icosphere(3)
    right = (ball.verts[ball.faces.long()].mean(1)[:, 0] > 0).numpy()
    of_face = np.where(right, 0, 1)
    given = sources.Sources(("stereo", "hull", "unseen"), of_face, np.ones(len(of_face)))
    figure = drawn(evidence.sources(ball, given, np.array([0.0, 1.0, 0.0])))
    shown = {axis.get_title(): np.asarray(axis.images[0].get_array()) for axis in figure.axes}
    side, front = shown["right"], shown["front"]
    ink = side[(side < 1).any(-1)]
    ink = ink / ink.max(1, keepdims=True)
    assert np.allclose(ink, np.array(to_rgb(evidence.STEREO_COLOUR)) / max(to_rgb(evidence.STEREO_COLOUR)), atol=0.01)
    half = (front[:, :, 0] < 1).any(0).nonzero()[0].mean()
    assert (
        front[len(front) // 2, int(half) - 40, 2] < front[len(front) // 2, int(half) + 40, 2]
    )  # orange left, blue right
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [f"stereo {right.mean():.0%}", f"hull {1 - right.mean():.0%}", "unseen 0%"]


def test_where_stereo_made_nothing_the_figures_say_so():
    for figure in (evidence.depth_maps(None, NAMES), evidence.cuts(None, UP)):
        assert [text.get_text() for text in figure.texts] == [evidence.NO_STEREO]


def test_the_table_explains_every_source():
    assert set(evidence.COLOURS) == set(tables.SOURCES)
    shown = tables.sources({"stereo": 0.6, "hull": 0.15, "unseen": 0.25}).text()
    assert re.search(r"stereo +60\.0% +several photos agree", shown) and "25.0%" in shown
