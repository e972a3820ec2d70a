"""The one place where the test split is opened: predictions.csv and metrics.json, with intervals."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np

from pneumo.bundle import MANIFEST, METRICS, Bundle, Network
from pneumo.classifier import Classifier, calibrate
from pneumo.framing import scale_gray, to_raster
from pneumo.radiograph import read_radiograph
from pneumo.zoo import CLASS_NAMES
from training.batteries import SHORTCUTS, STRESSES, shortcut, stressed
from training.bundling import ask, load_whole, run_folders, write_json
from training.dataset import Dataset, Image, open_dataset
from training.decisions import BALANCED_POINT, calibration
from training.errors import TrainingError
from training.fit import HELD_OUT, KEPT, RUN
from training.floors import floors
from training.matching import overlap_weights, sizes_differ
from training.metrics import (
    RESAMPLES,
    auc_difference,
    interval_of_mean,
    mean_auc,
    measure,
    share_interval,
    weighted_auc,
)
from training.predictions import write_predictions
from training.segment import overlap, read_masks
from training.sources import Source
from training.views import Views, load_views

TOGETHER = "together"
"""The mean of all networks, beside their names."""
_BATCH = 128
_DOWNSIZED = 256


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Predictions on the test split.

    Attributes
    ----------
    images : list of Image
    labels : numpy.ndarray of uint8, shape (n,)
    probabilities : dict of str to numpy.ndarray of float64, shape (n,)
        By network, and "together" for their mean; calibrated.
    thresholds : dict of str to float
        Of the default operating point.
    worst_lungs : list of tuple
        For the radiographs whose found lungs differ most from the drawn ones: file, raster, found mask, drawn
        mask, Dice coefficient.
    """

    images: list[Image]
    labels: np.ndarray
    probabilities: dict[str, np.ndarray]
    thresholds: dict[str, float]
    worst_lungs: list[tuple[str, np.ndarray, np.ndarray, np.ndarray, float]] = field(default_factory=list)


def evaluate(
    folder: Path,
    manifest: Path,
    runs: Path | None = None,
    beside: Path | None = None,
    masks: Path | None = None,
    originals: Path | None = None,
) -> Evaluation:
    """Open the test split once, for a bundle that is finished.

    Writes predictions.csv and metrics.json into the bundle and the test metrics into its manifest. The
    networks are loaded and asked as the page does it.

    Parameters
    ----------
    folder : Path
        Of the bundle.
    manifest : Path
        Data manifest that its networks were trained with.
    runs : Path, optional
        Runs of all seeds; adds mean and spread over them. Without, those of the evaluation before stay.
    beside : Path, optional
        Folder of another bundle, measured on the same images. Its training images may have been split otherwise.
        Without, that of the evaluation before stays.
    masks : Path, optional
        Lung masks that people drew; adds the measures of the segmenter. The shortcut battery takes them for
        the lungs, else those that are found.
    originals : Path, optional
        Folder {NORMAL,PNEUMONIA}/*.jpeg, at any depth, of test images as they were published.

    Raises
    ------
    TrainingError
        If the bundle was made with other data, if a bundle holds a selection of the networks, if a run is missing or
        was made with other data or by another recipe, or if the originals are not those of test images.
    BundleError
        If the bundle cannot be loaded.
    """
    dataset, source = open_dataset(manifest)
    bundle = load_whole(folder, dataset)
    other = load_whole(beside) if beside else None
    entries = bundle.manifest["networks"]
    trained = {name: _finished_runs(runs, name, entries[name], dataset) for name in bundle.networks} if runs else {}
    test = load_views(source, dataset.split("test"), bundle.segmenter)
    patients = np.array([image.patient for image in test.images])
    drawn = read_masks(masks, test.images) if masks else {}
    subject = _Subject(bundle)
    clean = subject.ask(test)
    evaluation = Evaluation(test.images, test.labels, clean, subject.thresholds)

    weights = overlap_weights(dataset.split("train"), test.images) if sizes_differ(dataset.images) else None
    measured = subject.measured(test, clean, weights)
    measured[TOGETHER] |= {
        "images": len(test),
        "prevalence": float(test.labels.mean()),
        "agreement": _agreement(evaluation),
        "uncertain": _uncertain(bundle, evaluation),
    }
    floor_rows, nearest = floors(dataset, source)
    for name in measured:
        measured[name]["auc_above_floor"] = auc_difference(test.labels, clean[name], nearest, patients)
    report: dict[str, Any] = {
        "data": dataset.fingerprint,
        "images": len(test),
        "patients": len(set(patients)),
        "interval": f"95 %, {RESAMPLES} bootstrap resamples of patients",
        "test": measured,
        "floors": floor_rows,
        "stress": subject.stress(test, clean),
        "shortcuts": subject.shortcuts(test, drawn),
    }
    if originals:
        report["originals"] = subject.originals(test, originals)
    if drawn and test.lungs:
        report["lungs"] = _lungs(test, drawn, evaluation)
    # What was measured of networks that are not in the bundle stays where they are not at hand.
    before = json.loads((folder / METRICS).read_text(encoding="utf-8")) if (folder / METRICS).exists() else {}
    report |= {key: before[key] for key in ("seeds", "beside") if key in before}
    if trained:
        report["seeds"] = _seeds(trained, dataset, test)
    if other:
        report["beside"] = _beside(other, source, test, weights, drawn, originals)
    write_json(folder / METRICS, report)
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for name, metrics in measured.items():
        (content[TOGETHER] if name == TOGETHER else content["networks"][name])["test"] = metrics
    write_json(folder / MANIFEST, {**content, "floors": floor_rows})
    write_predictions(folder, evaluation.images, evaluation.probabilities, evaluation.thresholds)
    return evaluation


