"""Which calibration and which balanced operating point hold on patients that they were not chosen on, held out.

The networks of a bundle are calibrated on one half of the held-out patients and tried on the other half: by patients
drawn at random, many times, and between the two sets of held-out images, which differ more. The calibrations: on the
images as they are, and on them under every stress too (`training.decisions.calibration`). The points: the threshold
with the highest balanced accuracy on the first half (`training.decisions.operating_point`), and one half
(`BALANCED_POINT`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from pneumo.backend import load_tensorflow
from pneumo.classifier import calibrate
from pneumo.report import title

_TOGETHER = "together"
_CALIBRATIONS = ("as they are", "under every stress too")
_POINTS = ("highest balanced accuracy", "one half")
_COLUMNS = ("balanced accuracy", "sensitivity", "specificity", "largest loss under stress", "ECE", "ECE under stress")


def points(data: Path, models: Path, halves: int = 100) -> None:
    """Print, by network and rule, what is measured on the halves not chosen on.

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
    from training.bundling import held_out_answers, load_whole
    from training.dataset import open_dataset
    from training.markdown import markdown_table
    from training.views import load_views

    dataset, source = open_dataset(data)
    bundle = load_whole(models, dataset)
    views = load_views(source, dataset.held_out(), bundle.segmenter)
    answers = held_out_answers(bundle, views)
    splits = np.array([image.split for image in views.images])
    patients = np.array([image.patient for image in views.images])
    rows = []
    for kind, chosen in (("patients at random", _drawn(patients, halves)), ("between the two sets", _sets(splits))):
        found = np.array([_tried(views.labels, answers, on) for on in chosen])
        for number, name in enumerate([*answers, _TOGETHER]):
            rules = [(first, second) for first in _CALIBRATIONS for second in _POINTS]
            for rule, (first, second) in enumerate(rules):
                values = found[:, number, rule]
                cells = [f"{mean:.3f} ± {sd:.3f}" for mean, sd in zip(values.mean(0), values.std(0), strict=True)]
                rows.append((f"{title(name)}, {kind}: calibrated on images {first}, {second}", cells))
    print(markdown_table(list(_COLUMNS), rows))


def _drawn(patients: np.ndarray, halves: int) -> Iterator[np.ndarray]:
    """Which images are of a random half of the patients, again and again."""
    generator = np.random.default_rng(0)
    everyone = np.unique(patients)
    for _ in range(halves):
        yield np.isin(patients, generator.permutation(everyone)[: len(everyone) // 2])


def _sets(splits: np.ndarray) -> Iterator[np.ndarray]:
    for split in np.unique(splits):
        yield splits == split


def _tried(
    labels: np.ndarray, answers: dict[str, dict[str, np.ndarray]], on: np.ndarray
) -> list[list[tuple[float, ...]]]:
    """By network, and by calibration and point, the values of `_COLUMNS` where they were not chosen."""
    from training.decisions import BALANCED_POINT, calibration, operating_point, platt

    parts = {name: {key: values[on] for key, values in found.items()} for name, found in answers.items()}
    result: list[list[tuple[float, ...]]] = [[] for _ in (*answers, _TOGETHER)]
    for fit in (lambda part: platt(labels[on], part["clean"]), lambda part: calibration(labels[on], part)):
        calibrated = [
            {key: calibrate(values, *fitted) for key, values in answers[name].items()}
            for name, fitted in ((name, fit(part)) for name, part in parts.items())
        ]
        calibrated.append({key: np.mean([item[key] for item in calibrated], axis=0) for key in calibrated[0]})
        for rows, values in zip(result, calibrated, strict=True):
            for threshold in (operating_point(labels[on], values["clean"][on]), BALANCED_POINT):
                rows.append(_measured(labels[~on], {key: item[~on] for key, item in values.items()}, threshold))
    return result


def _measured(labels: np.ndarray, values: Mapping[str, np.ndarray], threshold: float) -> tuple[float, ...]:
    from training.metrics import calibration_error

    truth = labels == 1
    rates = {
        key: np.array([(item >= threshold)[truth].mean(), (item < threshold)[~truth].mean()])
        for key, item in values.items()
    }
    clean = rates["clean"]
    lost = max(float(np.max(clean - rate)) for rate in rates.values())
    errors = {key: calibration_error(labels, item) for key, item in values.items()}
    stressed = float(np.mean([error for key, error in errors.items() if key != "clean"]))
    return (float(clean.mean()), *map(float, clean), lost, errors["clean"], stressed)
