"""Random transforms move, turn, scale and mirror within their ranges, and do nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from training.augment import Augmentation
from training.recipes import Reference

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
    from training.dataset import load_pixels, open_dataset

    dataset, source = open_dataset(manifest)
    return load_pixels(source, dataset.split("train")[:8], size)[0]


def moments(image: np.ndarray) -> tuple[float, float, float, float]:
    """Centre of the bright part relative to the image's, and its standard deviations: rows, columns."""
    weights = image / image.sum(dtype=float)
    rows, columns = grid()
    row, column = (rows * weights).sum(), (columns * weights).sum()
    spread = ((rows - row) ** 2 * weights).sum(), ((columns - column) ** 2 * weights).sum()
    return row, column, spread[0] ** 0.5, spread[1] ** 0.5


def draw(augmentation: Augmentation, image: np.ndarray, seed: int = 0, count: int = DRAWS) -> np.ndarray:
    return augmentation.apply(stack(image, count), np.random.default_rng(seed))


ALL = Augmentation(rotation=30, zoom=0.2, shift=0.1, flip=True)


def test_nothing_is_done_where_all_ranges_are_zero(manifest):
    images = photograph(manifest)
    result = Augmentation().apply(images, np.random.default_rng(0))
    np.testing.assert_array_equal(result, images)
    assert not np.shares_memory(result, images)


@pytest.mark.parametrize("size", [32, 33, 101, 150])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_shape_and_type_are_kept_and_the_input_too(manifest, size, count):
    images = photograph(manifest, size)[:count]
    before = images.copy()
    result = ALL.apply(images, np.random.default_rng(0))
    assert result.dtype == np.uint8
    assert result.shape == (count, size, size)
    np.testing.assert_array_equal(images, before)


def test_images_that_do_not_lie_in_one_piece(manifest):
    images = photograph(manifest)
    expected = ALL.apply(images[::2].copy(), np.random.default_rng(0))
    np.testing.assert_array_equal(ALL.apply(images[::2], np.random.default_rng(0)), expected)
    images.flags.writeable = False
    np.testing.assert_array_equal(ALL.apply(images[::2], np.random.default_rng(0)), expected)


def test_generator_alone_decides(manifest):
    images = photograph(manifest)
    first = ALL.apply(images, np.random.default_rng(3))
    np.random.seed(1)
    np.testing.assert_array_equal(ALL.apply(images, np.random.default_rng(3)), first)
    assert not np.array_equal(ALL.apply(images, np.random.default_rng(4)), first)
    generator = np.random.default_rng(3)
    ALL.apply(images, generator)
    assert not np.array_equal(ALL.apply(images, generator), first), "the next batch is drawn anew"


def test_images_of_a_batch_are_drawn_apart(manifest):
    results = draw(ALL, photograph(manifest)[0], count=20)
    assert len({result.tobytes() for result in results}) == 20


def test_an_image_does_not_depend_on_its_neighbours(manifest):
    images = photograph(manifest)
    whole = ALL.apply(images, np.random.default_rng(0))
    generator = np.random.default_rng(0)
    apart = np.concatenate([ALL.apply(image[np.newaxis], generator) for image in images])
    np.testing.assert_array_equal(apart, whole)


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
    results = draw(ALL, np.full((SIZE, SIZE), gray, np.uint8))
    assert np.unique(results).tolist() == [gray]


def test_what_enters_is_the_nearest_edge():
    columns = np.tile(np.linspace(50, 250, SIZE).astype(np.uint8), (SIZE, 1))
    for result in draw(ALL, columns):
        assert result.min() >= 50
        assert result.max() <= 250


def test_gray_values_stay_within_those_of_the_image(manifest):
    for image in photograph(manifest):
        results = draw(ALL, image, count=10)
        assert results.min() >= image.min()
        assert results.max() <= image.max()


def test_reference_recipe_uses_all_of_them():
    assert Reference().augmentation == ALL
