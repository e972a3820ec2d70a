"""What ships: the bundle under models/, the examples, and the documents made from them."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import re
import tomllib

import pytest
import yaml
from conftest import ROOT, SHARED

from pneumo.bundle import ABLATION, EMBEDDED, OPERATING_POINTS, SALIENCY, weights
from pneumo.cases import CASES, CaseLibrary
from pneumo.methods import DEFAULT_METHOD, METHODS
from pneumo.radiograph import read_radiograph
from pneumo.ui.examples import FOLDER, load_examples
from pneumo.zoo import ARCHITECTURES, build
from training.card import card
from training.compare import tables
from training.recipes import DEFAULT, recipe
from training.saliency_table import best_method


@pytest.fixture(scope="module")
def manifest():
    return json.loads((EMBEDDED / "manifest.json").read_text())


@pytest.fixture(scope="module")
def predictions():
    with (EMBEDDED / "predictions.csv").open() as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_manifest_states_what_was_done(manifest):
    assert list(manifest["networks"]) == list(ARCHITECTURES)
    for name, entry in manifest["networks"].items():
        made = recipe(DEFAULT, name, seed=entry["recipe"]["seed"])
        assert entry["recipe"] == {"name": DEFAULT} | json.loads(json.dumps(dataclasses.asdict(made)))
        assert [seed["seed"] for seed in entry["seeds"]] == [0, 1, 2]
        best = max(entry["seeds"], key=lambda seed: seed["held_out"]["score"])
        assert entry["recipe"]["seed"] == best["seed"]
        for point in OPERATING_POINTS:
            assert 0 < entry["operating_points"][point]["threshold"] < 1
        assert {"keras", "tensorflow-cpu", "numpy"} <= entry["libraries"].keys()
        for metric in ("loss", "accuracy", "precision_normal", "recall_pneumonia", "f1_normal", "auc", "ece"):
            low, high = entry["test"][metric]["interval"]
            assert low <= entry["test"][metric]["value"] <= high
    for entry in weights(manifest):
        path = EMBEDDED / entry["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        assert path.stat().st_size < 9_500_000, path.name


def test_recipe_is_that_of_the_best_row_of_the_ablation():
    rows = json.loads((EMBEDDED / ABLATION).read_text())
    best = max(rows.values(), key=lambda row: row["score"])
    made = recipe("robust")
    for field in ("framing", "scaling", "balance", "average", "schedule", "optimizer"):
        assert best["recipe"][field] == getattr(made, field), field
    assert {row["recipe"]["balance"] for row in rows.values()} == {"none", "class_weights", "oversample", "smote"}
    assert all(row["seeds"] == 3 for row in rows.values())


def test_loaded_networks_are_the_full_ones(examiner):
    for name, network in examiner.bundle.networks.items():
        assert network.model.count_params() == build(name, network.input_size).count_params()
    assert examiner.bundle.segmenter is not None


def test_metrics_manifest_and_predictions_agree(manifest, predictions):
    metrics = json.loads((EMBEDDED / "metrics.json").read_text())
    assert metrics["images"] == len(predictions) == 624
    assert metrics["data"] == manifest["data"]["fingerprint"]
    for name, entry in manifest["networks"].items():
        assert metrics["test"][name] == entry["test"]
        right = sum(row[f"{name}_decision"] == row["label"] for row in predictions.values())
        assert entry["test"]["accuracy"]["value"] == pytest.approx(right / 624)


def test_networks_clear_the_floors(manifest):
    for entry in manifest["networks"].values():
        assert entry["test"]["auc_above_floor"]["interval"][0] > 0


def test_readme_and_card_are_generated_from_the_bundle():
    readme = (ROOT / "README.md").read_text()
    generated = tables(EMBEDDED)
    assert set(re.findall(r"<!-- table:(\w+) -->", readme)) == set(generated)
    for name, content in generated.items():
        assert f"<!-- table:{name} -->\n{content}\n<!-- /table:{name} -->" in readme
    assert (ROOT / "model_card.md").read_text() == card(EMBEDDED, figures="models/figures")


def test_readme_front_matter_is_that_of_the_space():
    front = yaml.safe_load((ROOT / "README.md").read_text().split("---")[1])
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    assert front["sdk"] == "gradio"
    assert front["sdk_version"] == pins["gradio"]
    assert (ROOT / front["app_file"]).exists()
    assert front["python_version"] == "3.11"
    assert len(front["short_description"]) <= 60
    assert {"title", "license", "models", "datasets", "tags"} <= front.keys()


def test_every_dependency_is_pinned_alike():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    developer = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE))
    assert pins.items() <= developer.items()
    for wanted in project["dependencies"]:
        name, version = wanted.split("==")
        assert pins[name] == version
    for extra in project["optional-dependencies"].values():
        for wanted in extra:
            name, version = wanted.split("==")
            assert developer[name.partition("[")[0]] == version


def test_readme_shows_pictures_that_are_there():
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / path).stat().st_size > 5_000, path


def test_examples_are_what_their_captions_say(examiner):
    examples = load_examples()
    assert {example.file for example in examples} == {path.name for path in FOLDER.glob("*.jpeg")}
    assert {example.label.split(",")[0] for example in examples} == {"normal", "pneumonia"}
    for example in examples:
        predictions = examiner.examine(read_radiograph(example.path)).predictions.values()
        truth = example.label.split(",")[0].upper()
        assert sum(prediction.decision != truth for prediction in predictions) == example.wrong
        count = {0: "", 1: "one of three", 2: "two of three", 3: "all three"}[example.wrong]
        assert count in example.caption
        fault = "missed by" if truth == "PNEUMONIA" else "false alarm of"
        assert (fault in example.caption) == bool(example.wrong)
    assert any("missed" in example.caption for example in examples)


def test_readme_shows_the_answer_of_the_program(examiner):
    path = ROOT / "pneumo" / "ui" / "examples" / "person8_virus_27.jpeg"
    shown = re.search(r"```json\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert_alike(json.loads(shown), examiner.examine(read_radiograph(path)).record())


def assert_alike(shown: object, answered: object) -> None:
    """The same, but for one unit of the fourth decimal, to which shares are rounded: processors differ by less."""
    if isinstance(shown, dict):
        assert shown.keys() == answered.keys()
        for key, value in shown.items():
            assert_alike(value, answered[key])
    elif isinstance(shown, list):
        assert len(shown) == len(answered)
        for pair in zip(shown, answered, strict=True):
            assert_alike(*pair)
    elif isinstance(shown, float):
        assert answered == pytest.approx(shown, abs=1.01e-4)
    else:
        assert shown == answered


def test_case_library_is_of_these_networks(manifest, predictions):
    assert (EMBEDDED / CASES).stat().st_size < 9_500_000
    library = CaseLibrary(EMBEDDED / CASES)
    index = json.loads(library.member("index.json"))
    assert index["method"] == DEFAULT_METHOD
    for name, entry in manifest["networks"].items():
        assert index["networks"][name]["sha256"] == entry["sha256"]
    assert len(index["cases"]) == len(predictions)
    for row, line in zip(index["cases"], predictions.values(), strict=True):
        assert line["file"] == f"test/{row['label']}/{row['id']}.jpeg"
        assert row["probabilities"] == {name: float(line[name]) for name in row["probabilities"]}
        assert hashlib.sha256(library.member(f"{row['id']}.jpeg")).hexdigest() == line["sha256"]
    assert all(json.loads(library.member(f"{row['id']}.json"))["lungs"]["drawn"] for row in index["cases"][::50])
    kinds = ["shortcut", "exposure", "random", "miss", "disagreement"]
    assert [stop["kind"] for stop in index["tour"]] == kinds


def test_default_method_is_the_one_that_the_benchmark_chose():
    measured = json.loads((EMBEDDED / SALIENCY).read_text())
    assert best_method(measured["held out"]) == DEFAULT_METHOD
    assert all(list(found["methods"]) == list(METHODS) for found in measured["held out"]["networks"].values())


def test_readme_links_to_cases_that_are_there(predictions):
    names = {row["file"].rsplit("/", 1)[1].removesuffix(".jpeg") for row in predictions.values()}
    linked = re.findall(r"case=([\w-]+)", (ROOT / "README.md").read_text())
    assert linked
    assert set(linked) <= names


@pytest.mark.shared
def test_predictions_are_reproduced(examiner, predictions):
    for file in list(predictions)[::40]:
        examination = examiner.examine(read_radiograph(SHARED / "chest_xray" / file))
        for name, prediction in examination.predictions.items():
            assert prediction.probability == pytest.approx(float(predictions[file][name]), abs=1.01e-4)


@pytest.mark.shared
def test_full_resolution_is_read_like_the_small_copy(examiner, predictions):
    differences = []
    for path in sorted((SHARED / "full_resolution").rglob("*.jpeg"))[::4]:
        examination = examiner.examine(read_radiograph(path))
        small = predictions[f"test/{path.parent.name}/{path.name}"]
        differences += [abs(item.probability - float(small[name])) for name, item in examination.predictions.items()]
    assert sum(differences) / len(differences) < 0.05
