"""Measures of a classifier, each with a 95 % interval."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_sample_weight

_SUBTYPES = {"bacteria": "bacterial", "virus": "viral"}
_BINS = 15
RESAMPLES = 2000
"""Bootstrap resamples behind every interval."""


def measure(
    labels: np.ndarray,
    probabilities: np.ndarray,
    threshold: float,
    patients: np.ndarray,
    subtypes: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, dict]:
    """All measures of one classifier.

    The interval is the central 95 % over bootstrap resamples of patients, not of images, because images
    of one patient are alike (Field and Welsh, J. R. Statist. Soc. B 69, 2007).

    Parameters
    ----------
    labels : numpy.ndarray of shape (n,)
        0 normal, 1 pneumonia.
    probabilities : numpy.ndarray of shape (n,)
        Of pneumonia, 0 to 1.
    threshold : float
        Operating point.
    patients : numpy.ndarray of shape (n,)
        Key of each image's patient.
    subtypes : numpy.ndarray of shape (n,), optional
        "bacteria", "virus" or ""; adds the sensitivity for each of the two kinds of pneumonia.
    seed : int
    resamples : int

    Returns
    -------
    dict
        Per measure `value` and `interval` (low, high). A measure that a resample leaves undefined is NaN there
        and left out of its interval; one that is undefined altogether, such as the precision of a class that is
        never called, is left out. Where a share of images is all or nothing, resampling knows no spread, and the
        interval is Wilson's over images, as in `share_interval`.
    """
    weights = np.vstack([np.ones(len(labels)), _patient_weights(patients, resamples, seed)])
    result = {}
    measures = _measures(labels, probabilities, threshold, weights)
    shares = _shares(labels == 1, probabilities, threshold)
    for subtype, name in _SUBTYPES.items() if subtypes is not None else ():
        shares[f"sensitivity_{name}"] = probabilities >= threshold, np.asarray(subtypes == subtype)
    measures |= {name: _ratio(weights, hits & chosen, chosen) for name, (hits, chosen) in shares.items()}
    for name, values in measures.items():
        if np.isnan(values[0]):
            continue
        interval = _share_interval(*shares[name], values[1:]) if name in shares else _percentiles(values[1:])
        result[name] = {"value": float(values[0]), "interval": interval}
    return result


def share_interval(hits: np.ndarray, chosen: np.ndarray, patients: np.ndarray, seed: int = 0) -> list[float]:
    """95 % interval of the share of hits among chosen images, over patients.

    Where all or none are hits, resampling knows no spread, and the Wilson interval over images is given.

    Parameters
    ----------
    hits, chosen : numpy.ndarray of bool, shape (n,)
    patients : numpy.ndarray of shape (n,)
        Key of each image's patient.
    seed : int

    Returns
    -------
    list of float
        Low and high, 0 to 1.
    """
    return _share_interval(hits, chosen, _ratio(_patient_weights(patients, RESAMPLES, seed), hits & chosen, chosen))


def _share_interval(hits: np.ndarray, chosen: np.ndarray, resampled: np.ndarray) -> list[float]:
    count, total = int((hits & chosen).sum()), int(chosen.sum())
    return wilson_interval(count, total) if count in (0, total) else _percentiles(resampled)


def _percentiles(resampled: np.ndarray) -> list[float]:
    return [float(bound) for bound in np.nanpercentile(resampled, [2.5, 97.5])]


def auc_difference(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, patients: np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """How much larger the ROC AUC of one classifier is than that of another on the same images.

    Parameters
    ----------
    labels : numpy.ndarray of shape (n,)
        0 normal, 1 pneumonia.
    first, second : numpy.ndarray of shape (n,)
        Probabilities of pneumonia, 0 to 1.
    patients : numpy.ndarray of shape (n,)
        Key of each image's patient.
    seed : int

    Returns
    -------
    dict
        `value` and `interval` (low, high), paired: both are measured on the same resamples of patients.
    """
    return auc_differences(labels, {"first": first, "second": second}, patients, seed)["first"]["second"]


def auc_differences(
    labels: np.ndarray, answers: dict[str, np.ndarray], patients: np.ndarray, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """As `auc_difference`, of every pair of several classifiers: by name of the first, by name of a later one."""
    weights = np.vstack([np.ones(len(labels)), _patient_weights(patients, RESAMPLES, seed)])
    areas = {name: _auc(labels == 1, answer, weights) for name, answer in answers.items()}
    names = list(areas)
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for place, first in enumerate(names):
        result[first] = {}
        for second in names[place + 1 :]:
            differences = areas[first] - areas[second]
            result[first][second] = {"value": float(differences[0]), "interval": _percentiles(differences[1:])}
    return result


def mean_auc(labels: np.ndarray, runs: list[np.ndarray], patients: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Mean ROC AUC of several trainings of one recipe.

    Parameters
    ----------
    labels : numpy.ndarray of shape (n,)
        0 normal, 1 pneumonia.
    runs : list of numpy.ndarray of shape (n,)
        Probabilities of pneumonia, 0 to 1, of each training.
    patients : numpy.ndarray of shape (n,)
        Key of each image's patient.
    seed : int

    Returns
    -------
    dict
        `value`, `interval` (low, high, over patients) and `runs`, the AUC of each.
    """
    weights = np.vstack([np.ones(len(labels)), _patient_weights(patients, RESAMPLES, seed)])
    areas = np.array([_auc(labels == 1, probabilities, weights) for probabilities in runs])
    interval = _percentiles(areas.mean(axis=0)[1:])
    return {"value": float(areas[:, 0].mean()), "interval": interval, "runs": areas[:, 0].tolist()}


