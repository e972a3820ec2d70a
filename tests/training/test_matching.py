"""Under overlap weights the size of the original tells nothing of the class, measured or trained on."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.balance import balance, matched
from training.dataset import Image, open_dataset
from training.errors import RecipeError
from training.fields import Recipe
from training.matching import overlap_weights, size_model, sizes
from training.recipes import Robust
from training.views import load_views, training_images


def image(label: str, width: float, height: float, stored: int = 224) -> Image:
    area = round(width * height / 1e6, 4)
    return Image("", "", "train", label, "", "", stored, stored, round(width / height, 4), area)


def children(count: int, seed: int) -> list[Image]:
    """Made up: normals of larger originals, as in the Kermany set."""
    generator = np.random.default_rng(seed)
    return [
        image(label, *np.exp(generator.normal([np.log(side), np.log(side) - 0.25], 0.15)))
        for label, side in (("NORMAL", 1500), ("PNEUMONIA", 1200))
        for _ in range(count)
    ]


def labels_of(images: list[Image]) -> np.ndarray:
    return np.array([item.label == "PNEUMONIA" for item in images])


def test_sizes_are_those_of_the_originals():
    np.testing.assert_allclose(np.exp(sizes([image("NORMAL", 1600, 1200)])), [[1600e-3, 1200e-3]], rtol=1e-3)
    unknown = Image("", "", "train", "NORMAL", "", "", 300, 200, 1.5)
    np.testing.assert_allclose(np.exp(sizes([unknown])), [[0.3, 0.2]], rtol=1e-6)


def test_the_size_tells_nothing_under_the_weights():
    fitted, other = children(2000, 0), children(2000, 1)
    weights = overlap_weights(fitted, other)
    told = size_model(fitted).predict_proba(sizes(other))[:, 1]
    assert roc_auc_score(labels_of(other), told) > 0.9
    assert roc_auc_score(labels_of(other), told, sample_weight=weights) == pytest.approx(0.5, abs=0.03)
    assert 0 <= weights.min() < weights.max() <= 1
    positive = labels_of(other)
    means = [np.average(sizes(other)[part], axis=0, weights=weights[part]) for part in (positive, ~positive)]
    np.testing.assert_allclose(*means, atol=0.02)


def test_equal_sizes_weigh_equally():
    images = [image(label, 1000, 800) for label in ("NORMAL", "PNEUMONIA", "PNEUMONIA")]
    np.testing.assert_allclose(overlap_weights(images, images), 0.5, atol=1e-6)


def test_images_are_drawn_by_their_weights():
    labels = np.array([0] * 4 + [1] * 8, np.uint8)
    weights = np.array([1, 1, 2, 0] + [1] * 7 + [0])
    classes = balance("batches", np.zeros((12, 2, 2), np.uint8), labels, 0)
    drawn = matched(classes, weights, 1.0)
    counts = np.zeros(12)
    for seed in range(50):
        order = drawn.order(np.random.default_rng(seed))
        assert labels[order].tolist() == [0, 1] * 6
        seen = np.bincount(order, minlength=12)
        # Each as often as its share says, rounded up or down.
        assert set(seen[:2]) <= {1, 2}
        assert (seen[2], seen[3], seen[11]) == (3, 0, 0)
        counts += seen
    np.testing.assert_allclose(counts[:4] / 50, [1.5, 1.5, 3, 0], atol=0.25)
    np.testing.assert_allclose(counts[4:11] / 50, 6 / 7, atol=0.15)
    order = drawn.order(np.random.default_rng(1)).tolist()
    assert order == drawn.order(np.random.default_rng(1)).tolist() != drawn.order(np.random.default_rng(2)).tolist()
    half = matched(classes, weights, 0.5)
    np.testing.assert_allclose(half.shares[:4], [1, 1, 1.5, 0.5])
    assert half.shares[:4].mean() == half.shares[4:].mean() == 1


def test_a_recipe_that_matches_has_its_weights(manifest, segmenter):
    dataset, source = open_dataset(manifest)
    views = load_views(source, dataset.split("train")[::4], None)
    plain = Robust(framing="whole", input_size=32, augmentation=Recipe().augmentation, balance="batches")
    assert training_images(views, plain).weights is None
    chosen = training_images(views, Robust(**{**_fields(plain), "matching": 0.5}))
    np.testing.assert_array_equal(chosen.weights, overlap_weights(views.images, views.images))
    assert chosen.fingerprint != training_images(views, plain).fingerprint


def _fields(recipe: Robust) -> dict:
    return {name: getattr(recipe, name) for name in ("framing", "input_size", "augmentation", "balance")}


@pytest.mark.parametrize("strategy", ["none", "smote", "oversample", "class_weights"])
def test_only_classes_that_take_turns_are_matched(strategy):
    with pytest.raises(RecipeError, match=r'unless its balance is "batches".*Set balance=batches, or matching=0'):
        Recipe(matching=0.5, balance=strategy)
