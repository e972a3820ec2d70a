"""What a map knows of its network: one network is asked about a radiograph of which the hottest places are altered."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve
from scipy.special import expit

from pneumo.bundle import Bundle
from pneumo.framing import Prepared
from pneumo.probe import compile_logit

GRID = 14
"""Cells a side in which places are altered."""
_STEPS = 14


class Judge:
    """Asks one network of a bundle about altered inputs."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.bundle, self.name = bundle, name
        self.network = bundle.networks[name]

    def inputs(self, prepared: Prepared) -> np.ndarray:
        """What the network sees, shape (size, size)."""
        return prepared.inputs(*self.network.view)[0, ..., 0]

    def ask(self, images: np.ndarray) -> np.ndarray:
        """Calibrated log odds of pneumonia of inputs, shape (n, size, size)."""
        inputs = np.repeat(images[..., np.newaxis], self.network.channels, axis=-1).astype(np.float32)
        logits = self.network.compiled(compile_logit)(inputs)
        return self.network.slope * logits.astype(np.float64) + self.network.offset


@dataclasses.dataclass(frozen=True)
class Sight:
    """An input whole and blurred away, shape (size, size), and the log odds of both."""

    image: np.ndarray
    blurred: np.ndarray
    whole: float
    nothing: float


def sight(judge: Judge, image: np.ndarray) -> Sight:
    """What all measures of all maps of one input share."""
    blurred = cv2.GaussianBlur(image, (0, 0), image.shape[0] / 8)
    return Sight(image, blurred, *judge.ask(np.stack([image, blurred])).tolist())


def curves(judge: Judge, seen: Sight, values: np.ndarray) -> dict[str, float]:
    """Areas under the answer as the hottest places are taken out, and put in (Petsiuk et al., BMVC 2018).

    What is taken out is blurred away; ties fall in a fixed random order. `deletion`, `insertion` and their difference,
    `gain`, are of the probability; each with `_log_odds`, of the log odds.
    """
    ties = np.random.default_rng(0).permutation(GRID * GRID)
    order = ties[np.argsort(-_cells(values).ravel()[ties], kind="stable")]
    ranks = np.empty(GRID * GRID)
    ranks[order] = np.arange(GRID * GRID)
    ranks = cv2.resize(ranks.reshape(GRID, GRID), seen.image.shape[::-1], interpolation=cv2.INTER_NEAREST)
    between = np.linspace(0, GRID * GRID, _STEPS + 1)[1:-1]
    deleted = [np.where(ranks < level, seen.blurred, seen.image) for level in between]
    inserted = [np.where(ranks < level, seen.image, seen.blurred) for level in between]
    taken, put = np.split(judge.ask(np.stack(deleted + inserted)), 2)
    found = {"deletion": [seen.whole, *taken, seen.nothing], "insertion": [seen.nothing, *put, seen.whole]}
    areas = {}
    for ending, scale in (("", expit), ("_log_odds", np.asarray)):
        for name, answers in found.items():
            areas[name + ending] = float(np.trapezoid(scale(answers)) / _STEPS)
        areas[f"gain{ending}"] = areas[f"insertion{ending}"] - areas[f"deletion{ending}"]
    return areas


def road(judge: Judge, image: np.ndarray, values: np.ndarray) -> float:
    """ROAD (Rong et al., ICML 2022) at a fifth of the image: probability without the coldest minus without the hottest.

    What is removed is imputed linearly from its neighbours.
    """
    order = np.argsort(-_cells(values).ravel(), kind="stable")
    fifth = len(order) // 5
    altered = []
    for cells in (order[-fifth:], order[:fifth]):
        mask = np.zeros(GRID * GRID, np.uint8)
        mask[cells] = 1
        whole = cv2.resize(mask.reshape(GRID, GRID), image.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
        altered.append(imputed(image, whole))
    coldest, hottest = expit(judge.ask(np.stack(altered)))
    return float(coldest - hottest)


def average_drop(judge: Judge, seen: Sight, values: np.ndarray) -> float:
    """Share of the probability that is lost if the image is seen through the map alone (Chattopadhyay et al., 2018)."""
    mask = cv2.resize(np.asarray(values, np.float32), seen.image.shape[::-1])
    through = seen.image * (mask / mask.max() if mask.max() > 0 else mask)
    before, after = expit([seen.whole, *judge.ask(through[np.newaxis])])
    return float(max(0.0, before - after) / before)


def imputed(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Each pixel of the mask as the mean of its four neighbours: one sparse linear system."""
    numbers = np.full(image.shape, -1)
    numbers[mask] = np.arange(mask.sum())
    rows, columns = np.nonzero(mask)
    total = np.zeros(len(rows))
    degree = np.zeros(len(rows))
    entries = []
    for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        y, x = rows + down, columns + right
        inside = (y >= 0) & (y < image.shape[0]) & (x >= 0) & (x < image.shape[1])
        own = np.flatnonzero(inside)
        y, x = y[inside], x[inside]
        degree[own] += 1
        hidden = mask[y, x]
        np.add.at(total, own[~hidden], image[y, x][~hidden])
        entries.append((own[hidden], numbers[y, x][hidden]))
    own, others = (np.concatenate(part) for part in zip(*entries, strict=True))
    size = len(rows)
    matrix = coo_matrix((-np.ones(len(own)), (own, others)), (size, size)).tocsc()
    matrix += coo_matrix((degree, (np.arange(size), np.arange(size))), (size, size)).tocsc()
    result = image.copy()
    result[mask] = spsolve(matrix, total)
    return result


def _cells(values: np.ndarray) -> np.ndarray:
    """A map's mean in each of 14 x 14 cells."""
    return cv2.resize(np.asarray(values, np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA)
