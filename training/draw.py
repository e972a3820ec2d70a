"""Every figure of a bundle: of its data, its trainings and its evaluation."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pneumo.bundle import MANIFEST
from pneumo.zoo import CLASS_NAMES
from training import figures
from training.balance import balance
from training.bundling import run_folders
from training.dataset import open_dataset
from training.errors import TrainingError
from training.evaluate import Evaluation
from training.systems import CLAIMS, difference, ranked, write_csv


def draw(runs: Path | None, manifest: Path, models: Path, evaluation: Evaluation) -> None:
    """Draw every figure into the bundle's folder `figures`.

    Parameters
    ----------
    runs : Path or None
        Holds NETWORK/seed-N. None if they are not at hand: the learning curves stay as they are.
    manifest : Path
        Data manifest that they were trained with.
    models : Path
        Of the evaluated bundle.
    evaluation : Evaluation

    Raises
    ------
    TrainingError
        If a network of the bundle has no finished training among the runs.
    """
    dataset, source = open_dataset(manifest)
    entries = _read(models / MANIFEST)["networks"]
    histories = {}
    for name, entry in entries.items():
        if runs is None:
            break
        folder = runs / name / f"seed-{entry['recipe']['seed']}"
        if folder not in run_folders(runs, name):
            raise TrainingError(f"The learning curves need a finished training; {folder} has none. Name it by --runs.")
        histories[name] = _read(folder / "history.json"), entry["kept"]["epoch"]
    target = models / "figures"
    figures.class_distribution(dataset, target / "class_distribution.png")
    figures.samples(dataset, source, target / "samples.png")
    if histories:
        figures.curves(histories, target / "curves.png")
    figures.roc(evaluation, target / "roc.png")
    figures.confusion(evaluation, target / "confusion.png")
    figures.reliability(evaluation, target / "reliability.png")
    if evaluation.worst_lungs:
        figures.worst_lungs(evaluation.worst_lungs, target / "worst_lungs.png")
    recipe = next(iter(entries.values()))["recipe"]
    images = dataset.split("train")
    # How many images a strategy adds does not depend on what they show.
    labels = np.array([CLASS_NAMES.index(image.label) for image in images], np.uint8)
    blank = np.random.default_rng(0).integers(0, 256, (len(images), 4, 4), np.uint8)
    balanced = balance(recipe["balance"], blank, labels, recipe["balance_seed"])
    counts = Counter(balanced.labels[balanced.order(np.random.default_rng(0))].tolist())
    after = {label: counts[index] for index, label in enumerate(CLASS_NAMES)}
    figures.balance(dataset.counts()["train"], after, recipe["balance"], target / "balance.png")


def draw_systems(results: dict[str, Any], models: Path) -> None:
    """Write a comparison of systems as CSV, and draw its figures, into the bundle's folder."""
    write_csv(results, models / "systems.csv")
    target = models / "figures"
    names = ranked(results)
    figures.systems_forest(
        {name: results["systems"][name]["test"] for name in names},
        {name: claim.accuracy for name, claim in CLAIMS.items() if claim.accuracy is not None},
        target / "systems.png",
    )
    figures.systems_roc({name: results["systems"][name]["roc"] for name in names}, target / "systems_roc.png")
    pairs = [[difference(results, first, second) for second in names] for first in names]
    figures.systems_differences(names, pairs, target / "systems_differences.png")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
