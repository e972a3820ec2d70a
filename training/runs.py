"""A run: one network trained by one recipe on one data manifest, with all that is needed to tell what it was."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import subprocess
import zipfile
from collections.abc import Callable
from functools import cache, cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from pneumo.bundle import SEGMENTER
from pneumo.classifier import calibrate
from pneumo.framing import scale_gray
from pneumo.lungs import Segmenter
from pneumo.zoo import architecture
from training.balance import class_weights
from training.batteries import SHORTCUTS, STRESSES, shortcut, stressed
from training.dataset import HELD_OUT as HELD_OUT_SPLITS
from training.dataset import open_dataset
from training.decisions import BALANCED_POINT, calibration
from training.devices import forward, uses_tensorflow
from training.errors import TrainingError
from training.feed import Answer, Teacher
from training.fields import Recipe
from training.fit import HELD_OUT, KEPT, RUN, kept_epoch, train
from training.imitation import TAUGHT
from training.matching import overlap_weights
from training.recipes import TEACHER
from training.segment import load_segmenter
from training.views import Views, held_out_images, load_views, training_images, uses_lungs

_BATCH = 128
_KEPT_FIELDS = ("input_size", "filters", "framing", "scaling")
"""What a network keeps when it is trained further."""
_LIBRARIES = ("keras", "numpy", "opencv-python-headless", "pillow", "imbalanced-learn")


class Study:
    """A data set prepared once for many trainings, with the held-out images under every alteration.

    Parameters
    ----------
    manifest : Path
        Data manifest.
    segmenter : Path or None
        Folder of the trained segmenter; None if no recipe needs to know where the lungs are.
    teacher : Path or None
        Folder of the teacher's run; None if no recipe distils.
    weights : Path or None
        File of the weights of a pretrained base; None for those that `training.pretrained` finds.
    before : Path or None
        Folder of the runs of each network and seed that others go on from; None if no recipe comes after another.

    Raises
    ------
    DataError
        If the data is not what the manifest says.
    TrainingError
        If there is no trained segmenter in the folder.
    """

    def __init__(
        self,
        manifest: Path,
        segmenter: Path | None,
        teacher: Path | None = None,
        weights: Path | None = None,
        before: Path | None = None,
    ) -> None:
        self.dataset, source = open_dataset(manifest)
        self._finder = Segmenter(load_segmenter(segmenter)) if segmenter else None
        self._segmenter = hashlib.sha256((segmenter / SEGMENTER).read_bytes()).hexdigest() if segmenter else None
        self._teacher = teacher
        self._weights = weights
        self._before = before
        self._taught: dict[int, dict[bytes, Answer]] = {}
        self.training = load_views(source, self.dataset.split("train"), self._finder)
        self.held_out = load_views(source, self.dataset.held_out(), self._finder)

    @cached_property
    def _weights_of_sizes(self) -> np.ndarray:
        return overlap_weights(self.training.images, self.held_out.images)

    @cached_property
    def altered(self) -> dict[str, Views]:
        """The held-out images: "clean", under each stress, and, where lungs are known, with each shortcut alone."""
        views = {"clean": self.held_out}
        for title in STRESSES:
            views[title] = self.held_out.altered(stressed(self.held_out.rasters, title), self._finder)
        # The frame stays that of the radiograph as it was: the network is shown exactly where the lungs would be.
        if lungs := self.held_out.lungs:
            views |= {
                title: self.held_out.altered(shortcut(self.held_out.rasters, lungs, title)) for title in SHORTCUTS
            }
        return views

    def run(self, network: str, recipe_name: str, recipe: Recipe, folder: Path, console: Console | None = None) -> None:
        """Train one network, and write `RUN` and `HELD_OUT` beside its weights.

        Raises
        ------
        TrainingError
            If the folder holds another training, or the recipe needs lungs, a teacher or a run of the recipe before it,
            and none was given that it can use.
        """
        if uses_lungs(recipe) and self._finder is None:
            raise TrainingError(
                f"The recipe {recipe_name} needs the lungs; no segmenter was given. Name it by --lungs."
            )
        commit = _commit()
        keras.backend.clear_session()
        teacher = self._load_teacher(recipe) if recipe.distillation else None
        start, minutes = self._find_start(network, recipe) if recipe.after else (None, 0.0)
        training = training_images(self.training, recipe, teacher.size if teacher else None)
        validation = held_out_images(self.held_out, recipe)
        folds = self._cross_validate(network, recipe, folder, console)
        history = train(network, recipe, training, validation, folder, console, teacher, self._weights, start)
        answers = self._ask(keras.saving.load_model(folder / KEPT, compile=False), recipe)
        np.savez_compressed(folder / HELD_OUT, allow_pickle=False, **answers)
        scored = held_out_scores(self.held_out, answers, self._weights_of_sizes)
        record = {
            "network": network,
            "recipe": {"name": recipe_name, **dataclasses.asdict(recipe)},
            "data": {
                "fingerprint": self.dataset.fingerprint,
                "seed": self.dataset.seed,
                "counts": self.dataset.counts(),
            },
            "segmenter": self._segmenter,
            "minutes": round(minutes + sum(row["seconds"] for row in history) / 60, 1),
            "kept": kept_epoch(history, recipe.average),
            "held_out": scored,
            "cross_validation": folds,
            "class_weights": class_weights(training.labels) if recipe.balance == "class_weights" else None,
            "libraries": _versions(),
            "commit": commit,
        }
        (folder / RUN).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    def _cross_validate(
        self, network: str, recipe: Recipe, folder: Path, console: Console | None
    ) -> dict[str, Any] | None:
        """Train on all folds of the training images but one, for each; accuracy at one half on the one left out."""
        if not recipe.folds:
            return None
        patients = np.array([image.patient for image in self.training.images])
        accuracies = []
        for number, (rows, left_out) in enumerate(folds_of(recipe, self.training.labels, patients), start=1):
            parts = self.training.chosen(rows), self.training.chosen(left_out)
            images = training_images(parts[0], recipe), held_out_images(parts[1], recipe)
            keras.backend.clear_session()
            history = train(network, recipe, *images, folder / f"fold-{number}", console, weights=self._weights)
            accuracies.append(kept_epoch(history, recipe.average)["val_accuracy"])
        return {
            "folds": recipe.folds,
            "grouped": recipe.grouped,
            "accuracies": accuracies,
            "mean": float(np.mean(accuracies)),
            "sd": float(np.std(accuracies, ddof=1)),
        }

    def _find_start(self, network: str, recipe: Recipe) -> tuple[Path, float]:
        """The network that a training goes on from, and how many minutes it took."""
        try:
            if self._before is None:
                raise FileNotFoundError("none was given")
            run = self._before / network / f"seed-{recipe.seed}"
            record = json.loads((run / RUN).read_text(encoding="utf-8"))
            done, fingerprint, minutes = record["recipe"], record["data"]["fingerprint"], float(record["minutes"])
            name, same = done["name"], {field: done[field] for field in _KEPT_FIELDS}
            if not (run / KEPT).exists():
                raise FileNotFoundError(f"{run / KEPT} does not exist")
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise TrainingError(
                f"A recipe that comes after another needs the run of that one ({error}). Train it by `python -m "
                f"training train --recipe {recipe.after}` with the same seed, and name the folder of its networks by "
                "--before."
            ) from error
        if name != recipe.after or fingerprint != self.dataset.fingerprint:
            raise TrainingError(
                f"What a training goes on from must be of the recipe {recipe.after} and of the same data; {run} is of "
                f"the recipe {name}{'' if fingerprint == self.dataset.fingerprint else ' and of other data'}. Train it "
                "again, or name another folder by --before."
            )
        for field, value in same.items():
            wanted = json.loads(json.dumps(getattr(recipe, field)))
            if value != wanted:
                raise TrainingError(
                    f"What a training goes on from must have the same {field}; {run} has {value}, the recipe {wanted}. "
                    "Train it with the same."
                )
        return run / KEPT, minutes

    def _load_teacher(self, recipe: Recipe) -> Teacher:
        try:
            if self._teacher is None:
                raise FileNotFoundError("none was given")
            record = json.loads((self._teacher / RUN).read_text(encoding="utf-8"))
            taught, fingerprint = record["recipe"], record["data"]["fingerprint"]
            model = keras.saving.load_model(self._teacher / KEPT, compile=False)
            name = record["network"]
            imitated = model.get_layer(TAUGHT if name == TEACHER else architecture(name).last_map).output
        except (OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile) as error:
            raise TrainingError(
                f"A recipe that distils needs the run of a teacher ({error}). Train one by `python -m training train "
                f"--network {TEACHER} --recipe teaching`, and name its folder by --teacher."
            ) from error
        if fingerprint != self.dataset.fingerprint:
            raise TrainingError(
                f"A teacher must be trained on the data of its pupil; {self._teacher} was not. Train it again."
            )
        if taught["input_size"] < recipe.input_size:
            raise TrainingError(
                "A teacher must see what its pupil sees, in at least as many pixels; it sees "
                f"{taught['input_size']} a side, its pupil {recipe.input_size}. Train it with a larger input_size."
            )
        for name in ("framing", "scaling"):
            if taught[name] != getattr(recipe, name):
                raise TrainingError(
                    f"A teacher must see what its pupil sees; its {name} is {taught[name]}, that of the recipe "
                    f"{getattr(recipe, name)}. Train it with the same."
                )
        digest = hashlib.sha256((self._teacher / KEPT).read_bytes()).hexdigest()
        asked = keras.Model(model.inputs, [model.output, imitated]) if recipe.imitation else model
        ask = forward(asked, folded=True)

        def answer(inputs: np.ndarray) -> Answer:
            if not recipe.imitation:
                return ask(inputs), None
            probabilities, maps = ask(inputs)
            # Halved, because all that is shown to pupils of one seed is kept.
            return probabilities, maps.astype(np.float16)

        # No other seed is shown the same.
        self._taught = {recipe.seed: self._taught.get(recipe.seed, {})}
        known = remembered(answer, self._taught[recipe.seed])
        return Teacher(known, taught["input_size"], imitated.shape[1:], digest)

    @lru_cache(maxsize=1)  # noqa: B019 - a study lives as long as its process
    def _shown(self, framing: str, size: int) -> dict[str, np.ndarray]:
        return {title: views.shown(framing, size) for title, views in self.altered.items()}

    def _ask(self, model: keras.Model, recipe: Recipe) -> dict[str, np.ndarray]:
        # Not by Keras's predict, whose every call takes longer to begin than a few images take.
        ask, answers = forward(model), {}
        for title, pixels in self._shown(recipe.framing, recipe.input_size).items():
            inputs = scale_gray(pixels, recipe.scaling, model.inputs[0].shape[-1])
            parts = [ask(inputs[start : start + _BATCH]) for start in range(0, len(inputs), _BATCH)]
            answers[title] = np.concatenate(parts)[:, 0].astype(np.float64)
        return answers


def remembered(answer: Callable[[np.ndarray], Answer], known: dict[bytes, Answer]) -> Callable[[np.ndarray], Answer]:
    """A function that answers inputs that it knows from memory: pupils of one seed are shown the same views."""

    def recall(inputs: np.ndarray) -> Answer:
        key = hashlib.blake2b(inputs.tobytes(), digest_size=16).digest()
        if key not in known:
            known[key] = answer(inputs)
        return known[key]

    return recall


def folds_of(recipe: Recipe, labels: np.ndarray, patients: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to train on and rows left out, of each fold of a recipe, with the classes in equal shares.

    Parameters
    ----------
    recipe : Recipe
        With at least two folds. If they are grouped, no patient is on both sides.
    labels, patients : numpy.ndarray of shape (n,)

    Raises
    ------
    TrainingError
        If a class has fewer images, or patients, than there are folds.
    """
    kind = StratifiedGroupKFold if recipe.grouped else StratifiedKFold
    fewest = min(len(set(patients[labels == label])) if recipe.grouped else (labels == label).sum() for label in (0, 1))
    if fewest < recipe.folds:
        raise TrainingError(
            f"Each class must have at least as many {'patients' if recipe.grouped else 'images'} as there are folds, "
            f"{recipe.folds}; one has {fewest}. Set fewer folds."
        )
    splitter = kind(recipe.folds, shuffle=True, random_state=recipe.seed)
    return list(splitter.split(np.zeros(len(labels)), labels, patients if recipe.grouped else None))


