"""From finished trainings to a bundle: weights, calibration, operating points and heat scales, from held-out images."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from pneumo.bundle import (
    FORMAT,
    GATE,
    GATE_RECORD,
    MANIFEST,
    METRICS,
    PREDICTIONS,
    SALIENCY,
    SEGMENTER,
    SEGMENTER_RECORD,
    SYSTEMS,
    Bundle,
    Network,
    load_bundle,
)
from pneumo.cases import CASES
from pneumo.classifier import calibrate
from pneumo.framing import needs_lungs, scale_gray
from pneumo.lungs import Segmenter
from pneumo.methods import DEFAULT_METHOD, METHODS
from pneumo.saliency import Explainer
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES, build
from training.batteries import STRESSES, stressed
from training.dataset import HELD_OUT as HELD_OUT_SPLITS
from training.dataset import Dataset, open_dataset
from training.decisions import (
    BALANCED_POINT,
    BALANCED_RULE,
    CALIBRATED_ON,
    CALIBRATION_RULE,
    SCREENING_RULE,
    UNCERTAIN_RULE,
    calibration,
    screening_point,
    uncertain_band,
)
from training.devices import forward
from training.errors import TrainingError
from training.fit import HELD_OUT, KEPT, RUN
from training.metrics import measure
from training.segment import load_segmenter
from training.views import Views, load_views

_BATCH = 64
HEAT_PERCENTILE = 90
HEAT_PASSES = 5_000
"""How often a network may be run to find the scale of one method: slow methods are tried on fewer images."""
_LEAST_MAPS = 16
FAINT = 0.1
"""Maps whose peak is a smaller share of full strength are counted."""
HEAT_RULE = (
    f"{HEAT_PERCENTILE}th percentile, over held-out images of a class with any heat, of the map's largest value; "
    f"of all of them, or of as many, evenly spread, as {HEAT_PASSES} runs of the network allow, at least "
    f"{_LEAST_MAPS}; of both classes together where the method has no sign"
)


def write_json(path: Path, content: Any) -> None:
    """Write JSON as every generated file has it: indented, with a newline at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def run_folders(runs: Path, name: str) -> list[Path]:
    """The folders of a network's finished trainings, one a seed, in order."""
    found = [path.parent for path in (runs / name).glob(f"seed-*/{RUN}") if path.parent.name[5:].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def make_bundle(
    runs: Path,
    manifest: Path,
    segmenter: Path | None,
    folder: Path,
    systems: Collection[str] = tuple(ARCHITECTURES),
) -> None:
    """Bundle the trained networks of a folder of runs: of each, the seed with the highest score on held-out images.

    Parameters
    ----------
    runs : Path
        Holds NETWORK/seed-N, as `python -m training train` leaves them.
    manifest : Path
        Data manifest that they were trained with.
    segmenter : Path or None
        Folder of the trained segmenter; None if no network needs it.
    folder : Path
        Of the bundle; its files of the same names are replaced.
    systems : collection of str
        Networks to bundle, by their names in `pneumo.zoo.SYSTEMS`. Default: those that ship.

    Raises
    ------
    TrainingError
        If a run is missing, or was made with other data.
    """
    dataset, source = open_dataset(manifest)
    records = {name: read_runs(runs, name, dataset) for name in systems}
    best = {name: max(found, key=lambda path: found[path]["held_out"]["score"]) for name, found in records.items()}
    lungs = any(needs_lungs(records[name][run]["recipe"]["framing"]) for name, run in best.items())
    if lungs and segmenter is None:
        raise TrainingError("These networks need the lungs; no segmenter was given. Name its folder by --lungs.")
    finder = None
    if lungs and segmenter:
        finder = Segmenter(load_segmenter(segmenter))
        digest = hashlib.sha256((segmenter / SEGMENTER).read_bytes()).hexdigest()
        for run, record in [pair for found in records.values() for pair in found.items()]:
            if record["segmenter"] != digest:
                raise TrainingError(
                    f"Networks must be bundled with the segmenter that they were trained with; {segmenter} holds "
                    f"another than {run} saw. Name its folder by --lungs."
                )
    held_out = load_views(source, dataset.held_out(), finder)
    folder.mkdir(parents=True, exist_ok=True)
    # They describe the networks that were here before.
    for name in (PREDICTIONS, SALIENCY, CASES, GATE, GATE_RECORD):
        (folder / name).unlink(missing_ok=True)
    for name, rest in ((METRICS, _of_another_bundle), (SYSTEMS, _of_reported_systems)):
        _keep(folder / name, rest, dataset.fingerprint)
    answers = {}
    entries: dict[str, Any] = {}
    for name, run in best.items():
        record = records[name][run]
        recipe = record["recipe"]
        with np.load(run / HELD_OUT) as saved:
            answers[name] = {title: saved[title] for title in CALIBRATED_ON}
        model = build(name, recipe["input_size"], tuple(recipe["filters"]))
        model.load_weights(run / KEPT)
        file = f"{name}.keras"
        # Saved anew, because the file of the run holds the optimizer's state too.
        model.save(folder / file)
        network = Network(name, model, recipe["input_size"], recipe["framing"], recipe["scaling"], 1.0, 0.0, {}, {})
        entries[name] = {
            "file": file,
            "sha256": hashlib.sha256((folder / file).read_bytes()).hexdigest(),
            "architecture": name,
            "parameters": model.count_params(),
            **{key: recipe[key] for key in ("input_size", "filters", "framing", "scaling")},
            "saliency": _heat_scales(network, held_out),
            "seeds": [
                {"seed": item["recipe"]["seed"], "minutes": item["minutes"], "held_out": item["held_out"]}
                for item in records[name].values()
            ],
            **{key: record[key] for key in ("recipe", "kept", "minutes", "libraries", "commit")},
        }
    content = {
        "format": FORMAT,
        "class_names": CLASS_NAMES,
        "data": {"fingerprint": dataset.fingerprint, "seed": dataset.seed, "counts": dataset.counts()},
        "networks": entries,
    }
    if lungs and segmenter:
        content["lungs"] = _segmenter(segmenter, folder)
    _decide(content, answers, held_out)
    write_json(folder / MANIFEST, content)


def recalibrate(folder: Path, manifest: Path) -> None:
    """Choose calibration, operating points and uncertain band of a bundle's networks anew.

    As `make_bundle` chooses them, from held-out images, without training. What was measured of the former decisions is
    removed: of the metrics, what another bundle reached and the ROC AUC of every seed stay. The measures of heatmaps
    stay too, since some need other seeds: those of the probability are of the former calibration until
    `python -m benchmarks saliency` runs again.

    Parameters
    ----------
    folder : Path
        Of the bundle.
    manifest : Path
        Data manifest that its networks were trained with.

    Raises
    ------
    TrainingError
        If the bundle was made with other data, or holds a selection of the networks.
    BundleError
        If the bundle cannot be loaded.
    """
    dataset, source = open_dataset(manifest)
    bundle = load_whole(folder, dataset)
    held_out = load_views(source, dataset.held_out(), bundle.segmenter)
    answers = held_out_answers(bundle, held_out)
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for entry in content["networks"].values():
        entry.pop("test", None)
    _decide(content, answers, held_out)
    for name in (PREDICTIONS, CASES):
        (folder / name).unlink(missing_ok=True)
    if (folder / METRICS).exists():
        write_json(folder / METRICS, _undecided(json.loads((folder / METRICS).read_text(encoding="utf-8"))))
    write_json(folder / MANIFEST, content)


def _undecided(report: dict[str, Any]) -> dict[str, Any]:
    """What of a bundle's metrics does not depend on its decisions."""
    kept: dict[str, Any] = {key: report[key] for key in ("data", "beside") if key in report}
    if "seeds" in report:
        kept["seeds"] = {
            name: {
                "auc": entry["auc"],
                "seeds": [{key: row[key] for key in ("seed", "auc")} for row in entry["seeds"]],
                "spread": {"auc": entry["spread"]["auc"]},
            }
            for name, entry in report["seeds"].items()
        }
    return kept


def _keep(path: Path, rest: Callable[[dict[str, Any]], dict[str, Any]], fingerprint: str) -> None:
    """Reduce a record of the same data to what does not describe a bundle's networks; remove any other."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        kept = rest(before) if before["data"] == fingerprint else {}
    except (OSError, ValueError, LookupError, TypeError):
        # None, or a damaged one.
        kept = {}
    if kept:
        write_json(path, kept)
    else:
        path.unlink(missing_ok=True)


def _of_another_bundle(report: dict[str, Any]) -> dict[str, Any]:
    """What of a bundle's metrics was measured of the bundle beside it."""
    return {key: report[key] for key in ("data", "beside")} if "beside" in report else {}


def _of_reported_systems(report: dict[str, Any]) -> dict[str, Any]:
    """What of a comparison was measured of systems that do not ship."""
    others = {name: entry for name, entry in report["systems"].items() if name not in ARCHITECTURES}
    differences = {
        first: {second: found for second, found in pairs.items() if second in others}
        for first, pairs in report["auc_differences"].items()
        if first in others
    }
    return {**report, "systems": others, "auc_differences": differences} if others else {}


def load_whole(folder: Path, dataset: Dataset | None = None) -> Bundle:
    """A bundle with all its networks.

    Raises
    ------
    TrainingError
        If it holds a selection, or, with a data set, was made with another.
    BundleError
        If it cannot be loaded.
    """
    bundle = load_bundle(folder)
    if bundle.consensus is None:
        raise TrainingError(f"A bundle must hold all networks to be evaluated; {folder} holds a selection.")
    if dataset and bundle.manifest["data"]["fingerprint"] != dataset.fingerprint:
        raise TrainingError(
            f"A bundle must be evaluated on the data that it was made with; {folder} was made with other."
        )
    return bundle


def ask(network: Network, views: Views) -> np.ndarray:
    """Probabilities of pneumonia, float32, shape (n,), as a network puts them out, before calibration."""
    inputs = scale_gray(views.shown(network.framing, network.input_size), network.scaling, network.channels)
    answer = forward(network.model)
    return np.concatenate([answer(inputs[start : start + _BATCH])[:, 0] for start in range(0, len(inputs), _BATCH)])


def held_out_answers(bundle: Bundle, held_out: Views) -> dict[str, dict[str, np.ndarray]]:
    """By network, its probabilities before calibration of all that a calibration is fitted to, by title."""
    answers: dict[str, dict[str, np.ndarray]] = {name: {} for name in bundle.networks}
    for title in CALIBRATED_ON:
        views = held_out
        if title in STRESSES:
            views = held_out.altered(stressed(held_out.rasters, title), bundle.segmenter)
        for name, network in bundle.networks.items():
            answers[name][title] = ask(network, views)
    return answers


def _decide(content: dict[str, Any], answers: dict[str, dict[str, np.ndarray]], held_out: Views) -> None:
    """Add to a manifest what is decided by held-out images, from the networks' answers to them before calibration."""
    labels = held_out.labels
    probabilities = {}
    for name, answer in answers.items():
        slope, offset = calibration(labels, answer)
        probabilities[name] = calibrate(answer["clean"], slope, offset)
        content["networks"][name] |= {
            "calibration": {"method": CALIBRATION_RULE, "slope": slope, "offset": offset},
            "operating_points": _operating_points(labels, probabilities[name]),
            **_held_out(held_out, probabilities[name]),
        }
    mean = np.mean(list(probabilities.values()), axis=0)
    low, high = uncertain_band(labels, mean)
    content["together"] = {
        "operating_points": _operating_points(labels, mean),
        "uncertain": {"low": low, "high": high, "rule": UNCERTAIN_RULE},
        **_held_out(held_out, mean),
    }


def _operating_points(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    return {
        "balanced": {"threshold": BALANCED_POINT, "rule": BALANCED_RULE},
        "screening": {"threshold": screening_point(labels, probabilities), "rule": SCREENING_RULE},
    }


def _held_out(views: Views, probabilities: np.ndarray) -> dict[str, Any]:
    """Measures on each set of held-out images: optimistic, since everything was chosen on these very images."""
    splits = np.array([image.split for image in views.images])
    patients = np.array([image.patient for image in views.images])
    return {
        split: measure(
            views.labels[splits == split], probabilities[splits == split], BALANCED_POINT, patients[splits == split]
        )
        for split in HELD_OUT_SPLITS
    }


def _segmenter(segmenter: Path, folder: Path) -> dict[str, Any]:
    record = json.loads((segmenter / SEGMENTER_RECORD).read_text(encoding="utf-8"))
    for name in (SEGMENTER, SEGMENTER_RECORD):
        # Both are the same files where a bundle is made with its own segmenter.
        if not (folder / name).exists() or not (segmenter / name).samefile(folder / name):
            shutil.copyfile(segmenter / name, folder / name)
    return {
        "file": SEGMENTER,
        "sha256": hashlib.sha256((folder / SEGMENTER).read_bytes()).hexdigest(),
        "input_size": record["recipe"]["input_size"],
        "filters": record["recipe"]["filters"],
        **{key: record[key] for key in ("parameters", "minutes", "pairs", "held_out")},
        "dropped": len(record["dropped"]),
    }


def read_runs(runs: Path, name: str, dataset: Dataset) -> dict[Path, dict[str, Any]]:
    """The records of a network's finished trainings, by folder.

    Raises
    ------
    TrainingError
        If there is none, or one is damaged or was made with other data.
    """
    found = {}
    for folder in run_folders(runs, name):
        try:
            record = json.loads((folder / RUN).read_text(encoding="utf-8"))
            fingerprint = record["data"]["fingerprint"]
            record["held_out"]["score"], record["segmenter"], record["minutes"]
            for file in (KEPT, HELD_OUT):
                if not zipfile.is_zipfile(folder / file):
                    raise ValueError(file)
            with np.load(folder / HELD_OUT) as saved:
                # A release with other stresses did not ask about all that a calibration is fitted to now.
                unknown = set(CALIBRATED_ON) - set(saved.files)
            if unknown:
                raise LookupError(*unknown)
        except (OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile) as error:
            raise TrainingError(
                f"A run must be as `python -m training train` of this release left it; {folder} is not. Train it again."
            ) from error
        if fingerprint != dataset.fingerprint:
            raise TrainingError(
                f"A bundle's networks must be trained on the data of its manifest; {folder} was not. Train it again."
            )
        found[folder] = record
    if not found:
        raise TrainingError(
            f"A bundle needs a finished training of each network; {runs / name} has none. "
            "Run `python -m training train`."
        )
    return found


def _heat_scales(network: Network, held_out: Views) -> dict[str, Any]:
    """The value of each method's maps that is drawn at full strength, for each class."""
    bundle = Bundle("", {network.name: network}, None, None, {})
    prepared = held_out.prepared()
    scales: dict[str, Any] = {}
    for method, design in METHODS.items():
        explainer = Explainer(bundle, method)
        peaks = {}
        for number, label in enumerate(CLASS_NAMES):
            of_class = np.flatnonzero(held_out.labels == number)
            count = min(len(of_class), max(_LEAST_MAPS, HEAT_PASSES // len(CLASS_NAMES) // design.passes))
            rows = of_class[np.linspace(0, len(of_class) - 1, count).astype(int)]
            parts = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
            maps = [explainer.evidence(network.name, [prepared[row] for row in part], label) for part in parts]
            peaks[label] = np.concatenate([part.max(axis=(1, 2)) for part in maps])
        drawn = {label: found[np.isfinite(found) & (found > 0)] for label, found in peaks.items()}
        everything = np.concatenate(list(drawn.values()))
        # A method that needs to know where the lungs are has nothing to show for a network that does not.
        if not len(everything):
            continue
        # A class for which nothing was ever drawn takes the scale of the other; without a sign, there is only one.
        scale = {
            label: float(np.percentile(found if len(found) and design.signed else everything, HEAT_PERCENTILE))
            for label, found in drawn.items()
        }
        scales[method] = {
            "scale": scale,
            "rule": HEAT_RULE,
            "maps": {label: len(peaks[label]) for label in CLASS_NAMES},
            "empty_maps": {label: len(peaks[label]) - len(drawn[label]) for label in CLASS_NAMES},
            "faint_maps": {label: int((drawn[label] < FAINT * scale[label]).sum()) for label in CLASS_NAMES},
        }
    if DEFAULT_METHOD not in scales:
        raise TrainingError(
            f"A network needs a heatmap to be bundled; all {DEFAULT_METHOD} maps of {network.name} are empty."
        )
    return scales
