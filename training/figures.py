"""Every plot. Colours are from the Okabe-Ito palette, which people with a colour vision deficiency can tell apart."""

from __future__ import annotations

import random
from pathlib import Path

import matplotlib.figure
import numpy as np

from pneumo.radiograph import read_radiograph
from pneumo.zoo import CLASS_NAMES
from training.dataset import SPLITS, Dataset
from training.sources import Source

CLASS_COLOURS = {"NORMAL": "#0072B2", "PNEUMONIA": "#D55E00"}
"""Colour of each class."""


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
