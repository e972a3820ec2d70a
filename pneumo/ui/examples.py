"""The example radiographs: official test images at full resolution, with their labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo.radiograph import read_radiograph
from pneumo.render import display_pixels

FOLDER = Path(__file__).with_name("examples")
"""Holds the images and examples.json, which names them in the order of the page."""


@dataclass(frozen=True, slots=True)
class Example:
    """One example.

    Attributes
    ----------
    file : str
        Name in the folder of the examples.
    label : str
        What the data set says of it, such as "pneumonia, viral".
    caption : str
        What stands under its picture.
    wrong : int
        How many of the embedded networks decide otherwise than the label.
    """

    file: str
    label: str
    caption: str
    wrong: int

    @property
    def path(self) -> Path:
        """Where the image is."""
        return FOLDER / self.file

    def thumbnail(self) -> np.ndarray:
        """The image in gray values, shape (height, width) uint8, 240 pixels at its longest."""
        return display_pixels(read_radiograph(self.path), 240)


def load_examples() -> list[Example]:
    """All examples, in the order of the page."""
    return [Example(**entry) for entry in json.loads((FOLDER / "examples.json").read_text(encoding="utf-8"))]