class _Subject:
    """A bundle that is asked about many radiographs at once."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._classifier = Classifier(bundle)
        self._names = list(bundle.networks)
        self.thresholds = {name: network.thresholds["balanced"] for name, network in bundle.networks.items()}
        self._screening = {name: network.thresholds["screening"] for name, network in bundle.networks.items()}
        if bundle.consensus:
            self.thresholds[TOGETHER] = bundle.consensus.thresholds["balanced"]
            self._screening[TOGETHER] = bundle.consensus.thresholds["screening"]

    def ask(self, views: Views) -> dict[str, np.ndarray]:
        """Calibrated probabilities of each network, and of all together."""
        answers = {}
        for name, network in self._bundle.networks.items():
            inputs = scale_gray(views.shown(network.framing, network.input_size), network.scaling, network.channels)
            parts = [inputs[start : start + _BATCH] for start in range(0, len(inputs), _BATCH)]
            answers[name] = np.concatenate([self._classifier.probability(name, part) for part in parts])
        answers[TOGETHER] = np.mean([answers[name] for name in self._names], axis=0)
        return answers

    def measured(
        self, views: Views, answers: dict[str, np.ndarray], weights: np.ndarray | None
    ) -> dict[str, dict[str, Any]]:
        """All measures of each network at the default operating point, and the main ones for screening.

        Weights, shape (n,), are those under which the size of the original tells nothing, if sizes are known.
        """
        patients = np.array([image.patient for image in views.images])
        subtypes = np.array([image.subtype for image in views.images])
        result: dict[str, dict[str, Any]] = {}
        for name, answer in answers.items():
            result[name] = measure(views.labels, answer, self.thresholds[name], patients, subtypes)
            if weights is not None:
                result[name]["auc_same_sizes"] = weighted_auc(views.labels, answer, weights, patients)
            screening = measure(views.labels, answer, self._screening[name], patients)
            result[name]["screening"] = {key: screening[key] for key in ("accuracy", "sensitivity", "specificity")}
        return result

    def stress(self, views: Views, clean: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
        """Per stress and network: AUC, sensitivity, specificity, each with an interval, and how many decisions flip."""
        return {
            title: self._changed(views, clean, self.ask(views.altered(stressed(views.rasters, title), self._finder)))
            for title in STRESSES
        }

    def shortcuts(self, views: Views, drawn: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
        """Per shortcut and network: the AUC that is left. The frame stays that of the unaltered radiograph."""
        if not drawn and views.lungs is None:
            return {}
        # Without lungs there is nothing to be hidden.
        found = [lungs.mask if lungs.found else None for lungs in views.lungs or []]
        known = [drawn.get(image.file) for image in views.images] if drawn else found
        rows = [row for row, mask in enumerate(known) if mask is not None]
        chosen, masks = views.chosen(rows), [mask for mask in known if mask is not None]
        patients = np.array([image.patient for image in chosen.images])
        result = {}
        for title in SHORTCUTS:
            answers = self.ask(chosen.altered(shortcut(chosen.rasters, masks, title)))
            result[title] = {name: mean_auc(chosen.labels, [answer], patients) for name, answer in answers.items()}
        return result

    def originals(self, views: Views, folder: Path) -> dict[str, Any]:
        """The published originals against their stored copies: how many decisions flip, how far answers change."""
        found = {path.name: path for path in folder.rglob("*.jpeg")}
        rows = [row for row, image in enumerate(views.images) if image.file.rsplit("/", 1)[1] in found]
        if len(set(views.labels[rows].tolist())) < len(CLASS_NAMES):
            raise TrainingError(
                f"The originals must be named like test images and be of both classes; {folder} has {len(rows)} "
                "such images. Name their folder."
            )
        copies = views.chosen(rows)
        pixels = [read_radiograph(found[image.file.rsplit("/", 1)[1]]).pixels for image in copies.images]
        # As published: the page knows nothing of an aspect ratio but that of the file that it is given.
        published = dataclasses.replace(
            copies,
            images=[
                dataclasses.replace(image, aspect=original.shape[1] / original.shape[0])
                for image, original in zip(copies.images, pixels, strict=True)
            ],
        )
        clean = self.ask(copies)
        ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "full resolution": to_raster,
            "downsized to 256": lambda image: to_raster(_downsize(image)),
        }
        return {
            title: self._changed(
                copies, clean, self.ask(published.altered(np.stack([*map(way, pixels)]), self._finder))
            )
            | {"images": len(rows)}
            for title, way in ways.items()
        }

    @property
    def _finder(self):
        return self._bundle.segmenter

    def _changed(
        self, views: Views, clean: dict[str, np.ndarray], altered: dict[str, np.ndarray]
    ) -> dict[str, dict[str, Any]]:
        positive = views.labels == 1
        patients = np.array([image.patient for image in views.images])
        result = {}
        for name, answer in altered.items():
            before, after = clean[name] >= self.thresholds[name], answer >= self.thresholds[name]
            area = mean_auc(views.labels, [answer], patients)
            result[name] = {
                "auc": area["value"],
                "sensitivity": float(after[positive].mean()),
                "specificity": float((~after)[~positive].mean()),
                "intervals": {
                    "auc": area["interval"],
                    "sensitivity": share_interval(after, positive, patients),
                    "specificity": share_interval(~after, ~positive, patients),
                },
                "loss_of_sensitivity": float(before[positive].mean() - after[positive].mean()),
                "loss_of_specificity": float((~before)[~positive].mean() - (~after)[~positive].mean()),
                "flips": int((before != after).sum()),
                "mean_change": float(np.abs(clean[name] - answer).mean()),
            }
        return result


def _downsize(pixels: np.ndarray) -> np.ndarray:
    """The longer side to 256 pixels, as a messenger or a web page would do it."""
    factor = _DOWNSIZED / max(pixels.shape)
    size = max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _lungs(test: Views, drawn: dict[str, np.ndarray], evaluation: Evaluation) -> dict[str, Any]:
    """The lungs that the segmenter finds against those that people drew, and the worst cases."""
    rows = [row for row, image in enumerate(test.images) if image.file in drawn]
    chosen = test.chosen(rows)
    truth = np.stack([drawn[image.file] for image in chosen.images])
    found = np.stack([lungs.mask for lungs in chosen.lungs or []])
    dice, iou = overlap(found, truth)
    patients = np.array([image.patient for image in chosen.images])
    worst = np.argsort(dice)[:8]
    evaluation.worst_lungs.extend(
        (chosen.images[row].file, chosen.rasters[row], found[row], truth[row], float(dice[row])) for row in worst
    )
    return {
        "images": len(rows),
        "not_found": sum(not lungs.found for lungs in chosen.lungs or []),
        "dice": interval_of_mean(dice, patients),
        "iou": interval_of_mean(iou, patients),
        "worst": [{"file": chosen.images[row].file, "dice": float(dice[row])} for row in worst],
    }


def _finished_runs(runs: Path, name: str, entry: dict[str, Any], dataset: Dataset) -> list[tuple[Path, dict[str, Any]]]:
    """Folder and recipe of each of a network's trainings."""
    found = []
    for folder in run_folders(runs, name):
        record = json.loads((folder / RUN).read_text(encoding="utf-8"))
        if record["data"]["fingerprint"] != dataset.fingerprint:
            raise TrainingError(
                f"Seeds must be trained on the data that they are evaluated on; {folder} was not. Train it again."
            )
        if record["recipe"] | {"seed": 0} != entry["recipe"] | {"seed": 0}:
            raise TrainingError(
                f"Seeds must be of the recipe of the bundle; {folder} is of another. Name their folder by --runs."
            )
        found.append((folder, record["recipe"]))
    if not found:
        raise TrainingError(
            f"Mean and spread need finished trainings of each network; {runs / name} has none. Name their folder "
            "by --runs."
        )
    return found


