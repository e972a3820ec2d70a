"""The images of a data set as the networks see them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pneumo.framing import Prepared, beyond, cut, frame, needs_lungs, show
from pneumo.lungs import Lungs, Segmenter
from training.balance import Images
from training.dataset import Image, load_rasters
from training.fields import Recipe
from training.matching import overlap_weights
from training.sources import Source

SURROUNDINGS = 0.15
"""How much of what surrounds a lung box the random transforms may bring in, as a share of the box, on each side."""
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Views:
    """Radiographs of a data set with what is needed to frame them.

    Attributes
    ----------
    images : list of Image
    rasters : numpy.ndarray of uint8, shape (n, 224, 224)
    labels : numpy.ndarray of uint8, shape (n,)
        0 normal, 1 pneumonia.
    lungs : list of Lungs or None
        As the segmenter finds them; None where no framing needs them.
    """

    images: list[Image]
    rasters: np.ndarray
    labels: np.ndarray
    lungs: list[Lungs] | None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def chosen(self, rows: Sequence[int] | np.ndarray) -> Views:
        """Some of them, by number."""
        rows = [int(row) for row in rows]
        lungs = [self.lungs[row] for row in rows] if self.lungs else None
        return Views([self.images[row] for row in rows], self.rasters[rows], self.labels[rows], lungs)

    def altered(self, rasters: np.ndarray, segmenter: Segmenter | None = None) -> Views:
        """The same with other pixels; the lungs are found anew if a segmenter is given, else kept."""
        lungs = find_lungs(segmenter, rasters) if segmenter and self.lungs is not None else self.lungs
        return dataclasses.replace(self, rasters=rasters, lungs=lungs)

    def prepared(self) -> list[Prepared]:
        """Each as the program prepares it."""
        return [
            Prepared(raster, image.aspect, self._lungs(index))
            for index, (raster, image) in enumerate(zip(self.rasters, self.images, strict=True))
        ]

    def shown(self, framing: str, size: int) -> np.ndarray:
        """What a network sees of each, uint8, shape (n, size, size)."""
        return np.stack(
            [
                show(raster, framing, image.aspect, self._lungs(index), size)
                for index, (raster, image) in enumerate(zip(self.rasters, self.images, strict=True))
            ]
        )

    def with_surroundings(self, framing: str, size: int, masks: bool) -> np.ndarray:
        """What a network sees of each and what lies around it, at the same scale.

        Returns
        -------
        numpy.ndarray of uint8, shape (n, side, side), or with masks (n, side, side, 2)
            Gray values, and the lung mask, 0 to 255; the middle size x size is what the network sees.
        """
        share = SURROUNDINGS if needs_lungs(framing) else 0.0
        # The same number of pixels on each side, so that an image that is not moved is not blurred either.
        side = size + 2 * round(size * share)
        result = np.zeros((len(self), side, side, 2), np.uint8)
        for index, (raster, image) in enumerate(zip(self.rasters, self.images, strict=True)):
            lungs = self._lungs(index)
            around = (side / size - 1) / 2
            result[index, ..., 0] = show(raster, framing, image.aspect, lungs, side, around)
            if lungs:
                box = frame(framing, image.aspect, lungs).grown(around)
                result[index, ..., 1] = cut(lungs.mask.astype(np.uint8) * 255, box, side, beyond(framing))
        return result if masks else np.ascontiguousarray(result[..., 0])

    def _lungs(self, index: int) -> Lungs | None:
        return self.lungs[index] if self.lungs is not None else None


def load_views(source: Source, images: list[Image], segmenter: Segmenter | None) -> Views:
    """Read images and find their lungs.

    Raises
    ------
    DataError
        If a file is not the one that the manifest describes.
    """
    rasters, labels = load_rasters(source, images)
    return Views(images, rasters, labels, find_lungs(segmenter, rasters) if segmenter else None)


def find_lungs(segmenter: Segmenter, rasters: np.ndarray) -> list[Lungs]:
    """The lungs of many radiographs."""
    parts = (rasters[start : start + _BATCH] for start in range(0, len(rasters), _BATCH))
    return [lungs for part in parts for lungs in segmenter.find_all(part)]


def uses_lungs(recipe: Recipe) -> bool:
    """Whether a recipe needs to know where the lungs are."""
    return needs_lungs(recipe.framing) or _uses_masks(recipe)


def _uses_masks(recipe: Recipe) -> bool:
    augmentation = recipe.augmentation
    return max(augmentation.blind, augmentation.strip, augmentation.fade, recipe.reasons) > 0


def _of_some_patients(views: Views, recipe: Recipe) -> Views:
    if recipe.patients == 1:
        return views
    generator = np.random.default_rng(recipe.seed)
    everyone = np.array([image.patient for image in views.images])
    kept: list[str] = []
    for label in np.unique(views.labels):
        patients = np.unique(everyone[views.labels == label])
        kept += generator.permutation(patients)[: math.ceil(recipe.patients * len(patients))].tolist()
    return views.chosen(np.flatnonzero(np.isin(everyone, kept)))


def training_images(views: Views, recipe: Recipe, size: int | None = None) -> Images:
    """Images to train on, what a network sees of them so many pixels wide; by default as many as it takes."""
    views = _of_some_patients(views, recipe)
    pixels = views.with_surroundings(recipe.framing, size or recipe.input_size, _uses_masks(recipe))
    return Images(pixels, views.labels, overlap_weights(views.images, views.images) if recipe.matching else None)


def held_out_images(views: Views, recipe: Recipe) -> Images:
    """Images to validate on, as the program will see them."""
    return Images(views.shown(recipe.framing, recipe.input_size), views.labels)
