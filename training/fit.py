"""The training loop: callbacks, resume, history."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import time
from pathlib import Path

import keras
import numpy as np
from rich.console import Console

from pneumo.framing import scale_gray
from pneumo.zoo import ARCHITECTURES, architecture, build
from training.balance import Images, balance, matched
from training.devices import (
    be_deterministic,
    compiled,
    devices,
    on_all_devices,
    settle,
    shared_equally,
    stream,
    uses_tensorflow,
)
from training.display import Display
from training.errors import TrainingError
from training.feed import Teacher, batches
from training.fields import Recipe
from training.fused import fused
from training.imitation import imitating
from training.muon import Muon
from training.pretrained import load_pretrained
from training.reasons import reasoning

KEPT = "best.keras"
"""The network that the recipe keeps: the averaged weights after the last epoch, or, where the recipe averages none,
those after the epoch with the highest validation AUC (of equals, the lowest validation loss)."""
RUN = "run.json"
"""What a finished training was, in its folder."""
HELD_OUT = "held_out.npz"
"""Probabilities of pneumonia of the held-out images, by alteration, from a finished training."""
LAST = "last.keras"
"""The network after the last epoch."""
_STATE = "state.npz"


def rank(row: dict[str, float]) -> tuple[float, float]:
    """What epochs of a history are ordered by to find the best: validation AUC, then validation loss."""
    return row["val_auc"], -row["val_loss"]


def kept_epoch(history: list[dict[str, float]], average: float) -> dict[str, float]:
    """The row of the epoch whose network is kept, for a recipe that averages weights or not."""
    return history[-1] if average else max(history, key=rank)


def has_ended(history: list[dict[str, float]], patience: int) -> bool:
    """Whether so many epochs have passed without a lower validation loss that the training ends; never for 0."""
    losses = [row["val_loss"] for row in history]
    return bool(patience and losses) and len(losses) - 1 - int(np.argmin(losses)) >= patience


def train(
    network: str,
    recipe: Recipe,
    training: Images,
    validation: Images,
    folder: Path,
    console: Console | None = None,
    teacher: Teacher | None = None,
    weights: Path | None = None,
    start: Path | None = None,
) -> list[dict[str, float]]:
    """Train one network, on all accelerators of the machine, or go on with a training that was interrupted.

    After each epoch the folder holds the best and the last weights, the history as CSV and JSON, and
    the full state. If it holds the state of the same training, that is continued, and the result equals
    that of an uninterrupted training.

    Parameters
    ----------
    network : str
        Name in `pneumo.zoo`.
    recipe : Recipe
    training, validation : Images
        Only the training images are balanced and augmented; with a teacher, they are at the scale that it sees.
    folder : Path
        Where everything is written.
    console : rich.console.Console, optional
        Where progress is shown. Default: standard error.
    teacher : Teacher, optional
        Whose answers a recipe with `distillation` mixes into the labels.
    weights : Path, optional
        File of the weights of a pretrained base. Default: as `training.pretrained` finds them.
    start : Path, optional
        File of the network whose weights the training begins with. Default: fresh ones.

    Returns
    -------
    list of dict
        One row an epoch: epoch, loss, accuracy, auc, val_loss, val_accuracy, val_auc, learning_rate, seconds.

    Raises
    ------
    TrainingError
        If the folder holds the state of another training, or the weights of a pretrained base cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    be_deterministic(recipe.seed)
    with on_all_devices(recipe.batch_size):
        return _train(network, recipe, training, validation, folder, console, teacher, weights, start)