def _seeds(runs: dict[str, list[tuple[Path, dict[str, Any]]]], dataset: Dataset, test: Views) -> dict[str, Any]:
    """Every training of each network, each with its own calibration, at the balanced point: mean and spread."""
    held_out = dataset.held_out()
    held_labels = np.array([image.label == "PNEUMONIA" for image in held_out], np.uint8)
    patients = np.array([image.patient for image in test.images])
    result = {}
    for name, trained in runs.items():
        answers, rows = [], []
        for folder, recipe in trained:
            with np.load(folder / HELD_OUT) as saved:
                fitted = calibration(held_labels, saved)
            answer = calibrate(ask_run(folder, recipe, test), *fitted)
            answers.append(answer)
            measures = measure(test.labels, answer, BALANCED_POINT, patients, resamples=2)
            rows.append({"seed": recipe["seed"]} | {key: measures[key]["value"] for key in _SEED_MEASURES})
        spread = {
            key: {
                "mean": float(np.mean([row[key] for row in rows])),
                "sd": float(np.std([row[key] for row in rows], ddof=1)) if len(rows) > 1 else None,
            }
            for key in _SEED_MEASURES
        }
        result[name] = {"auc": mean_auc(test.labels, answers, patients), "seeds": rows, "spread": spread}
    return result


