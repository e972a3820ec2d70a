"""Ways to balance the classes of the training images. Never applied to validation or test images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pneumo.errors import UnknownNameError
from training.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Balanced:
    """Training images after balancing.

    Attributes
    ----------
    images : numpy.ndarray of uint8, shape (n, size, size)
    labels : numpy.ndarray of uint8, shape (n,)
        0 normal, 1 pneumonia.
    class_weights : dict of int to float, or None
        Weight of each class in the loss, where the strategy weighs instead of adding images.
    alternate : bool
        Whether the classes take turns, so that each batch has half of either.
    """

    images: np.ndarray
    labels: np.ndarray
    class_weights: dict[int, float] | None = None
    alternate: bool = False

    def order(self, generator: np.random.Generator) -> np.ndarray:
        """The order of the images in one epoch: each once, or as many with the classes in turns."""
        if not self.alternate:
            return generator.permutation(len(self.labels))
        turns = np.arange(len(self.labels)) % 2
        order = np.empty(len(turns), np.int64)
        for label in (0, 1):
            own = np.flatnonzero(self.labels == label)
            wanted = int((turns == label).sum())
            # All of a class are seen before one is seen again.
            rounds = [generator.permutation(own) for _ in range(-(-wanted // len(own)))]
            order[turns == label] = np.concatenate(rounds)[:wanted]
        return order


def balance(strategy: str, images: np.ndarray, labels: np.ndarray, seed: int) -> Balanced:
    """Balance the classes of a training set.

    Parameters
    ----------
    strategy : str
        One of `STRATEGIES`.
    images : numpy.ndarray of uint8, shape (n, size, size)
    labels : numpy.ndarray of uint8, shape (n,)
    seed : int
        Seed of the resampling.

    Returns
    -------
    Balanced

    Raises
    ------
    UnknownNameError
        If there is no such strategy.
    TrainingError
        If a class has too few images for it.
    """
    if strategy not in STRATEGIES:
        raise UnknownNameError(f"A balance must be one of {', '.join(STRATEGIES)}; received {strategy!r}.")
    return STRATEGIES[strategy](images, labels, seed)


def _none(images: np.ndarray, labels: np.ndarray, seed: int) -> Balanced:
    return Balanced(images, labels)


def class_weights(labels: np.ndarray) -> dict[int, float]:
    """The weight of each class that makes both count the same: 1.94 and 0.67 on all official training images."""
    from sklearn.utils.class_weight import compute_class_weight

    weights = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    return {0: float(weights[0]), 1: float(weights[1])}


def _class_weights(images: np.ndarray, labels: np.ndarray, seed: int) -> Balanced:
    return Balanced(images, labels, class_weights(labels))


def _oversample(images: np.ndarray, labels: np.ndarray, seed: int) -> Balanced:
    from imblearn.over_sampling import RandomOverSampler

    rows = np.arange(len(labels)).reshape(-1, 1)
    rows, labels = RandomOverSampler(random_state=seed).fit_resample(rows, labels)
    return Balanced(images[rows[:, 0]], labels)


def _smote(images: np.ndarray, labels: np.ndarray, seed: int) -> Balanced:
    """Synthetic minority oversampling (Chawla et al., JAIR 16, 2002) on the flattened images.

    The synthetic images are rounded back to 8 bits, which keeps the set at a quarter of its size as float32.
    """
    from imblearn.over_sampling import SMOTE

    sampler = SMOTE(random_state=seed)
    fewest, most = sorted(np.bincount(labels, minlength=2).tolist())
    if fewest < most and fewest <= sampler.k_neighbors:
        raise TrainingError(
            f"SMOTE needs at least {sampler.k_neighbors + 1} training images of each class; received {fewest} of one. "
            "Add images, or balance by another strategy."
        )
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat, balanced = sampler.fit_resample(flat, labels)
    resampled = np.clip(np.rint(flat), 0, 255).astype(np.uint8)
    return Balanced(resampled.reshape(-1, *images.shape[1:]), balanced)


def _batches(images: np.ndarray, labels: np.ndarray, seed: int) -> Balanced:
    return Balanced(images, labels, alternate=True)


STRATEGIES: dict[str, Callable[[np.ndarray, np.ndarray, int], Balanced]] = {
    "none": _none,
    "class_weights": _class_weights,
    "oversample": _oversample,
    "smote": _smote,
    "batches": _batches,
}
"""All strategies by name."""
