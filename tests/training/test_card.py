"""The model card: against a golden file, the client's own parsers, and the lines that it tells people to run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT
from huggingface_hub import ModelCard, parse_eval_result_entries
from loopback_hub import LoopbackHub, card_errors, client_environment, plain_client, redirect_client

from pneumo.bundle import FORMAT, load_bundle
from pneumo.radiograph import PREPROCESSING
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES
from training.card import card, eval_results
from training.cli import main
from training.publish import plan_networks
from training.sources import HUB_DATASET

REPO = "tester/pneumo"
GOLDEN = ROOT / "tests" / "golden" / "model_card.md"
"""`REGENERATE=1 .venv/bin/python -m pytest tests/training/test_card.py -k golden` writes it; read the difference."""

# Made up, but like those of real networks; by measure, for each network, their mean and a floor.
MEASURES = {
    "auc": (0.951, 0.962, 0.948, 0.965, 0.924),
    "accuracy": (0.880, 0.899, 0.862, 0.896, 0.833),
    "accuracy_at_half": (0.885, 0.901, 0.857, 0.899, 0.739),
    "sensitivity": (0.959, 0.938, 0.972, 0.967, 0.923),
    "specificity": (0.748, 0.833, 0.679, 0.778, 0.684),
    "precision_pneumonia": (0.864, 0.904, 0.835, 0.879, 0.829),
    "recall_pneumonia": (0.959, 0.938, 0.972, 0.967, 0.923),
    "f1_pneumonia": (0.909, 0.921, 0.898, 0.921, 0.874),
    "f1_normal": (0.824, 0.861, 0.787, 0.848, 0.755),
    "brier": (0.094, 0.079, 0.112, 0.083, 0.174),
    "auc_above_floor": (0.027, 0.038, 0.024, 0.041, 0.0),
    "ece": (0.071, 0.048, 0.102, 0.063, 0.194),
    "sensitivity_bacterial": (0.967, 0.950, 0.979, 0.975, 0.930),
    "sensitivity_viral": (0.946, 0.919, 0.959, 0.953, 0.910),
    "true_positives": (374, 366, 379, 377, 360),
    "false_negatives": (16, 24, 11, 13, 30),
    "false_positives": (59, 39, 75, 52, 74),
    "true_negatives": (175, 195, 159, 182, 160),
}
HUB_METRICS = ("roc_auc", "accuracy", "precision", "recall", "specificity", "f1", "brier_score")
SECTIONS = (
    "How to load one in plain Keras",
    "Intended use and misuse",
    "Population, labels and split",
    "Results on the official test split",
    "Known failures",
    "External validity",
    "Provenance",
)


def measured(column: int) -> dict:
    return {
        name: {"value": float(values[column]), "interval": [values[column] - 0.02, min(values[column] + 0.02, 1.0)]}
        for name, values in MEASURES.items()
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    """An evaluated bundle as far as the card reads it: a manifest and two of the figures."""
    networks = {
        name: {
            "file": f"{name}.keras",
            "sha256": f"{column}" * 64,
            "input_size": 150,
            "operating_point": {"threshold": 0.25 + 0.2 * column, "rule": "highest balanced accuracy on validation"},
            "recipe": {"name": "reference", "balance": "smote", "optimizer": "rmsprop", "epochs": 12},
            "minutes": 13.7 + column,
            "libraries": {"python": "3.11.7", "keras": "3.15.1", "tensorflow-cpu": "2.21.0"},
            "test": measured(column),
        }
        for column, name in enumerate(ARCHITECTURES)
    }
    manifest = {
        "format": FORMAT,
        "class_names": CLASS_NAMES,
        "preprocessing": PREPROCESSING,
        "data": {
            "fingerprint": "ab" * 32,
            "counts": {
                "train": {"NORMAL": 1205, "PNEUMONIA": 3482},
                "validation": {"NORMAL": 143, "PNEUMONIA": 376},
                "test": {"NORMAL": 234, "PNEUMONIA": 390},
            },
        },
        "networks": networks,
        "together": {"operating_point": {"threshold": 0.45, "rule": ""}, "test": measured(3)},
        "floors": [{"title": "floor: nearest neighbours on thumbnails", "threshold": 0.78, "test": measured(4)}],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "figures").mkdir()
    for name in ("roc", "curves"):
        (tmp_path / "figures" / f"{name}.png").write_bytes(b"")
    return tmp_path


@pytest.fixture
def text(folder) -> str:
    return card(folder, REPO)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with plain_client(monkeypatch, tmp_path / "home"), LoopbackHub() as hub:
        redirect_client(monkeypatch, hub.url)
        yield hub


def test_golden_file(text):
    if os.environ.get("REGENERATE"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_front_matter_as_the_client_reads_it(text):
    # It raises if the model-index is not valid.
    parsed = ModelCard(text)
    data = parsed.data
    assert (data.library_name, data.pipeline_tag, data.license) == ("keras", "image-classification", "apache-2.0")
    assert (data.language, data.datasets, data.metrics) == ("en", [HUB_DATASET], list(HUB_METRICS))
    assert {"chest-x-ray", "pneumonia", "grad-cam"} <= set(data.tags)
    assert data.model_name == "pneumo"
    found = {(result.metric_name.split(",")[0], result.metric_type): result for result in data.eval_results}
    titles = [design.title for design in ARCHITECTURES.values()]
    assert set(found) == {(title, metric) for title in titles for metric in HUB_METRICS}
    assert len(found) == len(data.eval_results)
    assert found["CNN-LSTM", "recall"].metric_value == 0.938
    assert found["CNN", "brier_score"].metric_value == 0.094
    for result in data.eval_results:
        assert (result.task_type, result.dataset_type, result.dataset_split) == (
            "image-classification",
            HUB_DATASET,
            "test",
        )
    assert str(parsed) == text, "the client would not write it otherwise"


def test_it_passes_the_validation_that_the_client_asks_for(text, hub):
    ModelCard(text).validate()
    assert hub.requests == [("POST", "/api/validate-yaml")]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("license: apache-2.0", "license: Apache 2", '"license" with value "Apache 2" is not valid'),
        (f"- {HUB_DATASET}", "- chest x-rays", '"datasets" with value "chest x-rays" is not valid'),
        ("language: en", "language: English", '"language" with value "English" is not valid'),
        ("      name: Chest", "      title: Chest", "dataset.name"),
        ("value: 0.951", "value: .nan", "metrics[0].value"),
        ("tags:\n", "tags: [\n", "not YAML"),
    ],
)
def test_validation_can_fail(text, old, new, words):
    assert old in text
    assert any(words in error for error in card_errors(text.replace(old, new), "model"))


def test_it_says_all_that_it_must(text):
    assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == SECTIONS
    body = text.split("\n---\n", 1)[1]
    for words in (
        "For research and teaching, not for diagnosis.",
        "**Not** for diagnosis",
        "Children of one to five years",
        "624 images",
        "4,687 images; 519 images of other patients",
        "No patient and no identical image is on two sides",
        "By kind of pneumonia",
        "expected calibration error",
        "16 of 390 pneumonias missed, 59 of 234 normal radiographs called pneumonia",
        "floor: nearest neighbours on thumbnails",
        "None was measured.",
        "CC BY 4.0",
        "keras 3.15.1",
    ):
        assert words in body, words


def test_every_number_has_its_interval(text):
    rows = [line.split("|")[1:-1] for line in text.splitlines() if re.match(r"\| (CNN|mean|floor)", line)]
    assert len(rows) == 5 + 4 + 4, "networks, their mean and a floor; subgroups; calibration"
    for _, *cells in rows:
        for cell in cells:
            assert re.fullmatch(r" [\d.]+( %)? \[[\d.]+, [\d.]+\] ", cell), cell
    bacterial_and_viral = "| CNN-LSTM | 0.950 [0.930, 0.970] | 0.919 [0.899, 0.939] | 0.833 [0.813, 0.853] |"
    assert bacterial_and_viral in text


def test_no_place_is_left_and_no_path_of_this_machine(text, folder):
    assert "{{" not in text
    assert "}}" not in text
    for path in (str(folder), str(ROOT), str(Path.home()) + "/", "/tmp/", "/home/", "/Users/"):
        assert path not in text


def test_only_figures_that_are_there_are_shown(text):
    assert re.findall(r"!\[.*\]\((.*)\)", text) == ["figures/roc.png", "figures/curves.png"]


def test_eval_results_as_the_client_reads_them(folder):
    data = yaml.safe_load(eval_results(folder))
    (entry,) = parse_eval_result_entries(data)
    assert (entry.dataset_id, entry.task_id) == (HUB_DATASET, "default")
    together = json.loads((folder / "manifest.json").read_text())["together"]["test"]["auc"]
    assert entry.value == pytest.approx(together["value"], abs=1e-4)
    assert "mean of the three; 95 % interval [" in entry.notes


def test_eval_results_of_a_selection_are_its_first_network(folder):
    (entry,) = parse_eval_result_entries(yaml.safe_load(eval_results(folder, ["cnn_rnn"])))
    assert (entry.value, "CNN-RNN; 95 % interval [0.928, 0.968]" in entry.notes) == (0.948, True)


def test_command(folder, tmp_path, capsys):
    assert main(["card", "--models", str(folder), "--out", str(tmp_path / "card.md")]) == 0
    assert (tmp_path / "card.md").read_text() == card(folder)


def test_command_before_the_evaluation(folder, capsys):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["networks"]["cnn"]["test"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert main(["card", "--models", str(folder), "--out", str(folder / "card.md")]) == 1
    assert re.fullmatch(
        r"error: A network must be evaluated .* Run `python -m training evaluate`\.\n", capsys.readouterr().err
    )
    assert not (folder / "card.md").exists()


def test_three_lines_of_plain_keras_work_as_printed(hub, bundle_folder, tmp_path):
    files = plan_networks(bundle_folder, REPO).files
    hub.put(REPO, "model", files)
    code = re.search(r"```python\n(.*?)```", files["README.md"].decode(), re.DOTALL)[1]
    lines = [line for line in code.splitlines() if line]
    assert [line.split()[0] for line in lines] == ["import", "from", "network"]
    assert "pneumo" not in "".join(lines[:2])

    inputs = np.random.default_rng(0).random((3, 48, 48, 1), np.float32)
    np.save(tmp_path / "inputs.npy", inputs)
    script = f"{code}\nimport numpy\nprint(network(numpy.load('inputs.npy')).numpy().tolist())\n"
    environment = os.environ | client_environment(hub.url, tmp_path / "home") | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-c", script]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    expected = load_bundle(bundle_folder, ("cnn",)).networks["cnn"].model(inputs).numpy()
    np.testing.assert_array_equal(np.float32(json.loads(finished.stdout)), expected)
