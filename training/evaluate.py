"""The one place where the test split is opened: predictions.csv and metrics.json, with intervals."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pneumo.bundle import MANIFEST, METRICS, PREDICTIONS, load_bundle
from pneumo.classifier import Classifier, decide
from pneumo.radiograph import scale_gray
from training.bundling import write_json
from training.dataset import Dataset, Image, load_pixels, open_dataset
from training.errors import TrainingError
from training.metrics import RESAMPLES, auc_difference, measure, operating_point, share_interval
from training.sources import Source

_THUMBNAIL = 32
_NEIGHBOURS = (1, 5, 15, 25, 51, 101)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Predictions on the test split.

    Attributes
    ----------
    images : list of Image
    labels : numpy.ndarray of uint8, shape (n,)
    probabilities : dict of str to numpy.ndarray of float64, shape (n,)
        By network, and "together" for their mean.
    thresholds : dict of str to float
    """

    images: list[Image]
    labels: np.ndarray
    probabilities: dict[str, np.ndarray]
    thresholds: dict[str, float]


def evaluate(folder: Path, manifest: Path) -> Evaluation:
    """Open the test split once, for a bundle that is finished.

    Writes predictions.csv and metrics.json into the bundle and the test metrics into its manifest. The
    networks are loaded and asked as the page does it.

    Parameters
    ----------
    folder : Path
        Of the bundle.
    manifest : Path
        Data manifest that its networks were trained with.

    Raises
    ------
    TrainingError
        If the bundle was made with other data.
    BundleError
        If the bundle cannot be loaded.
    """
    dataset, source = open_dataset(manifest)
    bundle = load_bundle(folder)
    if bundle.manifest["data"]["fingerprint"] != dataset.fingerprint:
        raise TrainingError(
            f"A bundle must be evaluated on the data that it was made with; {folder} was made with other."
        )
    if bundle.threshold is None:
        raise TrainingError(f"A bundle must hold all networks to be evaluated; {folder} holds a selection.")
    images = dataset.split("test")
    patients = np.array([image.patient for image in images])
    classifier = Classifier(bundle)
    probabilities, thresholds = {}, {}
    for name, network in bundle.networks.items():
        pixels, labels = load_pixels(source, images, network.input_size)
        probabilities[name] = classifier.probability(name, scale_gray(pixels))
        thresholds[name] = network.threshold
    probabilities["together"] = np.mean(list(probabilities.values()), axis=0)
    thresholds["together"] = bundle.threshold
    evaluation = Evaluation(images, labels, probabilities, thresholds)

    subtypes = np.array([image.subtype for image in images])
    measured: dict[str, dict[str, Any]] = {
        name: measure(labels, probabilities[name], thresholds[name], patients, subtypes) for name in probabilities
    }
    measured["together"] |= {
        "images": len(images),
        "prevalence": float(labels.mean()),
        "agreement": _agreement(evaluation),
    }
    floors, nearest = _floors(dataset, source)
    for name in measured:
        measured[name]["auc_above_floor"] = auc_difference(labels, probabilities[name], nearest, patients)
    write_json(
        folder / METRICS,
        {
            "data": dataset.fingerprint,
            "images": len(images),
            "patients": len(set(patients)),
            "interval": f"95 %, {RESAMPLES} bootstrap resamples of patients",
            "test": measured,
            "floors": floors,
        },
    )
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for name, metrics in measured.items():
        (content["together"] if name == "together" else content["networks"][name])["test"] = metrics
    write_json(folder / MANIFEST, {**content, "floors": floors})
    _write_predictions(folder / PREDICTIONS, evaluation)
    return evaluation


def _agreement(evaluation: Evaluation) -> dict[str, Any]:
    """For each number of networks calling pneumonia: how many images got it, and how many of those are pneumonias."""
    names = [name for name in evaluation.probabilities if name != "together"]
    calls = np.sum([evaluation.probabilities[name] >= evaluation.thresholds[name] for name in names], axis=0)
    patients = np.array([image.patient for image in evaluation.images])
    table = {}
    for count in range(len(names) + 1):
        chosen = calls == count
        images, pneumonia = int(chosen.sum()), int(evaluation.labels[chosen].sum())
        interval = share_interval(evaluation.labels == 1, chosen, patients)
        table[str(count)] = {
            "images": images,
            "pneumonia": pneumonia,
            "share": pneumonia / images if images else None,
            "interval": interval,
        }
    return table


def _write_predictions(path: Path, evaluation: Evaluation) -> None:
    names = list(evaluation.probabilities)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        decisions = [f"{name}_decision" for name in names]
        writer.writerow(["file", "sha256", "patient", "label", "subtype", *names, *decisions])
        for index, image in enumerate(evaluation.images):
            values = [evaluation.probabilities[name][index] for name in names]
            calls = [decide(value, evaluation.thresholds[name]) for name, value in zip(names, values, strict=True)]
            row = [image.file, image.sha256, image.patient, image.label, image.subtype]
            writer.writerow([*row, *(f"{value:.6f}" for value in values), *calls])


def _floors(dataset: Dataset, source: Source) -> tuple[list[dict[str, Any]], np.ndarray]:
    """What predictors reach that know nothing of lungs; a network below them has learned nothing.

    Each is fitted on the training images, and its operating point chosen on validation, as for the networks.

    Returns
    -------
    floors : list of dict
        For the manifest: title, threshold and measures.
    nearest : numpy.ndarray of shape (n,)
        Probabilities of the first of them, the nearest neighbours on thumbnails, for the test images.
    """
    ring = np.ones((_THUMBNAIL, _THUMBNAIL), bool)
    ring[2:-2, 2:-2] = False
    splits = ("train", "validation", "test")
    labels, thumbnails, sizes = {}, {}, {}
    for split in splits:
        pixels, labels[split] = load_pixels(source, dataset.split(split), 224)
        small = [cv2.resize(image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA) for image in pixels]
        thumbnails[split] = np.array(small, np.float32) / 255
        sizes[split] = np.log([[len(source.read(image.file))] for image in dataset.split(split)])
    patients = np.array([image.patient for image in dataset.split("test")])

    def neighbours(features: dict[str, np.ndarray]) -> KNeighborsClassifier:
        """The number of neighbours with the best validation AUC, so that the floor is not set too low."""
        counts = [count for count in _NEIGHBOURS if count <= len(labels["train"])]
        fitted = [KNeighborsClassifier(count).fit(features["train"], labels["train"]) for count in counts]
        return max(
            fitted,
            key=lambda model: roc_auc_score(labels["validation"], model.predict_proba(features["validation"])[:, 1]),
        )

    whole = {split: thumbnails[split].reshape(len(labels[split]), -1) for split in splits}
    border = {split: thumbnails[split][:, ring] for split in splits}
    size = make_pipeline(StandardScaler(), LogisticRegression()).fit(sizes["train"], labels["train"])
    candidates = (
        ("floor: nearest neighbours on 32 x 32 thumbnails", neighbours(whole), whole),
        ("floor: the same on the thumbnail's outer ring alone", neighbours(border), border),
        ("floor: the file's size in bytes", size, sizes),
    )
    floors: list[dict[str, Any]] = []
    answers = []
    for title, model, features in candidates:
        probabilities = {split: model.predict_proba(features[split])[:, 1] for split in ("validation", "test")}
        threshold = operating_point(labels["validation"], probabilities["validation"])
        test = measure(labels["test"], probabilities["test"], threshold, patients)
        floors.append({"title": title, "threshold": threshold, "test": test})
        answers.append(probabilities["test"])
    return floors, answers[0]
