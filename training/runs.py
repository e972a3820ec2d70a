"""A run: one network trained by one recipe on one data manifest, with all that is needed to tell what it was."""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
from collections import Counter
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from pneumo.zoo import CLASS_NAMES
from training import figures
from training.balance import balance
from training.dataset import load_pixels, open_dataset
from training.errors import TrainingError
from training.evaluate import Evaluation
from training.fit import Images, rank, train
from training.recipes import Recipe

_LIBRARIES = ("tensorflow-cpu", "keras", "numpy", "opencv-python-headless", "pillow", "imbalanced-learn")


def train_run(
    network: str, recipe_name: str, recipe: Recipe, manifest: Path, folder: Path, console: Console | None = None
) -> None:
    """Train one network from a data manifest and write `run.json` beside its weights.

    Raises
    ------
    DataError
        If the data is not what the manifest says.
    TrainingError
        If the folder holds another training.
    """
    commit = _commit()
    dataset, source = open_dataset(manifest)
    training, validation = (
        Images(*load_pixels(source, dataset.split(split), recipe.input_size)) for split in ("train", "validation")
    )
    # It describes finished weights, which these soon no longer are.
    (folder / "run.json").unlink(missing_ok=True)
    history = train(network, recipe, training, validation, folder, console)
    record = {
        "network": network,
        "recipe": {"name": recipe_name, **dataclasses.asdict(recipe)},
        "data": {"fingerprint": dataset.fingerprint, "seed": dataset.seed, "counts": dataset.counts()},
        "minutes": round(sum(row["seconds"] for row in history) / 60, 1),
        "best": max(history, key=rank),
        "libraries": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
        "commit": commit,
    }
    (folder / "run.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def draw(folder: Path, manifest: Path, evaluation: Evaluation, target: Path) -> None:
    """Draw every figure of a folder of runs and of their evaluation.

    Parameters
    ----------
    folder : Path
        Holds one folder a network.
    manifest : Path
        Data manifest that they were trained with.
    evaluation : Evaluation
    target : Path
        Folder of the figures.

    Raises
    ------
    TrainingError
        If the folder holds no finished training.
    """
    dataset, source = open_dataset(manifest)
    records = {path.parent.name: _read(path) for path in sorted(folder.glob("*/run.json"))}
    if not records:
        raise TrainingError(f"The learning curves need a finished training; {folder} has none. Name it by --runs.")
    figures.class_distribution(dataset, target / "class_distribution.png")
    figures.samples(dataset, source, target / "samples.png")
    figures.curves({name: _read(folder / name / "history.json") for name in records}, target / "curves.png")
    figures.roc(evaluation, target / "roc.png")
    figures.confusion(evaluation, target / "confusion.png")
    recipe = next(iter(records.values()))["recipe"]
    # How many images a strategy adds does not depend on their size.
    pixels, labels = load_pixels(source, dataset.split("train"), 16)
    counts = Counter(balance(recipe["balance"], pixels, labels, recipe["balance_seed"]).labels.tolist())
    after = {label: counts[index] for index, label in enumerate(CLASS_NAMES)}
    figures.balance(dataset.counts()["train"], after, recipe["balance"], target / "balance.png")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def _commit() -> str:
    """The commit that the code was at when the process began to train, or "" outside a checkout."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout.strip()
