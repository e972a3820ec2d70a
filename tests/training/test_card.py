"""The model card: against a golden file, the client's own parsers, and the lines that it tells people to run."""

from __future__ import annotations

import itertools
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
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES
from training.card import card, eval_results
from training.cli import main
from training.compare import tables
from training.publish import plan_networks
from training.sources import HUB_DATASET

REPO = "tester/pneumo"
GOLDEN = ROOT / "tests" / "golden" / "model_card.md"
"""`REGENERATE=1 .venv/bin/python -m pytest tests/training/test_card.py -k golden` writes it; read the difference."""

# Made up, but like those of real networks; by measure, for each network, their mean and a floor.
MEASURES = {
    "auc": (0.989, 0.991, 0.987, 0.992, 0.924),
    "accuracy": (0.952, 0.957, 0.949, 0.960, 0.833),
    "balanced_accuracy": (0.944, 0.951, 0.942, 0.954, 0.804),
    "mcc": (0.897, 0.909, 0.892, 0.914, 0.634),
    "sensitivity": (0.974, 0.977, 0.972, 0.979, 0.923),
    "specificity": (0.915, 0.923, 0.910, 0.927, 0.684),
    "precision_pneumonia": (0.950, 0.955, 0.947, 0.957, 0.829),
    "recall_pneumonia": (0.974, 0.977, 0.972, 0.979, 0.923),
    "f1_pneumonia": (0.962, 0.966, 0.959, 0.968, 0.874),
    "f1_normal": (0.934, 0.941, 0.930, 0.945, 0.755),
    "sensitivity_at_specificity_90": (0.977, 0.979, 0.974, 0.982, 0.779),
    "specificity_at_sensitivity_95": (0.940, 0.944, 0.936, 0.949, 0.641),
    "accuracy_at_half": (0.949, 0.955, 0.946, 0.957, 0.739),
    "brier": (0.038, 0.035, 0.041, 0.033, 0.174),
    "auc_same_sizes": (0.981, 0.983, 0.979, 0.985, 0.871),
    "auc_above_floor": (0.065, 0.067, 0.063, 0.068, 0.0),
    "ece": (0.031, 0.028, 0.036, 0.025, 0.194),
    "sensitivity_bacterial": (0.983, 0.988, 0.979, 0.988, 0.930),
    "sensitivity_viral": (0.959, 0.959, 0.959, 0.966, 0.910),
    "true_positives": (380, 381, 379, 382, 360),
    "false_negatives": (10, 9, 11, 8, 30),
    "false_positives": (20, 18, 21, 17, 74),
    "true_negatives": (214, 216, 213, 217, 160),
}
NAMES = (*ARCHITECTURES, "together")
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
    return {name: around(values[column], 1.0 if values[column] <= 1 else 624.0) for name, values in MEASURES.items()}


def around(value: float, most: float = 1.0) -> dict:
    return {"value": float(value), "interval": [max(value - 0.008, 0.0), min(value + 0.008, most)]}