def weighted_auc(
    labels: np.ndarray, probabilities: np.ndarray, importance: np.ndarray, patients: np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """ROC AUC where images do not count alike, such as by `training.matching.overlap_weights`.

    Parameters
    ----------
    labels, probabilities, patients : numpy.ndarray of shape (n,)
        As `measure` takes them.
    importance : numpy.ndarray of float, shape (n,)
        What each image counts, at least 0. It is not estimated anew in each resample.
    seed : int

    Returns
    -------
    dict
        `value`, and `interval` (low, high, over patients).
    """
    weights = np.vstack([np.ones(len(labels)), _patient_weights(patients, RESAMPLES, seed)]) * importance
    areas = _auc(labels == 1, probabilities, weights)
    return {"value": float(areas[0]), "interval": _percentiles(areas[1:])}


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error, 15 bins of equal mass, with both classes weighted alike, as calibrations are fitted.

    Arguments as `measure`.
    """
    weights = compute_sample_weight("balanced", labels)
    return float(_calibration_error(labels == 1, probabilities, weights[np.newaxis])[0])


def interval_of_mean(values: np.ndarray, patients: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Mean over images, shape (n,), and its 95 % interval over patients: `value` and `interval` (low, high)."""
    weights = _patient_weights(patients, RESAMPLES, seed)
    return {"value": float(values.mean()), "interval": _percentiles(_ratio(weights, values, np.ones(len(values))))}


def wilson_interval(count: int, total: int) -> list[float]:
    """95 % interval of a share (Wilson, J. Am. Statist. Assoc. 22, 1927); [0, 1] for none of none."""
    if total == 0:
        return [0.0, 1.0]
    z = 1.959964
    share = count / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return [float(max(0.0, centre - half)), float(min(1.0, centre + half))]


def _patient_weights(patients: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """How often each image occurs in each resample, shape (resamples, n)."""
    keys, owner = np.unique(patients, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(keys), np.full(len(keys), 1 / len(keys)), size=resamples)
    return drawn[:, owner].astype(np.float64)


def _shares(
    positive: np.ndarray, probabilities: np.ndarray, threshold: float
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The measures that are shares of images: which are hits, and of which images."""
    calls, everything = probabilities >= threshold, np.ones(len(positive), bool)
    return {
        "accuracy": (calls == positive, everything),
        "accuracy_at_half": ((probabilities >= 0.5) == positive, everything),
        "sensitivity": (calls, positive),
        "specificity": (~calls, ~positive),
        "precision_pneumonia": (positive, calls),
        "recall_pneumonia": (calls, positive),
        "precision_normal": (~positive, ~calls),
        "recall_normal": (~calls, ~positive),
    }


def _measures(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Each measure that is no share of images under each row of weights: arrays of shape (rows,)."""
    positive = labels == 1
    calls = probabilities >= threshold
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    losses = -np.where(positive, np.log(clipped), np.log1p(-clipped))

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return _ratio(weights, part, whole)

    def f1(called: np.ndarray, actual: np.ndarray) -> np.ndarray:
        return ratio(2 * (called & actual), called.astype(int) + actual)

    everything = np.ones(len(labels))
    return {
        "loss": ratio(losses, everything),
        "balanced_accuracy": (ratio(calls & positive, positive) + ratio(~calls & ~positive, ~positive)) / 2,
        "auc": _auc(positive, probabilities, weights),
        "mcc": _matthews(positive, calls, weights),
        "sensitivity_at_specificity_90": _at_specificity(positive, probabilities, weights, 0.90),
        "specificity_at_sensitivity_95": _at_specificity(~positive, -probabilities, weights, 0.95),
        "brier": ratio((probabilities - positive) ** 2, everything),
        "ece": _calibration_error(positive, probabilities, weights),
        "f1_pneumonia": f1(calls, positive),
        "f1_normal": f1(~calls, ~positive),
        "true_positives": weights @ (calls & positive),
        "false_negatives": weights @ (~calls & positive),
        "false_positives": weights @ (calls & ~positive),
        "true_negatives": weights @ (~calls & ~positive),
    }


def _ratio(weights: np.ndarray, part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Weighted sum of a part over that of the whole, under each row of weights; NaN where the whole is nothing."""
    below = weights @ whole.astype(np.float64)
    return np.divide(weights @ part.astype(np.float64), below, out=np.full(len(below), np.nan), where=below > 0)


def _matthews(positive: np.ndarray, calls: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Matthews correlation coefficient under each row of weights; NaN where a class or a call does not occur."""
    hits, alarms = weights @ (calls & positive), weights @ (calls & ~positive)
    misses, rejections = weights @ (~calls & positive), weights @ (~calls & ~positive)
    below = np.sqrt((hits + alarms) * (hits + misses) * (rejections + alarms) * (rejections + misses))
    above = hits * rejections - alarms * misses
    return np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)


def _at_specificity(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray, least: float) -> np.ndarray:
    """Highest sensitivity among thresholds whose specificity is at least a value, under each row of weights."""
    order = np.argsort(-scores, kind="stable")
    # Equal scores cross a threshold together.
    ends = np.r_[np.flatnonzero(np.diff(scores[order])), len(order) - 1]
    hits = np.cumsum(weights[:, order] * positive[order], axis=1)[:, ends]
    alarms = np.cumsum(weights[:, order] * ~positive[order], axis=1)[:, ends]
    negatives = alarms[:, -1:]
    allowed = alarms <= (1 - least) * negatives + 1e-9
    best = np.where(allowed, hits, 0.0).max(axis=1)
    total = hits[:, -1]
    known = (total > 0) & (negatives[:, 0] > 0)
    return np.divide(best, total, out=np.full(len(total), np.nan), where=known)


def _calibration_error(positive: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error under each row of weights, in bins of equal mass (Nixon et al., CVPRW 2019)."""
    # By the middle of the ranks that a value takes, so that no bin is cut between equal probabilities.
    _, value, count = np.unique(probabilities, return_inverse=True, return_counts=True)
    middle = (np.cumsum(count) - count / 2)[value]
    bins = np.minimum((middle * _BINS / len(probabilities)).astype(int), _BINS - 1)
    gap = np.zeros(len(weights))
    for number in range(_BINS):
        members = bins == number
        gap += np.abs(weights[:, members] @ (probabilities - positive)[members])
    return gap / weights.sum(axis=1)


def _auc(positive: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve under each row of weights: the share of pairs in the right order, ties half."""
    order = np.argsort(probabilities, kind="stable")
    starts = np.r_[0, np.flatnonzero(np.diff(probabilities[order])) + 1]
    above = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    below = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    pairs = above.sum(axis=1) * below.sum(axis=1)
    ordered = (above * (np.cumsum(below, axis=1) - below / 2)).sum(axis=1)
    return np.divide(ordered, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
