"""Every measure equals scikit-learn's, and every interval is of patients."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn import metrics as sk

from training.metrics import (
    RESAMPLES,
    auc_difference,
    interval_of_mean,
    mean_auc,
    measure,
    share_interval,
    wilson_interval,
)

FEW = 200
"""Resamples where the interval's exact ends do not matter."""


def table(seed: int, n: int = 120, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities that know something of them, and patients of one to five images."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(n) % 3 > 0).astype(np.uint8)
    probabilities = np.clip(0.2 * labels + 0.8 * generator.random(n), 0.001, 0.999)
    if ties:
        probabilities = probabilities.round(1)
    patients = np.array([f"patient-{number}" for number in np.sort(generator.integers(0, n // 2, n))])
    return labels, probabilities, patients


def values(result: dict) -> dict[str, float]:
    return {name: entry["value"] for name, entry in result.items()}


def intervals(result: dict) -> dict[str, list[float]]:
    return {name: entry["interval"] for name, entry in result.items()}


# --- values -----------------------------------------------------------------------------------------------------


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    pairs = sorted(zip(probabilities.tolist(), labels.tolist(), strict=True))
    sums = dict.fromkeys(range(bins), 0.0)
    for rank, (probability, label) in enumerate(pairs):
        sums[int((rank + 0.5) * bins / len(pairs))] += probability - label
    return sum(map(abs, sums.values())) / len(pairs)


def by_scikit_learn(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, float]:
    calls = (probabilities >= threshold).astype(int)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(labels, calls, labels=[0, 1])
    (tn, fp), (fn, tp) = sk.confusion_matrix(labels, calls)
    alarms, hits, _ = sk.roc_curve(labels, probabilities, drop_intermediate=False)
    return {
        "loss": sk.log_loss(labels, probabilities),
        "accuracy": sk.accuracy_score(labels, calls),
        "accuracy_at_half": sk.accuracy_score(labels, probabilities >= 0.5),
        "auc": sk.roc_auc_score(labels, probabilities),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, calls),
        "mcc": sk.matthews_corrcoef(labels, calls),
        "sensitivity_at_specificity_90": hits[alarms <= 0.1 + 1e-9].max(),
        "specificity_at_sensitivity_95": 1 - alarms[hits >= 0.95 - 1e-9].min(),
        "brier": sk.brier_score_loss(labels, probabilities),
        "ece": calibration_error(labels, probabilities),
        "sensitivity": recall[1],
        "specificity": recall[0],
        "precision_pneumonia": precision[1],
        "recall_pneumonia": recall[1],
        "f1_pneumonia": f1[1],
        "precision_normal": precision[0],
        "recall_normal": recall[0],
        "f1_normal": f1[0],
        "true_positives": tp,
        "false_negatives": fn,
        "false_positives": fp,
        "true_negatives": tn,
    }


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.72])
@pytest.mark.parametrize("n", [30, 121])
@pytest.mark.parametrize("seed", range(4))
def test_every_measure_equals_that_of_scikit_learn(seed, n, threshold):
    labels, probabilities, patients = table(seed, n)
    found = values(measure(labels, probabilities, threshold, patients, resamples=5))
    assert found == pytest.approx(by_scikit_learn(labels, probabilities, threshold))


@pytest.mark.parametrize("seed", range(6))
def test_ties_are_treated_as_scikit_learn_does(seed):
    """Also at the threshold itself, from which on pneumonia is called."""
    labels, probabilities, patients = table(seed, ties=True)
    assert len(set(probabilities.tolist())) < 12
    found = values(measure(labels, probabilities, 0.5, patients, resamples=5))
    expected = by_scikit_learn(labels, probabilities, 0.5)
    del expected["ece"]  # how ties fall into bins is nobody's rule
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "probabilities", "auc"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], 1.0),
        ([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9], 0.0),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.5),
        ([0, 1, 1], [0.3, 0.3, 0.6], 0.75),
        ([1, 0], [0.0, 1.0], 0.0),
    ],
)
def test_auc_by_hand(labels, probabilities, auc):
    result = measure(np.array(labels), np.array(probabilities), 0.5, np.arange(len(labels)), resamples=FEW)
    assert result["auc"]["value"] == auc


def test_certain_and_wrong_has_a_finite_loss():
    result = measure(np.array([0, 1]), np.array([1.0, 0.0]), 0.5, np.arange(2), resamples=FEW)
    assert result["loss"]["value"] == pytest.approx(-math.log(1e-7))
    assert result["brier"]["value"] == 1


