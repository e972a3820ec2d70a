"""Ways to balance the classes of the training images. Never applied to validation or test images."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pneumo.errors import UnknownNameError
from training.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Images:
    """Images and labels of one split.

    Attributes
    ----------
    pixels : numpy.ndarray of uint8, shape (n, side, side) or (n, side, side, 2)
        Gray values, and for training images also the lung mask, 0 to 255. Training images may be larger than the
        network's input: they then show its surroundings, which the random transforms bring in.
    labels : numpy.ndarray of uint8, shape (n,)
        0 normal, 1 pneumonia.
    weights : numpy.ndarray of float, shape (n,), or None
        Overlap weights, for a recipe with `matching`.
    """

    pixels: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all of it."""
        parts = (self.pixels, self.labels, self.weights)
        digest = hashlib.sha256()
        for part in parts:
            digest.update(b"" if part is None else np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


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
    shares : numpy.ndarray of float, shape (n,), or None
        Where the classes take turns: how often each image is taken, relative to the others of its class.
    """

    images: np.ndarray
    labels: np.ndarray
    class_weights: dict[int, float] | None = None
    alternate: bool = False
    shares: np.ndarray | None = None

    def order(self, generator: np.random.Generator) -> np.ndarray:
        """The order of the images in one epoch: each once, or as many with the classes in turns."""
        if not self.alternate:
            return generator.permutation(len(self.labels))
        turns = np.arange(len(self.labels)) % 2
        order = np.empty(len(turns), np.int64)
        for label in (0, 1):
            own = np.flatnonzero(self.labels == label)
            wanted = int((turns == label).sum())
            if self.shares is not None:
                order[turns == label] = _drawn(own, self.shares[own], wanted, generator)
                continue
            # All of a class are seen before one is seen again.
            rounds = [generator.permutation(own) for _ in range(-(-wanted // len(own)))]
            order[turns == label] = np.concatenate(rounds)[:wanted]
        return order


def matched(balanced: Balanced, weights: np.ndarray, share: float) -> Balanced:
    """The same images, a share of each class drawn by weights, shape (n,), and the others evenly."""
    shares = np.empty(len(balanced.labels))
    for label in (0, 1):
        own = balanced.labels == label
        shares[own] = 1 - share + share * weights[own] / weights[own].mean()
    return dataclasses.replace(balanced, shares=shares)


def _drawn(rows: np.ndarray, shares: np.ndarray, wanted: int, generator: np.random.Generator) -> np.ndarray:
    """Rows by their shares, systematically: each as often as its share says, rounded up or down by chance."""
    mixed = generator.permutation(len(rows))
    ends = np.cumsum(shares[mixed])
    marks = (np.arange(wanted) + generator.random()) * (ends[-1] / wanted)
    return generator.permutation(rows[mixed[np.searchsorted(ends, marks, side="right").clip(max=len(rows) - 1)]])


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


def epoch_images(strategy: str, counts: Sequence[int]) -> int:
    """How many images an epoch has under a strategy, from how many training images each class has."""
    return len(counts) * max(counts) if strategy in _ADDING else sum(counts)


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

    The synthetic images are rounded back to 8 bits. Of the larger class one image alone is shown to imbalanced-learn,
    which only hands it back: as float32 the whole set would take four times its size, and that more than once.
    """
    from imblearn.over_sampling import SMOTE

    fewest, most = sorted(np.bincount(labels, minlength=2).tolist())
    if fewest == most:
        return Balanced(images, labels)
    minority = int(np.bincount(labels, minlength=2).argmin())
    sampler = SMOTE(sampling_strategy={minority: most}, random_state=seed)
    if fewest <= sampler.k_neighbors:
        raise TrainingError(
            f"SMOTE needs at least {sampler.k_neighbors + 1} training images of each class; received {fewest} of one. "
            "Add images, or balance by another strategy."
        )
    shown = np.append(np.flatnonzero(labels == minority), np.flatnonzero(labels != minority)[:1])
    flat, _ = sampler.fit_resample(images[shown].reshape(len(shown), -1).astype(np.float32), labels[shown])
    made = np.clip(np.rint(flat[len(shown) :]), 0, 255).astype(np.uint8).reshape(-1, *images.shape[1:])
    return Balanced(np.concatenate([images, made]), np.append(labels, np.full(len(made), minority, labels.dtype)))


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
_ADDING = ("oversample", "smote")
"""Those that add images until all classes have as many."""
