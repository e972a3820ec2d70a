"""What turns a trained network's output into decisions: calibration, operating points, the uncertain band.

All of it is chosen on held-out images, never on test images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_sample_weight

from pneumo.classifier import calibrate, logit
from training.batteries import STRESSES
from training.metrics import wilson_interval

CALIBRATED_ON = ("clean", *STRESSES)
"""What of the held-out images a calibration is fitted to."""
SCREENING_SENSITIVITY = 0.97
"""Sensitivity that the screening operating point is to have."""
CALIBRATION_RULE = "Platt scaling on held-out images as they are and under every stress, both classes weighted alike"
BALANCED_POINT = 0.5
"""Threshold of the balanced operating point of calibrated probabilities."""
BALANCED_RULE = (
    "one half: of a probability that is calibrated with both classes weighted alike, the threshold with the highest "
    "balanced accuracy"
)
SCREENING_RULE = (
    f"highest threshold whose sensitivity on held-out images is at least {SCREENING_SENSITIVITY} even at the lower end "
    "of its 95 % interval, and not above the balanced one"
)
UNCERTAIN_RULE = (
    "from the mean that 1 % of the held-out pneumonias stay below to the mean that 1 % of the held-out normal "
    "radiographs reach"
)
_LEAST_SLOPE = 0.05


def calibration(labels: np.ndarray, answers: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Slope and offset of `platt` on held-out images as they are and under every stress together.

    How a visitor's radiograph was exposed is not known, so a probability is to be right on average of all of them
    (Tomani et al., CVPR 2021, perturb what they calibrate on for the same reason).

    Parameters
    ----------
    labels : numpy.ndarray of shape (n,)
        0 normal, 1 pneumonia.
    answers : mapping of str to numpy.ndarray of shape (n,)
        Probabilities as a network puts them out: "clean", and by the titles of `training.batteries.STRESSES`.
    """
    used = [answers[title] for title in CALIBRATED_ON]
    return platt(np.tile(labels, len(used)), np.concatenate(used))


def platt(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the calibrated logit as a function of a network's own (Platt, 1999).

    Both classes weigh alike, however many images each has: how many held-out radiographs show pneumonia is an accident
    of how the data were collected, and nothing that is known of a visitor's. A calibrated probability is that of a
    radiograph as likely normal as not.

    Parameters
    ----------
    labels : numpy.ndarray of shape (n,)
        0 normal, 1 pneumonia.
    probabilities : numpy.ndarray of shape (n,)
        0 to 1, as the network puts them out.

    Returns
    -------
    slope : float
        Above 0, so that the order of the images stays.
    offset : float
    """
    features = logit(probabilities)[:, np.newaxis]
    model = LogisticRegression(C=100.0, class_weight="balanced").fit(features, labels)
    slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope >= _LEAST_SLOPE:
        return slope, offset
    # It ranks hardly better than chance: all that can still be right is the mean.
    weights = compute_sample_weight("balanced", labels)

    def excess(offset: float) -> float:
        return float(np.average(calibrate(probabilities, _LEAST_SLOPE, offset), weights=weights)) - 0.5

    return _LEAST_SLOPE, float(brentq(excess, -50, 50))


def operating_point(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The threshold with the highest balanced accuracy; of equals, the one nearest to 0.5.

    For answers that are not calibrated. Of those that are, `BALANCED_POINT` is as good or better on patients that this
    was not chosen on, and steadier (`python -m benchmarks points`).

    Parameters
    ----------
    labels : numpy.ndarray of shape (n,)
        0 normal, 1 pneumonia.
    probabilities : numpy.ndarray of shape (n,)

    Returns
    -------
    float
        Between 0 and 1.
    """
    candidates = _between(probabilities)
    calls = probabilities >= candidates[:, np.newaxis]
    positive = labels == 1
    balanced = (calls[:, positive].mean(axis=1) + (~calls[:, ~positive]).mean(axis=1)) / 2
    best = candidates[balanced >= balanced.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])


def screening_point(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The threshold of `SCREENING_RULE`, between 0 and 1; arguments as `operating_point`, but calibrated.

    Where too few pneumonias are there to show that sensitivity, the highest threshold that calls all of them.
    """
    positives = probabilities[labels == 1]
    # Below all of them too, for where the lowest is that of a pneumonia.
    candidates = [value for value in np.r_[probabilities.min() / 2, _between(probabilities)] if value <= BALANCED_POINT]
    hits = [int((positives >= value).sum()) for value in candidates]
    sure = [
        value
        for value, count in zip(candidates, hits, strict=True)
        if wilson_interval(count, len(positives))[0] >= SCREENING_SENSITIVITY
    ]
    if sure:
        return float(max(sure))
    return float(max(value for value, count in zip(candidates, hits, strict=True) if count == max(hits)))


def uncertain_band(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """The band of `UNCERTAIN_RULE`; empty, at the balanced operating point, where the classes hardly overlap.

    Arguments as `screening_point`.

    Returns
    -------
    low, high : float
        A mean is uncertain from `low` on and below `high`.
    """
    low = float(np.quantile(probabilities[labels == 1], 0.01))
    high = float(np.quantile(probabilities[labels == 0], 0.99))
    if low < high:
        return low, high
    return BALANCED_POINT, BALANCED_POINT


def _between(probabilities: np.ndarray) -> np.ndarray:
    """Thresholds worth trying: between every two values, and one half."""
    values = np.unique(probabilities)
    return np.unique(np.r_[0.5, (values[1:] + values[:-1]) / 2])
