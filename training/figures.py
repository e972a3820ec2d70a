"""Every plot. Colours are from the Okabe-Ito palette, which people with a colour vision deficiency can tell apart."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.figure
import numpy as np
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from pneumo.radiograph import read_radiograph
from pneumo.zoo import CLASS_NAMES, architecture
from training.dataset import SPLITS, Dataset
from training.sources import Source

if TYPE_CHECKING:
    from training.evaluate import Evaluation

CLASS_COLOURS = {"NORMAL": "#0072B2", "PNEUMONIA": "#D55E00"}
"""Colour of each class."""
_LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000")


def _save(figure: matplotlib.figure.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the date and the library's version a figure of the same numbers is the same file.
    figure.savefig(path, dpi=110, metadata={"Software": None})


def class_distribution(dataset: Dataset, path: Path) -> None:
    """Bars of the images per split and class."""
    figure = matplotlib.figure.Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(SPLITS))
    for index, label in enumerate(CLASS_NAMES):
        heights = [dataset.counts()[split][label] for split in SPLITS]
        bars = axes.bar(places + (index - 0.5) * 0.38, heights, 0.36, color=CLASS_COLOURS[label], label=label)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=9)
    axes.set_xticks(places, SPLITS)
    axes.set_ylabel("images")
    axes.set_title("Images per split and class")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    _save(figure, path)


def samples(dataset: Dataset, source: Source, path: Path, columns: int = 6) -> None:
    """A row of training images of each class, drawn by the seed of the data set."""
    figure = matplotlib.figure.Figure(figsize=(columns * 1.7, 4.2), layout="constrained")
    generator = random.Random(dataset.seed)
    for row, axes_row in zip(CLASS_NAMES, figure.subplots(len(CLASS_NAMES), columns), strict=True):
        images = [image for image in dataset.split("train") if image.label == row]
        for axes, image in zip(axes_row, generator.sample(images, min(columns, len(images))), strict=False):
            axes.imshow(read_radiograph(source.read(image.file)).pixels, cmap="gray", vmin=0, vmax=255)
            axes.set_title(image.subtype or "normal", fontsize=9)
        for axes in axes_row:
            axes.set_axis_off()
    figure.suptitle("Training images: normal above, pneumonia below")
    _save(figure, path)


def balance(before: dict[str, int], after: dict[str, int], strategy: str, path: Path) -> None:
    """Bars of the training images per class, before and after balancing."""
    figure = matplotlib.figure.Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for index, label in enumerate(CLASS_NAMES):
        bars = axes.bar(
            np.arange(2) + (index - 0.5) * 0.38,
            [before[label], after[label]],
            0.36,
            color=CLASS_COLOURS[label],
            label=label,
        )
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=9)
    axes.set_xticks([0, 1], ["as they are", f"after {strategy}"])
    axes.set_ylabel("training images")
    axes.set_title("Training images per class")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    _save(figure, path)


def curves(histories: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Accuracy and loss of each network over the epochs; the epoch that was kept is marked."""
    figure = matplotlib.figure.Figure(figsize=(3.6 * len(histories), 5.6), layout="constrained")
    grid = figure.subplots(2, len(histories), sharex=True, sharey="row", squeeze=False)
    for column, (name, history) in enumerate(histories.items()):
        epochs = [row["epoch"] for row in history]
        kept = max(history, key=lambda row: (row["val_auc"], -row["val_loss"]))["epoch"]
        for axes, measure in zip(grid[:, column], ("accuracy", "loss"), strict=True):
            axes.plot(epochs, [row[measure] for row in history], color="#000000", label="training")
            axes.plot(epochs, [row[f"val_{measure}"] for row in history], color="#009E73", label="validation")
            axes.axvline(kept, color="#999999", linestyle=":", label="kept epoch")
            axes.set_ylabel(measure if column == 0 else "")
            axes.spines[["top", "right"]].set_visible(False)
        grid[0, column].set_title(architecture(name).title)
        grid[1, column].set_xlabel("epoch")
    # A network whose running averages have not settled has losses of several units in its first epochs.
    grid[1, 0].set_yscale("log")
    grid[0, 0].legend(frameon=False, fontsize=8)
    _save(figure, path)


def roc(evaluation: Evaluation, path: Path) -> None:
    """ROC curves on the test split, with each operating point."""
    figure = matplotlib.figure.Figure(figsize=(5.4, 5.2), layout="constrained")
    axes = figure.subplots()
    for (name, probabilities), colour in zip(evaluation.probabilities.items(), _LINE_COLOURS, strict=True):
        false_alarms, hits, _ = roc_curve(evaluation.labels, probabilities)
        area = roc_auc_score(evaluation.labels, probabilities)
        axes.plot(false_alarms, hits, color=colour, label=f"{_title(name)}, AUC {area:.3f}")
        calls = probabilities >= evaluation.thresholds[name]
        axes.plot(calls[evaluation.labels == 0].mean(), calls[evaluation.labels == 1].mean(), "o", color=colour)
    axes.plot([0, 1], [0, 1], color="#999999", linestyle=":")
    axes.set_xlabel("1 - specificity")
    axes.set_ylabel("sensitivity")
    axes.set_title("ROC on the test split; dots are the operating points")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    _save(figure, path)


def confusion(evaluation: Evaluation, path: Path) -> None:
    """A confusion matrix on the test split for each network and their mean."""
    names = list(evaluation.probabilities)
    figure = matplotlib.figure.Figure(figsize=(2.7 * len(names), 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
        calls = (evaluation.probabilities[name] >= evaluation.thresholds[name]).astype(int)
        matrix = confusion_matrix(evaluation.labels, calls)
        shares = matrix / matrix.sum(axis=1, keepdims=True)
        axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
        for row in range(2):
            for column in range(2):
                colour = "black" if shares[row, column] > 0.5 else "white"
                text = f"{matrix[row, column]}\n{shares[row, column]:.1%}"
                axes.text(column, row, text, ha="center", va="center", color=colour)
        axes.set_xticks([0, 1], ["normal", "pneumonia"], fontsize=8)
        axes.set_yticks(
            [0, 1], ["normal", "pneumonia"] if name == names[0] else ["", ""], rotation=90, va="center", fontsize=8
        )
        axes.set_xlabel("called", fontsize=9)
        axes.set_title(_title(name), fontsize=10)
        if name == names[0]:
            axes.set_ylabel("labelled", fontsize=9)
    _save(figure, path)


def _title(name: str) -> str:
    return "mean of the three" if name == "together" else architecture(name).title
