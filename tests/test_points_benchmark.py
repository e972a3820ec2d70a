"""The balanced operating point is tried on patients that it was not chosen on."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.points import _drawn, _tried, points
from pneumo.report import title


def test_every_network_and_rule_has_its_row(bundle_folder, manifest, capsys):
    points(manifest, bundle_folder, halves=3)
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "±" in line]
    names = {row[0].removeprefix("| ").partition(",")[0] for row in rows}
    assert names == {title(name) for name in ("cnn", "cnn_lstm", "cnn_rnn", "together")}
    assert len(rows) == 16
    for row in rows:
        balanced, sensitivity, specificity = (float(cell.partition(" ")[0]) for cell in row[1:])
        assert balanced == pytest.approx((sensitivity + specificity) / 2, abs=1e-3)


def test_no_patient_is_on_both_halves():
    patients = np.array(["a", "a", "b", "c", "c", "d", "e", "f"])
    drawings = list(_drawn(patients, 20))
    assert len({on.tobytes() for on in drawings}) > 5
    for on in drawings:
        assert len(set(patients[on])) == 3
        assert not set(patients[on]) & set(patients[~on])


def test_points_are_chosen_on_one_half_and_tried_on_the_other():
    """Where the halves lie apart, the one threshold is that of the first half, and wrong on the second."""
    labels = np.tile([0, 1], 40)
    generator = np.random.default_rng(0)
    on = np.arange(80) < 40
    answers = 1 / (1 + np.exp(-(labels * 4 - 2 + generator.normal(size=80))))
    shifted = np.where(on, answers, 0.001)
    ((chosen, half), (again, together)) = _tried(labels, {"cnn": shifted}, on)
    assert (chosen, half) == (again, together), "one network alone is the mean of all"
    assert chosen == half == (0.5, 0.0, 1.0)
    ((chosen, half), _) = _tried(labels, {"cnn": answers}, on)
    assert min(chosen[0], half[0]) > 0.85
