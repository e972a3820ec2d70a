"""The case library says of every test image what the networks, the explainer and the lungs say of it."""

from __future__ import annotations

import base64
import csv
import dataclasses
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumo.backend import load_tensorflow
from pneumo.bundle import OPERATING_POINTS, Bundle
from pneumo.cases import CASES, CaseLibrary
from pneumo.classifier import Classifier
from pneumo.cover import fill
from pneumo.evidence import evidence_of
from pneumo.framing import RASTER, Prepared
from pneumo.lungs import Lungs, lungs_of
from pneumo.methods import DEFAULT_METHOD, METHODS
from pneumo.radiograph import read_radiograph
from pneumo.render import legend_rgba
from pneumo.saliency import Explainer, Heatmap, HeatStatus
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES
from training.batteries import STRESSES
from training.cli import main
from training.dataset import Image, open_dataset
from training.errors import TrainingError
from training.sources import Source

load_tensorflow()

from training.cases import make_cases, map_record  # noqa: E402

NAMES = (*ARCHITECTURES, "together")
EVALUATE = "Run `python -m training evaluate`"


@pytest.fixture(scope="module")
def library(bundle_folder) -> CaseLibrary:
    return CaseLibrary(bundle_folder / CASES)


@pytest.fixture(scope="module")
def index(library) -> dict:
    return json.loads(library.member("index.json"))


@pytest.fixture(scope="module")
def content(bundle_folder) -> dict:
    return json.loads((bundle_folder / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def source(manifest) -> Source:
    return open_dataset(manifest)[1]


@pytest.fixture(scope="module")
def tested(manifest) -> list[Image]:
    return open_dataset(manifest)[0].split("test")


@pytest.fixture(scope="module")
def bundle(tiny_examiner) -> Bundle:
    return tiny_examiner.bundle


@pytest.fixture(scope="module")
def explainer(bundle) -> Explainer:
    return Explainer(bundle)


@pytest.fixture(scope="module")
def prepared(bundle, source, tested) -> dict[str, Prepared]:
    """The test images as the page prepares them, at their aspect ratio as taken."""
    found = [bundle.prepare(read_radiograph(source.read(image.file), image.file)) for image in tested]
    return {
        case_of(image): dataclasses.replace(item, aspect=image.aspect)
        for image, item in zip(tested, found, strict=True)
    }


@pytest.fixture(scope="module")
def drawn(masks, tested) -> dict[str, Lungs]:
    """The lungs that people drew."""
    paths = {case_of(image): masks / Path(image.file).with_suffix(".png") for image in tested}
    return {name: lungs_of(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) >= 128) for name, path in paths.items()}


@pytest.fixture
def copy(bundle_folder, tmp_path) -> Path:
    """A copy of the bundle that a test may alter."""
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "models"))
    (folder / CASES).unlink()
    return folder


def case_of(image: Image) -> str:
    return Path(image.file).stem


def record(library: CaseLibrary, name: str) -> dict:
    return json.loads(library.member(f"{name}.json"))


def threshold(content: dict, name: str = "together", point: str = "balanced") -> float:
    entry = content["together"] if name == "together" else content["networks"][name]
    return entry["operating_points"][point]["threshold"]


# --- index ------------------------------------------------------------------------------------------------------


def test_index_lists_every_test_image(index, tested):
    assert [(row["id"], row["label"], row["subtype"]) for row in index["cases"]] == [
        (case_of(image), image.label, image.subtype) for image in tested
    ]
    assert [row["aspect"] for row in index["cases"]] == pytest.approx([image.aspect for image in tested], abs=1e-4)