def _train(
    network: str,
    recipe: Recipe,
    training: Images,
    validation: Images,
    folder: Path,
    console: Console | None,
    teacher: Teacher | None,
    weights: Path | None,
    start: Path | None,
) -> list[dict[str, float]]:
    channels, shares = architecture(network).channels, len(devices())
    balanced = balance(recipe.balance, training.pixels, training.labels, recipe.balance_seed)
    if recipe.matching:
        if training.weights is None:
            raise TrainingError(
                "A recipe with matching needs the weights of the training images; received none. Make them by "
                "training.matching.overlap_weights."
            )
        balanced = matched(balanced, training.weights, recipe.matching)
    steps = -(-len(balanced.labels) // recipe.batch_size)
    plain = build(network, recipe.input_size, recipe.filters)
    if architecture(network).base:
        load_pretrained(plain, network, weights)
    if start:
        plain.set_weights(keras.saving.load_model(start, compile=False).get_weights())
    model = compiled_twin(plain, recipe, steps, teacher)
    model.optimizer.build(model.trainable_variables)
    average = _Average(model, recipe.average) if recipe.average else None

    identity = _identity(network, recipe, training, validation, teacher, start)
    plateau = None
    if recipe.schedule == "plateau":
        plateau = keras.callbacks.ReduceLROnPlateau(
            monitor="val_accuracy",
            mode="max",
            patience=recipe.plateau_patience,
            factor=recipe.plateau_factor,
            min_lr=recipe.plateau_floor,
        )
    checkpoint = _Checkpoint(folder, plain, identity, plateau, average, recipe.early_stopping)
    first_epoch = checkpoint.restore(model)
    if first_epoch >= recipe.epochs or has_ended(checkpoint.history, recipe.early_stopping):
        return checkpoint.history
    # They describe finished weights, which these soon no longer are.
    for name in (RUN, HELD_OUT):
        (folder / name).unlink(missing_ok=True)

    # Keras's data adapters ask for one batch in advance, which an endless stream keeps in step.
    shown = stream(lambda: batches(balanced, recipe, first_epoch, teacher, channels, shares))
    held_out = shared_equally(np.arange(len(validation.labels)), shares)
    # Of what else a model takes, zeros say that it is not known.
    extras = [np.zeros((len(held_out), *item.shape[1:]), np.float32) for item in model.inputs[1:]]
    pixels = scale_gray(validation.pixels[held_out], recipe.scaling, channels)
    display = Display(steps, recipe.epochs, first_epoch, console)
    try:
        model.fit(
            shown,
            steps_per_epoch=steps,
            initial_epoch=first_epoch,
            epochs=recipe.epochs,
            validation_data=(
                (pixels, *extras) if extras else pixels,
                validation.labels[held_out].astype(np.float32)[:, np.newaxis],
            ),
            validation_batch_size=recipe.batch_size,
            callbacks=[callback for callback in (plateau, average, checkpoint, display) if callback],
            shuffle=False,
            verbose=0,
        )
    finally:
        # Keras does not tell callbacks of an interruption, and the bar has hidden the cursor.
        display.stop()
    return checkpoint.history


def compiled_twin(plain: keras.Model, recipe: Recipe, steps: int, teacher: Teacher | None = None) -> keras.Model:
    """A copy of a network as it is trained: fast normalisation, and a recipe's optimizer for so many steps an epoch.

    With a teacher to imitate it takes that one's map too, and has more weights, after those of the network. With
    reasons it then takes where the lungs are.

    Raises
    ------
    TrainingError
        If a recipe with reasons is for a network that has not five blocks.
    """
    network = model = fused(plain, recipe.precision, recipe.dropout)
    if teacher and recipe.imitation:
        model = imitating(model, architecture(plain.name).last_map, teacher.shape, recipe.imitation)
    if recipe.reasons:
        if plain.name not in ARCHITECTURES:
            raise TrainingError(
                f"A recipe with reasons is for {', '.join(ARCHITECTURES)}; received {plain.name}. Set reasons=0."
            )
        model = reasoning(model, network, recipe.reasons)
    model.compile(
        optimizer=_optimizer(recipe, steps),
        loss="binary_crossentropy",
        metrics=[
            keras.metrics.MeanMetricWrapper(_accuracy, name="accuracy"),
            _Area(num_thresholds=1000, name="auc"),
        ],
        jit_compile=not uses_tensorflow(),
    )
    return model


def _accuracy(truth, found):
    """Whether an answer is on the label's side of one half; a label of one half has no side."""
    return keras.ops.cast((truth - 0.5) * (found - 0.5) >= 0, "float32")


class _Area(keras.metrics.AUC):
    """ROC AUC by the side of one half that labels are on; to Keras whatever is not 0 is positive."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        sided = keras.ops.cast(y_true != 0.5, "float32")
        super().update_state(y_true > 0.5, y_pred, sided if sample_weight is None else sided * sample_weight)


def _optimizer(recipe: Recipe, steps: int) -> keras.Optimizer:
    rate: float | keras.optimizers.schedules.LearningRateSchedule = recipe.learning_rate
    if recipe.schedule == "cosine":
        total = steps * recipe.epochs
        warmup = total // 10
        rate = keras.optimizers.schedules.CosineDecay(
            rate / 20, total - warmup, alpha=0.01, warmup_target=rate, warmup_steps=warmup
        )
    config = {"learning_rate": rate}
    if recipe.optimizer == "muon":
        return Muon(rate, recipe.weight_decay)
    # Of AdamW even where it is 0: Keras's own default is not.
    if recipe.weight_decay or recipe.optimizer == "adamw":
        config["weight_decay"] = recipe.weight_decay
    return keras.optimizers.get({"class_name": recipe.optimizer, "config": config})


def _identity(
    network: str,
    recipe: Recipe,
    training: Images,
    validation: Images,
    teacher: Teacher | None,
    start: Path | None,
) -> dict[str, object]:
    """What must be equal for a training to be the same. More epochs of the same are, but for a cosine's length."""
    fields = dataclasses.asdict(recipe)
    if recipe.schedule != "cosine":
        del fields["epochs"]
    return json.loads(
        json.dumps(
            {
                "network": network,
                "recipe": fields,
                "training": training.fingerprint,
                "validation": validation.fingerprint,
                **({"teacher": teacher.sha256} if teacher else {}),
                **({"start": hashlib.sha256(start.read_bytes()).hexdigest()} if start else {}),
            }
        )
    )


class _Average(keras.callbacks.Callback):
    """A moving average of all weights, those of the normalisation included, in place while validation runs."""

    def __init__(self, model: keras.Model, momentum: float) -> None:
        super().__init__()
        self._weights = list(model.weights)
        # Copies: JAX gives the memory of a step's weights to the next.
        self.values = [keras.Variable(np.array(weight.numpy()), trainable=False) for weight in self._weights]
        self._momentum = momentum
        self._steps = 0
        self._advance = compiled(self._blend)

    def _blend(self, momentum: float) -> None:
        for value, weight in zip(self.values, self._weights, strict=True):
            value.assign(momentum * value + (1 - momentum) * weight)

    def swap(self) -> None:
        """Exchange the average and the weights."""
        for value, weight in zip(self.values, self._weights, strict=True):
            average, current = np.array(value.numpy()), np.array(weight.numpy())
            value.assign(current)
            weight.assign(average)

    def on_train_begin(self, logs=None) -> None:
        self._steps = int(self.model.optimizer.iterations.numpy())

    def on_train_batch_end(self, batch, logs=None) -> None:
        self._steps += 1
        # A short memory at first, so that the untrained weights are forgotten (as in TensorFlow's own average).
        settle(self.model)
        self._advance(min(self._momentum, self._steps / (10 + self._steps)))

    def on_test_begin(self, logs=None) -> None:
        self.swap()

    def on_test_end(self, logs=None) -> None:
        self.swap()


class _Checkpoint(keras.callbacks.Callback):
    """Writes weights, history and the whole state after each epoch, and restores them."""

    _PLATEAU_STATE = ("best", "wait", "cooldown_counter")

    def __init__(
        self,
        folder: Path,
        plain: keras.Model,
        identity: dict[str, object],
        plateau: keras.callbacks.ReduceLROnPlateau | None,
        average: _Average | None,
        patience: int,
    ) -> None:
        super().__init__()
        self._average = average
        self._patience = patience
        self.history: list[dict[str, float]] = []
        self._folder = folder
        self._plain = plain
        self._identity = identity
        self._plateau = plateau
        self._plateau_state: dict[str, float] = {}
        self._started = 0.0

    def restore(self, model: keras.Model) -> int:
        """Restore the state of the folder into a compiled model; return the number of finished epochs."""
        path = self._folder / _STATE
        if not path.exists():
            return 0
        with np.load(path, allow_pickle=False) as state:
            meta = json.loads(str(state["meta"]))
            if meta["identity"] != self._identity:
                raise TrainingError(
                    f"A training can only go on with the same network, recipe and data; {self._folder} holds another. "
                    "Name another folder, or delete that one."
                )
            for index, variable in enumerate(self._variables(model)):
                variable.assign(state[str(index)])
        self.history = meta["history"]
        self._plateau_state = meta["plateau"]
        return len(self.history)

    def on_train_begin(self, logs=None) -> None:
        # Only now, because the plateau callback clears its state when a training begins.
        for name, value in self._plateau_state.items():
            setattr(self._plateau, name, value)

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None) -> None:
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}}
        row["learning_rate"] = float(self.model.optimizer.learning_rate)
        row["seconds"] = time.monotonic() - self._started
        better = not self.history or rank(row) > max(map(rank, self.history))
        self.history.append(row)
        if self._average:
            self._average.swap()
            self._save_network(KEPT)
            self._average.swap()
        elif better:
            self._save_network(KEPT)
        self._save_network(LAST)
        self._save_history()
        self._save_state()
        self.model.stop_training = has_ended(self.history, self._patience)

    def _save_network(self, name: str) -> None:
        draft = self._folder / f"draft.{name}"
        self._plain.set_weights(self.model.get_weights()[: len(self._plain.weights)])
        self._plain.save(draft)
        os.replace(draft, self._folder / name)

    def _save_history(self) -> None:
        (self._folder / "history.json").write_text(json.dumps(self.history, indent=1) + "\n", encoding="utf-8")
        with (self._folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.history[0].keys())
            writer.writeheader()
            writer.writerows(self.history)

    def _save_state(self) -> None:
        meta = {
            "identity": self._identity,
            "history": self.history,
            "plateau": {name: float(getattr(self._plateau, name)) for name in self._PLATEAU_STATE if self._plateau},
        }
        arrays = {str(index): variable.numpy() for index, variable in enumerate(self._variables(self.model))}
        draft = self._folder / f"draft.{_STATE}"
        np.savez(draft, meta=np.array(json.dumps(meta)), **arrays)
        os.replace(draft, self._folder / _STATE)

    def _variables(self, model: keras.Model) -> list[keras.Variable]:
        """Weights, the seeds of dropout, the optimizer's slots, the average: all that the next epoch depends on."""
        average = self._average.values if self._average else []
        return [*model.variables, *model.optimizer.variables, *average]
