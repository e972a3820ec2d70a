"""How certain lungs are is told of radiographs and of other pictures."""

from __future__ import annotations

import contextlib
import io
import re

import pytest

from benchmarks.certainty import lung_certainty
from training.batteries import STRESSES
from training.dataset import HELD_OUT, open_dataset
from training.gate import ODD, PICTURES
from training.outsiders import FIT, outsiders

SOME = 12


@pytest.fixture(scope="module")
def rows(segmenter, manifest) -> dict[str, list[str]]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        lung_certainty(manifest, segmenter, SOME)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.getvalue().splitlines()]
    return {first: rest for first, *rest in cells[2:]}


def counts(cell: str) -> tuple[int, int]:
    found, total = re.fullmatch(r"(\d+) of (\d+)", cell).groups()
    return int(found), int(total)


def test_everything_is_counted(rows, manifest):
    dataset, _ = open_dataset(manifest)
    others = list(outsiders(*PICTURES))
    fitted = sum(item.use == FIT for item in others)
    held_out = sum(len(dataset.split(split)) for split in HELD_OUT)
    some = min(SOME, held_out)
    expected = {
        "training radiographs": len(dataset.split("train")),
        "held-out radiographs": held_out,
        "held-out radiographs under every stress": some * len(STRESSES),
        **{f"held-out radiographs, {title}": some for title in ODD},
        "other pictures that the gate is fitted on": fitted,
        "other pictures that it is not fitted on": len(others) - fitted,
    }
    assert {kind: counts(cells[-1])[1] for kind, cells in rows.items()} == expected
    for cells in rows.values():
        assert counts(cells[-1])[0] <= counts(cells[0])[0]
        assert cells[1:4] == sorted(cells[1:4])


def test_radiographs_keep_their_lungs_and_other_pictures_lose_them(rows):
    for kind in ("training radiographs", "held-out radiographs", "held-out radiographs under every stress"):
        found, total = counts(rows[kind][-1])
        assert found == total, kind
    poses = [counts(rows[f"held-out radiographs, {title}"][-1])[0] for title in ("turned by 90°", "inverted")]
    assert max(poses) < SOME / 2
    for kind in ("other pictures that the gate is fitted on", "other pictures that it is not fitted on"):
        assert counts(rows[kind][-1])[0] < 0.1 * counts(rows[kind][0])[0], kind
