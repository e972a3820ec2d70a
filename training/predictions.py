"""predictions.csv of a bundle: every test image with what each network said of it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pneumo.bundle import PREDICTIONS
from pneumo.classifier import decide
from training.dataset import Image
from training.errors import TrainingError


def write_predictions(
    folder: Path,
    images: Sequence[Image],
    probabilities: Mapping[str, np.ndarray],
    thresholds: Mapping[str, float],
) -> None:
    """Write the file into a bundle's folder.

    Parameters
    ----------
    folder : Path
    images : sequence of Image, n of them
    probabilities : mapping of str to numpy.ndarray of float, shape (n,)
        Of pneumonia, 0 to 1, calibrated, by network; "together" too.
    thresholds : mapping of str to float
        From which probability on each decides for pneumonia.
    """
    names = list(probabilities)
    with (folder / PREDICTIONS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        decisions = [f"{name}_decision" for name in names]
        writer.writerow(["file", "sha256", "patient", "label", "subtype", *names, *decisions])
        for index, image in enumerate(images):
            values = [probabilities[name][index] for name in names]
            calls = [decide(value, thresholds[name]) for name, value in zip(names, values, strict=True)]
            row = [image.file, image.sha256, image.patient, image.label, image.subtype]
            writer.writerow([*row, *(f"{value:.6f}" for value in values), *calls])


def read_predictions(folder: Path, images: Sequence[Image], names: Iterable[str]) -> dict[str, np.ndarray]:
    """What networks of a bundle said of images when it was evaluated.

    Parameters
    ----------
    folder : Path
    images : sequence of Image, n of them
    names : iterable of str
        Networks, or "together".

    Returns
    -------
    dict of str to numpy.ndarray of float64, shape (n,)

    Raises
    ------
    TrainingError
        If the file is not there or not readable, or lacks one of the networks or images.
    """
    again = "Run `python -m training evaluate` again."
    path = folder / PREDICTIONS
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = {(row.get("file"), row.get("sha256")): row for row in csv.DictReader(file)}
    except FileNotFoundError as error:
        raise TrainingError(
            f"A bundle must have been evaluated; {folder} has no {PREDICTIONS}. Run `python -m training evaluate`."
        ) from error
    except (OSError, ValueError, csv.Error) as error:
        raise TrainingError(f"Predictions must be a readable CSV file; {path} is none ({error}). {again}") from error
    for image in images:
        if (image.file, image.sha256) not in rows:
            raise TrainingError(
                f"A bundle must have been evaluated on these test images; {path} lacks {image.file}. {again}"
            )
    found = [rows[image.file, image.sha256] for image in images]
    try:
        return {name: np.array([float(row[name]) for row in found]) for name in names}
    except KeyError as error:
        raise TrainingError(
            f"Predictions must have a column for each network; {path} lacks {error}. {again}"
        ) from error
    except (TypeError, ValueError) as error:
        raise TrainingError(f"Predictions must be numbers; {path} has something else ({error}). {again}") from error