def test_sensitivity_to_each_kind_of_pneumonia():
    labels, probabilities, patients = table(0)
    subtypes = np.where(labels == 0, "", np.where(np.arange(len(labels)) % 2, "virus", "bacteria"))
    found = values(measure(labels, probabilities, 0.5, patients, subtypes, resamples=FEW))
    for subtype, name in (("bacteria", "bacterial"), ("virus", "viral")):
        chosen = subtypes == subtype
        assert found[f"sensitivity_{name}"] == pytest.approx((probabilities[chosen] >= 0.5).mean())
    counts = {name: (subtypes == name).sum() for name in ("bacteria", "virus")}
    together = (
        found["sensitivity_bacterial"] * counts["bacteria"] + found["sensitivity_viral"] * counts["virus"]
    ) / labels.sum()
    assert together == pytest.approx(found["sensitivity"])


@pytest.mark.parametrize(
    ("threshold", "undefined"),
    [(0.0, {"precision_normal", "mcc"}), (1.0, {"precision_pneumonia", "mcc"}), (0.5, set())],
)
def test_undefined_measure_is_left_out(threshold, undefined):
    """JSON has no NaN; the page shows a dash for what is not there."""
    labels, probabilities, patients = table(0)
    result = measure(labels, probabilities, threshold, patients, resamples=FEW)
    assert by_scikit_learn(labels, probabilities, 0.5).keys() - result.keys() == undefined
    json.dumps(result, allow_nan=False)


def test_kind_of_pneumonia_that_does_not_occur_is_left_out():
    labels, probabilities, patients = table(0)
    subtypes = np.where(labels == 1, "bacteria", "")
    result = measure(labels, probabilities, 0.5, patients, subtypes, resamples=FEW)
    assert "sensitivity_bacterial" in result
    assert "sensitivity_viral" not in result


# --- intervals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [30, 240])
def test_intervals_contain_their_values(seed, n):
    result = measure(*table(seed, n)[:2], 0.5, table(seed, n)[2])
    for name, entry in result.items():
        low, high = entry["interval"]
        # The calibration error of a resample is larger than that of the sample, by its nature.
        assert low <= entry["value"] <= high or name == "ece", name
        assert low < high or name.startswith("precision"), name


def test_intervals_equal_those_of_a_plain_bootstrap_of_patients():
    """Drawn here image by image, another way and by another generator; so they agree but for chance."""
    labels, probabilities, patients = table(3, 150)
    result = intervals(measure(labels, probabilities, 0.5, patients))
    images_of = {patient: np.flatnonzero(patients == patient) for patient in np.unique(patients)}
    names = list(images_of)
    generator = np.random.default_rng(2024)
    resampled = []
    for _ in range(1000):
        drawn = generator.integers(0, len(names), len(names))
        chosen = np.concatenate([images_of[names[number]] for number in drawn])
        resampled.append(by_scikit_learn(labels[chosen], probabilities[chosen], 0.5))
    for name, interval in result.items():
        if name == "ece":  # a resample is put into bins of its own here
            continue
        column = np.array([row[name] for row in resampled])
        width = interval[1] - interval[0]
        assert interval == pytest.approx(np.percentile(column, [2.5, 97.5]), abs=0.12 * width), name


def test_intervals_shrink_with_the_number_of_patients():
    """With 16 times as many, to about a quarter."""
    small, large = (intervals(measure(*table(1, n)[:2], 0.5, np.arange(n))) for n in (90, 1440))
    for name in ("accuracy", "auc", "sensitivity", "specificity", "f1_normal", "loss"):
        assert np.ptp(large[name]) / np.ptp(small[name]) == pytest.approx(1 / 4, rel=0.3), name


COUNTS = {"true_positives", "false_negatives", "false_positives", "true_negatives"}


def test_doubling_every_image_of_each_patient_leaves_the_intervals():
    """More images of the same patients are no more evidence; if they were other patients', they would be."""
    labels, probabilities, patients = table(2, 120)
    twice = [np.tile(column, 2) for column in (labels, probabilities, patients)]
    once = measure(labels, probabilities, 0.5, patients)
    doubled = measure(twice[0], twice[1], 0.5, twice[2])
    for name, entry in once.items():
        factor = 2 if name in COUNTS else 1
        assert doubled[name]["value"] == pytest.approx(factor * entry["value"]), name
        assert doubled[name]["interval"] == pytest.approx(np.multiply(factor, entry["interval"])), name
    others = np.r_[patients, np.char.add(patients, "-twin")]
    apart = measure(twice[0], twice[1], 0.5, others)
    for name in ("accuracy", "auc", "sensitivity"):
        assert np.ptp(apart[name]["interval"]) < 0.85 * np.ptp(once[name]["interval"])


