"""The balanced operating point is tried on patients that it was not chosen on."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.points import _drawn, _tried, points
from pneumo.report import title
from training.batteries import STRESSES


def test_every_network_and_rule_has_its_row(bundle_folder, manifest, capsys):
    points(manifest, bundle_folder, halves=3)
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "±" in line]
    names = {row[0].removeprefix("| ").partition(",")[0] for row in rows}
    assert names == {title(name) for name in ("cnn", "cnn_lstm", "cnn_rnn", "together")}
    assert len(rows) == len({row[0] for row in rows}) == 32
    for row in rows:
        balanced, sensitivity, specificity, lost, error, stressed = (float(cell.partition(" ")[0]) for cell in row[1:])
        assert balanced == pytest.approx((sensitivity + specificity) / 2, abs=1e-3)
        assert 0 <= lost <= 1
        assert 0 < error < 1
        assert 0 < stressed < 1


def test_no_patient_is_on_both_halves():
    patients = np.array(["a", "a", "b", "c", "c", "d", "e", "f"])
    drawings = list(_drawn(patients, 20))
    assert len({on.tobytes() for on in drawings}) > 5
    for on in drawings:
        assert len(set(patients[on])) == 3
        assert not set(patients[on]) & set(patients[~on])


def answered(clean: np.ndarray, **stressed: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Of one network, the same answers under every stress but those that are named."""
    return {"cnn": {"clean": clean, **dict.fromkeys(STRESSES, clean), **stressed}}


def test_points_are_chosen_on_one_half_and_tried_on_the_other():
    """Where the halves lie apart, the one threshold is that of the first half, and wrong on the second."""
    labels = np.tile([0, 1], 40)
    generator = np.random.default_rng(0)
    on = np.arange(80) < 40
    answers = 1 / (1 + np.exp(-(labels * 4 - 2 + generator.normal(size=80))))
    found, together = _tried(labels, answered(np.where(on, answers, 0.001)), on)
    assert found == together, "one network alone is the mean of all"
    assert [row[:3] for row in found] == [(0.5, 0.0, 1.0)] * 4
    found, _ = _tried(labels, answered(answers), on)
    assert min(row[0] for row in found) > 0.85
    assert {row[3] for row in found} == {0.0}, "nothing changes, so nothing is lost"


def test_calibration_under_stress_loses_less_under_it():
    """A stress that raises all answers costs specificity; calibrated with it, one half lies higher."""
    labels = np.tile([0, 1], 200)
    generator = np.random.default_rng(1)
    on = np.arange(400) < 200
    logits = labels * 4 - 2 + generator.normal(size=400)
    clean, raised = (1 / (1 + np.exp(-values)) for values in (logits, logits + 2))
    # As many raised as not.
    answers = answered(clean, **dict.fromkeys(list(STRESSES)[::2], raised))
    (_, alone, _, both), _ = _tried(labels, answers, on)
    assert both[3] < alone[3]
    assert both[5] < alone[5]