def test_probabilities_are_those_that_were_evaluated(index, bundle_folder):
    with (bundle_folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        known = {Path(line["file"]).stem: line for line in csv.DictReader(file)}
    for row in index["cases"]:
        assert row["probabilities"] == {name: float(known[row["id"]][name]) for name in NAMES}


def test_networks_are_those_of_the_manifest(index, content):
    assert list(index["networks"]) == list(NAMES)
    for name, network in index["networks"].items():
        assert network["thresholds"] == {point: threshold(content, name, point) for point in OPERATING_POINTS}
        assert network["sha256"] == (None if name == "together" else content["networks"][name]["sha256"])
    titles = [network["title"] for network in index["networks"].values()]
    assert titles == ["CNN", "CNN-LSTM", "CNN-RNN", "mean of the networks"]
    assert (index["method"], index["title"]) == (DEFAULT_METHOD, METHODS[DEFAULT_METHOD].title)


def test_colours_are_those_of_the_program(index):
    ramp = np.frombuffer(base64.b64decode(index["ramp"]), np.uint8).reshape(1, 256, 4)
    assert np.array_equal(ramp, legend_rgba())


def test_radiographs_are_the_files_of_the_data_set(library, source, tested):
    for image in tested:
        assert library.member(f"{case_of(image)}.jpeg") == source.read(image.file)


def test_members_are_the_index_the_cases_and_the_tour(bundle_folder, index):
    with zipfile.ZipFile(bundle_folder / CASES) as archive:
        names = archive.namelist()
    shown = {panel["image"] for stop in index["tour"] for panel in stop["panels"]}
    cases = {f"{row['id']}.{kind}" for row in index["cases"] for kind in ("json", "jpeg")}
    assert names[0] == "index.json"
    assert sorted(names) == sorted({"index.json"} | cases | shown)


# --- maps and lungs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["IM-0005-0001", "person174_bacteria_832"])
def test_maps_are_those_of_the_explainer(library, explainer, prepared, drawn, name):
    maps = record(library, name)["maps"]
    assert list(maps) == list(ARCHITECTURES)
    for network, found in maps.items():
        assert list(found) == list(CLASS_NAMES)
        for target, stored in found.items():
            heatmap = explainer.explain(network, prepared[name], target)
            assert stored["shape"] == list(heatmap.values.shape)
            assert stored["box"] == pytest.approx(dataclasses.astuple(heatmap.box), abs=1e-5)
            assert_evidence(stored["evidence"], heatmap, drawn[name])
            if heatmap.status is not HeatStatus.DRAWN:
                assert stored["values"] is None
                continue
            expected = np.clip(heatmap.values / heatmap.scale, 0, 1) * 255
            assert decode(stored) == pytest.approx(expected, abs=0.51)


def decode(stored: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(stored["values"]), np.uint8).reshape(stored["shape"]).astype(float)


def assert_evidence(stored: dict, heatmap: Heatmap, lungs: Lungs) -> None:
    assert (stored["method"], stored["target"]) == (heatmap.method, heatmap.target)
    assert stored["status"] == heatmap.status
    evidence = evidence_of(heatmap, lungs)
    if evidence is None:
        assert (stored["share_in_lungs"], stored["zones"]) == (None, None)
        assert stored["words"] == heatmap.status_words
        return
    assert stored["share_in_lungs"] == pytest.approx(evidence.share_in_lungs, abs=1e-3)
    assert stored["chance"] == pytest.approx(evidence.chance, abs=1e-4)
    assert stored["zones"] == pytest.approx(evidence.zones, abs=1e-3)
    assert stored["words"] == evidence.words


def test_large_map_is_stored_smaller_and_measured_whole(drawn):
    """As large as the radiograph is drawn, no larger; the evidence is that of all its values."""
    lungs = drawn["IM-0005-0001"]
    values = np.random.default_rng(0).random((224, 112)).astype(np.float32)
    heatmap = Heatmap("hirescam", "PNEUMONIA", values, lungs.box, 1.0)
    stored = map_record(heatmap, lungs)
    assert stored["shape"] == [56, 28]
    blocks = values.reshape(56, 4, 28, 4).mean(axis=(1, 3)) * 255
    assert decode(stored) == pytest.approx(blocks, abs=0.51)
    assert_evidence(stored["evidence"], heatmap, lungs)


@pytest.mark.parametrize("values", [np.zeros((3, 3)), np.full((3, 3), np.nan)])
def test_what_cannot_be_drawn_is_said_in_words(drawn, values):
    lungs = drawn["IM-0005-0001"]
    heatmap = Heatmap("hirescam", "PNEUMONIA", values.astype(np.float32), lungs.box, 1.0)
    stored = map_record(heatmap, lungs)
    assert stored["values"] is None
    assert stored["evidence"]["words"] == heatmap.status_words


def test_lungs_are_those_that_people_drew(library, drawn):
    for name, lungs in drawn.items():
        stored = record(library, name)["lungs"]
        assert stored["drawn"]
        for side, mask in (("right", lungs.right), ("left", lungs.left)):
            path = filled(stored[side])
            assert 2 * (path & mask).sum() / (path.sum() + mask.sum()) > 0.97


def filled(path: str) -> np.ndarray:
    """What an SVG path encloses."""
    inside = np.zeros((RASTER, RASTER), np.uint8)
    for part in path.strip("MZ").split("ZM"):
        points = np.array([point.split() for point in part.split("L")], np.float32)
        cv2.fillPoly(inside, [np.rint(points - 0.5).astype(np.int32)], 1)
    return inside > 0


def test_rows_part_the_zones(library, drawn):
    rows = np.arange(RASTER)[:, np.newaxis]
    for name, lungs in drawn.items():
        stored = record(library, name)["lungs"]["rows"]
        for zone, mask in lungs.zones().items():
            side, height = zone.split("_")
            number = ("upper", "middle", "lower").index(height)
            start, stop = stored[side][number : number + 2]
            lung = lungs.right if side == "right" else lungs.left
            assert np.array_equal(mask, lung & (rows >= start) & (rows < stop))


def test_without_masks_the_lungs_are_those_of_the_program(copy, manifest, library, prepared):
    made = make_cases(copy, manifest)
    own = CaseLibrary(copy / CASES)
    for row in made["cases"]:
        lungs, stored = prepared[row["id"]].lungs, record(own, row["id"])
        if not lungs.found:
            assert stored["lungs"] is None
            continue
        assert not stored["lungs"]["drawn"]
        path = filled(stored["lungs"]["right"])
        assert 2 * (path & lungs.right).sum() / (path.sum() + lungs.right.sum()) > 0.97
        # The heat is the same, whatever it is measured against.
        before = record(library, row["id"])
        for network, maps in stored["maps"].items():
            for target, found in maps.items():
                assert found["values"] == before["maps"][network][target]["values"]


# --- tour -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stops(index) -> dict[str, dict]:
    return {stop["kind"]: stop for stop in index["tour"]}


@pytest.fixture(scope="module")
def means(index) -> dict[str, float]:
    return {row["id"]: row["probabilities"]["together"] for row in index["cases"]}


@pytest.fixture(scope="module")
def ill(index) -> set[str]:
    return {row["id"] for row in index["cases"] if row["label"] == "PNEUMONIA"}


@pytest.fixture(scope="module")
def together(bundle) -> Callable[[Prepared], float]:
    """The mean of what the networks say."""
    ask = Classifier(bundle).predict
    return lambda prepared: float(np.mean([answer.probability for answer in ask(prepared).values()]))


def test_stops_are_of_real_cases(index, library):
    cases = {row["id"] for row in index["cases"]}
    assert len({stop["kind"] for stop in index["tour"]}) == len(index["tour"])
    for stop in index["tour"]:
        assert stop["case"] in cases
        assert all(stop[part] for part in ("title", "rule", "words", "panels"))
        for panel in stop["panels"]:
            assert library.member(panel["image"]).startswith(b"\xff\xd8")


def test_answers_to_what_was_not_altered_are_those_of_the_index(index, content):
    rows = {row["id"]: row["probabilities"] for row in index["cases"]}
    for stop in index["tour"]:
        for panel in stop["panels"]:
            if panel["image"] != f"{stop['case']}.jpeg" or panel["title"] == "Random weights":
                continue
            for name, answer in panel["answers"].items():
                assert answer["probability"] == pytest.approx(rows[stop["case"]][name], abs=1e-4)
                if abs(answer["probability"] - threshold(content, name)) > 1e-4:
                    called = answer["probability"] >= threshold(content, name)
                    assert answer["decision"] == CLASS_NAMES[called]


def test_confident_miss_follows_its_rule(stops, means, ill, content):
    missed = {name: means[name] for name in ill if means[name] < threshold(content)}
    assert ("miss" in stops) == bool(missed)
    if missed:
        assert means[stops["miss"]["case"]] == min(missed.values())
        assert f"miss {len(missed)} of the {len(ill)} test pneumonias" in stops["miss"]["words"]


def test_random_weights_are_shown_where_the_faintest_map_is_the_strongest(stops, means, ill, content, library):
    def faintest(case: str) -> float:
        maps = json.loads(library.member(f"{case}.json"))["maps"]
        return min(maps[name]["PNEUMONIA"]["evidence"]["peak"] or 0.0 for name in ARCHITECTURES)

    found = {name: faintest(name) for name in ill if means[name] >= threshold(content)}
    assert ("random" in stops) == bool(found)
    if found:
        stop = stops["random"]
        assert found[stop["case"]] == pytest.approx(max(found.values()), abs=1e-5)
        trained, random = (panel["answers"] for panel in stop["panels"])
        assert set(random) == set(ARCHITECTURES)
        for name, answer in random.items():
            assert (answer["probability"], answer["decision"]) == (None, None)
            assert answer["map"]["values"] != trained[name]["map"]["values"]
            assert re.search(r"Rank correlation|nothing to compare", answer["words"])


def test_disagreement_is_the_widest(stops, index, content):
    spreads = {}
    for row in index["cases"]:
        values = [row["probabilities"][name] for name in ARCHITECTURES]
        calls = {row["probabilities"][name] >= threshold(content, name) for name in ARCHITECTURES}
        if len(calls) == 2:
            spreads[row["id"]] = max(values) - min(values)
    assert ("disagreement" in stops) == bool(spreads)
    if spreads:
        assert spreads[stops["disagreement"]["case"]] == max(spreads.values())
        count = f"disagree on {len(spreads)} of the {len(index['cases'])} test"
        assert count in stops["disagreement"]["words"]


def test_exposure_flips_and_moves_farthest(stops, bundle, together, prepared, means, content, library):
    moves, cut = {}, threshold(content)
    for name, item in prepared.items():
        rasters = [STRESSES[curve](item.raster) for curve in ("gamma 0.6", "gamma 1.6")]
        found = [bundle.segmenter.find(raster) for raster in rasters]
        values = [together(Prepared(raster, item.aspect, lungs)) for raster, lungs in zip(rasters, found, strict=True)]
        if any((value >= cut) != (means[name] >= cut) for value in values):
            moves[name] = max(abs(value - means[name]) for value in values)
    assert ("exposure" in stops) == bool(moves)
    if moves:
        stop = stops["exposure"]
        assert moves[stop["case"]] == pytest.approx(max(moves.values()), abs=1e-4)
        assert f"{len(moves)} of the {len(prepared)} test radiographs change" in stop["words"]
        for panel, curve in zip(stop["panels"][::2], ("gamma 0.6", "gamma 1.6"), strict=True):
            assert_shows(library, panel, STRESSES[curve](prepared[stop["case"]].raster))


def test_pneumonia_without_lungs_is_the_surest(stops, together, prepared, drawn, means, ill, content, library):
    cut = threshold(content)
    right = [name for name in prepared if (name in ill) == (means[name] >= cut)]
    hidden = {name: fill(prepared[name].raster, drawn[name].mask) for name in right}
    values = {name: together(dataclasses.replace(prepared[name], raster=raster)) for name, raster in hidden.items()}
    found, cleared = ({n: v for n, v in values.items() if (n in ill) == kind} for kind in (True, False))
    assert ("shortcut" in stops) == bool(found and cleared)
    if found and cleared:
        stop = stops["shortcut"]
        assert values[stop["case"]] == pytest.approx(max(found.values()), abs=1e-4)
        counts = [sum(value >= cut for value in kind.values()) for kind in (found, cleared)]
        assert f"{counts[0]} of the {len(found)} pneumonias that are found" in stop["words"]
        assert f"{counts[1]} of the {len(cleared)} normal radiographs" in stop["words"]
        altered = stop["panels"][1]
        assert altered["answers"]["together"]["probability"] == pytest.approx(values[stop["case"]], abs=1e-4)
        assert_shows(library, altered, hidden[stop["case"]])


def assert_shows(library: CaseLibrary, panel: dict, raster: np.ndarray) -> None:
    """Up to what JPEG loses."""
    shown = cv2.imdecode(np.frombuffer(library.member(panel["image"]), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.abs(shown.astype(float) - raster).mean() < 3


# --- command ----------------------------------------------------------------------------------------------------


def test_command_makes_the_same_file_again(copy, bundle_folder, manifest, masks, index, capsys):
    arguments = ["--models", str(copy), "--data", str(manifest), "--masks", str(masks)]
    assert main(["cases", *arguments]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"Wrote {len(index['cases'])} cases to {copy / CASES}."
    assert said[:-1] == [f"{stop['title']}: {stop['case']}" for stop in index["tour"]]
    assert (copy / CASES).read_bytes() == (bundle_folder / CASES).read_bytes()


def test_bundle_that_was_not_evaluated_is_refused(copy, manifest, capsys):
    (copy / "predictions.csv").unlink()
    assert main(["cases", "--models", str(copy), "--data", str(manifest)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: A bundle must have been evaluated; ")
    assert err.endswith(f"has no predictions.csv. {EVALUATE}.\n")
    assert not (copy / CASES).exists()


def alter(folder: Path, change) -> None:
    path = folder / "predictions.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(change(row) for row in rows)


def test_predictions_of_other_images_are_refused(copy, manifest, tested):
    alter(copy, lambda row: {**row, "sha256": "0" * 64})
    with pytest.raises(TrainingError, match=EVALUATE) as caught:
        make_cases(copy, manifest)
    assert tested[0].file in str(caught.value)
    assert not (copy / CASES).exists()


def test_predictions_of_other_networks_are_refused(copy, manifest, tested):
    alter(copy, lambda row: {**row, "cnn_rnn": str(float(row["cnn_rnn"]) + 0.01)})
    with pytest.raises(TrainingError, match=EVALUATE) as caught:
        make_cases(copy, manifest)
    assert "cnn_rnn says " in str(caught.value)
    assert case_of(tested[0]) in str(caught.value)
    assert not (copy / CASES).exists()