def test_order_of_the_images_does_not_matter():
    labels, probabilities, patients = table(4)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    expected = measure(labels, probabilities, 0.5, patients, resamples=FEW)
    found = measure(labels[shuffled], probabilities[shuffled], 0.5, patients[shuffled], resamples=FEW)
    for name, entry in expected.items():
        assert found[name]["value"] == pytest.approx(entry["value"]), name
        assert found[name]["interval"] == pytest.approx(entry["interval"]), name


def test_seed_alone_decides():
    labels, probabilities, patients = table(5)
    first = measure(labels, probabilities, 0.5, patients, seed=1)
    np.random.seed(0)
    assert measure(labels, probabilities, 0.5, patients, seed=1) == first
    other = measure(labels, probabilities, 0.5, patients, seed=2)
    assert values(other) == values(first)
    assert intervals(other) != intervals(first)
    assert measure(labels, probabilities, 0.5, patients) == measure(labels, probabilities, 0.5, patients, seed=0)


def test_default_number_of_resamples():
    labels, probabilities, patients = table(6)
    default = measure(labels, probabilities, 0.5, patients)
    assert default == measure(labels, probabilities, 0.5, patients, resamples=RESAMPLES)
    assert default != measure(labels, probabilities, 0.5, patients, resamples=RESAMPLES - 1)


def test_one_patient_gives_no_width():
    """One patient says nothing of how patients differ; the interval shows it by having no width."""
    labels, probabilities, _ = table(7)
    result = measure(labels, probabilities, 0.5, np.full(len(labels), "one"), resamples=FEW)
    for entry in result.values():
        assert entry["interval"] == pytest.approx([entry["value"]] * 2)


@pytest.mark.parametrize(("right", "share"), [(True, 1.0), (False, 0.0)])
def test_share_that_is_all_or_nothing_has_the_interval_of_wilson(right, share):
    """Every resample of patients gives the same share; it is not therefore certain."""
    labels = np.repeat([0, 1], [20, 40]).astype(np.uint8)
    subtypes = np.where(labels == 0, "", np.where(np.arange(60) % 2, "virus", "bacteria"))
    probabilities = np.where((labels == 1) == right, 0.9, 0.1)
    result = measure(labels, probabilities, 0.5, np.arange(60), subtypes, resamples=FEW)
    of = {
        "accuracy": 60,
        "accuracy_at_half": 60,
        "sensitivity": 40,
        "recall_pneumonia": 40,
        "specificity": 20,
        "recall_normal": 20,
        "precision_pneumonia": 40 if right else 20,
        "precision_normal": 20 if right else 40,
        "sensitivity_bacterial": 20,
        "sensitivity_viral": 20,
    }
    for name, images in of.items():
        assert result[name] == {"value": share, "interval": wilson_interval(round(share * images), images)}, name
        assert result[name]["interval"][0] < result[name]["interval"][1], name


def test_share_just_below_all_has_the_interval_of_the_resamples():
    labels, probabilities = np.repeat([0, 1], [20, 40]).astype(np.uint8), np.repeat([0.1, 0.9], [20, 40])
    probabilities[-1] = 0.2
    result = measure(labels, probabilities, 0.5, np.arange(60), resamples=FEW)
    assert result["sensitivity"]["interval"][1] == 1
    assert result["sensitivity"]["interval"] != wilson_interval(39, 40)
    assert result["specificity"]["interval"] == wilson_interval(20, 20)


# --- Wilson's interval ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        # Newcombe, Statist. Med. 17, 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_as_published(count, total, low, high):
    assert wilson_interval(count, total) == pytest.approx([low, high], abs=5e-5)
    mirrored = wilson_interval(total - count, total)
    assert mirrored == pytest.approx([1 - high, 1 - low], abs=5e-5)


