"""What networks owe to the size of the child is told by network."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from benchmarks.sizes import SPLITS, by_quarter, sizes
from pneumo.report import title
from training.dataset import open_dataset


@pytest.mark.parametrize("split", SPLITS)
def test_every_network_has_its_row(bundle_folder, manifest, capsys, split):
    sizes(manifest, bundle_folder, split)
    out = capsys.readouterr().out
    dataset, _ = open_dataset(manifest)
    images = dataset.held_out() if split == "held out" else dataset.split("test")
    assert out.startswith(f"{len(images)} images, {split}")
    names = ("cnn", "cnn_lstm", "cnn_rnn", "together")
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in out.splitlines()[4:]}
    assert list(rows) == [title(name) for name in names]
    for cells in rows.values():
        for cell in cells[:2]:
            value, low, high = (float(number) for number in re.findall(r"\d\.\d+", cell))
            assert low <= value <= high
        for cell in cells[2:]:
            assert len(re.findall(r"\d+\.\d %", cell)) == 4
    if split == "test":
        measured = json.loads((bundle_folder / "metrics.json").read_text())["test"]
        for name in names:
            values = [measured[name][key]["value"] for key in ("auc", "auc_same_sizes")]
            assert [float(cell[:5]) for cell in rows[title(name)][:2]] == pytest.approx(values, abs=0.002)


def test_quarters_go_from_small_to_large():
    labels = np.array([0] * 8 + [1] * 4)
    areas = np.array([8, 7, 6, 5, 4, 3, 2, 1, 1, 1, 1, 1])
    calls = np.array([0, 0, 0, 0, 0, 1, 1, 1] + [1] * 4, bool)
    assert by_quarter(calls, areas, labels, 0) == [1, 0.5, 0, 0]
