"""Covering a region: what is filled, what stays, and what a painted region is."""

import numpy as np
import pytest

from pneumo.cover import BRUSH, covered, fill, painted
from pneumo.errors import UnknownNameError
from pneumo.framing import RASTER, Prepared


def ramp() -> np.ndarray:
    return np.tile(np.linspace(40, 200, RASTER).astype(np.uint8), (RASTER, 1))


def disc(radius: int = 30) -> np.ndarray:
    rows, columns = np.mgrid[:RASTER, :RASTER]
    return (rows - 112) ** 2 + (columns - 112) ** 2 < radius**2


def test_only_the_region_changes():
    raster = np.random.default_rng(0).integers(0, 256, (RASTER, RASTER), np.uint8)
    before = raster.copy()
    filled = fill(raster, disc())
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(filled[~disc()], raster[~disc()])
    assert not np.array_equal(filled[disc()], raster[disc()])
    np.testing.assert_array_equal(raster, before)


def test_region_takes_the_gray_of_its_surroundings_and_not_its_own():
    bright = np.where(disc(), 255, ramp()).astype(np.uint8)
    dark = np.where(disc(), 0, ramp()).astype(np.uint8)
    np.testing.assert_array_equal(fill(bright, disc()), fill(dark, disc()))
    inside = fill(bright, disc())[disc()].astype(float)
    assert abs(inside - ramp()[disc()]).max() < 20


def test_nothing_covered_changes_nothing():
    np.testing.assert_array_equal(fill(ramp(), np.zeros((RASTER, RASTER), bool)), ramp())


def test_lungs_stay_where_they_were_found():
    prepared = Prepared(ramp(), 1.3, None)
    changed = covered(prepared, disc())
    assert (changed.aspect, changed.lungs) == (prepared.aspect, prepared.lungs)
    np.testing.assert_array_equal(changed.raster, fill(ramp(), disc()))


# --- painted regions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aspect", [0.5, 1.0, 1.6])
def test_dot_is_round_on_the_radiograph(aspect):
    rows, columns = np.nonzero(painted([[[0.5, 0.5]]], BRUSH, aspect))
    width, height = (np.ptp(columns) + 1) / RASTER, (np.ptp(rows) + 1) / RASTER / aspect
    assert width == pytest.approx(BRUSH, abs=0.015)
    assert height == pytest.approx(BRUSH, abs=0.02)
    assert (columns.mean() / RASTER, rows.mean() / RASTER) == pytest.approx((0.5, 0.5), abs=0.01)


def test_stroke_covers_what_it_passes():
    region = painted([[[0.2, 0.3], [0.8, 0.3]]], 0.1, 1.0)
    assert region[67, 45:179].all()
    assert not region[100:].any()
    assert region.mean() == pytest.approx(0.6 * 0.1 + np.pi * 0.05**2, abs=0.01)


def test_strokes_add_up():
    first, second = [[0.2, 0.2], [0.3, 0.2]], [[0.7, 0.8], [0.7, 0.9]]
    together = painted([first, second], 0.1, 1.2)
    np.testing.assert_array_equal(together, painted([first], 0.1, 1.2) | painted([second], 0.1, 1.2))


def test_stroke_may_leave_the_radiograph():
    assert painted([[[0.5, 0.5], [1.4, 0.5]]], 0.1, 1.0)[112, -1]


def test_very_tall_radiograph_is_painted_on_without_its_pixels():
    region = painted([[[0.5, 0.5]]], 0.1, 64 / 781_250)
    assert region.shape == (224, 224)
    assert region[112, 112]


BAD = {
    "no stroke": ([], 0.1),
    "nothing": (None, 0.1),
    "stroke without points": ([[]], 0.1),
    "no points": ([[0.5]], 0.1),
    "three coordinates": ([[[0.1, 0.2, 0.3]]], 0.1),
    "words": ([[["a", "b"]]], 0.1),
    "an object": ({"x": 1}, 0.1),
    "not a number": ([[[float("nan"), 0.5]]], 0.1),
    "infinite": ([[[float("inf"), 0.5]]], 0.1),
    "brush without width": ([[[0.5, 0.5]]], 0),
    "brush too wide": ([[[0.5, 0.5]]], 1.5),
    "beside the radiograph": ([[[1.9, 1.9]]], 0.05),
    "all of it": ([[[0.5, y / 10] for y in range(11)]], 1),
}


@pytest.mark.parametrize(("strokes", "width"), BAD.values(), ids=BAD)
def test_what_is_no_region_is_refused(strokes, width):
    with pytest.raises(UnknownNameError, match=r"A painted region must .* Paint it again"):
        painted(strokes, width, 1.0)