@pytest.mark.parametrize("total", [1, 5, 100, 10_000])
@pytest.mark.parametrize("share", [0, 0.2, 0.5, 1])
def test_wilson_interval_solves_its_equation(share, total):
    """Its ends are the shares p at which |share - p| is 1.96 standard errors of p."""
    count = round(share * total)
    for end in wilson_interval(count, total):
        assert 0 <= end <= 1
        assert (count / total - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / total, abs=1e-9)


def test_wilson_interval_of_none_of_none_says_nothing():
    assert wilson_interval(0, 0) == [0.0, 1.0]


def test_calibration_error_does_not_depend_on_the_order_of_equal_probabilities():
    generator = np.random.default_rng(3)
    probabilities = generator.integers(0, 6, 300) / 5
    labels = (generator.random(300) < probabilities).astype(int)
    patients = np.arange(300)
    order = np.argsort(labels, kind="stable")
    ordered = measure(labels[order], probabilities[order], 0.5, patients, resamples=10)["ece"]["value"]
    shuffled = measure(labels, probabilities, 0.5, patients, resamples=10)["ece"]["value"]
    assert ordered == pytest.approx(shuffled)
    assert ordered < 0.06


def test_auc_difference_is_that_of_scikit_learn_and_paired():
    generator = np.random.default_rng(4)
    labels = generator.integers(0, 2, 400)
    good = labels + generator.normal(0, 0.8, 400)
    poor = good + generator.normal(0, 0.8, 400)
    patients = np.arange(400) // 2
    found = auc_difference(labels, good, poor, patients)
    assert found["value"] == pytest.approx(sk.roc_auc_score(labels, good) - sk.roc_auc_score(labels, poor))
    assert 0 < found["interval"][0] < found["value"] < found["interval"][1]
    assert auc_difference(labels, good, good, patients) == {"value": 0.0, "interval": [0.0, 0.0]}


def test_share_interval_is_over_patients():
    hits = np.tile([True, True, True, False], 50)
    everything = np.ones(200, bool)
    alone = share_interval(hits, everything, np.arange(200))
    # The same images, four of each patient: as good as no spread between patients; eight alike are much more.
    alike = share_interval(np.repeat(hits[:25], 8), everything, np.repeat(np.arange(25), 8))
    assert alone[0] < 0.75 < alone[1]
    assert alike[1] - alike[0] > 2 * (alone[1] - alone[0])
    assert share_interval(everything, everything, np.arange(200)) == wilson_interval(200, 200)
    assert share_interval(hits, ~everything, np.arange(200)) == [0.0, 1.0]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_mean_auc_is_that_of_scikit_learn(count, ties):
    labels, first, patients = table(8, ties=ties)
    runs = [first, *(np.random.default_rng(seed).permutation(first) for seed in range(count - 1))]
    expected = [sk.roc_auc_score(labels, run) for run in runs]
    found = mean_auc(labels, runs, patients)
    assert found["runs"] == pytest.approx(expected)
    assert found["value"] == pytest.approx(np.mean(expected))
    assert found["interval"][0] < found["value"] < found["interval"][1]
    json.dumps(found)


def test_mean_auc_of_one_run_has_the_interval_of_its_auc():
    labels, probabilities, patients = table(9)
    entry = measure(labels, probabilities, 0.5, patients)["auc"]
    assert mean_auc(labels, [probabilities] * 3, patients)["interval"] == pytest.approx(entry["interval"])


def test_mean_of_trainings_that_err_apart_is_surer_than_each():
    """The interval is of the mean over trainings on the same resamples, not a mean of intervals."""
    generator = np.random.default_rng(10)
    labels = generator.integers(0, 2, 300)
    runs = [labels + generator.normal(0, 1.2, 300) for _ in range(5)]
    patients = np.arange(300)
    together = np.ptp(mean_auc(labels, runs, patients)["interval"])
    assert together < 0.75 * min(np.ptp(mean_auc(labels, [run], patients)["interval"]) for run in runs)


def test_interval_of_a_mean_is_over_patients():
    generator = np.random.default_rng(11)
    sizes = generator.normal(5, 1, 200)
    found = interval_of_mean(sizes, np.arange(200))
    assert found["value"] == pytest.approx(sizes.mean())
    # Four standard errors wide, but for chance.
    assert np.ptp(found["interval"]) == pytest.approx(2 * 1.96 * sizes.std() / 200**0.5, rel=0.1)
    alike = interval_of_mean(np.repeat(sizes[:25], 8), np.repeat(np.arange(25), 8))
    assert np.ptp(alike["interval"]) > 2 * np.ptp(found["interval"])
