"""What a training shows while it runs."""

from __future__ import annotations

import time

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class Display(keras.callbacks.Callback):
    """A progress bar with the time left, and one line an epoch."""

    def __init__(self, steps: int, epochs: int, first_epoch: int, console: Console | None) -> None:
        super().__init__()
        self._console = console or Console(stderr=True)
        self._steps, self._epochs = steps, epochs
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=steps * epochs, completed=steps * first_epoch)
        self._seconds: list[float] = []
        self._started = 0.0

    def on_train_begin(self, logs=None) -> None:
        self._progress.start()

    def stop(self) -> None:
        """Give the terminal back."""
        self._progress.stop()

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self._started = time.monotonic()
        self._progress.update(self._task, description=f"{self.model.name} epoch {epoch + 1}/{self._epochs}")

    def on_train_batch_end(self, batch, logs=None) -> None:
        self._progress.advance(self._task)

    def on_epoch_end(self, epoch, logs=None) -> None:
        self._seconds.append(time.monotonic() - self._started)
        left = (self._epochs - epoch - 1) * float(np.mean(self._seconds)) / 60
        self._console.print(
            f"{self.model.name} epoch {epoch + 1}/{self._epochs}: loss {logs['loss']:.4f}, validation loss "
            f"{logs['val_loss']:.4f}, accuracy {logs['val_accuracy']:.4f}, AUC {logs['val_auc']:.4f}, "
            f"{self._seconds[-1]:.0f} s, {left:.0f} min left",
            highlight=False,
            soft_wrap=True,
        )
