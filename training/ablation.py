"""The ablation: which framing, balance and defence the robust recipe takes, decided on held-out images alone.

The rule is `training.runs.held_out_scores`: what is read off the lungs alone weighs as much as what is read off the
radiograph, and a tenth of AUC won without lungs as much as one hundredth won with them. The score of a cell is the mean
over all seeds; the highest wins. The lungs are those that the segmenter finds, not those that people drew. Weights are
averaged, and the rate follows a cosine, in every cell, so that no single epoch decides. What the table shows beside the
score are AUCs of the images as they are.

The runs that models/ablation.json holds were scored by the rule as it stood then: no image weighted by the size of its
original, `blind` of black lungs alone, and nothing for what stress costs at the operating point. That one was fixed
before those runs, but not before any: at first it was (clean + stressed) / 2 - blind / 10, and `alone` came in (commit
f884228) after a first bundle had been evaluated on the test split (commit 8743f52), when its AUC with all but the lungs
black was known there. Neither the size nor the epochs of the networks that ship were chosen by it. Cells that add
images to balance the classes take more steps in as many epochs, so that balance and length of training are not told
apart.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from sklearn.metrics import roc_auc_score

from pneumo.bundle import ABLATION
from training.batteries import SHORTCUTS, STRESSES
from training.bundling import write_json
from training.dataset import HELD_OUT as HELD_OUT_SPLITS
from training.errors import TrainingError
from training.fields import Recipe
from training.fit import HELD_OUT, RUN
from training.metrics import mean_auc, measure
from training.recipes import TEACHER, Distilled, Reference, Robust, Teaching
from training.runs import Study
from training.views import Views

NETWORK = "cnn"
"""The network of every cell."""
SEEDS = (0, 1, 2)
_SIZE, _EPOCHS = 64, 5
"""All cells are smaller and shorter than the networks that ship: what is compared is the recipe, not the network."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One recipe of the ablation."""

    name: str
    title: str
    recipe: Recipe


def _small(recipe: Recipe) -> Recipe:
    # A blur is in pixels.
    augmentation = dataclasses.replace(recipe.augmentation, blur=recipe.augmentation.blur * _SIZE / recipe.input_size)
    return dataclasses.replace(recipe, input_size=_SIZE, epochs=_EPOCHS, augmentation=augmentation)


def _framings() -> list[Cell]:
    titles = {"whole": "whole, true aspect", "lungs": "crop to the lungs", "lungs_alone": "crop, outside removed"}
    cells = []
    for framing, title in titles.items():
        # With the plateau schedule the rate stays high, and an average over steps that large is no network.
        reference = Reference(framing=framing, schedule="cosine", average=0.99)
        cells.append(Cell(f"reference-{framing}", f"reference: {title}", _small(reference)))
        cells.append(Cell(f"robust-{framing}", f"robust: {title}", _small(Robust(framing=framing, balance="none"))))
    kept = dataclasses.replace(Robust().augmentation, strip=0.0)
    robust = Robust(framing="lungs", balance="none", augmentation=kept)
    return [*cells, Cell("robust-lungs-kept", f"robust: {titles['lungs']}, outside never removed", _small(robust))]


def _variants(winner: Cell, distilled: bool) -> list[Cell]:
    """The winning framing with one thing changed at a time."""
    recipe = winner.recipe
    changes: dict[str, tuple[str, dict[str, Any]]] = {
        "class_weights": ("class weights", {"balance": "class_weights"}),
        "oversample": ("random oversampling", {"balance": "oversample"}),
        "smote": ("SMOTE", {"balance": "smote"}),
    }
    if distilled:
        share = Distilled().distillation
        changes["distilled"] = (f"{share:.0%} of the label from a teacher", {"distillation": share})
    return [
        Cell(f"{winner.name}-{name}", f"{winner.title}; {title}", dataclasses.replace(recipe, **fields))
        for name, (title, fields) in changes.items()
    ]


