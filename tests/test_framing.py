"""What a network sees: the raster, the box, the square cut from it, and its gray values."""

import hashlib
import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pneumo.errors import UnknownNameError
from pneumo.framing import (
    FRAMINGS,
    MARGIN,
    RASTER,
    SCALINGS,
    WHOLE,
    Box,
    Prepared,
    cut,
    frame,
    hide_outside,
    needs_lungs,
    scale_gray,
    show,
    to_raster,
)
from pneumo.lungs import Lungs, Segmenter, lungs_of
from pneumo.radiograph import read_radiograph

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden" / "framing.npz"
"""`REGENERATE=1 .venv/bin/python -m pytest tests/test_framing.py -k golden` writes it.

Bundles are trained on such values: if they change, so must `pneumo.bundle.FORMAT`, and the networks be trained anew.
"""
NORMAL, PNEUMONIA = "test/NORMAL/IM-0005-0001", "test/PNEUMONIA/person100_bacteria_482"
# By image, the mask of its lungs.
GOLDEN_IMAGES = {
    f"chest_xray/{NORMAL}.jpeg": NORMAL,
    f"chest_xray/{PNEUMONIA}.jpeg": PNEUMONIA,
    "full_resolution/IM-0081-0001.jpeg": "test/NORMAL/IM-0081-0001",
}
GOLDEN_SIZE = 32
FULL_RESOLUTION = ["NORMAL/IM-0081-0001.jpeg", "PNEUMONIA/person26_virus_60.jpeg"]
NOTHING = np.zeros((RASTER, RASTER), bool)
NOT_FOUND = Lungs(NOTHING, NOTHING, "No lung was found.")


def drawn(name: str) -> Lungs:
    return lungs_of(cv2.imread(str(TESTS / "data" / "lung_masks" / f"{name}.png"), cv2.IMREAD_GRAYSCALE) >= 128)


@pytest.fixture(scope="module")
def raster(images) -> np.ndarray:
    return to_raster(read_radiograph(images / f"{NORMAL}.jpeg").pixels)


@pytest.fixture(scope="module")
def lungs() -> Lungs:
    return drawn(NORMAL)


@pytest.fixture(scope="module")
def finder(segmenter) -> Segmenter:
    from training.segment import load_segmenter

    return Segmenter(load_segmenter(segmenter))


# The raster


