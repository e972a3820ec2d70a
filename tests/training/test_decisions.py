"""Calibration, operating points and the uncertain band keep the rules that the manifest states."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn import metrics as sk

from pneumo.classifier import JointPrediction, calibrate, logit
from training.decisions import (
    BALANCED_POINT,
    SCREENING_RULE,
    SCREENING_SENSITIVITY,
    operating_point,
    platt,
    screening_point,
    uncertain_band,
)
from training.metrics import wilson_interval


def table(seed: int, n: int = 120, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that know something of them."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(n) % 3 > 0).astype(np.uint8)
    probabilities = np.clip(0.2 * labels + 0.8 * generator.random(n), 0.001, 0.999)
    return labels, probabilities.round(1) if ties else probabilities


def good(seed: int, n: int = 1200) -> tuple[np.ndarray, np.ndarray]:
    """Labels and the probabilities of a network with an AUC of about 0.98."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(n) % 3 > 0).astype(np.uint8)
    return labels, 1 / (1 + np.exp(-(3 * labels - 1.5 + generator.normal(0, 1, n))))


def sensitivity(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> float:
    return float(np.mean(probabilities[labels == 1] >= threshold))


# --- calibration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slope", "offset"), [(1, 0), (0.4, -1), (2, 0.7), (0.15, 0.3)])
@pytest.mark.parametrize("seed", range(3))
def test_known_slope_and_offset_are_found(slope, offset, seed):
    generator = np.random.default_rng(seed)
    raw = generator.normal(0.5, 2, 20_000)
    labels = (generator.random(len(raw)) < 1 / (1 + np.exp(-(slope * raw + offset)))).astype(np.uint8)
    found = platt(labels, 1 / (1 + np.exp(-raw)))
    # What it would be if as many were normal as not.
    share = labels.mean()
    assert found == pytest.approx((slope, offset - np.log(share / (1 - share))), abs=0.15)
    calibrated = calibrate(1 / (1 + np.exp(-raw)), *found)
    weights = np.where(labels == 1, 0.5 / share, 0.5 / (1 - share))
    for low, high in ((0, 0.3), (0.3, 0.7), (0.7, 1)):
        part = (calibrated >= low) & (calibrated < high)
        if part.sum() > 500:
            expected = np.average(calibrated[part], weights=weights[part])
            assert np.average(labels[part], weights=weights[part]) == pytest.approx(expected, abs=0.05)


def test_how_many_images_a_class_has_does_not_move_the_probabilities():
    labels, probabilities = good(0)
    many = np.r_[np.arange(len(labels)), np.tile(np.flatnonzero(labels), 5)]
    expected = platt(labels, probabilities)
    assert platt(labels[many], probabilities[many]) == pytest.approx(expected, rel=0.01, abs=0.01)


@pytest.mark.parametrize("strength", [1.0, 3.0])
@pytest.mark.parametrize("bias", [-5.0, 0.0, 5.0])
def test_inverted_network_keeps_its_order_and_says_one_half(strength, bias):
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 500)
    raw = bias + generator.normal(0, 1, 500) - strength * labels
    probabilities = 1 / (1 + np.exp(-raw))
    slope, offset = platt(labels, probabilities)
    assert slope > 0
    calibrated = calibrate(probabilities, slope, offset)
    assert np.corrcoef(np.argsort(np.argsort(calibrated)), np.argsort(np.argsort(raw)))[0, 1] > 0.999
    means = [calibrated[labels == label].mean() for label in (0, 1)]
    assert np.mean(means) == pytest.approx(0.5, abs=1e-6)
    assert np.ptp(calibrated) < 0.15, "it knows nothing, and does not claim to"


@pytest.mark.parametrize("gap", [0.01, 0.9])
def test_classes_that_do_not_overlap_give_finite_numbers(gap):
    labels = np.repeat([0, 1], 40)
    probabilities = np.where(labels, 0.5 + gap / 2, 0.5 - gap / 2) + np.linspace(-0.001, 0.001, 80)
    slope, offset = platt(labels, probabilities)
    assert 0 < slope < 1000
    assert abs(offset) < 1000
    calibrated = calibrate(probabilities, slope, offset)
    assert (calibrated[labels == 1] > 0.5).all()
    assert (calibrated[labels == 0] < 0.5).all()