def run_ablation(
    manifest: Path, segmenter: Path, folder: Path, console: Console, distilled: bool = False
) -> dict[str, dict[str, Any]]:
    """Train and measure every cell that has not been, then write `pneumo.bundle.ABLATION`.

    First the framings, under the reference and the robust recipe; then, from the framing that won, one change
    at a time.

    Parameters
    ----------
    manifest : Path
        Data manifest.
    segmenter : Path
        Folder of the trained segmenter.
    folder : Path
        Where the runs and the result are written.
    console : rich.console.Console
    distilled : bool
        Whether to train a teacher too, and to measure distillation from it, which takes as long as all other cells.

    Returns
    -------
    dict
        By cell: title, recipe, score with its spread over seeds, and by held-out set AUC with interval, AUC under
        each alteration, and calibration error.

    Raises
    ------
    DataError, TrainingError
        As `training.fit.train`.
    """
    teacher = folder / "teacher" / "seed-0"
    study = Study(manifest, segmenter, teacher)
    console.print(f"{len(study.training)} training images, {len(study.held_out)} held out")
    results = {cell.name: _measure_cell(cell, study, folder, console) for cell in _framings()}
    robust = [cell for cell in _framings() if isinstance(cell.recipe, Robust)]
    winner = max(robust, key=lambda cell: results[cell.name]["score"])
    if distilled and not (teacher / RUN).exists():
        fields = {name: getattr(winner.recipe, name) for name in ("input_size", "epochs", "framing", "augmentation")}
        study.run(TEACHER, "teaching", Teaching(**fields), teacher, console)
    results |= {cell.name: _measure_cell(cell, study, folder, console) for cell in _variants(winner, distilled)}
    write_json(folder / ABLATION, results)
    console.print(f"Highest score: {max(results.values(), key=lambda row: row['score'])['title']}.")
    return results


def _measure_cell(cell: Cell, study: Study, folder: Path, console: Console) -> dict[str, Any]:
    runs, records = [], []
    for seed in SEEDS:
        run = folder / cell.name / f"seed-{seed}"
        seeded = dataclasses.replace(cell.recipe, seed=seed)
        if not (run / RUN).exists():
            study.run(NETWORK, cell.name, seeded, run, console)
        record = json.loads((run / RUN).read_text(encoding="utf-8"))
        wanted = json.loads(json.dumps({"name": cell.name, **dataclasses.asdict(seeded)}))
        if record["recipe"] != wanted or record["data"]["fingerprint"] != study.dataset.fingerprint:
            raise TrainingError(
                f"A run of the ablation must be of its cell's recipe and of the data; {run} is not. Delete it."
            )
        records.append(record)
        with np.load(run / HELD_OUT) as saved:
            runs.append({title: saved[title] for title in saved.files})
    row = _summary(cell, runs, [record["held_out"]["score"] for record in records], study.held_out)
    row["minutes"] = round(sum(record["minutes"] for record in records), 1)
    console.print(f"{cell.title}: score {row['score']:.4f}, seeds {[round(score, 4) for score in row['scores']]}")
    return row


def _summary(cell: Cell, runs: list[dict[str, np.ndarray]], scores: list[float], held_out: Views) -> dict[str, Any]:
    splits = np.array([image.split for image in held_out.images])
    patients = np.array([image.patient for image in held_out.images])
    row: dict[str, Any] = {"title": cell.title, "recipe": dataclasses.asdict(cell.recipe), "seeds": len(runs)}
    for split in HELD_OUT_SPLITS:
        part = splits == split
        labels = held_out.labels[part]

        def auc(run: dict[str, np.ndarray], title: str, part=part, labels=labels) -> float:
            return float(roc_auc_score(labels, run[title][part]))

        worst = np.array([min(auc(run, title) for title in STRESSES) for run in runs])
        row[split] = {
            "auc": mean_auc(labels, [run["clean"][part] for run in runs], patients[part]),
            "stressed": float(worst.mean()),
            "stresses": {title: float(np.mean([auc(run, title) for run in runs])) for title in STRESSES},
            "shortcuts": {title: float(np.mean([auc(run, title) for run in runs])) for title in SHORTCUTS},
            "ece": _calibration(labels, runs, part, patients[part]),
        }
    return row | {"score": float(np.mean(scores)), "spread": float(np.std(scores, ddof=1)), "scores": scores}


def _calibration(
    labels: np.ndarray, runs: list[dict[str, np.ndarray]], part: np.ndarray, patients: np.ndarray
) -> float:
    return float(
        np.mean([measure(labels, run["clean"][part], 0.5, patients, resamples=2)["ece"]["value"] for run in runs])
    )
