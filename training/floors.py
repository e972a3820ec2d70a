"""What predictors reach on the test split that know nothing of lungs: a network below them has learned nothing."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.dataset import Dataset, load_rasters
from training.decisions import operating_point
from training.matching import overlap_weights, size_model, sizes, sizes_differ
from training.metrics import measure, weighted_auc
from training.sources import Source

_THUMBNAIL = 32
_USED = ("train", "validation", "test")
_NEIGHBOURS = (1, 5, 15, 25, 51, 101)


def floors(dataset: Dataset, source: Source) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Fit each floor on the training images and measure it on the test split.

    What there is to choose, the number of neighbours and the operating point, is chosen on validation.

    Returns
    -------
    floors : list of dict
        For the manifest: title, threshold and measures.
    nearest : numpy.ndarray of shape (n,)
        Probabilities of the first of them, the nearest neighbours on thumbnails, for the test images.
    """
    ring = np.ones((_THUMBNAIL, _THUMBNAIL), bool)
    ring[2:-2, 2:-2] = False
    labels, thumbnails, lengths, aspects, originals = {}, {}, {}, {}, {}
    for split in _USED:
        images = dataset.split(split)
        rasters, labels[split] = load_rasters(source, images)
        small = [cv2.resize(raster, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA) for raster in rasters]
        thumbnails[split] = np.array(small, np.float32).reshape(len(images), _THUMBNAIL, _THUMBNAIL) / 255
        lengths[split] = np.log([[len(source.read(image.file))] for image in images])
        aspects[split] = np.log([[image.aspect] for image in images])
        originals[split] = sizes(images)
    patients = np.array([image.patient for image in dataset.split("test")])
    subtypes = np.array([image.subtype for image in dataset.split("test")])

    def neighbours(features: dict[str, np.ndarray]) -> KNeighborsClassifier:
        """The number of neighbours with the best validation AUC, so that the floor is not set too low."""
        counts = [count for count in _NEIGHBOURS if count <= len(labels["train"])]
        fitted = [KNeighborsClassifier(count).fit(features["train"], labels["train"]) for count in counts]
        return max(
            fitted,
            key=lambda model: roc_auc_score(labels["validation"], model.predict_proba(features["validation"])[:, 1]),
        )

    def line(features: dict[str, np.ndarray]):
        return make_pipeline(StandardScaler(), LogisticRegression()).fit(features["train"], labels["train"])

    whole = {split: thumbnails[split].reshape(len(labels[split]), -1) for split in _USED}
    border = {split: thumbnails[split][:, ring] for split in _USED}
    candidates = (
        ("floor: nearest neighbours on 32 x 32 thumbnails", neighbours(whole), whole),
        ("floor: the same on the thumbnail's outer ring alone", neighbours(border), border),
        ("floor: the file's size in bytes", line(lengths), lengths),
        ("floor: the original aspect ratio", line(aspects), aspects),
        ("floor: the original's width and height", size_model(dataset.split("train")), originals),
    )
    weights = overlap_weights(dataset.split("train"), dataset.split("test"))
    found: list[dict[str, Any]] = []
    answers = []
    for title, model, features in candidates:
        probabilities = {split: model.predict_proba(features[split])[:, 1] for split in ("validation", "test")}
        threshold = operating_point(labels["validation"], probabilities["validation"])
        test = measure(labels["test"], probabilities["test"], threshold, patients, subtypes)
        if sizes_differ(dataset.images):
            test["auc_same_sizes"] = weighted_auc(labels["test"], probabilities["test"], weights, patients)
        found.append({"title": title, "threshold": threshold, "test": test})
        answers.append(probabilities["test"])
    return found, answers[0]
