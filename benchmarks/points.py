"""Which balanced operating point holds on patients that it was not chosen on, measured on held-out images.

The networks of a bundle are calibrated on one half of the held-out patients, and each rule's point is tried on the
other half: by patients drawn at random, many times, and between the two sets of held-out images, which differ more. The
rules: the threshold with the highest balanced accuracy on the first half (`training.decisions.operating_point`), and
one half (`BALANCED_POINT`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pneumo.backend import load_tensorflow
from pneumo.classifier import calibrate
from pneumo.report import title

_TOGETHER = "together"
_RULES = ("highest balanced accuracy", "one half")


def points(data: Path, models: Path, halves: int = 100) -> None:
    """Print, by network and rule, balanced accuracy, sensitivity and specificity on the halves not chosen on.

    Parameters
    ----------
    data : Path
        Data manifest.
    models : Path
        The bundle.
    halves : int
        How often patients are drawn.
    """
    load_tensorflow()
    from training.bundling import ask, load_whole
    from training.dataset import open_dataset
    from training.markdown import markdown_table
    from training.views import load_views

    dataset, source = open_dataset(data)
    bundle = load_whole(models, dataset)
    views = load_views(source, dataset.held_out(), bundle.segmenter)
    answers = {name: ask(network, views) for name, network in bundle.networks.items()}
    splits = np.array([image.split for image in views.images])
    patients = np.array([image.patient for image in views.images])
    rows = []
    for kind, chosen in (("patients at random", _drawn(patients, halves)), ("between the two sets", _sets(splits))):
        found = np.array([_tried(views.labels, answers, on) for on in chosen])
        for number, name in enumerate([*answers, _TOGETHER]):
            for rule, words in enumerate(_RULES):
                values = found[:, number, rule]
                cells = [f"{mean:.3f} ± {sd:.3f}" for mean, sd in zip(values.mean(0), values.std(0), strict=True)]
                rows.append((f"{title(name)}, {kind}: {words}", cells))
    print(markdown_table(["balanced accuracy", "sensitivity", "specificity"], rows))


def _drawn(patients: np.ndarray, halves: int) -> Iterator[np.ndarray]:
    """Which images are of a random half of the patients, again and again."""
    generator = np.random.default_rng(0)
    everyone = np.unique(patients)
    for _ in range(halves):
        yield np.isin(patients, generator.permutation(everyone)[: len(everyone) // 2])


def _sets(splits: np.ndarray) -> Iterator[np.ndarray]:
    for split in np.unique(splits):
        yield splits == split


def _tried(labels: np.ndarray, answers: dict[str, np.ndarray], on: np.ndarray) -> list[list[tuple[float, ...]]]:
    """By network and rule: balanced accuracy, sensitivity and specificity where it was not chosen."""
    from training.decisions import BALANCED_POINT, operating_point, platt

    calibrated = {name: calibrate(answer, *platt(labels[on], answer[on])) for name, answer in answers.items()}
    calibrated[_TOGETHER] = np.mean(list(calibrated.values()), axis=0)
    result = []
    for values in calibrated.values():
        row = []
        for threshold in (operating_point(labels[on], values[on]), BALANCED_POINT):
            calls, truth = values[~on] >= threshold, labels[~on] == 1
            sensitivity, specificity = float(calls[truth].mean()), float((~calls)[~truth].mean())
            row.append(((sensitivity + specificity) / 2, sensitivity, specificity))
        result.append(row)
    return result
