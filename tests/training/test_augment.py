"""Random transforms stay within their ranges, take gray values and lung mask along together, and do nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pneumo.framing import DILATION, RASTER, Box, beyond, cut, near
from training.augment import Augmentation, beyond_film
from training.dataset import load_rasters, open_dataset
from training.recipes import RECIPES, Reference

SIZE = 101
CENTRE = (SIZE - 1) / 2
DRAWS = 200


def stack(image: np.ndarray, count: int = DRAWS) -> np.ndarray:
    return np.repeat(image[np.newaxis], count, axis=0)


def grid() -> tuple[np.ndarray, np.ndarray]:
    return np.mgrid[:SIZE, :SIZE] - CENTRE


def disc(radius: float = 25, row: float = 0, column: float = 0) -> np.ndarray:
    """A disc with a soft edge, at an offset from the centre."""
    rows, columns = grid()
    distance = np.hypot(rows - row, columns - column)
    return (np.clip(radius - distance + 0.5, 0, 1) * 255).astype(np.uint8)


def photograph(manifest, size: int = SIZE) -> np.ndarray:
    dataset, source = open_dataset(manifest)
    rasters, _ = load_rasters(source, dataset.split("train")[:8])
    return np.stack([cv2.resize(raster, (size, size), interpolation=cv2.INTER_AREA) for raster in rasters])


def moments(image: np.ndarray) -> tuple[float, float, float, float]:
    """Centre of the bright part relative to the image's, and its standard deviations: rows, columns."""
    weights = image / image.sum(dtype=float)
    rows, columns = grid()
    row, column = (rows * weights).sum(), (columns * weights).sum()
    spread = ((rows - row) ** 2 * weights).sum(), ((columns - column) ** 2 * weights).sum()
    return row, column, spread[0] ** 0.5, spread[1] ** 0.5


def draw(augmentation: Augmentation, image: np.ndarray, seed: int = 0, count: int = DRAWS) -> np.ndarray:
    return augmentation.apply(stack(image, count), np.random.default_rng(seed))[0]


MOVING = Augmentation(rotation=30, zoom=0.2, shift=0.1, flip=True)
ALL = Augmentation(
    rotation=30,
    zoom=0.2,
    shift=0.1,
    flip=True,
    aspect=1.2,
    gamma=1.8,
    contrast=1.8,
    brightness=0.2,
    blur=1.2,
    noise=0.04,
    jpeg=30,
)


def test_nothing_is_done_where_all_ranges_are_zero(manifest):
    images = photograph(manifest)
    result, blind = Augmentation().apply(images, np.random.default_rng(0))
    assert not blind.any()
    np.testing.assert_array_equal(result, images)
    assert not np.shares_memory(result, images)


@pytest.mark.parametrize("size", [32, 33, 101, 150])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_shape_and_type_are_kept_and_the_input_too(manifest, size, count):
    images = photograph(manifest, size)[:count]
    before = images.copy()
    result, blind = ALL.apply(images, np.random.default_rng(0))
    assert blind.tolist() == [False] * count
    assert result.dtype == np.uint8
    assert result.shape == (count, size, size)
    np.testing.assert_array_equal(images, before)


def test_images_that_do_not_lie_in_one_piece(manifest):
    images = photograph(manifest)
    expected = ALL.apply(images[::2].copy(), np.random.default_rng(0))[0]
    np.testing.assert_array_equal(ALL.apply(images[::2], np.random.default_rng(0))[0], expected)
    images.flags.writeable = False
    np.testing.assert_array_equal(ALL.apply(images[::2], np.random.default_rng(0))[0], expected)


def test_generator_alone_decides(manifest):
    images = photograph(manifest)
    first = ALL.apply(images, np.random.default_rng(3))[0]
    np.random.seed(1)
    np.testing.assert_array_equal(ALL.apply(images, np.random.default_rng(3))[0], first)
    assert not np.array_equal(ALL.apply(images, np.random.default_rng(4))[0], first)
    generator = np.random.default_rng(3)
    ALL.apply(images, generator)
    assert not np.array_equal(ALL.apply(images, generator)[0], first), "the next batch is drawn anew"