def ask_run(run: Path, recipe: dict[str, Any], views: Views) -> np.ndarray:
    """Probabilities of pneumonia, float32, shape (n,), of the network of a finished training, as it puts them out."""
    model = keras.saving.load_model(run / KEPT, compile=False)
    view = recipe["input_size"], recipe["framing"], recipe["scaling"]
    return ask(Network("", model, *view, 1.0, 0.0, {}, {}), views)


_SEED_MEASURES = ("auc", "accuracy", "sensitivity", "specificity", "ece")


def _beside(
    bundle: Bundle,
    source: Source,
    test: Views,
    weights: np.ndarray | None,
    drawn: dict[str, np.ndarray],
    originals: Path | None,
) -> dict[str, Any]:
    """Another bundle on the same test images."""
    subject = _Subject(bundle)
    views = load_views(source, test.images, bundle.segmenter)
    clean = subject.ask(views)
    recipe = next(iter(bundle.manifest["networks"].values()))["recipe"]["name"]
    report = {
        "recipe": recipe,
        "test": subject.measured(views, clean, weights),
        "stress": subject.stress(views, clean),
        "shortcuts": subject.shortcuts(views, drawn),
    }
    if originals:
        report["originals"] = subject.originals(views, originals)
    return report


def _agreement(evaluation: Evaluation) -> dict[str, Any]:
    """For each number of networks calling pneumonia: how many images got it, and how many of those are pneumonias."""
    names = [name for name in evaluation.probabilities if name != TOGETHER]
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


def _uncertain(bundle: Bundle, evaluation: Evaluation) -> dict[str, Any]:
    """How many answers are uncertain, and how often the decision is right among those and among the others."""
    assert bundle.consensus is not None
    mean = evaluation.probabilities[TOGETHER]
    uncertain = (mean >= bundle.consensus.low) & (mean < bundle.consensus.high)
    right = (mean >= evaluation.thresholds[TOGETHER]) == (evaluation.labels == 1)
    patients = np.array([image.patient for image in evaluation.images])
    return {
        "images": int(uncertain.sum()),
        "share": float(uncertain.mean()),
        **{
            f"accuracy_{name}": {
                "value": float(right[chosen].mean()) if chosen.any() else None,
                "interval": share_interval(right, chosen, patients),
            }
            for name, chosen in (("uncertain", uncertain), ("certain", ~uncertain))
        },
    }