@pytest.mark.parametrize("shape", [(64, 64), (80, 96), (224, 224), (767, 1260), (64, 5000), (223, 3000), (225, 224)])
def test_raster(shape):
    pixels = np.zeros(shape, np.uint8)
    pixels[shape[0] // 2 :] = 200
    raster = to_raster(pixels)
    assert raster.shape == (RASTER, RASTER)
    assert raster.dtype == np.uint8
    assert np.all(raster[: RASTER // 2 - 2] == 0)
    assert np.all(raster[RASTER // 2 + 2 :] == 200)


def test_raster_of_a_stored_image_is_that_image(images):
    pixels = read_radiograph(images / f"{NORMAL}.jpeg").pixels
    assert np.array_equal(to_raster(pixels), pixels)


@pytest.mark.parametrize("factor", [2, 5])
def test_raster_averages(raster, factor):
    fine = np.kron(raster, np.ones((factor, factor), np.uint8))
    fine[::factor, ::factor] = np.minimum(fine[::factor, ::factor], 255 - factor**2) + factor**2
    # One pixel of each block is brighter by the number of its pixels.
    difference = to_raster(fine).astype(int) - raster
    assert np.all(difference[raster <= 255 - factor**2] == 1)


# The box


@pytest.mark.parametrize(
    ("aspect", "box"),
    [(1, WHOLE), (2, Box(0, -0.5, 1, 1.5)), (0.5, Box(-0.5, 0, 1.5, 1)), (1.25, Box(0, -0.125, 1, 1.125))],
)
def test_whole_is_a_square_around_the_radiograph(lungs, aspect, box):
    for given in (None, NOT_FOUND, lungs):
        assert frame("whole", aspect, given) == box


@pytest.mark.parametrize("framing", ["lungs", "lungs_alone"])
@pytest.mark.parametrize("aspect", [0.7, 1, 1.6])
def test_lungs_are_framed_with_their_margin(lungs, framing, aspect):
    rows, columns = np.nonzero(lungs.mask)
    box = frame(framing, aspect, lungs)
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert box.left * RASTER == pytest.approx(columns.min() - MARGIN * width)
    assert box.right * RASTER == pytest.approx(columns.max() + 1 + MARGIN * width)
    assert box.top * RASTER == pytest.approx(rows.min() - MARGIN * height)
    assert box.bottom * RASTER == pytest.approx(rows.max() + 1 + MARGIN * height)


@pytest.mark.parametrize("framing", [framing for framing in FRAMINGS if needs_lungs(framing)])
@pytest.mark.parametrize("found", [None, NOT_FOUND])
def test_without_lungs_all_of_it_is_shown(raster, framing, found):
    assert frame(framing, 1.4, found) == WHOLE
    assert np.array_equal(show(raster, framing, 1.4, found, 64), show(raster, "squashed", 1.4, None, 64))


def test_which_framings_need_lungs():
    assert [framing for framing in FRAMINGS if needs_lungs(framing)] == ["lungs", "lungs_alone"]


def test_grown():
    box = Box(0.2, 0.4, 0.6, 1.0)
    assert box.grown(0) == box
    grown = box.grown(0.5)
    assert (grown.left, grown.top, grown.right, grown.bottom) == pytest.approx((0, 0.1, 0.8, 1.3))


# The cut


def test_cut_of_all_at_the_same_size_is_the_raster(raster):
    assert np.array_equal(cut(raster, WHOLE, RASTER), raster)


@pytest.mark.parametrize("size", [48, 128, 150, 300])
def test_cut_of_all_is_a_plain_resize(raster, size):
    plain = cv2.resize(raster, (size, size), interpolation=cv2.INTER_LINEAR).astype(int)
    difference = np.abs(cut(raster, WHOLE, size) - plain)
    assert difference.mean() < 0.5
    assert difference.max() <= 6


@pytest.mark.parametrize("left", [-60, -1, 0, 31, 96, 150])
@pytest.mark.parametrize("top", [-60, 0, 17, 224 - 128, 150])
def test_cut_of_whole_pixels_copies_them(raster, left, top):
    size = 128
    padded = np.pad(raster, size)
    expected = padded[top + size : top + 2 * size, left + size : left + 2 * size]
    box = Box(left / RASTER, top / RASTER, (left + size) / RASTER, (top + size) / RASTER)
    assert np.array_equal(cut(raster, box, size), expected)


@pytest.mark.parametrize("shape", [(400, 400), (400, 640), (640, 400), (300, 1200)], ids=str)
@pytest.mark.parametrize("size", [64, 150])
def test_whole_keeps_a_circle(shape, size):
    height, width = shape
    pixels = cv2.circle(np.zeros(shape, np.uint8), (width // 2, height // 2), 120, 255, cv2.FILLED)
    shown = show(to_raster(pixels), "whole", width / height, None, size) >= 128
    expected = 240 * size / max(shape)
    for axis in (0, 1):
        assert np.count_nonzero(shown.any(axis=axis)) == pytest.approx(expected, abs=1.5)
    squashed = show(to_raster(pixels), "squashed", width / height, None, size) >= 128
    wide, high = (np.count_nonzero(squashed.any(axis=axis)) for axis in (0, 1))
    assert wide / high == pytest.approx(height / width, rel=0.1)


@pytest.mark.parametrize(
    ("aspect", "filled"),
    [(1, np.s_[:, :]), (2, np.s_[32:96, :]), (0.5, np.s_[:, 32:96]), (4 / 3, np.s_[16:112, :])],
)
def test_whole_has_bars_where_the_radiograph_ends(aspect, filled):
    shown = show(np.full((RASTER, RASTER), 255, np.uint8), "whole", aspect, None, 128)
    expected = np.zeros((128, 128), np.uint8)
    expected[filled] = 255
    # Where bar and radiograph meet, one pixel may be a mixture.
    difference = shown != expected
    assert not difference[16 + 2 : 112 - 2, 32 + 2 : 96 - 2].any()
    assert np.count_nonzero(difference.any(axis=0)) * np.count_nonzero(difference.any(axis=1)) <= 2 * 128
    assert abs(shown.mean() - expected.mean()) < 2


@pytest.mark.parametrize("name", [NORMAL, PNEUMONIA])
@pytest.mark.parametrize("size", [64, 150])
def test_lungs_fill_the_square_but_for_the_margin(name, size):
    found = drawn(name)
    shown = cut(found.mask.astype(np.uint8) * 255, frame("lungs", 1.3, found), size) >= 128
    margin = size * MARGIN / (1 + 2 * MARGIN)
    for axis in (0, 1):
        filled = np.flatnonzero(shown.any(axis=axis))
        assert filled[0] == pytest.approx(margin, abs=1)
        assert size - 1 - filled[-1] == pytest.approx(margin, abs=1)


@pytest.mark.parametrize("framing", ["squashed", "lungs", "lungs_alone"])
def test_aspect_does_not_matter(raster, lungs, framing):
    first, second = (show(raster, framing, aspect, lungs, 64) for aspect in (0.8, 1.9))
    assert np.array_equal(first, second)


def test_where_the_film_ends_does_not_show(raster, lungs):
    """The lungs of one class reach the edge of the film more often: bars there would tell it."""
    mask = np.roll(lungs.mask, -np.flatnonzero(lungs.mask.any(axis=0))[0], axis=1)
    touching = lungs_of(mask)
    raster = np.clip(raster, 40, 200)
    assert frame("lungs_alone", 1.0, touching).left < 0
    shown = show(raster, "lungs_alone", 1.0, touching, 96)
    assert set(np.unique(shown[:, :4])) == {hide_outside(raster, touching)[1]}
    assert show(raster, "lungs", 1.0, touching, 96)[:, :4].min() >= 40


def test_what_is_far_from_the_lungs_is_hidden(raster, lungs):
    hidden, mean = hide_outside(raster, lungs)
    distance = cv2.distanceTransform((~lungs.mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near, far = distance <= 0.025 * RASTER, distance >= 0.04 * RASTER
    assert np.array_equal(hidden[near], raster[near])
    assert mean == round(float(raster[lungs.mask].mean()))
    assert np.unique(hidden[far]).tolist() == [mean]

    altered = raster.copy()
    altered[far] = 255 - altered[far]
    assert np.array_equal(hide_outside(altered, lungs)[0], hidden)
    inputs = [Prepared(pixels, 1.0, lungs).inputs("lungs_alone", "standard", 64) for pixels in (raster, altered)]
    assert np.array_equal(*inputs)
    assert not np.array_equal(*(show(pixels, "lungs", 1.0, lungs, 64) for pixels in (raster, altered)))


# Gray values


def test_unit_scaling():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    values = scale_gray(levels)
    assert values.dtype == np.float32
    assert values.shape == (16, 16, 1)
    assert np.array_equal(values[..., 0], levels.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("name", [NORMAL, PNEUMONIA])
@pytest.mark.parametrize(("contrast", "brightness"), [(1.0, 30), (0.5, 0), (0.3, 90), (0.1, 20)])
def test_standard_scaling_ignores_contrast_and_brightness(images, name, contrast, brightness):
    pixels = read_radiograph(images / f"{name}.jpeg").pixels
    values = scale_gray(pixels, "standard")
    assert values.dtype == np.float32
    assert values.mean() == pytest.approx(0, abs=1e-4)
    assert values.std() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(scale_gray(pixels * contrast + brightness, "standard"), values, atol=1e-3)


def test_standard_scaling_survives_rounding_to_8_bits(raster):
    half = np.rint(raster * 0.5 + 20).astype(np.uint8)
    np.testing.assert_allclose(scale_gray(half, "standard"), scale_gray(raster, "standard"), atol=0.02)


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_one_gray_becomes_zero(level):
    values = scale_gray(np.full((150, 150), level, np.uint8), "standard")
    np.testing.assert_allclose(values, 0, atol=1e-3)


def test_almost_one_gray_stays_finite():
    pixels = np.zeros((224, 224), np.uint8)
    pixels[0, 0] = 1
    values = scale_gray(pixels, "standard")
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 5


@pytest.mark.parametrize("scaling", SCALINGS)
def test_images_are_scaled_each_by_itself(raster, scaling):
    stack = np.stack([raster, raster // 3, np.zeros_like(raster)])
    alone = np.stack([scale_gray(pixels, scaling) for pixels in stack])
    np.testing.assert_allclose(scale_gray(stack, scaling), alone, atol=1e-5)


@pytest.mark.parametrize("name", ["", "Unit", "crop"])
def test_unknown_names(raster, name):
    with pytest.raises(UnknownNameError, match=f"squashed, whole, lungs, lungs_alone; received '{name}'"):
        show(raster, name, 1.0, None, 64)
    with pytest.raises(UnknownNameError, match=f"unit, standard, byte; received '{name}'"):
        scale_gray(raster, name)


# All together


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_prepared(raster, lungs, framing, scaling):
    prepared = Prepared(raster, 1.3, lungs)
    inputs = prepared.inputs(framing, scaling, 48)
    assert inputs.shape == (1, 48, 48, 1)
    assert inputs.dtype == np.float32
    assert np.array_equal(inputs[0], scale_gray(show(raster, framing, 1.3, lungs, 48), scaling))
    assert prepared.box(framing) == frame(framing, 1.3, lungs)


def golden_inputs() -> dict[str, np.ndarray]:
    result = {}
    for file, mask in GOLDEN_IMAGES.items():
        radiograph = read_radiograph(TESTS / "data" / file)
        prepared = Prepared(to_raster(radiograph.pixels), radiograph.width / radiograph.height, drawn(mask))
        for framing in FRAMINGS:
            for scaling in SCALINGS:
                result[f"{file} {framing} {scaling}"] = prepared.inputs(framing, scaling, GOLDEN_SIZE)
    return result


def test_golden_values():
    found = golden_inputs()
    if os.environ.get("REGENERATE"):
        np.savez_compressed(GOLDEN, **found)
    with np.load(GOLDEN) as expected:
        assert found.keys() == set(expected.files)
        for name, values in found.items():
            np.testing.assert_allclose(values, expected[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_training_and_serving_see_the_same(images, manifest, finder, framing):
    from training.dataset import open_dataset
    from training.views import load_views

    dataset, source = open_dataset(manifest)
    views = load_views(source, dataset.split("test")[:6], finder)
    trained_on = scale_gray(views.shown(framing, 64), "standard")
    for image, lungs, expected in zip(views.images, views.lungs, trained_on, strict=True):
        raster = to_raster(read_radiograph(images / image.file).pixels)
        served = Prepared(raster, image.aspect, lungs).inputs(framing, "standard", 64)
        np.testing.assert_allclose(served[0], expected, atol=1e-5)


def test_training_and_serving_see_the_same_at_full_resolution(tmp_path):
    from training.dataset import Image as DatasetImage
    from training.dataset import load_rasters
    from training.sources import open_source

    folder = tmp_path / "test" / "NORMAL"
    folder.mkdir(parents=True)
    content = (TESTS / "data" / "full_resolution" / "IM-0081-0001.jpeg").read_bytes()
    (folder / "IM-0081-0001.jpeg").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    image = DatasetImage("test/NORMAL/IM-0081-0001.jpeg", digest, "test", "NORMAL", "IM-81", "", 1260, 767)
    rasters, labels = load_rasters(open_source(tmp_path), [image])
    assert np.array_equal(rasters[0], to_raster(read_radiograph(content).pixels))
    assert labels.tolist() == [0]


def prepared(finder: Segmenter, source: bytes | Path) -> Prepared:
    radiograph = read_radiograph(source)
    raster = to_raster(radiograph.pixels)
    return Prepared(raster, radiograph.width / radiograph.height, finder.find(raster))


def compare(full: Prepared, copy: Prepared) -> None:
    assert full.lungs.found
    assert copy.lungs.found
    for framing in ("squashed", "lungs", "lungs_alone"):
        for scaling, tolerance in (("unit", 0.02), ("standard", 0.1)):
            first, second = (each.inputs(framing, scaling, 128) for each in (full, copy))
            assert np.abs(first - second).mean() < tolerance, (framing, scaling)


@pytest.mark.parametrize("file", FULL_RESOLUTION)
def test_full_resolution_looks_like_its_reduced_copy(finder, file):
    path = TESTS / "data" / "full_resolution" / Path(file).name
    copy = io.BytesIO()
    with Image.open(path) as image:
        image.convert("L").resize((RASTER, RASTER), Image.Resampling.BOX).save(copy, "JPEG", quality=95)
    compare(prepared(finder, path), prepared(finder, copy.getvalue()))


@pytest.mark.parametrize("file", FULL_RESOLUTION)
def test_full_resolution_looks_like_the_training_data(images, finder, file):
    full = prepared(finder, TESTS / "data" / "full_resolution" / Path(file).name)
    compare(full, prepared(finder, images / "test" / file))
