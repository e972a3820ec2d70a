"""What the gate that ships refuses is counted, on shipped images and pictures made by program."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from pneumo.bundle import GATE_RECORD
from pneumo.framing import to_raster
from pneumo.radiograph import read_radiograph
from training.errors import TrainingError
from training.gate import HARMLESS, ODD
from training.gate_report import measure_gate
from training.gate_table import gate_table
from training.outsiders import FIT, HELD_OUT, UNSEEN, outsiders

ALTERED = 3


@pytest.fixture(scope="module")
def pictures():
    return list(outsiders(1, 4))


@pytest.fixture(scope="module")
def counted(manifest, pictures, images, segmenter, tmp_path_factory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("bundle")
    shutil.copytree(segmenter, folder, dirs_exist_ok=True)
    (folder / GATE_RECORD).unlink()
    return measure_gate(manifest, folder, images / "test", pictures, ALTERED), folder


def test_the_count_is_kept_with_the_bundle(counted):
    report, folder = counted
    assert json.loads((folder / GATE_RECORD).read_text()) == json.loads(json.dumps(report))


def test_what_is_no_radiograph_is_counted_by_kind(counted, pictures):
    report, _ = counted
    expected = Counter(item.kind for item in pictures if item.use == HELD_OUT)
    assert {kind: entry["images"] for kind, entry in report["kinds"].items()} == expected
    assert {kind for kind, entry in report["kinds"].items() if not entry["fitted"]} == set(UNSEEN)
    for key in ("images", "refused", "lungs"):
        assert report["others"][key] == sum(entry[key] for entry in report["kinds"].values())
    assert report["others"]["refused"] > 0.9 * report["others"]["images"]


def test_lungs_are_found_in_radiographs(counted):
    report, _ = counted
    assert report["others"]["lungs"] < 0.05 * report["others"]["images"]
    for title, entry in report["radiographs"].items():
        assert entry["lungs"] == entry["images"], title


def test_it_counts_what_the_program_does(counted, examiner, pictures, images):
    report, _ = counted
    others = [read_radiograph(item.raster) for item in pictures if item.use == HELD_OUT]
    found = [examiner.examine(item, anyway=True).judgement.refused for item in others]
    assert sum(found) == report["others"]["refused"]
    paths = sorted((images / "test").rglob("*.jpeg"))
    published = [
        examiner.examine(read_radiograph(to_raster(read_radiograph(path).pixels)), anyway=True) for path in paths
    ]
    tally = Counter(name for item in published for name in item.judgement.oddities)
    assert report["radiographs"]["test radiographs as published"]["warned"] == tally


def test_every_oddity_and_stress_is_counted(counted):
    report, _ = counted
    assert report["odd"].keys() == ODD.keys()
    assert set(HARMLESS) < report["radiographs"].keys()
    for entry in (*report["odd"].values(), *(report["radiographs"][title] for title in HARMLESS)):
        assert entry["images"] == ALTERED
    assert sum(entry["warned"].get(entry["wanted"], 0) for entry in report["odd"].values()) > 0.7 * ALTERED * len(ODD)


def test_table_says_what_was_counted(counted):
    report, _ = counted
    tables = [
        {(cells := [cell.strip(" *") for cell in line.split("|")[1:-1]])[0]: cells[1:] for line in table.splitlines()}
        for table in gate_table(report).split("\n\n")
    ]
    every = report["others"]
    assert tables[0]["all that are no chest radiographs"][0].startswith(f"{every['refused']} of {every['images']}, ")
    assert tables[0]["all that are no chest radiographs"][1].startswith(f"{every['lungs']} of {every['images']}, ")
    chart = report["kinds"]["chart"]
    assert tables[0]["chart, a kind never fitted"][1].startswith(f"{chart['lungs']} of {chart['images']}, ")
    entry = report["radiographs"]["gamma 0.6"]
    assert tables[1]["gamma 0.6"][:2] == [
        f"{entry['refused']} of {ALTERED}, 0.0 % [0.0, 56.1]",
        f"{entry['lungs']} of {ALTERED}, 100.0 % [43.9, 100.0]",
    ]
    assert tables[2]["test radiographs, inverted"][0].startswith(
        f"{report['odd']['inverted']['warned']['inverted']} of"
    )


def test_bundle_without_a_gate_is_refused(manifest, segmenter, tmp_path):
    shutil.copytree(segmenter, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "manifest.json"
    content = json.loads(path.read_text())
    del content["gate"]
    path.write_text(json.dumps(content))
    with pytest.raises(TrainingError, match="must be fitted to be measured"):
        measure_gate(manifest, tmp_path, pictures=[item for item in outsiders(1, 1) if item.use == FIT])
