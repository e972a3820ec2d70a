"""From finished trainings to a bundle: weights, operating points and heat scales, all chosen on validation images."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from pneumo.bundle import FORMAT, MANIFEST, Bundle, Network
from pneumo.classifier import Classifier
from pneumo.radiograph import PREPROCESSING, read_radiograph, scale_gray
from pneumo.saliency import METHODS, Explainer
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES, build
from training.dataset import Dataset, load_pixels, open_dataset
from training.errors import TrainingError
from training.fit import BEST
from training.metrics import measure, operating_point
from training.sources import Source

OPERATING_POINT_RULE = "highest balanced accuracy on validation; of equals, nearest to 0.5"
HEAT_PERCENTILE = 90
HEAT_RULE = (
    f"{HEAT_PERCENTILE}th percentile, over validation images of a class with any heat, of the map's largest value"
)


def write_json(path: Path, content: Any) -> None:
    """Write JSON as every generated file has it: indented, with a newline at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def make_bundle(runs: Path, manifest: Path, folder: Path) -> None:
    """Bundle the trained networks of a folder of runs.

    Parameters
    ----------
    runs : Path
        Holds one folder a network, as `python -m training train` leaves them.
    manifest : Path
        Data manifest that they were trained with.
    folder : Path
        Of the bundle; its files of the same names are replaced.

    Raises
    ------
    TrainingError
        If a run is missing, or was made with other data.
    """
    dataset, source = open_dataset(manifest)
    records = {name: _read_run(runs / name, dataset) for name in ARCHITECTURES}
    networks = {name: _network(runs / name, record) for name, record in records.items()}
    classifier = Classifier(Bundle(str(runs), networks, 0.5, {}))
    validation = dataset.split("validation")
    patients = np.array([image.patient for image in validation])
    probabilities = {}
    entries: dict[str, Any] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, record in records.items():
        pixels, labels = load_pixels(source, validation, networks[name].input_size)
        probabilities[name] = classifier.probability(name, scale_gray(pixels))
        threshold = operating_point(labels, probabilities[name])
        file = f"{name}.keras"
        # Saved anew, because the file of the run holds the optimizer's state too.
        networks[name].model.save(folder / file)
        entries[name] = {
            "file": file,
            "sha256": hashlib.sha256((folder / file).read_bytes()).hexdigest(),
            "architecture": name,
            "input_size": record["recipe"]["input_size"],
            "filters": record["recipe"]["filters"],
            "calibration": "none",
            "operating_point": {"threshold": threshold, "rule": OPERATING_POINT_RULE},
            "saliency": _heat_scales(networks[name], dataset, source),
            # Optimistic: the epoch and the operating point were chosen on these very images.
            "validation": measure(labels, probabilities[name], threshold, patients),
            **{key: record[key] for key in ("recipe", "best", "minutes", "libraries", "commit")},
        }
    mean = np.mean(list(probabilities.values()), axis=0)
    threshold = operating_point(labels, mean)
    content = {
        "format": FORMAT,
        "class_names": CLASS_NAMES,
        "preprocessing": PREPROCESSING,
        "data": {"fingerprint": dataset.fingerprint, "seed": dataset.seed, "counts": dataset.counts()},
        "networks": entries,
        "together": {
            "operating_point": {"threshold": threshold, "rule": OPERATING_POINT_RULE},
            "validation": measure(labels, mean, threshold, patients),
        },
    }
    write_json(folder / MANIFEST, content)


def _read_run(folder: Path, dataset: Dataset) -> dict[str, Any]:
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        fingerprint = record["data"]["fingerprint"]
        (folder / BEST).stat()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise TrainingError(
            f"A bundle needs a finished training of each network; {folder} has none. Run `python -m training train`."
        ) from error
    if fingerprint != dataset.fingerprint:
        raise TrainingError(
            f"A bundle's networks must be trained on the data of its manifest; {folder} was not. Train it again."
        )
    return record


def _network(folder: Path, record: dict[str, Any]) -> Network:
    recipe = record["recipe"]
    model = build(record["network"], recipe["input_size"], tuple(recipe["filters"]))
    model.load_weights(folder / BEST)
    return Network(record["network"], model, recipe["input_size"], 0.5, dict.fromkeys(CLASS_NAMES, 1.0))


def _heat_scales(network: Network, dataset: Dataset, source: Source) -> dict[str, Any]:
    """The value of each method's maps that is drawn at full strength, for each class."""
    bundle = Bundle("", {network.name: network}, 0.5, {})
    scales: dict[str, Any] = {}
    for method in METHODS:
        explainer = Explainer(bundle, method)
        peaks: dict[str, list[float]] = {label: [] for label in CLASS_NAMES}
        for image in dataset.split("validation"):
            radiograph = read_radiograph(source.read(image.file), image.file)
            heatmap = explainer.explain(network.name, radiograph, image.label)
            peaks[image.label].append(float(heatmap.values.max()))
        drawn = {label: [peak for peak in peaks[label] if np.isfinite(peak) and peak > 0] for label in CLASS_NAMES}
        everything = [peak for label in CLASS_NAMES for peak in drawn[label]]
        if not everything:
            raise TrainingError(
                f"A network needs a heatmap to be bundled; all {method} maps of {network.name} are empty."
            )
        scales[method] = {
            # A class for which nothing was ever drawn takes the scale of the other.
            "scale": {
                label: float(np.percentile(drawn[label] or everything, HEAT_PERCENTILE)) for label in CLASS_NAMES
            },
            "rule": HEAT_RULE,
            "maps": {label: len(peaks[label]) for label in CLASS_NAMES},
            "empty_maps": {label: len(peaks[label]) - len(drawn[label]) for label in CLASS_NAMES},
        }
    return scales