def test_saturated_probabilities_are_taken():
    labels = np.array([0, 0, 0, 1, 1, 1])
    for probabilities in (np.array([0, 0, 1, 0, 1, 1.0]), labels.astype(float)):
        slope, offset = platt(labels, probabilities)
        assert np.isfinite([slope, offset]).all()
        calibrated = calibrate(probabilities, slope, offset)
        assert ((calibrated > 0) & (calibrated < 1)).all()
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()


def test_one_answer_for_all_becomes_one_half():
    labels = np.array([0, 1, 1, 1])
    probabilities = np.full(4, 0.2)
    assert calibrate(probabilities, *platt(labels, probabilities)) == pytest.approx([0.5] * 4, abs=0.02)


# --- the balanced operating point -------------------------------------------------------------------------------


def by_brute_force(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Best balanced accuracy, and the smallest distance from 0.5 at which it is reached, over one threshold a gap."""
    distinct = sorted(set(probabilities.tolist()))
    candidates = [0.5, *((one + other) / 2 for one, other in pairwise(distinct))]
    scores = [sk.recall_score(labels, probabilities >= threshold, average="macro") for threshold in candidates]
    best = max(scores)
    equal = [abs(threshold - 0.5) for threshold, score in zip(candidates, scores, strict=True) if score > best - 1e-9]
    return best, min(equal)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [4, 12, 90])
@pytest.mark.parametrize("seed", range(8))
def test_operating_point_equals_brute_force(seed, n, ties):
    labels, probabilities = table(seed, n, ties)
    threshold = operating_point(labels, probabilities)
    assert isinstance(threshold, float)
    assert 0 < threshold < 1
    best, distance = by_brute_force(labels, probabilities)
    assert sk.recall_score(labels, probabilities >= threshold, average="macro") == pytest.approx(best)
    assert abs(threshold - 0.5) == pytest.approx(distance)


@pytest.mark.parametrize("seed", range(8))
def test_no_threshold_that_tells_two_images_apart_is_better(seed):
    labels, probabilities = table(seed, 60)
    chosen = sk.recall_score(labels, probabilities >= operating_point(labels, probabilities), average="macro")
    lowest, highest = probabilities.min(), probabilities.max()
    for threshold in np.linspace(np.nextafter(lowest, 1), highest, 500):
        assert sk.recall_score(labels, probabilities >= threshold, average="macro") <= chosen + 1e-12


@pytest.mark.parametrize(
    ("labels", "probabilities", "threshold"),
    [
        ([0, 1], [0.1, 0.9], 0.5),
        ([0, 1], [0.1, 0.3], 0.2),
        ([0, 1], [0.8, 0.9], 0.85),
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], 0.25),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.5),
        ([0, 1, 0, 1], [0.2, 0.2, 0.2, 0.2], 0.5),
        # Two thresholds are equally good; the nearer to 0.5 is taken.
        ([0, 1, 0, 1], [0.1, 0.3, 0.45, 0.6], 0.5),
        ([0, 1, 0, 1], [0.05, 0.1, 0.15, 0.2], 0.175),
        ([0, 1, 0, 1], [0.8, 0.85, 0.9, 0.95], 0.825),
        # Exactly one half is called pneumonia at one half.
        ([0, 1], [0.4, 0.5], 0.5),
        ([0, 1], [0.5, 0.6], 0.55),
    ],
)
def test_operating_point_by_hand(labels, probabilities, threshold):
    assert operating_point(np.array(labels), np.array(probabilities)) == pytest.approx(threshold)


def test_operating_point_gives_both_classes_the_same_weight():
    """Copies of the pneumonias change their share, and nothing about the choice."""
    labels, probabilities = table(1, 60)
    chosen = np.r_[np.arange(60), np.tile(np.flatnonzero(labels == 1), 9)]
    assert operating_point(labels[chosen], probabilities[chosen]) == operating_point(labels, probabilities)


# --- the screening operating point ------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [good, lambda seed: table(seed, 1200)], ids=["good", "poor"])
@pytest.mark.parametrize("seed", range(6))
def test_screening_reaches_its_sensitivity_and_calls_no_more_than_it_must(seed, data):
    labels, probabilities = data(seed)
    threshold = screening_point(labels, probabilities)
    assert isinstance(threshold, float)
    assert 0 < threshold <= BALANCED_POINT
    positives = probabilities[labels == 1]
    hits = int((positives >= threshold).sum())
    assert wilson_interval(hits, len(positives))[0] >= SCREENING_SENSITIVITY
    # The next threshold that tells two images apart would break the rule.
    above = np.unique(probabilities[probabilities >= threshold])
    higher = above[:2].mean()
    lower_end = wilson_interval(int((positives >= higher).sum()), len(positives))[0]
    assert higher > BALANCED_POINT or lower_end < SCREENING_SENSITIVITY


def test_screening_is_the_balanced_point_where_that_is_sensitive_enough():
    labels = np.repeat([0, 1], 400)
    probabilities = np.where(labels, 0.9, 0.1)
    assert screening_point(labels, probabilities) == BALANCED_POINT


@pytest.mark.parametrize("n", [4, 12, 90])
@pytest.mark.parametrize("seed", range(6))
def test_too_few_pneumonias_are_all_called(seed, n):
    """None of so few may be missed, or their number could not show the sensitivity."""
    labels, probabilities = table(seed, n)
    threshold = screening_point(labels, probabilities)
    assert 0 < threshold <= BALANCED_POINT
    assert sensitivity(labels, probabilities, threshold) == 1
    lowest = probabilities[labels == 1].min()
    between = probabilities[probabilities < min(lowest, BALANCED_POINT)]
    assert threshold > (between.max() if len(between) else 0), "no normal radiograph is called without need"


@pytest.mark.parametrize("n", [30, 1200])
def test_screening_reaches_its_sensitivity_even_for_an_inverted_network(n):
    labels, probabilities = good(0, n)
    inverted = 1 - probabilities
    threshold = screening_point(labels, inverted)
    assert 0 < threshold <= BALANCED_POINT
    assert sensitivity(labels, inverted, threshold) >= SCREENING_SENSITIVITY


def test_rule_names_the_sensitivity():
    assert str(SCREENING_SENSITIVITY) in SCREENING_RULE


# --- the uncertain band -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_band_leaves_out_one_in_a_hundred_of_each_class(seed):
    labels, probabilities = good(seed, 3000)
    low, high = uncertain_band(labels, probabilities)
    assert 0 < low < high < 1
    assert np.mean(probabilities[labels == 1] < low) == pytest.approx(0.01, abs=0.001)
    assert np.mean(probabilities[labels == 0] >= high) == pytest.approx(0.01, abs=0.001)


@pytest.mark.parametrize("gap", [0.0, 0.4])
def test_band_is_empty_where_the_classes_do_not_overlap(gap):
    labels = np.repeat([0, 1], 50)
    probabilities = np.r_[np.linspace(0.05, 0.3, 50), np.linspace(0.3 + gap, 0.95, 50)]
    low, high = uncertain_band(labels, probabilities)
    assert low == high == BALANCED_POINT
    for value in (*probabilities, low):
        assert not JointPrediction(float(value), 0.5, low, high).uncertain


def test_band_holds_its_lower_end_and_not_its_upper():
    low, high = uncertain_band(*good(1))
    assert JointPrediction(low, 0.5, low, high).uncertain
    assert not JointPrediction(high, 0.5, low, high).uncertain


def test_decisions_outside_the_band_are_rarely_wrong():
    labels, probabilities = good(2, 3000)
    low, high = uncertain_band(labels, probabilities)
    threshold = operating_point(labels, probabilities)
    sure = (probabilities < low) | (probabilities >= high)
    wrong = (probabilities >= threshold) != (labels == 1)
    # One in a hundred of a class, of about two thirds of its images.
    assert wrong[sure].mean() < 0.015 < 0.05 < wrong.mean()
