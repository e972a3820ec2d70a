"""What a network is fed while it trains: augmented batches, with what a teacher says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np

from pneumo.framing import scale_gray
from training.balance import Balanced
from training.devices import shared_equally
from training.fields import Recipe
from training.reasons import side

Answer: TypeAlias = tuple[np.ndarray, np.ndarray | None]
"""A teacher's probabilities and feature map: see `Teacher`."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained network that others are distilled from.

    Attributes
    ----------
    answer : callable
        Takes a network's inputs, shape (n, size, size, 1), and returns probabilities of pneumonia, shape (n, 1), and
        the feature map that a pupil is to imitate, shape (n, *shape), or None if none is.
    size : int
        Side of these inputs in pixels, at least that of its pupil's.
    shape : tuple of int
        Rows, columns and filters of that map.
    sha256 : str
        Of its weights' file, hexadecimal.
    """

    answer: Callable[[np.ndarray], Answer]
    size: int
    shape: tuple[int, ...]
    sha256: str


def batches(
    images: Balanced,
    recipe: Recipe,
    first_epoch: int,
    teacher: Teacher | None = None,
    channels: int = 1,
    shares: int = 1,
) -> Iterator[tuple[Any, ...]]:
    """Endless augmented batches, epoch after epoch: inputs, targets and, with class weights, weights.

    With a teacher, images are at the scale that it sees. Where it is imitated, its maps come with the inputs; where
    reasons count, so does where the lungs are, at the places of `training.reasons.side`.

    An epoch's order and transforms depend on the recipe's seed and the epoch's number alone, so that a
    training that resumes sees what it would have seen.
    """
    epoch = first_epoch
    while True:
        # What it shows after another recipe, that one has not shown.
        generator = np.random.default_rng((recipe.seed, epoch, *recipe.after.encode()))
        order = shared_equally(images.order(generator), shares)
        for start in range(0, len(order), recipe.batch_size):
            chosen = order[start : start + recipe.batch_size]
            labels = images.labels[chosen].astype(np.float32)[:, np.newaxis]
            size = teacher.size if teacher else recipe.input_size
            pixels, blind = recipe.augmentation.place(images.images[chosen], generator, size)
            gray = pixels[..., 0] if pixels.ndim == 4 else pixels
            seen = recipe.augmentation.expose(smaller(gray, recipe.input_size), generator)
            inputs = [scale_gray(seen, recipe.scaling, channels)]
            taught: float | np.ndarray = 0.0
            if teacher:
                # The teacher is shown its pupil's very view (Beyer et al., CVPR 2022), but as sharp as it can use, and
                # as it was exposed: that the exposure must not matter is for the pupil to learn.
                answers, maps = teacher.answer(scale_gray(gray, recipe.scaling, channels))
                taught = recipe.distillation * (answers - labels)
                if recipe.imitation and maps is not None:
                    # Of what has no lungs there is nothing to be learnt.
                    maps = np.where(blind[:, np.newaxis, np.newaxis, np.newaxis], 0, maps)
                    inputs.append(maps.astype(np.float32))
            if recipe.reasons:
                # Nor is there evidence to be placed where there is nothing to be found.
                ill = (labels[:, 0] == 1) & ~blind
                inside = smaller(pixels[..., 1], side(recipe.input_size)).astype(np.float32) / 255
                inputs.append(np.where(ill[:, np.newaxis, np.newaxis], inside, 0))
            targets = np.where(blind[:, np.newaxis], 0.5, labels + taught).astype(np.float32)
            batch: tuple[Any, ...] = (tuple(inputs) if inputs[1:] else inputs[0], targets)
            if images.class_weights is not None:
                weights = images.class_weights
                batch += (np.array([weights[int(label)] for label in labels[:, 0]], np.float32),)
            yield batch
        epoch += 1


def smaller(images: np.ndarray, size: int) -> np.ndarray:
    """Images, uint8, shape (n, side, side), brought to (n, size, size) by the mean over areas."""
    if images.shape[1] == size:
        return images
    return np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in images])
