"""Every plot. Colours are from the Okabe-Ito palette, which people with a colour vision deficiency can tell apart."""

from __future__ import annotations

import random
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.figure
import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from pneumo.radiograph import read_radiograph
from pneumo.report import title
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES
from training.dataset import SPLITS, Dataset
from training.sources import Source
from training.systems import is_noise

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
    axes.set_xticks([0, 1], ["as they are", "as trained on"])
    axes.set_ylabel("training images")
    axes.set_title(f"Training images per class; balance: {strategy}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=2)
    _save(figure, path)


def curves(histories: dict[str, tuple[list[dict[str, float]], int]], path: Path) -> None:
    """Accuracy and loss of each network over the epochs, and the number of the epoch that was kept, marked.

    The training curves are those of augmented images, some of them without lungs, and so lie lower.
    """
    figure = matplotlib.figure.Figure(figsize=(3.6 * len(histories), 5.6), layout="constrained")
    grid = figure.subplots(2, len(histories), sharex=True, sharey="row", squeeze=False)
    for column, (name, (history, kept)) in enumerate(histories.items()):
        epochs = [row["epoch"] for row in history]
        for axes, measure in zip(grid[:, column], ("accuracy", "loss"), strict=True):
            axes.plot(epochs, [row[measure] for row in history], color="#000000", label="training")
            axes.plot(epochs, [row[f"val_{measure}"] for row in history], color="#009E73", label="held-out")
            axes.axvline(kept, color="#999999", linestyle=":", label="kept epoch")
            axes.set_ylabel(measure if column == 0 else "")
            axes.spines[["top", "right"]].set_visible(False)
        grid[0, column].set_title(title(name))
        grid[1, column].set_xlabel("epoch")
        grid[1, column].xaxis.set_major_locator(MaxNLocator(integer=True))
    # A network whose running averages have not settled has losses of several units in its first epochs.
    losses = [row[key] for history, _ in histories.values() for row in history for key in ("loss", "val_loss")]
    if max(losses) > 4 * min(losses):
        grid[1, 0].set_yscale("log")
        grid[1, 0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        grid[1, 0].yaxis.set_major_formatter("{x:g}")
        grid[1, 0].yaxis.set_minor_formatter(NullFormatter())
    grid[0, 0].legend(frameon=False, fontsize=8)
    _save(figure, path)


def roc(evaluation: Evaluation, path: Path) -> None:
    """ROC curves on the test split, with each operating point."""
    figure = matplotlib.figure.Figure(figsize=(5.4, 5.2), layout="constrained")
    axes = figure.subplots()
    for (name, probabilities), colour in zip(evaluation.probabilities.items(), cycle(_LINE_COLOURS), strict=False):
        false_alarms, hits, _ = roc_curve(evaluation.labels, probabilities)
        area = roc_auc_score(evaluation.labels, probabilities)
        axes.plot(false_alarms, hits, color=colour, label=f"{title(name)}, AUC {area:.3f}")
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
        axes.set_title(title(name), fontsize=10)
        if name == names[0]:
            axes.set_ylabel("labelled", fontsize=9)
    _save(figure, path)


def reliability(evaluation: Evaluation, path: Path, bins: int = 15) -> None:
    """Reliability diagrams on the test split: share of pneumonias against mean probability, in bins of equal mass."""
    names = list(evaluation.probabilities)
    figure = matplotlib.figure.Figure(figsize=(2.9 * len(names), 3.8), layout="constrained")
    for axes, name, colour in zip(
        figure.subplots(1, len(names), sharey=True), names, cycle(_LINE_COLOURS), strict=False
    ):
        order = np.argsort(evaluation.probabilities[name], kind="stable")
        parts = [part for part in np.array_split(order, bins) if len(part)]
        said = [evaluation.probabilities[name][part].mean() for part in parts]
        found = [evaluation.labels[part].mean() for part in parts]
        axes.plot([0, 1], [0, 1], color="#999999", linestyle=":")
        axes.plot(said, found, "o-", color=colour, markersize=4)
        axes.set_title(title(name), fontsize=10)
        axes.set_xlabel("mean probability", fontsize=9)
        axes.set_aspect("equal")
        axes.spines[["top", "right"]].set_visible(False)
        if name == names[0]:
            axes.set_ylabel("share of pneumonias", fontsize=9)
    figure.suptitle(
        f"Reliability on the test split, {bins} bins of equal mass; dotted: perfectly calibrated", fontsize=10
    )
    _save(figure, path)


def worst_lungs(cases: list[tuple[str, np.ndarray, np.ndarray, np.ndarray, float]], path: Path) -> None:
    """The test radiographs whose found lungs differ most from those that a person drew."""
    columns = 4
    rows = -(-len(cases) // columns)
    figure = matplotlib.figure.Figure(figsize=(columns * 2.4, rows * 2.7), layout="constrained")
    for axes, case in zip(figure.subplots(rows, columns, squeeze=False).flat, cases, strict=False):
        file, raster, found, drawn, dice = case
        axes.imshow(raster, cmap="gray", vmin=0, vmax=255)
        for mask, colour in ((drawn, _LINE_COLOURS[2]), (found, _LINE_COLOURS[1])):
            # Of a mask of nothing, where no two lungs were found, there is no outline.
            if mask.any():
                axes.contour(mask, [0.5], colors=colour, linewidths=1.2)
        axes.set_title(f"{file.rsplit('/', 1)[1].rsplit('.', 1)[0]}\nDice {dice:.2f}", fontsize=8)
    for axes in figure.axes:
        axes.set_axis_off()
    figure.suptitle("Worst cases of the segmenter: drawn by a person (green), found (orange)", fontsize=10)
    _save(figure, path)


def systems_forest(measured: dict[str, dict[str, Any]], claimed: dict[str, float], path: Path) -> None:
    """ROC AUC and accuracy of each system with their intervals, and the accuracy that its report gives."""
    figure = matplotlib.figure.Figure(figsize=(9.5, 0.34 * len(measured) + 1.4), layout="constrained")
    places = np.arange(len(measured))[::-1]
    colours = [_LINE_COLOURS[0] if name in ARCHITECTURES else _LINE_COLOURS[3] for name in measured]
    for axes, key in zip(figure.subplots(1, 2, sharey=True), ("auc", "accuracy"), strict=True):
        for place, colour, found in zip(places, colours, measured.values(), strict=True):
            low, high = found[key]["interval"]
            axes.plot([low, high], [place, place], color=colour, linewidth=1.5)
            axes.plot(found[key]["value"], place, "o", color=colour, markersize=5)
        axes.set_yticks(places, measured, fontsize=9)
        axes.grid(axis="x", color="#DDDDDD")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title({"auc": "ROC AUC", "accuracy": "accuracy at one half"}[key], fontsize=10)
    told = [(claimed[name], place) for name, place in zip(measured, places, strict=True) if name in claimed]
    if told:
        axes.plot(*zip(*told, strict=True), "x", color=_LINE_COLOURS[1], label="as its report says")
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    figure.suptitle("All systems on the test split, with 95 % intervals; blue: the networks that ship", fontsize=10)
    _save(figure, path)


def systems_roc(curves: dict[str, list[list[float]]], path: Path, columns: int = 5) -> None:
    """The ROC curve of each system, before those of all others."""
    rows = -(-len(curves) // columns)
    figure = matplotlib.figure.Figure(figsize=(2.1 * columns, 2.3 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, name in zip(grid.flat, curves, strict=False):
        for other in curves.values():
            axes.plot(*other, color="#CCCCCC", linewidth=0.6)
        axes.plot(*curves[name], color=_LINE_COLOURS[0 if name in ARCHITECTURES else 1], linewidth=1.6)
        axes.set_title(name, fontsize=9)
        axes.set_xticks([0, 0.5, 1])
        axes.set_yticks([0, 0.5, 1])
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(grid.flat)[len(curves) :]:
        axes.set_axis_off()
    figure.supxlabel("1 - specificity", fontsize=9)
    figure.supylabel("sensitivity", fontsize=9)
    _save(figure, path)


def systems_differences(names: list[str], pairs: list[list[dict[str, Any] | None]], path: Path) -> None:
    """How much larger the ROC AUC of each row's system is than each column's; blank if within noise or not known."""
    side = 0.46 * len(names) + 2.2
    figure = matplotlib.figure.Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    clear = [[found["value"] if found and not is_noise(found) else np.nan for found in row] for row in pairs]
    # One that calls everything pneumonia would leave no colours for the others.
    largest = min(0.2, max([0.01, *(abs(value) for row in clear for value in row if np.isfinite(value))]))
    image = axes.imshow(clear, cmap="PuOr", vmin=-largest, vmax=largest)
    for row, line in enumerate(clear):
        for column, value in enumerate(line):
            if np.isfinite(value):
                colour = "white" if abs(value) > 0.6 * largest else "black"
                axes.text(column, row, f"{value:+.2f}", ha="center", va="center", fontsize=6, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_title(
        "ROC AUC of the row less that of the column; blank: within noise (95 %, paired), or not known", fontsize=9
    )
    figure.colorbar(image, ax=axes, shrink=0.6)
    _save(figure, path)