def test_images_of_a_batch_are_drawn_apart(manifest):
    results = draw(ALL, photograph(manifest)[0], count=20)
    assert len({result.tobytes() for result in results}) == 20


@pytest.mark.parametrize("step", ["place", "expose"])
def test_an_image_does_not_depend_on_its_neighbours(manifest, step):
    def done(images, generator):
        return ALL.expose(images, generator) if step == "expose" else ALL.place(images, generator)[0]

    images = photograph(manifest)
    whole = done(images, np.random.default_rng(0))
    generator = np.random.default_rng(0)
    apart = np.concatenate([done(image[np.newaxis], generator) for image in images])
    np.testing.assert_array_equal(apart, whole)


def test_images_are_placed_and_then_exposed(manifest):
    images = photograph(manifest)
    generator = np.random.default_rng(7)
    placed, _ = ALL.place(images, generator)
    exposed = ALL.expose(placed, generator)
    np.testing.assert_array_equal(exposed, ALL.apply(images, np.random.default_rng(7))[0])
    assert not np.array_equal(exposed, placed)


@pytest.mark.parametrize("field", ["rotation", "zoom", "shift"])
def test_each_range_works_alone(manifest, field):
    image = photograph(manifest)[0]
    results = draw(Augmentation(**{field: {"rotation": 30, "zoom": 0.2, "shift": 0.1}[field]}), image, count=10)
    assert all(not np.array_equal(result, image) for result in results)


# --- rotation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation", [5, 30, 180])
def test_turned_disc_stays_a_disc(rotation):
    image = disc()
    for result in draw(Augmentation(rotation=rotation), image, count=50):
        assert np.abs(result.astype(int) - image).mean() < 1.5
        row, column, tall, wide = moments(result)
        assert np.hypot(row, column) < 0.1
        assert tall == pytest.approx(wide, rel=0.01)
        assert tall == pytest.approx(moments(image)[2], rel=0.01)


