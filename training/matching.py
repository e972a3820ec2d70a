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
    """Logistic regression of the class on the original's width and height, their logarithms and all products of two.

    Both classes weigh alike. Takes what `sizes` returns.
    """
    steps = StandardScaler(), PolynomialFeatures(2, include_bias=False), LogisticRegression(class_weight="balanced")
    return make_pipeline(*steps).fit(sizes(images), _labels(images))


def sizes(images: Sequence[Image]) -> np.ndarray:
    """Logarithms of width and height of the originals, float64, shape (n, 2); of the stored images where not known."""
    areas = np.array([image.megapixels or image.width * image.height / 1e6 for image in images])
    aspects = np.array([image.aspect for image in images])
    return np.log(np.stack([areas * aspects, areas / aspects], axis=1)) / 2


def overlap_weights(fitted: Sequence[Image], images: Sequence[Image]) -> np.ndarray:
    """Overlap weights: of each image, the probability of the class that it is not of, given the original's size.

    Of the propensity weights that balance the classes they give the least variance, and none is above 1 (Li, Morgan
    and Zaslavsky, J. Am. Stat. Assoc. 113, 2018).

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
    pneumonia = size_model(fitted).predict_proba(sizes(images))[:, 1]
    return np.where(_labels(images), 1 - pneumonia, pneumonia)


def told_by_size(dataset: Dataset) -> float:
    """ROC AUC, 0 to 1, that the size of the original alone reaches on the held-out images."""
    images = dataset.held_out()
    return float(roc_auc_score(_labels(images), size_model(dataset.split("train")).predict_proba(sizes(images))[:, 1]))


def _labels(images: Sequence[Image]) -> np.ndarray:
    return np.array([image.label == "PNEUMONIA" for image in images])
