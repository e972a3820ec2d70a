"""Every stress does what its title says and no more; every shortcut hides all that its title says."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumo.framing import RASTER
from pneumo.lungs import lungs_of
from pneumo.radiograph import read_radiograph
from training.batteries import SHORTCUTS, STRESSES, shortcut, stressed
from training.dataset import Image, load_rasters, open_dataset

FULL = Path(__file__).parents[1] / "data" / "full_resolution" / "IM-0081-0001.jpeg"
CURVES = {
    "gamma 0.6": lambda gray: 255 * (gray / 255) ** 0.6,
    "gamma 1.6": lambda gray: 255 * (gray / 255) ** 1.6,
    "brightness -25 %": lambda gray: gray * 0.75,
    "brightness +25 %": lambda gray: gray * 1.25,
}
RING = 14
"""Width of the border ring, in pixels."""


@pytest.fixture(scope="module")
def chosen(manifest) -> tuple[list[Image], np.ndarray]:
    """Four normal radiographs and four pneumonias."""
    dataset, source = open_dataset(manifest)
    test = dataset.split("test")
    images = [image for label in ("NORMAL", "PNEUMONIA") for image in test if image.label == label]
    images = images[:4] + images[-4:]
    rasters, _ = load_rasters(source, images)
    rasters.flags.writeable = False
    return images, rasters


@pytest.fixture(scope="module")
def rasters(chosen) -> np.ndarray:
    return chosen[1]


@pytest.fixture(scope="module")
def drawn(chosen, masks) -> list[np.ndarray]:
    """The lungs that people drew on them."""
    paths = [(masks / image.file).with_suffix(".png") for image in chosen[0]]
    return [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) >= 128 for path in paths]


# --- stress -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", STRESSES)
def test_stress_keeps_the_kind_of_image_and_leaves_the_given_one(rasters, title):
    pixels = read_radiograph(FULL.read_bytes(), FULL.name).pixels
    for image in (*rasters, pixels, pixels[: pixels.shape[1] // 2]):
        before = image.copy()
        found = STRESSES[title](image)
        assert found.dtype == np.uint8
        assert found.shape == image.shape
        np.testing.assert_array_equal(image, before)
        np.testing.assert_array_equal(STRESSES[title](image), found, "the same every time")


@pytest.mark.parametrize("title", STRESSES)
def test_stress_of_many_is_that_of_each(rasters, title):
    found = stressed(rasters, title)
    assert found.shape == rasters.shape == (len(rasters), RASTER, RASTER)
    for raster, result in zip(rasters, found, strict=True):
        np.testing.assert_array_equal(result, STRESSES[title](raster))
        if title != "marker removed":
            assert not np.array_equal(result, raster)


@pytest.mark.parametrize("title", CURVES)
def test_exposure_follows_its_curve(rasters, title):
    expected = np.clip(CURVES[title](rasters.astype(float)), 0, 255)
    np.testing.assert_allclose(stressed(rasters, title), expected, atol=0.51)


@pytest.mark.parametrize("factor", [0.5, 1.8])
def test_contrast_is_about_the_mean_of_each_image(rasters, factor):
    for raster, found in zip(rasters, stressed(rasters, f"contrast {factor}"), strict=True):
        expected = np.clip(raster.mean() + (raster - raster.mean()) * factor, 0, 255)
        np.testing.assert_allclose(found, expected, atol=0.51)
        assert bool(found.std() < raster.std()) is (factor < 1)


def test_blur_takes_edges_and_keeps_the_mean(rasters):
    for raster, found in zip(rasters, stressed(rasters, "blur"), strict=True):
        assert cv2.Laplacian(found, cv2.CV_64F).std() < 0.5 * cv2.Laplacian(raster, cv2.CV_64F).std()
        assert found.mean() == pytest.approx(raster.mean(), abs=1)


def test_blur_is_as_wide_in_a_larger_image():
    """Relative to the image: a spot keeps its share of the side."""
    widths = []
    for side in (224, 896):
        image = np.zeros((side, side), np.uint8)
        cv2.circle(image, (side // 2, side // 2), side // 16, 255, -1)
        found = STRESSES["blur"](image)
        widths.append(np.mean((found > 25) & (found < 230)))
    assert widths[0] == pytest.approx(widths[1], rel=0.2)


def test_noise_has_its_strength_and_no_mean(rasters):
    inner = (rasters > 60) & (rasters < 195)
    grain = stressed(rasters, "noise")[inner].astype(float) - rasters[inner]
    assert grain.std() == pytest.approx(0.05 * 255, rel=0.05)
    assert abs(grain.mean()) < 0.2


def test_compression_is_lossy_and_no_worse_than_that(rasters):
    for raster, found in zip(rasters, stressed(rasters, "JPEG 30"), strict=True):
        error = np.sqrt(np.mean((found.astype(float) - raster) ** 2))
        assert 0.5 < error < 8


def test_sixteen_bits_give_nearly_the_same_image(rasters):
    """Within one level of 256; were they the very same, the stress would try nothing."""
    for raster, found in zip(rasters, stressed(rasters, "16-bit input"), strict=True):
        difference = found.astype(int) - raster
        assert np.abs(difference).max() == 1
        assert 0.1 < np.mean(difference != 0) < 0.9
        assert abs(difference.mean()) < 0.5


def test_sixteen_bits_are_really_written(rasters, monkeypatch):
    """Twelve bits in sixteen, most of them values that no 8-bit level stands for."""
    written = []
    monkeypatch.setattr(
        "training.batteries.read_radiograph", lambda content, name: written.append(content) or read_radiograph(content)
    )
    STRESSES["16-bit input"](rasters[0])
    values = cv2.imdecode(np.frombuffer(written[0], np.uint8), cv2.IMREAD_UNCHANGED)
    assert values.dtype == np.uint16
    assert 255 < values.max() <= 4095
    assert len(np.unique(values)) > 1000
    for step in (257, 16):
        assert np.mean(values % step != 0) > 0.8
    np.testing.assert_allclose(values * (255 / 4095), rasters[0], atol=0.54)


def test_rotation_is_by_five_degrees_about_the_middle():
    image = np.zeros((RASTER, RASTER), np.uint8)
    cv2.circle(image, (192, 112), 6, 255, -1)
    rows, columns = np.mgrid[:RASTER, :RASTER] - (RASTER - 1) / 2
    places = []
    for picture in (image, STRESSES["rotation 5 degrees"](image)):
        weights = picture / picture.sum(dtype=float)
        places.append(complex((columns * weights).sum(), (rows * weights).sum()))
    assert abs(places[1]) == pytest.approx(abs(places[0]), abs=0.2)
    assert abs(np.degrees(np.angle(places[1] / places[0]))) == pytest.approx(5, abs=0.1)


def test_rotation_shows_nothing_that_was_not_there(rasters):
    for found in stressed(np.full_like(rasters[:1], 200), "rotation 5 degrees"):
        assert found[0, 0] == found[-1, -1] == 0, "black corners, as a tilted film has them"
        assert (found[60:-60, 60:-60] == 200).all()


def test_mirrored_twice_is_as_before(rasters):
    found = stressed(rasters, "mirrored")
    np.testing.assert_array_equal(found, rasters[:, :, ::-1])
    np.testing.assert_array_equal(stressed(found, "mirrored"), rasters)


@pytest.mark.parametrize("shape", [(224, 224), (1317, 1857), (900, 700)])
def test_marker_is_pasted_into_the_upper_corner_on_the_patients_right(rasters, shape):
    raster = cv2.resize(rasters[0], shape[::-1])
    found = STRESSES["marker pasted"](raster)
    changed = found != raster
    rows, columns = np.nonzero(changed)
    assert rows.max() < 0.2 * shape[0]
    assert columns.max() < 0.25 * shape[1]
    assert columns.min() > 0
    assert (found[changed] > raster[changed]).all()
    assert found.max() == 255
    assert 0.001 < changed.mean() < 0.02


def test_pasted_marker_is_removed(rasters):
    """All white of it; what is filled in is as the image around it."""
    for raster in rasters:
        plain = np.minimum(raster, 200)
        pasted = STRESSES["marker pasted"](plain)
        found = STRESSES["marker removed"](pasted)
        assert pasted.max() == 255
        assert found.max() < 235
        assert np.abs(found.astype(int) - plain).mean() < 0.3 * np.abs(pasted.astype(int) - plain).mean()


def test_marker_removal_touches_only_what_lies_at_bright_spots_in_the_upper_corners(rasters):
    touched = 0
    for raster, found in zip(rasters, stressed(rasters, "marker removed"), strict=True):
        rows, columns = np.nonzero(found != raster)
        near = cv2.dilate((raster >= 235).astype(np.uint8), np.ones((7, 7))) > 0
        assert near[rows, columns].all()
        assert (rows < RASTER / 3 + 30).all()
        touched += len(rows) > 0
    assert touched, "some of these images have markers"


@pytest.mark.parametrize(
    ("place", "radius", "gone"),
    [
        ((20, 20), 5, True),
        ((200, 20), 5, True),
        ((112, 20), 5, False),  # the middle: a clip, or the spine
        ((20, 150), 5, False),  # below
        ((20, 20), 20, False),  # too large for a marker
    ],
)
def test_which_bright_spots_are_markers(place, radius, gone):
    image = np.full((RASTER, RASTER), 60, np.uint8)
    spotted = cv2.circle(image.copy(), place, radius, 255, -1)
    found = STRESSES["marker removed"](spotted)
    if gone:
        assert np.abs(found.astype(int) - image).max() <= 3
    else:
        np.testing.assert_array_equal(found, spotted)


# --- shortcuts --------------------------------------------------------------------------------------------------

HIDING = [title for title in SHORTCUTS if title != "all but the lungs black"]


def scrambled(rasters: np.ndarray, places: list[np.ndarray]) -> np.ndarray:
    """Other gray values in some places."""
    result = rasters.copy()
    generator = np.random.default_rng(0)
    for image, place in zip(result, places, strict=True):
        image[place] = generator.integers(0, 256, int(place.sum()))
    return result


def middle() -> np.ndarray:
    place = np.zeros((RASTER, RASTER), bool)
    place[RING:-RING, RING:-RING] = True
    return place


@pytest.mark.parametrize("title", HIDING)
def test_nothing_of_the_lungs_is_left(rasters, drawn, title):
    """Whatever they were, the result is the same."""
    found = shortcut(rasters, drawn, title)
    if title == "border ring alone":
        drawn = [mask & middle() for mask in drawn]
    np.testing.assert_array_equal(shortcut(scrambled(rasters, drawn), drawn, title), found)
    assert found.dtype == np.uint8
    assert found.shape == rasters.shape
    assert not np.array_equal(found, rasters)


@pytest.mark.parametrize("title", [title for title in HIDING if title.startswith("lungs ")])
def test_all_but_the_lungs_stays(rasters, drawn, title):
    for raster, mask, found in zip(rasters, drawn, shortcut(rasters, drawn, title), strict=True):
        np.testing.assert_array_equal(found[~mask], raster[~mask])


def test_hidden_lungs_are_black_or_of_the_mean_gray(rasters, drawn):
    for raster, mask, black, gray in zip(
        rasters, drawn, shortcut(rasters, drawn, "lungs black"), shortcut(rasters, drawn, "lungs gray"), strict=True
    ):
        assert np.unique(black[mask]).tolist() == [0]
        assert np.unique(gray[mask]).tolist() == [round(raster[~mask].mean())]


def test_filled_lungs_show_no_edge(rasters, drawn):
    """Along the lungs' outline the gray values step far less than with lungs of one gray."""
    kernel = np.ones((3, 3), np.uint8)
    for mask, filled, black in zip(
        drawn,
        shortcut(rasters, drawn, "lungs filled from around"),
        shortcut(rasters, drawn, "lungs black"),
        strict=True,
    ):
        outline = cv2.dilate(mask.astype(np.uint8), kernel) != cv2.erode(mask.astype(np.uint8), kernel)
        steps = [np.abs(cv2.Laplacian(image, cv2.CV_64F))[outline].mean() for image in (filled, black)]
        assert steps[0] < 0.5 * steps[1]