def test_bright_pixel_at_the_centre_stays_there():
    image = np.zeros((SIZE, SIZE), np.uint8)
    image[SIZE // 2, SIZE // 2] = 255
    for result in draw(Augmentation(rotation=180, zoom=0.2, flip=True), image):
        assert np.unravel_index(result.argmax(), result.shape) == (SIZE // 2, SIZE // 2)
        assert result.max() > 250


def test_side_of_even_length_is_turned_about_the_middle_too():
    image = np.zeros((100, 100), np.uint8)
    image[49:51, 49:51] = 200
    for result in draw(Augmentation(rotation=180), image, count=50):
        rows, columns = np.mgrid[:100, :100] - 49.5
        weights = result / result.sum(dtype=float)
        assert np.hypot((rows * weights).sum(), (columns * weights).sum()) < 0.1


@pytest.mark.parametrize("rotation", [10, 30])
def test_angles_fill_their_range_to_both_sides(rotation):
    """Seen from the centre, a spot that was to the right is at an angle within the range."""
    angles = []
    for result in draw(Augmentation(rotation=rotation), disc(5, column=35)):
        row, column, _, _ = moments(result)
        assert np.hypot(row, column) == pytest.approx(35, abs=0.2)
        angles.append(np.rad2deg(np.arctan2(row, column)))
    assert np.abs(angles).max() <= rotation + 0.2
    assert min(angles) < -0.9 * rotation
    assert max(angles) > 0.9 * rotation
    assert abs(np.mean(angles)) < rotation / 4


# --- zoom -------------------------------------------------------------------------------------------------------


def test_zoom_is_within_its_range_for_each_axis():
    """The range is of what is seen: 0.8 of it is 1.25 times as large."""
    _, _, tall, wide = moments(disc())
    scales = []
    for result in draw(Augmentation(zoom=0.2), disc()):
        row, column, *spread = moments(result)
        assert np.hypot(row, column) < 0.1
        scales.append((tall / spread[0], wide / spread[1]))
    scales = np.array(scales)
    assert scales.min() >= 0.79
    assert scales.max() <= 1.21
    assert (scales.min(axis=0) < 0.82).all()
    assert (scales.max(axis=0) > 1.18).all()
    assert abs(np.corrcoef(scales.T)[0, 1]) < 0.3, "width and height are drawn apart"


# --- shift ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.05, 0.1])
def test_shifts_are_within_their_share_of_the_side(shift):
    places = np.array([moments(result)[:2] for result in draw(Augmentation(shift=shift), disc())])
    assert np.abs(places).max() <= shift * SIZE + 0.1
    for axis in places.T:
        assert axis.min() < -0.9 * shift * SIZE
        assert axis.max() > 0.9 * shift * SIZE
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.3


def test_shifted_disc_keeps_its_size():
    _, _, tall, wide = moments(disc())
    for result in draw(Augmentation(shift=0.1), disc(), count=20):
        assert moments(result)[2:] == pytest.approx((tall, wide), rel=0.01)


# --- flip -------------------------------------------------------------------------------------------------------


def test_every_second_image_is_mirrored_left_to_right(manifest):
    image = photograph(manifest)[0]
    count = 1000
    results = draw(Augmentation(flip=True), image, count=count)
    mirrored = [np.array_equal(result, image[:, ::-1]) for result in results]
    kept = [np.array_equal(result, image) for result in results]
    assert sum(mirrored) + sum(kept) == count
    # Within four standard deviations of one half.
    assert abs(sum(mirrored) - count / 2) < 4 * (count / 4) ** 0.5


@pytest.mark.parametrize("flip", [False, True])
def test_nothing_is_ever_upside_down(flip):
    image = disc(5, row=-35, column=-20)
    places = np.array([moments(result)[:2] for result in draw(Augmentation(zoom=0.1, shift=0.1, flip=flip), image)])
    assert (places[:, 0] < 0).all()
    assert bool((places[:, 1] > 0).any()) is flip


# --- border -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gray", [1, 128, 255])
def test_border_repeats_the_edge(gray):
    """An even image stays even: no black corners."""
    results = draw(MOVING, np.full((SIZE, SIZE), gray, np.uint8))
    assert np.unique(results).tolist() == [gray]


def test_what_enters_is_the_nearest_edge():
    columns = np.tile(np.linspace(50, 250, SIZE).astype(np.uint8), (SIZE, 1))
    for result in draw(MOVING, columns):
        assert result.min() >= 50
        assert result.max() <= 250


def test_gray_values_stay_within_those_of_the_image(manifest):
    for image in photograph(manifest):
        results = draw(MOVING, image, count=10)
        assert results.min() >= image.min()
        assert results.max() <= image.max()


def test_reference_recipe_uses_all_of_them():
    assert Reference().augmentation == MOVING


def as_before(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The reference recipe's transforms as they were before there were others, written out."""
    size = images.shape[1]
    result = np.empty_like(images)
    for index, image in enumerate(images):
        angle = np.deg2rad(generator.uniform(-30.0, 30.0))
        scales = generator.uniform(1 - 0.2, 1 + 0.2, size=2)
        shift = generator.uniform(-0.1, 0.1, size=2) * size
        mirror = -1.0 if generator.random() < 0.5 else 1.0
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = turn @ np.diag([scales[0] * mirror, scales[1]])
        centre = np.full(2, (size - 1) / 2)
        matrix = np.column_stack([linear, centre - linear @ centre + shift])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        result[index] = cv2.warpAffine(image, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return result


def test_transforms_of_the_reference_recipe_are_those_they_always_were(manifest):
    images = photograph(manifest)
    now, before = np.random.default_rng(7), np.random.default_rng(7)
    for _ in range(2):
        result, blind = Reference().augmentation.apply(images, now)
        np.testing.assert_array_equal(result, as_before(images, before))
        assert not blind.any()
    assert now.bit_generator.state == before.bit_generator.state, "nothing more is drawn"


# --- film ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [-8.0, 3.0, 10.0])
@pytest.mark.parametrize("box", [Box(-0.04, 0.1, 0.98, 1.08), Box(0.1, -0.06, 1.06, 1.02), Box(0.2, 0.2, 0.8, 0.8)])
def test_turned_film_ends_where_that_of_a_turned_radiograph_does(angle, box):
    middle = ((RASTER - 1) / 2,) * 2
    white = np.full((RASTER, RASTER), 255, np.uint8)
    turned = cv2.warpAffine(white, cv2.getRotationMatrix2D(middle, -angle, 1), (RASTER, RASTER))
    seen = cut(turned, box, 112, beyond("lungs")) < 128
    sides = np.array([box.right - box.left, box.bottom - box.top])
    aside = (0.5 - np.array([box.left + box.right, box.top + box.bottom]) / 2) / sides
    # The boxes are nearly square, as the frame is.
    expected = beyond_film(112, 1 / sides, aside, angle)
    assert expected.any() == seen.any()
    assert (expected == seen).mean() > 0.98
    assert (expected & seen).sum() >= 0.8 * seen.sum()


def test_every_second_film_is_turned_and_half_of_them_filled_black():
    gray = np.full((SIZE, SIZE), 128, np.uint8)
    results = draw(Augmentation(film=10), gray, count=2000)
    changed = [set(np.unique(result)) - {128} for result in results]
    assert all(len(values) <= 1 for values in changed), "all that lies beyond has one gray"
    shown = [values for values in changed if values]
    assert 0.2 < len(shown) / len(results) < 0.5, "some films end outside of the frame"
    assert 0.4 < sum(values == {0} for values in shown) / len(shown) < 0.6
    assert (results != 128).mean() < 0.02


def test_turned_film_leaves_the_mask(pair):
    results = draw(Augmentation(film=10), pair, count=30)
    assert (results[..., 1] == pair[..., 1]).all()
    assert len({result[..., 0].tobytes() for result in results}) > 5


# --- aspect -----------------------------------------------------------------------------------------------------


def test_aspect_changes_within_its_factor_and_the_area_does_not():
    _, _, tall, wide = moments(disc())
    ratios = []
    for result in draw(Augmentation(aspect=1.3), disc()):
        row, column, *spread = moments(result)
        assert np.hypot(row, column) < 0.1
        assert spread[0] * spread[1] == pytest.approx(tall * wide, rel=0.02)
        ratios.append(spread[1] / spread[0])
    assert 1 / 1.31 < min(ratios) < 1 / 1.25
    assert 1.25 < max(ratios) < 1.31
    assert abs(np.mean(np.log(ratios))) < 0.05, "as often wider as narrower"


# --- exposure, sharpness, compression ---------------------------------------------------------------------------


PHOTOMETRIC = {"gamma": 1.8, "contrast": 1.8, "brightness": 0.2, "blur": 1.2, "noise": 0.04, "jpeg": 30}
COUNT = 200


def altered(manifest, field: str) -> tuple[np.ndarray, np.ndarray]:
    """A real image, and those of many draws that differ from it: every second."""
    image = photograph(manifest)[1]
    results = draw(Augmentation(**{field: PHOTOMETRIC[field]}), image, count=COUNT)
    changed = np.array([not np.array_equal(result, image) for result in results])
    # Within four standard deviations of one half; a draw may be too weak to show.
    assert abs(changed.sum() - COUNT / 2) < 4 * (COUNT / 4) ** 0.5
    return image, results[changed]


def curve(image: np.ndarray, result: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gray values before and after, where not clipped; each before has one after."""
    before = np.unique(image)
    after = np.array([np.unique(result[image == value]) for value in before], dtype=object)
    assert all(len(values) == 1 for values in after)
    after = np.array([int(values[0]) for values in after])
    assert (np.diff(after) >= 0).all()
    inner = (after > 0) & (after < 255) & (before > 0) & (before < 255)
    return before[inner].astype(float), after[inner].astype(float)


def test_gamma_is_an_exponent_within_its_range(manifest):
    image, results = altered(manifest, "gamma")
    found = []
    for result in results:
        before, after = curve(image, result)
        exponents = np.log(after / 255) / np.log(before / 255)
        middle = (before > 60) & (before < 200)
        found.append(np.median(exponents[middle]))
        np.testing.assert_allclose(255 * (before / 255) ** found[-1], after, atol=1.5)
    assert 1 / 1.81 < min(found) < 0.65 < 1.55 < max(found) < 1.81


def test_contrast_is_a_factor_about_middle_gray_within_its_range(manifest):
    image, results = altered(manifest, "contrast")
    found = []
    for result in results:
        before, after = curve(image, result)
        found.append(np.polyfit(before - 127.5, after - 127.5, 1)[0])
        np.testing.assert_allclose((before - 127.5) * found[-1], after - 127.5, atol=1.5)
    assert 1 / 1.82 < min(found) < 0.65 < 1.55 < max(found) < 1.82


def test_brightness_is_a_shift_within_its_range(manifest):
    image, results = altered(manifest, "brightness")
    shifts = []
    for result in results:
        before, after = curve(image, result)
        shifts.append(np.median(after - before))
        assert np.abs(after - before - shifts[-1]).max() <= 1
    assert -52 <= min(shifts) < -40
    assert 40 < max(shifts) <= 52


def test_blur_softens_or_sharpens(manifest):
    image, results = altered(manifest, "blur")

    def edges(pixels: np.ndarray) -> float:
        return float(np.abs(cv2.Laplacian(pixels, cv2.CV_64F)).mean())

    found = np.array([edges(result) / edges(image) for result in results])
    assert 0.3 < np.mean(found < 1) < 0.7
    assert np.abs(results.mean(axis=(1, 2)) - image.mean()).max() < 2
    softest = results[found.argmin()]
    expected = cv2.GaussianBlur(image, (0, 0), 1.2)
    assert edges(softest) >= edges(expected) * 0.99, "no softer than by the largest standard deviation"


def test_noise_is_about_nothing_and_within_its_range(manifest):
    image, results = altered(manifest, "noise")
    inner = (image > 60) & (image < 195)
    deviations = []
    for result in results:
        grain = result[inner].astype(float) - image[inner]
        deviations.append(grain.std())
        assert abs(grain.mean()) < 0.5
    assert 0.035 * 255 < max(deviations) < 0.042 * 255
    assert min(deviations) < 0.01 * 255


def test_compression_is_of_a_quality_within_its_range(manifest):
    image, results = altered(manifest, "jpeg")
    by_quality = {
        cv2.imdecode(
            cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE
        ).tobytes(): quality
        for quality in range(30, 100)
    }
    found = [by_quality[result.tobytes()] for result in results]
    assert min(found) < 40
    assert max(found) > 90


# --- lungs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(manifest, masks) -> np.ndarray:
    """A real radiograph and the lungs that a person drew on it, shape (side, side, 2)."""
    dataset, source = open_dataset(manifest)
    image = dataset.split("train")[0]
    mask = cv2.imread(str((masks / image.file).with_suffix(".png")), cv2.IMREAD_GRAYSCALE)
    return np.stack([load_rasters(source, [image])[0][0], mask], axis=-1)


def test_gray_values_and_mask_move_together(pair):
    """The mask in both planes stays the same in both, wherever it goes."""
    twice = np.repeat(pair[..., 1:], 2, axis=-1)
    moving = Augmentation(rotation=30, zoom=0.2, shift=0.1, flip=True, aspect=1.3)
    results = draw(moving, twice, count=30)
    np.testing.assert_array_equal(results[..., 0], results[..., 1])
    assert len({result.tobytes() for result in results}) == 30


def test_exposure_leaves_the_mask(pair):
    results = draw(Augmentation(**PHOTOMETRIC), pair, count=30)
    assert (results[..., 1] == pair[..., 1]).all()
    assert len({result[..., 0].tobytes() for result in results}) > 20


def test_a_mask_does_not_change_what_is_drawn_for_the_place(pair):
    """Lungs stripped or not, those of the first image are the same: their place is drawn first."""
    seeing = draw(MOVING, pair, count=1)
    stripped = draw(Augmentation(rotation=30, zoom=0.2, shift=0.1, flip=True, strip=1.0), pair, count=1)
    np.testing.assert_array_equal(seeing[..., 1], stripped[..., 1])
    inside = seeing[..., 1] >= 128
    np.testing.assert_array_equal(seeing[inside, 0], stripped[inside, 0])


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 1.0])
def test_share_of_the_images_loses_its_lungs_and_says_so(pair, share):
    count = 300
    results, blind = Augmentation(blind=share).apply(stack(pair, count), np.random.default_rng(1))
    assert abs(blind.sum() - share * count) <= 4 * (count * share * (1 - share)) ** 0.5
    inside = pair[..., 1] >= 128
    cleared = 0
    for result, lost in zip(results, blind, strict=True):
        np.testing.assert_array_equal(result[..., 1], pair[..., 1])
        assert np.array_equal(result, pair) != lost
        if not np.array_equal(result[~inside], pair[~inside]):
            cleared += 1
            level = np.unique(result[~near(inside, 2 * DILATION), 0])
            assert len(level) == 1, "all but a rim has one gray"
            shown = result[~inside, 0] != level[0]
            np.testing.assert_array_equal(result[~inside, 0][shown], pair[~inside, 0][shown])
    assert abs(cleared - blind.sum() / 2) <= 4 * (blind.sum() / 4) ** 0.5, "of every second image the rest goes too"


def test_nothing_of_lost_lungs_is_left(pair):
    """They become one gray or noise; either way the same whatever they were."""
    inside = pair[..., 1] >= 128
    other = pair.copy()
    other[inside, 0] = np.random.default_rng(9).permutation(other[inside, 0])
    blinding = Augmentation(blind=1.0)
    results, others = draw(blinding, pair), draw(blinding, other)
    np.testing.assert_array_equal(results, others)
    uniform = np.array([len(np.unique(result[inside, 0])) == 1 for result in results])
    assert 0.5 < uniform.mean() < 0.85, "two kinds of three are of one gray"
    for result in results[~uniform]:
        assert abs(np.corrcoef(result[inside, 0], pair[inside, 0])[0, 1]) < 0.1
    grays = {int(result[inside, 0][0]) for result in results[uniform]}
    assert len(grays) > 30
    assert int(pair[..., 0].mean()) in grays


def test_all_but_the_lungs_becomes_one_gray(pair):
    count = 200
    results, blind = Augmentation(strip=0.4).apply(stack(pair, count), np.random.default_rng(2))
    assert not blind.any(), "nothing is lost that matters"
    inside = pair[..., 1] >= 128
    stripped = [not np.array_equal(result, pair) for result in results]
    assert abs(sum(stripped) - 0.4 * count) < 4 * (count * 0.24) ** 0.5
    for result in results[stripped]:
        np.testing.assert_array_equal(result[inside], pair[inside])
        assert len(np.unique(result[~inside, 0])) == 1


def test_images_are_blinded_or_stripped_never_both(pair):
    results, blind = Augmentation(blind=0.5, strip=0.5).apply(stack(pair, 100), np.random.default_rng(3))
    inside = pair[..., 1] >= 128
    for result, lost in zip(results, blind, strict=True):
        assert np.array_equal(result[inside], pair[inside]) != lost
        if not lost:
            assert not np.array_equal(result[~inside], pair[~inside])


def test_share_of_the_images_is_blurred_until_nothing_can_be_read_and_says_so(pair):
    count, share = 200, 0.3
    results, faded = Augmentation(strip=0.2, fade=share).apply(stack(pair, count), np.random.default_rng(8))
    assert abs(faded.sum() - share * count) <= 4 * (count * share * (1 - share)) ** 0.5
    assert {np.array_equal(result, pair) for result in results[~faded]} == {True, False}, "some lose all but the lungs"
    side = pair.shape[0]
    fine = [edges(cv2.GaussianBlur(pair[..., 0], (0, 0), side * share)) for share in (1 / 5, 1 / 16)]
    for result in results[faded]:
        np.testing.assert_array_equal(result[..., 1], pair[..., 1])
        assert fine[0] <= edges(result[..., 0]) <= fine[1] < edges(pair[..., 0]) / 2


def edges(gray: np.ndarray) -> float:
    """How much neighbours differ, on the mean."""
    return float(np.abs(np.diff(gray.astype(float))).mean())


@pytest.mark.parametrize("field", ["blind", "strip", "fade"])
def test_where_no_lungs_are_known_nothing_is_hidden(pair, field):
    unknown = pair.copy()
    unknown[..., 1] = 0
    results, blind = Augmentation(**{field: 1.0}).apply(stack(unknown, 20), np.random.default_rng(4))
    assert not blind.any()
    assert (results == unknown).all()


def test_lungs_are_hidden_where_they_have_moved_to(pair):
    """After the geometry: nothing of the lungs is seen beside the place that became gray."""
    lungs = np.stack([pair[..., 1], pair[..., 1]], axis=-1)
    moving = Augmentation(rotation=30, zoom=0.2, shift=0.1, flip=True, blind=1.0)
    for result in draw(moving, lungs, count=20):
        outside = result[result[..., 1] < 128, 0]
        assert len(np.unique(outside[outside >= 128])) <= 1, "but the one gray that hides all else too"


# --- surroundings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [RASTER, 180, 150])
def test_middle_is_shown_where_nothing_moves(manifest, side):
    images = photograph(manifest, side)
    result, _ = Augmentation(gamma=1.0).apply(images, np.random.default_rng(0), 150)
    edge = (side - 150) // 2
    np.testing.assert_array_equal(result, images[:, edge : side - edge, edge : side - edge])


def test_middle_of_an_odd_margin_lies_between_two_pixels(manifest):
    images = photograph(manifest, 83)
    result, _ = Augmentation().apply(images, np.random.default_rng(0), 64)
    near = [images[:, first : first + 64, second : second + 64] for first in (9, 10) for second in (9, 10)]
    np.testing.assert_allclose(result, np.mean(near, axis=0), atol=1)


def test_surroundings_come_in_and_the_edge_is_not_repeated():
    """White around a dark middle: what a shift brings in is white, unless the middle is all that there is."""
    image = np.full((140, 140), 255, np.uint8)
    image[20:120, 20:120] = 10
    shifting = Augmentation(shift=0.1)
    with_surroundings, _ = shifting.apply(stack(image, 50), np.random.default_rng(5), 100)
    alone, _ = shifting.apply(stack(image[20:120, 20:120], 50), np.random.default_rng(5))
    assert np.unique(alone).tolist() == [10]
    brought = (with_surroundings > 128).mean(axis=(1, 2))
    assert brought.min() < 0.05
    assert 0.12 < brought.max() < 0.2, "up to a tenth on each of two sides"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_gives_images_of_the_size_asked_for(pair, name):
    results, blind = RECIPES[name]().augmentation.apply(stack(pair, 4), np.random.default_rng(6), 96)
    assert results.shape == (4, 96, 96, 2)
    assert results.dtype == np.uint8
    assert blind.shape == (4,)


def test_every_image_is_brightened():
    image = np.full((SIZE, SIZE), 100, np.uint8)
    levels = draw(Augmentation(brighten=1.5), image)[:, 50, 50].astype(float)
    assert levels.min() >= 100
    assert levels.max() <= 150
    assert (levels > 100).mean() > 0.95
    assert levels.std() == pytest.approx(50 / 12**0.5, rel=0.15)
    assert draw(Augmentation(brighten=1.5), np.full((SIZE, SIZE), 240, np.uint8)).max() == 255
