"""How far the networks are right by the size of the child alone, measured on held-out or test images.

The size of the original tells the classes of the Kermany set apart: small children are mostly pneumonias there, large
ones mostly normal. A network that goes by it calls small normal children pneumonia and large pneumonias normal.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pneumo.backend import load_tensorflow
from pneumo.classifier import calibrate
from pneumo.report import percent, title

SPLITS = ("held out", "test")
_TOGETHER = "together"


def sizes(data: Path, models: Path, split: str = SPLITS[0]) -> None:
    """Print, by network, ROC AUC with and without the size's help, and what is called pneumonia by quarter of area.

    Parameters
    ----------
    data : Path
        Data manifest.
    models : Path
        The bundle.
    split : str
        One of `SPLITS`.
    """
    load_tensorflow()
    from training.bundling import ask, load_whole
    from training.dataset import open_dataset
    from training.markdown import markdown_table, with_interval
    from training.matching import overlap_weights
    from training.matching import sizes as sizes_of
    from training.metrics import measure, weighted_auc
    from training.views import load_views

    dataset, source = open_dataset(data)
    bundle = load_whole(models, dataset)
    images = dataset.held_out() if split == SPLITS[0] else dataset.split(split)
    views = load_views(source, images, bundle.segmenter)
    answers = {
        name: calibrate(ask(network, views), network.slope, network.offset) for name, network in bundle.networks.items()
    }
    answers[_TOGETHER] = np.mean(list(answers.values()), axis=0)
    points = {name: network.thresholds["balanced"] for name, network in bundle.networks.items()}
    points[_TOGETHER] = bundle.consensus.thresholds["balanced"] if bundle.consensus else 0.5
    patients = np.array([image.patient for image in images])
    weights = overlap_weights(dataset.split("train"), images)
    areas = sizes_of(images).sum(axis=1)
    rows = []
    for name, answer in answers.items():
        plain = measure(views.labels, answer, points[name], patients)["auc"]
        matched = weighted_auc(views.labels, answer, weights, patients)
        calls = answer >= points[name]
        quarters = [by_quarter(calls, areas, views.labels, label) for label in (0, 1)]
        cells = [with_interval(area, 3) for area in (plain, matched)]
        rows.append((title(name), [*cells, *(" / ".join(map(percent, shares)) for shares in quarters)]))
    print(f"{len(images)} images, {split}\n")
    print(
        markdown_table(
            [
                "ROC AUC",
                "among originals of the same sizes",
                "normal radiographs called pneumonia, smallest quarter to largest",
                "pneumonias called pneumonia, smallest quarter to largest",
            ],
            rows,
        )
    )


def by_quarter(calls: np.ndarray, areas: np.ndarray, labels: np.ndarray, label: int) -> list[float]:
    """Share of one class that is called pneumonia, in each quarter of its originals by area, the smallest first."""
    own = np.flatnonzero(labels == label)
    return [float(calls[part].mean()) for part in np.array_split(own[np.argsort(areas[own], kind="stable")], 4)]