def test_filled_lungs_of_an_even_image_cannot_be_seen(drawn):
    even = np.full((len(drawn), RASTER, RASTER), 120, np.uint8)
    found = shortcut(even, drawn, "lungs filled from around")
    assert np.abs(found.astype(int) - 120).max() <= 1


def test_lungs_alone_are_left(rasters, drawn):
    title = "all but the lungs black"
    found = shortcut(rasters, drawn, title)
    np.testing.assert_array_equal(shortcut(scrambled(rasters, [~mask for mask in drawn]), drawn, title), found)
    for raster, mask, result in zip(rasters, drawn, found, strict=True):
        np.testing.assert_array_equal(result[mask], raster[mask])
        assert not result[~mask].any()


def test_ring_alone_is_left(rasters, drawn):
    title = "border ring alone"
    found = shortcut(rasters, drawn, title)
    ring = ~middle()
    np.testing.assert_array_equal(found[:, ring], rasters[:, ring])
    assert not found[:, ~ring].any()


@pytest.mark.parametrize("title", SHORTCUTS)
def test_lungs_may_be_drawn_or_found(rasters, drawn, title):
    lungs = [lungs_of(mask) for mask in drawn]
    assert all(item.found for item in lungs)
    expected = shortcut(rasters, [item.mask for item in lungs], title)
    np.testing.assert_array_equal(shortcut(rasters, lungs, title), expected)


@pytest.mark.parametrize("title", ["lungs black", "lungs gray", "lungs filled from around"])
def test_where_no_lungs_were_found_none_are_hidden(rasters, title):
    nothing = [lungs_of(np.zeros((RASTER, RASTER), bool))] * len(rasters)
    np.testing.assert_array_equal(shortcut(rasters, nothing, title), rasters)


def test_every_image_needs_its_lungs(rasters, drawn):
    with pytest.raises(ValueError, match="zip"):
        shortcut(rasters, drawn[:-1], "lungs black")
