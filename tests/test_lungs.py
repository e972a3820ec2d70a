"""The lungs: telling two of them apart in a mask, their zones, and the segmenter that ships."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from pneumo.framing import RASTER, to_raster
from pneumo.lungs import LEAST_CERTAIN, ZONES, Lungs, Segmenter, certainty, lungs_in, lungs_of
from pneumo.radiograph import read_radiograph

MASKS = Path(__file__).parent / "data" / "lung_masks"
NAMES = sorted(str(path.relative_to(MASKS).with_suffix("")) for path in MASKS.rglob("*.png"))
SOME = NAMES[::7]
NONE = "No lung was found."
ONE = "Only one lung was found."
UNEQUAL = "The two parts found are too unequal to be two lungs."
LARGE = "What was found is too large to be two lungs."
STACKED = "The two parts found do not lie side by side."
UNCERTAIN = "What was found is too uncertain to be two lungs."


def drawn(name: str) -> np.ndarray:
    return cv2.imread(str(MASKS / f"{name}.png"), cv2.IMREAD_GRAYSCALE) >= 128


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def mirrored(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., ::-1])


def ellipses(*shapes: tuple[int, int, int, int]) -> np.ndarray:
    """A mask of ellipses, each centre x, centre y, half width, half height."""
    mask = np.zeros((RASTER, RASTER), np.uint8)
    for x, y, width, height in shapes:
        cv2.ellipse(mask, (x, y), (width, height), 0, 0, 360, 1, cv2.FILLED)
    return mask.astype(bool)


def check(lungs: Lungs) -> None:
    """What holds for whatever is found."""
    assert lungs.right.shape == lungs.left.shape == lungs.mask.shape == (RASTER, RASTER)
    assert lungs.right.dtype == lungs.left.dtype == lungs.mask.dtype == bool
    assert lungs.found == (lungs.reason == "") == bool(lungs.mask.any())
    assert lungs.share == pytest.approx(lungs.mask.sum() / RASTER**2)
    zones = lungs.zones()
    assert tuple(zones) == ZONES
    # They partition the mask.
    assert np.array_equal(np.sum(list(zones.values()), axis=0), lungs.right.astype(int) + lungs.left)
    if not lungs.found:
        assert lungs.reason.endswith(".")
        with pytest.raises(ValueError, match="Only found lungs have a box. " + lungs.reason):
            lungs.box  # noqa: B018
        return
    box = lungs.box
    rows, columns = np.nonzero(lungs.mask)
    assert (round(box.left * RASTER), round(box.right * RASTER)) == (columns.min(), columns.max() + 1)
    assert (round(box.top * RASTER), round(box.bottom * RASTER)) == (rows.min(), rows.max() + 1)
    centres = [np.flatnonzero(lung.any(axis=0)).mean() for lung in (lungs.right, lungs.left)]
    assert centres[0] < centres[1]
    areas = [lung.mean() for lung in (lungs.right, lungs.left)]
    assert min(areas) >= 0.02
    assert max(areas) <= 4 * min(areas)


@pytest.mark.parametrize("name", NAMES)
def test_drawn_masks_are_two_lungs(name):
    mask = drawn(name)
    lungs = lungs_of(mask)
    assert lungs.found
    check(lungs)
    assert not np.any(lungs.right & lungs.left)
    assert dice(lungs.mask, mask) > 0.99


@pytest.mark.parametrize("name", SOME)
def test_mirror_swaps_right_and_left(name):
    lungs, other = lungs_of(drawn(name)), lungs_of(mirrored(drawn(name)))
    assert np.array_equal(mirrored(other.right), lungs.left)
    assert np.array_equal(mirrored(other.left), lungs.right)


@pytest.mark.parametrize("name", SOME)
def test_zones(name):
    lungs = lungs_of(drawn(name))
    zones = lungs.zones()
    for side, lung in (("right", lungs.right), ("left", lungs.left)):
        extents = []
        for height in ("upper", "middle", "lower"):
            zone = zones[f"{side}_{height}"]
            assert np.all(lung[zone])
            filled = np.flatnonzero(zone.any(axis=1))
            extents += [filled[0], filled[-1]]
        assert extents == sorted(extents)
        heights = np.diff(extents)[::2] + 1
        assert np.ptp(heights) <= 1


# Masks that are no two lungs, and the reason.
REFUSED = {
    "blank": (np.zeros((RASTER, RASTER), bool), NONE),
    "specks": (ellipses((40, 40, 8, 8), (160, 40, 8, 8), (100, 180, 8, 8)), NONE),
    "all": (np.ones((RASTER, RASTER), bool), ONE),
    "one blob": (ellipses((112, 112, 70, 60)), ONE),
    "one wide blob": (ellipses((112, 112, 105, 40)), ONE),
    "one lung and a speck": (ellipses((60, 112, 30, 80), (170, 112, 6, 6)), ONE),
    "two unequal blobs": (ellipses((60, 112, 50, 90), (180, 112, 20, 20)), UNEQUAL),
    "too large": (np.arange(RASTER) != np.full((RASTER, 1), 112), LARGE),
    "stacked": (ellipses((112, 55, 60, 40), (112, 165, 60, 40)), STACKED),
}


@pytest.mark.parametrize(("mask", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(mask, reason):
    lungs = lungs_of(mask)
    check(lungs)
    assert lungs.reason == reason


@pytest.mark.parametrize("name", NAMES)
def test_one_lung_is_not_cut_in_two(name):
    lungs = lungs_of(drawn(name))
    for lung in (lungs.right, lungs.left):
        assert lungs_of(lung).reason == ONE


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bridges", [1, 2])
def test_lungs_that_touch_are_cut_apart(name, bridges):
    apart = lungs_of(drawn(name))
    mask = apart.mask.copy()
    common = np.flatnonzero(apart.right.any(axis=1) & apart.left.any(axis=1))
    for row in common[[len(common) // 3, 2 * len(common) // 3]][:bridges]:
        start = np.flatnonzero(apart.right[row])[-1]
        stop = np.flatnonzero(apart.left[row])[0]
        mask[row - 4 : row + 4, start:stop] = True
    touching = lungs_of(mask)
    assert touching.found
    check(touching)
    assert dice(touching.right, apart.right) > 0.93
    assert dice(touching.left, apart.left) > 0.93


@pytest.mark.parametrize("bridge", [[], [(112, 112, 30, 5)]], ids=["apart", "touching"])
def test_holes_are_filled_and_specks_dropped(bridge):
    whole = ellipses((60, 112, 35, 80), (165, 112, 35, 80), *bridge)
    spoiled = (whole & ~ellipses((60, 100, 8, 8), (165, 140, 5, 9))) | ellipses((112, 15, 5, 5))
    assert np.array_equal(lungs_of(spoiled).mask, whole)


def test_the_two_largest_parts_are_taken():
    two = ellipses((60, 100, 35, 80), (165, 100, 35, 80))
    lungs = lungs_of(two | ellipses((112, 205, 60, 15)) & ~two)
    assert dice(lungs.mask, two) > 0.95


@pytest.mark.parametrize("seed", range(60))
def test_any_mask_gets_an_answer(seed):
    generator = np.random.default_rng(seed)
    noise = generator.random((RASTER, RASTER)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), generator.uniform(0.5, 40))
    mask = smooth > np.quantile(smooth, generator.uniform(0, 1))
    if seed % 2:
        shapes = [generator.integers((0, 0, 2, 2), (RASTER, RASTER, 60, 110)) for _ in range(generator.integers(1, 6))]
        mask = ellipses(*(tuple(int(value) for value in shape) for shape in shapes)) ^ (mask & (seed % 4 == 1))
    check(lungs_of(mask))


# What a segmenter makes of a radiograph


def likely(mask: np.ndarray, inside: float, around: float = 0.0) -> np.ndarray:
    return np.where(mask, np.float32(inside), np.float32(around))


@pytest.mark.parametrize("name", SOME)
def test_certain_lungs_are_those_of_the_mask(name):
    lungs, expected = lungs_in(likely(drawn(name), 0.95)), lungs_of(drawn(name))
    assert np.array_equal(lungs.right, expected.right)
    assert np.array_equal(lungs.left, expected.left)
    check(lungs)


@pytest.mark.parametrize(("inside", "around"), [(0.6, 0.0), (0.89, 0.0), (0.95, 0.2)])
def test_uncertain_lungs_are_none(inside, around):
    lungs = lungs_in(likely(drawn(NAMES[0]), inside, around))
    assert lungs.reason == UNCERTAIN
    check(lungs)


@pytest.mark.parametrize(("mask", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_with_the_shape_is_said_first(mask, reason):
    assert lungs_in(likely(mask, 0.6)).reason == reason


def test_certainty():
    mask = ellipses((60, 112, 35, 80), (165, 112, 35, 80))
    rows = np.arange(RASTER)[:, np.newaxis]
    assert certainty(np.zeros((RASTER, RASTER), np.float32)) == 0
    assert certainty(likely(mask, 0.95, 0.05)) == 1
    assert certainty(likely(mask, 0.5)) == 0
    half = np.where(rows < 112, likely(mask, 0.95), likely(mask, 0.6))
    assert certainty(half) == pytest.approx(0.5, abs=0.01)
    for below, found in ((100, False), (124, True)):
        assert lungs_in(np.where(rows < below, likely(mask, 0.95), likely(mask, 0.6))).found == found


# The segmenter that ships


@pytest.fixture(scope="module")
def finder(segmenter) -> Segmenter:
    from training.segment import load_segmenter

    return Segmenter(load_segmenter(segmenter))


@pytest.fixture(scope="module")
def rasters(images) -> np.ndarray:
    """The shipped images that have a mask, in the order of `NAMES`."""
    return np.stack([to_raster(read_radiograph(images / f"{name}.jpeg").pixels) for name in NAMES])


@pytest.fixture(scope="module")
def found(finder, rasters) -> list[Lungs]:
    return finder.find_all(rasters)


def test_masks(finder, rasters):
    masks = finder.masks(rasters[:3])
    assert masks.shape == (3, RASTER, RASTER)
    assert masks.dtype == np.float32
    assert masks.min() >= 0
    assert masks.max() <= 1
    alone = np.concatenate([finder.masks(raster[np.newaxis]) for raster in rasters[:3]])
    np.testing.assert_allclose(masks, alone, atol=1e-4)


def test_lungs_are_where_people_drew_them(found):
    assert all(lungs.found for lungs in found)
    scores = np.array([dice(lungs.mask, drawn(name)) for lungs, name in zip(found, NAMES, strict=True)])
    assert scores.mean() > 0.95
    assert scores.min() > 0.88
    shifts = []
    for lungs, name in zip(found, NAMES, strict=True):
        check(lungs)
        truth = lungs_of(drawn(name))
        assert dice(lungs.right, truth.right) > 0.85
        assert dice(lungs.left, truth.left) > 0.85
        shifts.append(np.subtract(dataclasses.astuple(lungs.box), dataclasses.astuple(truth.box)))
    # Of the edges of the box.
    assert np.abs(shifts).mean() < 0.02
    assert np.mean(np.abs(shifts) > 0.1) < 0.02


def test_lungs_of_a_mirrored_radiograph(finder, rasters, found):
    for raster, lungs in zip(rasters[::7], found[::7], strict=True):
        other = finder.find(mirrored(raster))
        assert dice(mirrored(other.right), lungs.left) > 0.95
        assert dice(mirrored(other.left), lungs.right) > 0.95


@pytest.mark.parametrize(("contrast", "brightness"), [(0.5, 60), (0.1, 100), (0.7, 0)])
def test_exposure_does_not_move_the_lungs(finder, rasters, found, contrast, brightness):
    for raster, lungs in zip(rasters[::7], found[::7], strict=True):
        other = finder.find(np.rint(raster * contrast + brightness).astype(np.uint8))
        assert dice(other.mask, lungs.mask) > 0.97


def without_lungs() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        **{f"gray {level}": np.full((RASTER, RASTER), level, np.uint8) for level in (0, 100, 255)},
        "almost black": np.eye(RASTER, dtype=np.uint8),
        "noise": generator.integers(0, 256, (RASTER, RASTER), np.uint8),
        "faint noise": np.clip(generator.normal(100, 3, (RASTER, RASTER)), 0, 255).astype(np.uint8),
        "ramp": np.tile(np.arange(RASTER, dtype=np.uint8), (RASTER, 1)),
        "disc": ellipses((112, 112, 80, 80)).astype(np.uint8) * 200,
    }


@pytest.mark.parametrize("raster", without_lungs().values(), ids=without_lungs())
def test_no_lungs_where_there_are_none(finder, raster):
    lungs = finder.find(raster)
    assert not lungs.found
    check(lungs)


def test_radiographs_are_more_certain_than_they_need_be(finder, rasters):
    assert min(certainty(mask) for mask in finder.masks(rasters)) > LEAST_CERTAIN + 0.1


@pytest.mark.parametrize("picture", load_sample_images().images, ids=["temple", "flower"])
@pytest.mark.parametrize("turn", range(4))
def test_photographs_have_no_lungs(finder, picture, turn):
    gray = cv2.cvtColor(np.rot90(picture, turn).copy(), cv2.COLOR_RGB2GRAY)
    assert not finder.find(to_raster(gray)).found


def test_hardly_a_radiograph_on_its_side_or_inverted_has_lungs(finder, rasters):
    turned = finder.find_all(np.rot90(rasters, axes=(1, 2)).copy())
    inverted = finder.find_all(255 - rasters)
    for lungs in (turned, inverted):
        assert np.mean([item.found for item in lungs]) < 0.15


def test_half_a_radiograph_has_one_lung(finder, rasters):
    half = rasters[0].copy()
    half[:, RASTER // 2 :] = 0
    assert not finder.find(half).found