def report() -> dict:
    """As `training evaluate` leaves it, as far as the card reads it."""
    stressed = {
        "auc": 0.985,
        "intervals": {"auc": [0.977, 0.992]},
        "loss_of_sensitivity": 0.01,
        "loss_of_specificity": -0.004,
        "flips": 9,
    }
    spread = {"auc": 0.988, "accuracy": 0.951, "sensitivity": 0.973, "specificity": 0.914, "ece": 0.032}
    seeds = {
        "seeds": [{}, {}, {}],
        "auc": around(0.988),
        "spread": {name: {"mean": mean, "sd": 0.002} for name, mean in spread.items()},
    }
    flips = {"flips": 0, "mean_change": 0.004}
    test = {name: measured(column) for column, name in enumerate(NAMES)}
    stress = {title: dict.fromkeys(NAMES, stressed) for title in ("gamma 0.6", "blur")}
    areas = {"lungs black": 0.62, "lungs gray": 0.41, "lungs filled from around": 0.88}
    shortcuts = {title: dict.fromkeys(NAMES, around(area)) for title, area in areas.items()}
    return {
        "test": test,
        "seeds": dict.fromkeys(ARCHITECTURES, seeds),
        "stress": stress,
        "originals": {"full resolution": dict.fromkeys(NAMES, flips) | {"images": 44}},
        "shortcuts": shortcuts,
        "floors": [{"title": "floor: the original aspect ratio", "test": {"auc": around(0.704)}}],
        "beside": {"recipe": "reference", "test": test, "stress": stress, "shortcuts": shortcuts},
        "lungs": {"images": 624, "not_found": 3, "dice": around(0.966), "iou": around(0.935)},
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    """An evaluated bundle as far as the card reads it: manifest, metrics and two of the figures."""
    networks = {
        name: {
            "file": f"{name}.keras",
            "architecture": name,
            "sha256": f"{column}" * 64,
            "parameters": 900_000 + column,
            "input_size": 128,
            "framing": "lungs",
            "scaling": "standard",
            "operating_points": {
                "balanced": {"threshold": 0.5 + 0.1 * column},
                "screening": {"threshold": 0.2 + 0.1 * column},
            },
            "recipe": {
                "name": "robust",
                "balance": "none",
                "optimizer": "adamw",
                "epochs": 12,
                "augmentation": {"blind": 0.15},
            },
            "minutes": 13.7 + column,
            "libraries": {"python": "3.11.7", "keras": "3.15.1", "tensorflow-cpu": "2.21.0"},
            "test": measured(column),
        }
        for column, name in enumerate(ARCHITECTURES)
    }
    uncertain = {"images": 31, "share": 31 / 624, "accuracy_certain": around(0.976)}
    manifest = {
        "format": FORMAT,
        "class_names": CLASS_NAMES,
        "data": {
            "fingerprint": "ab" * 32,
            "counts": {
                "train": {"NORMAL": 1080, "PNEUMONIA": 3102},
                "validation": {"NORMAL": 143, "PNEUMONIA": 376},
                "block": {"NORMAL": 125, "PNEUMONIA": 380},
                "test": {"NORMAL": 234, "PNEUMONIA": 390},
            },
        },
        "networks": networks,
        "lungs": {"file": "segmenter.keras", "sha256": "c" * 64},
        "together": {"test": measured(3) | {"uncertain": uncertain, "prevalence": 0.625}},
        "floors": [{"title": "floor: nearest neighbours on thumbnails", "threshold": 0.78, "test": measured(4)}],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "metrics.json").write_text(json.dumps(report()))
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
    assert found["CNN-LSTM", "recall"].metric_value == 0.977
    assert found["CNN", "brier_score"].metric_value == 0.038
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
        ("value: 0.989", "value: .nan", "metrics[0].value"),
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
        "4,182 images",
        "519 images of patients at random",
        "505 of a block",
        "held-out radiographs as if every second one showed it",
        "No patient and no identical image is on two sides",
        "cropped to the box of the lungs with a margin of 8 %",
        "gray values, scaled so that each image has mean 0 and standard deviation 1. It",
        "0.600 / 0.300",
        "31 test images (5.0 %) get the answer uncertain; on the others 97.6 % of the decisions are right",
        "10 of 390 pneumonias missed, 20 of 234 normal radiographs called pneumonia",
        "two lungs were found on 621 of these radiographs",
        "alone it is no evidence that the networks look at lungs",
        "the last is not above the reference recipe's 0.880",
        "CNN-LSTM, lungs gray: 0.410 tells as much as 0.590",
        "None was measured.",
        "CC BY 4.0",
        "keras 3.15.1",
    ):
        assert words in body, words


def test_it_holds_the_tables_of_the_readme(text, folder):
    for name, table in tables(folder).items():
        assert f"\n\n{table}\n" in text, name


def test_every_number_has_its_interval(text):
    rows = [line.split("|")[1:-1] for line in text.splitlines() if re.match(r"\| (CNN|mean|floor)", line)]
    assert len(rows) == 5 + 5 + 3, "networks, their mean and a floor in two tables; networks in that of the seeds"
    for _, *cells in rows[:10]:
        for cell in cells:
            assert re.fullmatch(r" [\d.]+( %)? \[[\d.]+, [\d.]+\] ", cell), cell


