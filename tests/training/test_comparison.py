"""Every system is trained, compared, bundled and published the same way."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

from pneumo.backend import load_tensorflow
from pneumo.bundle import METRICS, PREDICTIONS, SYSTEMS, load_bundle
from pneumo.examination import Examiner
from pneumo.radiograph import read_radiograph
from pneumo.zoo import ARCHITECTURES
from pneumo.zoo import SYSTEMS as KNOWN
from training.cli import main
from training.dataset import open_dataset
from training.errors import TrainingError
from training.recipes import recipe
from training.reports import REPORTS
from training.systems import CLAIMS, difference, is_noise, ranked, results_table, systems_table

load_tensorflow()

from training.runs import Study, folds_of  # noqa: E402

SMALL = {"input_size": 32, "epochs": 1, "batch_size": 8}
TRAINED = {"dense_32_8_l2": {"folds": 2}, "cnn_64_augmented": {}}


@pytest.fixture(scope="module")
def systems(manifest, tmp_path_factory) -> Path:
    """Finished trainings of two systems, made tiny; one of them with folds."""
    folder = tmp_path_factory.mktemp("systems")
    study = Study(manifest, None)
    for name, fields in TRAINED.items():
        made = recipe(name, **SMALL, **fields)
        study.run(name, name, made, folder / name / "seed-0", Console(file=io.StringIO()))
    return folder


@pytest.fixture(scope="module")
def compared(bundle_folder, systems, manifest, tmp_path_factory) -> Path:
    """A bundle with the systems measured beside it, by the command line."""
    folder = tmp_path_factory.mktemp("compared") / "models"
    shutil.copytree(bundle_folder, folder)
    assert main(["evaluate", "--data", str(manifest), "--models", str(folder), "--systems", str(systems)]) == 0
    return folder


@pytest.fixture(scope="module")
def results(compared) -> dict:
    return json.loads((compared / SYSTEMS).read_text())


def predictions(folder: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    with (folder / PREDICTIONS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = np.array([row["label"] == "PNEUMONIA" for row in rows], int)
    return labels, {name: np.array([float(row[name]) for row in rows]) for name in ARCHITECTURES}


# --- folds ------------------------------------------------------------------------------------------------------


def test_folds_are_reported_with_their_kind(systems):
    record = json.loads((systems / "dense_32_8_l2/seed-0/run.json").read_text())
    folds = record["cross_validation"]
    assert (folds["folds"], folds["grouped"], len(folds["accuracies"])) == (2, True, 2)
    for number, accuracy in enumerate(folds["accuracies"], start=1):
        history = json.loads((systems / f"dense_32_8_l2/seed-0/fold-{number}/history.json").read_text())
        assert accuracy == history[0]["val_accuracy"]
    assert folds["mean"] == pytest.approx(np.mean(folds["accuracies"]))
    assert folds["sd"] == pytest.approx(np.std(folds["accuracies"], ddof=1))
    assert json.loads((systems / "cnn_64_augmented/seed-0/run.json").read_text())["cross_validation"] is None


@pytest.mark.parametrize("grouped", [True, False])
def test_no_patient_is_on_both_sides_of_a_grouped_fold(grouped):
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 3)
    labels = (patients % 2).astype(np.uint8)
    generator.shuffle(patients_and_labels := np.stack([patients, labels]), axis=1)
    patients, labels = patients_and_labels
    folds = folds_of(recipe("dense_32_8_l2", grouped=grouped), labels, patients)
    left_out = np.concatenate([rows for _, rows in folds])
    assert sorted(left_out.tolist()) == list(range(120))
    shared = [len(set(patients[kept]) & set(patients[rows])) for kept, rows in folds]
    assert (max(shared) == 0) if grouped else (min(shared) > 0)
    for kept, rows in folds:
        assert not set(kept) & set(rows)
        assert np.mean(labels[rows]) == pytest.approx(0.5, abs=0.05)


def test_more_folds_than_patients_are_refused():
    with pytest.raises(TrainingError, match="at least as many patients as there are folds, 5; one has 2"):
        folds_of(recipe("dense_32_8_l2"), np.array([0, 0, 0, *[1] * 9]), np.array([1, 1, 2, *range(3, 12)]))
    with pytest.raises(TrainingError, match="as many images as there are folds, 5; one has 3"):
        folds_of(recipe("dense_32_8_l2", grouped=False), np.array([0, 0, 0, *[1] * 9]), np.arange(12))


# --- the comparison ---------------------------------------------------------------------------------------------


def test_networks_of_the_bundle_and_systems_are_measured_alike(compared, results, manifest):
    dataset, _ = open_dataset(manifest)
    labels, known = predictions(compared)
    assert list(results["systems"]) == [*ARCHITECTURES, *[name for name in KNOWN if name in TRAINED]]
    assert results["data"] == dataset.fingerprint
    for name, answers in known.items():
        entry = results["systems"][name]
        assert entry["test"]["auc"]["value"] == pytest.approx(roc_auc_score(labels, answers), abs=1e-5)
        assert entry["test"]["accuracy"]["value"] == np.mean((answers >= 0.5) == labels)
        at_point = entry["at_operating_point"]["accuracy"]["value"]
        assert at_point == np.mean((answers >= entry["threshold"]) == labels)
        # Networks as tiny as these decide by less than the digits that predictions.csv has.
        close = np.mean(np.abs(answers - entry["threshold"]) <= 1e-6)
        measured = json.loads((compared / METRICS).read_text())["test"][name]["accuracy"]["value"]
        assert at_point == pytest.approx(measured, abs=close + 1e-9)
    for name in TRAINED:
        entry = results["systems"][name]
        assert entry["recipe"]["name"] == name
        assert len(entry["history"]) == 1
        low, high = entry["test"]["auc"]["interval"]
        assert low <= entry["test"]["auc"]["value"] <= high
        assert entry["roc"][0][0] == entry["roc"][1][0] == 0
        assert entry["roc"][0][-1] == entry["roc"][1][-1] == 1


def test_differences_are_those_of_the_areas_and_change_their_sign(results):
    areas = {name: entry["test"]["auc"]["value"] for name, entry in results["systems"].items()}
    for first in areas:
        for second in areas:
            found = difference(results, first, second)
            if first == second:
                assert found is None
                continue
            assert found["value"] == pytest.approx(areas[first] - areas[second], abs=1e-9)
            assert found["interval"][0] <= found["interval"][1]
            turned = difference(results, second, first)
            assert turned["interval"] == [-found["interval"][1], -found["interval"][0]]
            assert is_noise(found) == (found["interval"][0] <= 0 <= found["interval"][1]) == is_noise(turned)


def test_table_has_every_system_and_calls_noise_noise(results):
    table = results_table(results)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines()[2:]}
    assert set(rows) == set(KNOWN)
    assert list(rows)[: len(results["systems"])] == ranked(results)
    for name, line in rows.items():
        if name in results["systems"]:
            found = difference(results, name, "cnn")
            assert ("within noise" in line) == (found is not None and is_noise(found))
        else:
            assert ("weights are to be downloaded" in line) == (KNOWN[name].base not in ("", "efficientnet_lite0"))
    assert "2-fold accuracy" in rows["dense_32_8_l2"]
    assert "grouped by patient" in rows["dense_32_8_l2"]
    assert "| 92.8 % |" in rows["mobilenet"]
    assert "| 83.2 %; 93.0 % / 67.0 % |" in rows["cnn_small"]


def test_list_of_systems(capsys):
    assert main(["systems"]) == 0
    out = capsys.readouterr().out
    assert out.strip() == systems_table()
    assert "| custom_cnn | 224 x 224 x 3 | 980,289 (979,329 trainable) | none |" in out
    assert "| chexnet | 224 x 224 x 3 | 7,051,869 (180,509 trainable) | --weights FILE |" in out
    assert len(out.splitlines()) == len(KNOWN) + 2
    assert set(CLAIMS) <= set(KNOWN)
    assert main(["systems", "--trainable"]) == 0
    names = capsys.readouterr().out.split()
    assert names == [name for name in REPORTS if KNOWN[name].base in ("", "efficientnet_lite0")]
    assert len(names) == 16


def test_compare_writes_table_csv_and_figures(compared, results, tmp_path):
    readme = tmp_path / "README.md"
    marks = "".join(f"<!-- table:{name} -->\n<!-- /table:{name} -->\n" for name in ("test", "systems"))
    readme.write_text(marks)
    assert main(["compare", "--models", str(compared), "--readme", str(readme)]) == 0
    assert results_table(results) in readme.read_text()
    with (compared / "systems.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["system"] for row in rows] == ranked(results)
    for row in rows:
        assert float(row["auc"]) == pytest.approx(results["systems"][row["system"]]["test"]["auc"]["value"], abs=1e-4)
        assert (row["auc_less_cnn"] == "") == (row["system"] == "cnn")
    for name in ("systems", "systems_roc", "systems_differences"):
        assert (compared / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_without_their_runs_trained_systems_stay_and_the_bundle_is_measured_anew(compared, results, manifest, tmp_path):
    folder = Path(shutil.copytree(compared, tmp_path / "models"))
    spoilt = json.loads((folder / SYSTEMS).read_text())
    spoilt["systems"]["cnn"]["threshold"] = 0.123
    spoilt["systems"]["cnn"]["test"]["brier"]["value"] = 0.9
    (folder / SYSTEMS).write_text(json.dumps(spoilt))
    command = ["evaluate", "--data", str(manifest), "--models", str(folder), "--systems", str(tmp_path / "none")]
    assert main(command) == 0
    assert json.loads((folder / SYSTEMS).read_text()) == results
    # As where other networks were bundled meanwhile.
    own = {name: pairs for name, pairs in results["auc_differences"].items() if name not in TRAINED}
    del spoilt["systems"]["cnn"]
    spoilt["auc_differences"] = {name: results["auc_differences"][name] for name in TRAINED}
    (folder / SYSTEMS).write_text(json.dumps(spoilt))
    assert main(command) == 0
    found = json.loads((folder / SYSTEMS).read_text())
    assert found["systems"] == results["systems"]
    for first, pairs in own.items():
        for second, pair in pairs.items():
            assert difference(found, first, second) == (None if second in TRAINED else pair)
    assert difference(found, *TRAINED) == difference(results, *TRAINED)
    assert "no longer at hand" in results_table(found)
    assert "no longer at hand" not in results_table(results)


def test_what_cannot_be_compared_is_refused(compared, runs, systems, manifest, tmp_path, capsys):
    def refused(*arguments) -> str:
        assert main(["evaluate", "--data", str(manifest), *map(str, arguments)]) == 1
        return capsys.readouterr().err

    none = tmp_path / "none"
    shutil.copytree(compared, none)
    (none / SYSTEMS).unlink()
    assert "has none. Run `python -m training train`" in refused("--models", none, "--systems", tmp_path / "runs")
    bare = tmp_path / "models"
    shutil.copytree(compared, bare)
    (bare / PREDICTIONS).unlink()
    assert "must have been evaluated" in refused("--models", bare, "--systems", systems)


# --- bundle, page, publication ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_bundle(systems, manifest, tmp_path_factory) -> Path:
    """A bundle of one reported system, evaluated."""
    folder = tmp_path_factory.mktemp("own") / "models"
    data = ["--data", str(manifest), "--runs", str(systems), "--models", str(folder)]
    assert main(["bundle", *data, "--system", "cnn_64_augmented"]) == 0
    assert main(["evaluate", *data]) == 0
    return folder


def test_a_reported_system_is_served_as_any_other(own_bundle, images):
    bundle = load_bundle(own_bundle)
    network = bundle.networks["cnn_64_augmented"]
    assert network.channels == 3
    assert network.view == ("squashed", "unit", 32, 3)
    file = next((images / "test" / "PNEUMONIA").iterdir())
    examiner, radiograph = Examiner(bundle), read_radiograph(file)
    assert "occlusion-zones" not in network.heat_scale, "it sees no lungs"
    for method in network.heat_scale:
        found = examiner.examine(radiograph, method=method)
        prediction = found.predictions["cnn_64_augmented"]
        assert found.heatmaps["cnn_64_augmented"].method == method
        assert found.together.probability == pytest.approx(prediction.probability)


def test_a_reported_system_is_published_as_any_other(own_bundle, tmp_path):
    target = tmp_path / "stage"
    assert main(["publish", "--models", str(own_bundle), "--repo", "tester/one", "--stage", str(target)]) == 0
    card = (target / "README.md").read_text()
    assert "CNN at 64 pixels, augmented" in card
    assert (target / "cnn_64_augmented.keras").read_bytes() == (own_bundle / "cnn_64_augmented.keras").read_bytes()
