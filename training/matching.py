"""Weights under which the size of the original radiograph tells nothing of its class.

Normal radiographs of the Kermany set are of larger children than pneumonias: the size of the original in pixels tells
the classes apart by itself (`python -m training data` says how well). A network reads off the anatomy how large a child
is, and among held-out images of the same sizes it is right less often than among all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from training.dataset import Dataset, Image


def size_model(images: Sequence[Image]) -> Pipeline:
    """Logistic regression of the class on `sizes`, their squares and their product; both classes weigh alike."""
    steps = StandardScaler(), PolynomialFeatures(2, include_bias=False), LogisticRegression(class_weight="balanced")
    return make_pipeline(*steps).fit(sizes(images), _labels(images))


def sizes(images: Sequence[Image]) -> np.ndarray:
    """Logarithms of width and height of the originals, float64, shape (n, 2); of the stored images where not known."""
    known = [(image.megapixels, image.aspect) for image in images]
    stored = [(image.width * image.height / 1e6, image.width / image.height) for image in images]
    chosen = [size if size[0] else other for size, other in zip(known, stored, strict=True)]
    areas, aspects = np.array(chosen).T
    return np.log(np.stack([areas * aspects, areas / aspects], axis=1)) / 2


def sizes_differ(images: Sequence[Image]) -> bool:
    """Whether anything can be told from sizes: not of images that were all stored at one, with nothing else known."""
    return bool(np.ptp(sizes(images), axis=0).max() > 0)


def overlap_weights(fitted: Sequence[Image], images: Sequence[Image]) -> np.ndarray:
    """Overlap weights: of each image, the probability of the class that it is not of, given the original's size.

    With propensities of a logistic regression they make its features equal on the mean in both classes where it was
    fitted, and none is above 1 (Li, Morgan and Zaslavsky, J. Am. Stat. Assoc. 113, 2018). Elsewhere the AUC that the
    size keeps under them says how far they reach: among the floors of an evaluation it is one half if they do.

    Parameters
    ----------
    fitted : sequence of Image
        The training images, of both classes, on which the size's part in the class is estimated.
    images : sequence of Image, n of them
        Those to be weighted.

    Returns
    -------
    numpy.ndarray of float64, shape (n,)
        0 to 1.
    """
    # Rounded, so that a training can go on on another machine.
    pneumonia = size_model(fitted).predict_proba(sizes(images))[:, 1].round(6)
    return np.where(_labels(images), 1 - pneumonia, pneumonia)


def told_by_size(dataset: Dataset) -> float:
    """ROC AUC, 0 to 1, that the size of the original alone reaches on the held-out images."""
    images = dataset.held_out()
    return float(roc_auc_score(_labels(images), size_model(dataset.split("train")).predict_proba(sizes(images))[:, 1]))


def _labels(images: Sequence[Image]) -> np.ndarray:
    return np.array([image.label == "PNEUMONIA" for image in images])