@pytest.mark.parametrize(
    ("networks", "without"),
    [(None, ()), (None, ("seeds", "originals", "lungs")), (["cnn_rnn"], ()), (["cnn", "cnn_lstm"], ("lungs",))],
)
def test_nothing_is_announced_that_does_not_follow(folder, networks, without):
    (folder / "metrics.json").write_text(json.dumps({k: v for k, v in report().items() if k not in without}))
    text = card(folder, REPO, networks)
    assert not re.search(r"\n\n\n|\{\{|\}\}|None\b(?! was)|\bnan\b", text)
    blocks = text.split("\n---\n", 1)[1].strip().split("\n\n")
    for block, following in itertools.pairwise(blocks):
        if block.startswith("#"):
            assert not following.startswith(("#", "![")), block
        if block.endswith(":"):
            assert following.startswith(("|", "- ")), block
    assert ("### Finding the lungs" in text) == ("lungs" not in without)
    assert ("Every training of each network" in text) == (networks is None and not without)
    assert text.count("see metrics.json") == (0 if networks is None else 2)
    titles = [design.title for name, design in ARCHITECTURES.items() if networks and name not in networks]
    for title in titles:
        assert not re.search(rf"\b{title}(?!-)\b", text)


def test_network_that_always_says_the_same(folder):
    """Its MCC and precision are not defined; it is published nevertheless."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for measure in ("mcc", "precision_pneumonia"):
        del manifest["networks"]["cnn"]["test"][measure]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    text = card(folder, REPO)
    assert re.search(r"^\| CNN \| 0\.989.* \| - \| ", text, re.MULTILINE)
    assert "CNN, sensitivity" in text
    assert "CNN, precision" not in text


def test_teacher_is_named(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["networks"]["cnn"]["recipe"]["distillation"] = 0.5
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "12 epochs. Of each label 50 % is what a larger network said, EfficientNet-Lite0" in card(folder)


def test_price_of_evidence_outside_the_lungs_is_told(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["networks"].values():
        entry["recipe"] |= {"after": "distilled", "reasons": 0.5}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "12 epochs after those of the recipe `distilled`; in them" in card(folder)
    assert "with the weight 0.5." in card(folder)
    manifest["networks"]["cnn_lstm"]["recipe"]["reasons"] = 0.25
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "with the weight 0.5 (CNN-LSTM: 0.25)." in card(folder)


def test_blurred_training_images_are_told(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["networks"]["cnn"]["recipe"].setdefault("augmentation", {})["fade"] = 0.1
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "12 epochs. 10 % of the images are blurred until nothing can be read" in card(folder)


def test_selection_as_the_client_reads_it(folder):
    text = card(folder, REPO, ["cnn_lstm"])
    assert {result.metric_name.split(",")[0] for result in ModelCard(text).data.eval_results} == {"CNN-LSTM"}
    assert card_errors(text, "model") == []
    assert 'hf_hub_download("tester/pneumo", "cnn_lstm.keras")' in text


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
    assert "mean of the networks; 95 % interval [" in entry.notes


def test_eval_results_of_a_selection_are_its_first_network(folder):
    (entry,) = parse_eval_result_entries(yaml.safe_load(eval_results(folder, ["cnn_rnn"])))
    assert (entry.value, "CNN-RNN; 95 % interval [0.979, 0.995]" in entry.notes) == (0.987, True)


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


def test_drawing_by_size_is_told(folder, text):
    assert "so that the size of the original" not in text
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["networks"]["cnn"]["recipe"]["matching"] = 0.5
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "Of each class 50 % is drawn so that the size of the original" in card(folder, REPO)


def test_what_networks_owe_to_the_size_of_the_child_is_told(folder, text):
    assert "The size of the child" not in text
    manifest = json.loads((folder / "manifest.json").read_text())
    size = {"title": "floor: the original's width and height", "threshold": 0.5, "test": {"auc": around(0.871)}}
    manifest["floors"].append(size | {"test": measured(4) | size["test"]})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    told = card(folder, REPO)
    (line,) = (line for line in told.splitlines() if "The size of the child" in line)
    assert re.findall(r"0\.\d+ \[", line) == ["0.871 [", "0.981 [", "0.983 [", "0.979 ["]
    for entry in manifest["networks"].values():
        del entry["test"]["auc_same_sizes"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "The size of the child" not in card(folder, REPO)
