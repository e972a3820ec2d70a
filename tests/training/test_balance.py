"""Every strategy balances the training images, alters none of them, and touches no other."""

from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np
import pytest
from imblearn.over_sampling import SMOTE

from pneumo.errors import PneumoError, UnknownNameError
from training.balance import STRATEGIES, balance, epoch_images
from training.dataset import load_rasters, open_dataset

SIZE = 16
MANY, FEW = 20, 8


@pytest.fixture(scope="module")
def real(manifest) -> tuple[np.ndarray, np.ndarray]:
    """Real images, 8 normal ones and 15 pneumonias."""
    dataset, source = open_dataset(manifest)
    rasters, labels = load_rasters(source, dataset.split("train"))
    pixels = np.stack([cv2.resize(raster, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for raster in rasters])
    chosen = np.sort(np.r_[np.flatnonzero(labels == 0)[:FEW], np.flatnonzero(labels == 1)])
    return pixels[chosen], labels[chosen]


def table(few: int = FEW, many: int = MANY, minority: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random images with the classes in no order."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat([minority, 1 - minority], [few, many])).astype(np.uint8)
    return generator.integers(0, 256, (few + many, SIZE, SIZE), np.uint8), labels


ADDING = ["oversample", "smote"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("minority", [0, 1])
def test_originals_come_first_and_are_not_altered(strategy, minority):
    images, labels = table(minority=minority)
    before = images.copy(), labels.copy()
    result = balance(strategy, images, labels, 42)
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(labels, before[1])
    np.testing.assert_array_equal(result.images[: len(images)], images)
    np.testing.assert_array_equal(result.labels[: len(labels)], labels)
    assert result.images.dtype == np.uint8
    assert result.labels.dtype == np.uint8
    assert result.images.shape == (len(result.labels), SIZE, SIZE)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("minority", [0, 1])
def test_how_many_images_an_epoch_has(strategy, minority):
    images, labels = table(minority=minority)
    order = balance(strategy, images, labels, 42).order(np.random.default_rng(0))
    assert epoch_images(strategy, np.bincount(labels).tolist()) == len(order)


@pytest.mark.parametrize("strategy", ADDING)
@pytest.mark.parametrize("minority", [0, 1])
def test_classes_are_equal_afterwards(strategy, minority):
    images, labels = table(minority=minority)
    result = balance(strategy, images, labels, 42)
    assert np.bincount(result.labels).tolist() == [MANY, MANY]
    assert set(result.labels[len(labels) :].tolist()) == {minority}
    assert result.class_weights is None


@pytest.mark.parametrize("strategy", ADDING)
def test_real_images_are_balanced(real, strategy):
    result = balance(strategy, *real, 42)
    counts = np.bincount(result.labels)
    assert counts[0] == counts[1] == np.bincount(real[1]).max() > np.bincount(real[1]).min()


@pytest.mark.parametrize("strategy", ADDING)
def test_balanced_classes_get_nothing(strategy):
    images, labels = table(10, 10)
    result = balance(strategy, images, labels, 42)
    np.testing.assert_array_equal(result.images, images)
    np.testing.assert_array_equal(result.labels, labels)


@pytest.mark.parametrize("strategy", ADDING)
def test_seed_alone_decides(strategy):
    images, labels = table()
    first = balance(strategy, images, labels, 1).images
    np.random.seed(7)
    np.testing.assert_array_equal(balance(strategy, images, labels, 1).images, first)
    assert not np.array_equal(balance(strategy, images, labels, 2).images, first)


def test_oversampled_images_are_copies_of_the_minority():
    images, labels = table()
    result = balance("oversample", images, labels, 42)
    minority = {image.tobytes() for image in images[labels == 0]}
    added = [image.tobytes() for image in result.images[len(images) :]]
    assert len(added) == MANY - FEW
    assert set(added) <= minority


@pytest.mark.parametrize("data", ["random", "real"])
def test_synthetic_images_lie_between_two_of_the_minority(data, real):
    """Each is a + t (b - a) of two minority images a and b, with one t from 0 to 1, but for rounding to 8 bits."""
    images, labels = real if data == "real" else table()
    result = balance("smote", images, labels, 42)
    added = result.images[len(images) :].astype(float)
    assert len(added)
    minority = images[labels == 0].astype(float)
    places = []
    for image in added:
        errors = []
        for one, other in combinations(minority, 2):
            line = other - one
            t = np.clip(np.sum((image - one) * line) / np.sum(line * line), 0, 1)
            errors.append((np.abs(one + t * line - image).max(), t))
        error, t = min(errors)
        # Half a gray value by rounding, and as much again because t is found from rounded values.
        assert error <= 1
        places.append(t)
    assert min(places) < 0.4
    assert max(places) > 0.6


@pytest.mark.parametrize("seed", [0, 42])
@pytest.mark.parametrize("data", ["random", "real"])
def test_smote_equals_that_of_imblearn_but_for_rounding(data, seed, real):
    images, labels = real if data == "real" else table()
    result = balance("smote", images, labels, seed)
    flat, expected = SMOTE(random_state=seed).fit_resample(images.reshape(len(images), -1).astype(np.float64), labels)
    np.testing.assert_array_equal(result.labels, expected)
    difference = np.abs(result.images.reshape(len(flat), -1) - flat)
    assert difference.max() <= 0.5 + 1e-3
    assert difference[len(images) :].max() > 0.1


@pytest.mark.parametrize(("few", "many"), [(1, MANY), (2, MANY), (5, MANY), (3, 5), (5, 6)])
def test_smote_of_too_few_is_refused(few, many):
    images, labels = table(few, many)
    with pytest.raises(PneumoError, match="6") as caught:
        balance("smote", images, labels, 42)
    assert str(few) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_smote_of_just_enough():
    assert np.bincount(balance("smote", *table(3, 3), 42).labels).tolist() == [3, 3]
    assert np.bincount(balance("smote", *table(6), 42).labels).tolist() == [MANY, MANY]


@pytest.mark.parametrize(
    ("counts", "weights"),
    [
        ((1341, 3875), (1.94, 0.67)),
        ((100, 100), (1.0, 1.0)),
        ((300, 100), (0.67, 2.0)),
        ((1, 3), (2.0, 0.67)),
    ],
)
def test_class_weights(counts, weights):
    labels = np.repeat([0, 1], counts).astype(np.uint8)
    images = np.zeros((len(labels), 1, 1), np.uint8)
    result = balance("class_weights", images, labels, 0)
    assert result.images is images
    assert result.labels is labels
    assert {label: round(weight, 2) for label, weight in result.class_weights.items()} == dict(enumerate(weights))
    # Both classes count the same, and an image counts one on average.
    totals = [result.class_weights[label] * count for label, count in enumerate(counts)]
    assert totals[0] == pytest.approx(totals[1])
    assert sum(totals) == pytest.approx(len(labels))


def test_none_changes_nothing():
    images, labels = table()
    result = balance("none", images, labels, 42)
    assert result.images is images
    assert result.labels is labels
    assert result.class_weights is None


@pytest.mark.parametrize("name", ["", "SMOTE", "adasyn", "_smote"])
def test_unknown_strategy(name):
    with pytest.raises(UnknownNameError, match="none, class_weights, oversample, smote") as caught:
        balance(name, *table(), 0)
    assert repr(name) in str(caught.value)


def test_only_the_images_given_are_touched(real):
    """A view into a larger array of all splits: the rest of it stays, and no result shares memory with it."""
    whole = np.concatenate([real[0], 255 - real[0]])
    before = whole.copy()
    training = whole[: len(real[0])]
    for strategy in ADDING:
        result = balance(strategy, training, real[1], 42)
        assert not np.shares_memory(result.images, whole)
        result.images[:] = 0
    np.testing.assert_array_equal(whole, before)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_lung_masks_stay_with_their_images(strategy):
    """A second plane is balanced along: here the inverse of the first, which any mean of two images keeps."""
    images, labels = table()
    pairs = np.stack([images, 255 - images], axis=-1)
    result = balance(strategy, pairs, labels, 42)
    assert result.images.shape[1:] == (SIZE, SIZE, 2)
    together = result.images[..., 0].astype(int) + result.images[..., 1]
    assert np.abs(together - 255).max() <= 1
    np.testing.assert_array_equal(result.images[: len(images)], pairs)