def held_out_scores(views: Views, answers: dict[str, np.ndarray], weights: np.ndarray) -> dict[str, Any]:
    """What recipes and seeds are chosen by.

    On each held-out set, with every image weighted by `training.matching.overlap_weights`: `clean` is the ROC AUC,
    `stressed` the lowest ROC AUC under any of `batteries.STRESSES`, `alone` the ROC AUC with all but the lungs black,
    and `blind` the mean distance of the ROC AUC from one half with the lungs black, which may be trained on, and with
    the lungs filled from around, which never is. Without these weights, `lost` is the largest fall of sensitivity or of
    specificity under any stress, at the balanced operating point of the calibrated probabilities, and `unweighted` the
    ROC AUC. The score is the mean over both sets of (clean + stressed + alone - lost / 2) / 3 - blind / 10: a fall of
    one of the two is half as much of balanced accuracy, which then counts as much as an AUC.

    Parameters
    ----------
    views : Views
        The held-out images.
    answers : dict of str to numpy.ndarray of shape (n,)
        Probabilities of pneumonia by alteration.
    weights : numpy.ndarray of shape (n,)

    Returns
    -------
    dict
        `score`, and by split `clean`, `stressed`, `alone`, `blind`, `lost` and `unweighted`; `alone` and `blind` are
        None where no lungs are known.
    """
    splits = np.array([image.split for image in views.images])
    fitted = calibration(views.labels, answers)
    calls = {title: calibrate(answer, *fitted) >= BALANCED_POINT for title, answer in answers.items()}
    result: dict[str, Any] = {}
    total = 0.0
    for split in HELD_OUT_SPLITS:
        part = splits == split
        labels, weighed = views.labels[part], weights[part]
        areas = {
            title: float(roc_auc_score(labels, answer[part], sample_weight=weighed))
            for title, answer in answers.items()
        }
        clean, worst = areas["clean"], min(areas[title] for title in STRESSES)
        alone = areas.get("all but the lungs black")
        without = [abs(areas[title] - 0.5) for title in ("lungs black", "lungs filled from around") if title in areas]
        blind = float(np.mean(without)) if without else None
        wanted = [area for area in (clean, worst, alone) if area is not None]
        lost = _largest_loss(labels, {title: call[part] for title, call in calls.items()})
        total += float(np.mean(wanted)) - lost / 6 - (blind or 0.0) / 10
        unweighted = float(roc_auc_score(labels, answers["clean"][part]))
        result[split] = {
            "clean": clean,
            "stressed": worst,
            "alone": alone,
            "blind": blind,
            "lost": lost,
            "unweighted": unweighted,
        }
    return {"score": total / len(HELD_OUT_SPLITS), **result}


def _largest_loss(labels: np.ndarray, calls: dict[str, np.ndarray]) -> float:
    """By how much sensitivity or specificity falls under the stress that costs the most; 0 if none costs anything."""
    rates = {
        title: np.array([np.mean(call[labels == 1]), np.mean(~call[labels == 0])])
        for title, call in calls.items()
        if title in ("clean", *STRESSES)
    }
    return float(max(np.max(rates["clean"] - rate) for rate in rates.values()))


def _versions() -> dict[str, str]:
    backend = ("tensorflow-cpu",) if uses_tensorflow() else ("jax", "jaxlib")
    return {"python": platform.python_version()} | {name: version(name) for name in (*backend, *_LIBRARIES)}


@cache
def _commit() -> str:
    """The commit that the code was at when the process began to train, or "" outside a checkout."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout.strip()
