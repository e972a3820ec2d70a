"""A bundle holds, of each network, the best seed; every number of it can be found again from held-out images."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pneumo.backend import load_tensorflow
from pneumo.bundle import (
    MANIFEST,
    METRICS,
    OPERATING_POINTS,
    SEGMENTER,
    SEGMENTER_RECORD,
    SYSTEMS,
    Bundle,
    load_bundle,
)
from pneumo.classifier import calibrate
from pneumo.framing import Prepared
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES, build
from training.cli import main
from training.compare import seeds_table
from training.dataset import HELD_OUT as SPLITS
from training.dataset import Dataset, build_dataset, load_rasters, open_dataset
from training.decisions import calibration, screening_point, uncertain_band
from training.errors import DataError, TrainingError
from training.metrics import measure
from training.sources import open_source

load_tensorflow()
import keras  # noqa: E402

from pneumo.methods import METHODS  # noqa: E402
from pneumo.saliency import Explainer  # noqa: E402
from training import bundling  # noqa: E402
from training.bundling import HEAT_PERCENTILE, make_bundle, recalibrate, run_folders  # noqa: E402
from training.fit import KEPT  # noqa: E402
from training.runs import HELD_OUT, RUN  # noqa: E402


@pytest.fixture(scope="module")
def content(bundled) -> dict:
    return json.loads((bundled / MANIFEST).read_text())


@pytest.fixture
def copy(runs, tmp_path) -> Path:
    """Runs that a test may alter."""
    return Path(shutil.copytree(runs, tmp_path / "runs"))


@pytest.fixture
def no_heat(monkeypatch) -> None:
    """Heat scales take the longest, and many tests are not about them."""
    scale = {method: {"scale": dict.fromkeys(CLASS_NAMES, 1.0)} for method in METHODS}
    monkeypatch.setattr(bundling, "_heat_scales", lambda network, held_out: scale)


def score(folder: Path, value: float | None = None) -> float:
    """The score of a run; sets it if a value is given."""
    record = json.loads((folder / RUN).read_text())
    if value is not None:
        record["held_out"]["score"] = value
        (folder / RUN).write_text(json.dumps(record))
    return record["held_out"]["score"]


def answers_of(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / HELD_OUT) as saved:
        return dict(saved)


def clean(folder: Path) -> np.ndarray:
    return answers_of(folder)["clean"]


def chosen(runs: Path, name: str) -> Path:
    return max((runs / name).glob("seed-*"), key=score)


def labels_of(dataset: Dataset) -> np.ndarray:
    return np.array([CLASS_NAMES.index(image.label) for image in dataset.held_out()])


def mean_of(runs: Path, content: dict) -> np.ndarray:
    """Mean of the calibrated probabilities."""
    each = []
    for name in ARCHITECTURES:
        calibration = content["networks"][name]["calibration"]
        each.append(calibrate(clean(chosen(runs, name)), calibration["slope"], calibration["offset"]))
    return np.mean(each, axis=0)


# --- what is bundled --------------------------------------------------------------------------------------------


def test_bundle_holds_weights_segmenter_and_manifest(bundled, content, segmenter):
    assert {path.name for path in bundled.iterdir()} == {
        *(MANIFEST, SEGMENTER, SEGMENTER_RECORD),
        *(f"{name}.keras" for name in ARCHITECTURES),
    }
    for name in (SEGMENTER, SEGMENTER_RECORD):
        assert (bundled / name).read_bytes() == (segmenter / name).read_bytes()
    for entry in (*content["networks"].values(), content["lungs"]):
        assert entry["sha256"] == hashlib.sha256((bundled / entry["file"]).read_bytes()).hexdigest()
    record = json.loads((segmenter / SEGMENTER_RECORD).read_text())
    assert content["lungs"]["filters"] == record["recipe"]["filters"]
    assert content["lungs"]["held_out"] == record["held_out"]


def test_bundle_says_what_it_was_made_from(content, runs, manifest):
    dataset, _ = open_dataset(manifest)
    assert content["data"] == {"fingerprint": dataset.fingerprint, "seed": 0, "counts": dataset.counts()}
    for name, entry in content["networks"].items():
        record = json.loads((chosen(runs, name) / RUN).read_text())
        for key in ("recipe", "kept", "minutes", "libraries", "commit"):
            assert entry[key] == record[key]
        for key in ("input_size", "framing", "scaling"):
            assert entry[key] == record["recipe"][key]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_are_those_of_the_chosen_run(bundled, runs, name):
    model = build(name, 48, (4, 4, 8, 8, 8))
    model.load_weights(chosen(runs, name) / KEPT)
    saved = keras.saving.load_model(bundled / f"{name}.keras")
    assert getattr(saved, "optimizer", None) is None, "what only the training needed is not kept"
    for one, other in zip(saved.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_bundle_gives_the_calibrated_held_out_answers(bundled, runs, manifest):
    """Loaded as the program loads it, asked as the program asks."""
    from pneumo.classifier import Classifier

    bundle = load_bundle(bundled)
    classifier = Classifier(bundle)
    dataset, source = open_dataset(manifest)
    for index, raster in enumerate(load_rasters(source, dataset.held_out())[0]):
        prepared = Prepared(raster, 1.0, bundle.segmenter.find(raster))
        predictions = classifier.predict(prepared)
        for name, network in bundle.networks.items():
            expected = calibrate(clean(chosen(runs, name)), network.slope, network.offset)[index]
            assert predictions[name].probability == pytest.approx(expected, abs=0.01)


# --- which seed -------------------------------------------------------------------------------------------------


def test_all_seeds_are_listed_and_the_best_is_taken(content, runs):
    for name in ARCHITECTURES:
        entry = content["networks"][name]
        found = {item["seed"]: item["held_out"]["score"] for item in entry["seeds"]}
        assert found == {int(path.name[5:]): score(path) for path in (runs / name).glob("seed-*")}
        assert found[entry["recipe"]["seed"]] == max(found.values())


@pytest.mark.parametrize("best", [0, 1])
def test_seed_with_the_best_score_is_taken(copy, manifest, segmenter, no_heat, tmp_path, best):
    for seed in (0, 1):
        score(copy / "cnn" / f"seed-{seed}", 0.9 if seed == best else 0.8)
    make_bundle(copy, manifest, segmenter, tmp_path / "models")
    entry = json.loads((tmp_path / "models" / MANIFEST).read_text())["networks"]["cnn"]
    assert entry["recipe"]["seed"] == best
    slope, offset = calibration(labels_of(open_dataset(manifest)[0]), answers_of(copy / "cnn" / f"seed-{best}"))
    assert (entry["calibration"]["slope"], entry["calibration"]["offset"]) == (slope, offset)


def test_runs_are_ordered_by_their_seed_and_unfinished_ones_left_out(copy):
    shutil.copytree(copy / "cnn" / "seed-0", copy / "cnn" / "seed-10")
    shutil.copytree(copy / "cnn" / "seed-0", copy / "cnn" / "seed-2")
    (copy / "cnn" / "seed-1" / RUN).unlink()
    assert [path.name for path in run_folders(copy, "cnn")] == ["seed-0", "seed-2", "seed-10"]
    assert run_folders(copy, "absent") == []


# --- what is decided on held-out images -------------------------------------------------------------------------


def test_calibration_and_operating_points_can_be_found_again(content, runs, manifest):
    labels = labels_of(open_dataset(manifest)[0])
    for name in ARCHITECTURES:
        entry = content["networks"][name]
        raw = clean(chosen(runs, name))
        slope, offset = calibration(labels, answers_of(chosen(runs, name)))
        assert (entry["calibration"]["slope"], entry["calibration"]["offset"]) == (slope, offset)
        probabilities = calibrate(raw, slope, offset)
        points = {key: value["threshold"] for key, value in entry["operating_points"].items()}
        assert points == {
            "balanced": 0.5,
            "screening": screening_point(labels, probabilities),
        }
        assert tuple(points) == OPERATING_POINTS
        assert points["screening"] <= points["balanced"]
        assert all(value["rule"] for value in entry["operating_points"].values())


def test_together_is_the_mean_of_the_calibrated_probabilities(content, runs, manifest):
    labels = labels_of(open_dataset(manifest)[0])
    mean = mean_of(runs, content)
    together = content["together"]
    assert together["operating_points"]["balanced"]["threshold"] == 0.5
    assert together["operating_points"]["screening"]["threshold"] == pytest.approx(screening_point(labels, mean))
    band = together["uncertain"]["low"], together["uncertain"]["high"]
    assert band == pytest.approx(uncertain_band(labels, mean))


@pytest.mark.parametrize("split", SPLITS)
def test_each_set_of_held_out_images_is_measured(content, runs, manifest, split):
    dataset, _ = open_dataset(manifest)
    rows = np.array([image.split == split for image in dataset.held_out()])
    patients = np.array([image.patient for image in dataset.held_out()])[rows]
    labels, mean = labels_of(dataset), mean_of(runs, content)
    expected = measure(labels[rows], mean[rows], 0.5, patients)
    found = content["together"][split]
    assert found.keys() == expected.keys()
    for name, entry in expected.items():
        assert found[name]["value"] == pytest.approx(entry["value"])
    for name in ARCHITECTURES:
        assert content["networks"][name][split].keys() >= {"auc", "sensitivity", "specificity", "ece"}


@pytest.fixture(scope="module")
def shown(bundled, manifest) -> tuple[Bundle, list[tuple[str, Prepared]]]:
    """A bundle, and each held-out image, as the program prepares it one at a time, with its label."""
    bundle = load_bundle(bundled, ("cnn",))
    dataset, source = open_dataset(manifest)
    images = dataset.held_out()
    return bundle, [
        (image.label, Prepared(raster, image.aspect, bundle.segmenter.find(raster)))
        for image, raster in zip(images, load_rasters(source, images)[0], strict=True)
    ]


@pytest.mark.parametrize("method", METHODS)
def test_heat_is_drawn_at_full_strength_where_one_map_in_ten_is_hotter(shown, content, method):
    bundle, radiographs = shown
    explainer = Explainer(bundle, method)
    peaks: dict[str, list[float]] = {label: [] for label in CLASS_NAMES}
    for label, prepared in radiographs:
        peaks[label].append(float(explainer.explain("cnn", prepared, label).values.max()))
    found = content["networks"]["cnn"]["saliency"][method]
    hot = {label: [peak for peak in values if peak > 0] for label, values in peaks.items()}
    for label in CLASS_NAMES:
        own = hot[label] if METHODS[method].signed else []
        expected = np.percentile(own or [*hot["NORMAL"], *hot["PNEUMONIA"]], HEAT_PERCENTILE)
        assert found["scale"][label] == pytest.approx(expected, rel=0.05)
        assert found["maps"][label] == len(peaks[label])
        assert found["empty_maps"][label] == len(peaks[label]) - len(hot[label])
        faint = sum(peak < 0.1 * found["scale"][label] for peak in hot[label])
        assert found["faint_maps"][label] == faint


# --- decided anew, without training ------------------------------------------------------------------------------


def test_a_bundle_is_calibrated_anew_as_it_was_made(bundle_folder, manifest, content, tmp_path, capsys):
    """Only its decisions and what was measured of them; of other networks, what no decision changes is kept."""
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "models"))
    evaluated = json.loads((folder / MANIFEST).read_text())
    spoilt = json.loads((folder / MANIFEST).read_text())
    for entry in spoilt["networks"].values():
        entry["calibration"] |= {"slope": 3.0, "offset": -1.0}
        entry["operating_points"]["balanced"]["threshold"] = 0.9
    spoilt["together"]["operating_points"]["screening"]["threshold"] = 0.9
    (folder / MANIFEST).write_text(json.dumps(spoilt))
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"beside": {"recipe": "another"}}))
    assert main(["calibrate", "--models", str(folder), "--data", str(manifest)]) == 0
    assert "training evaluate" in capsys.readouterr().out
    found = json.loads((folder / MANIFEST).read_text())
    assert found.keys() == evaluated.keys()
    for name, entry in content["networks"].items():
        assert found["networks"][name].keys() == entry.keys()
        for key in ("slope", "offset"):
            assert found["networks"][name]["calibration"][key] == pytest.approx(entry["calibration"][key], rel=1e-4)
        points = found["networks"][name]["operating_points"]
        for point, value in entry["operating_points"].items():
            assert points[point]["threshold"] == pytest.approx(value["threshold"], abs=1e-4)
        assert found["networks"][name]["saliency"] == entry["saliency"]
    for point, value in content["together"]["operating_points"].items():
        again = found["together"]["operating_points"][point]
        assert again["threshold"] == pytest.approx(value["threshold"], abs=1e-4)
    left = json.loads((folder / "metrics.json").read_text())
    assert left.keys() == {"data", "seeds", "beside"}
    for name, entry in left["seeds"].items():
        assert entry["auc"] == metrics["seeds"][name]["auc"]
        assert all(row.keys() == {"seed", "auc"} for row in entry["seeds"])
    assert "only the ROC AUC" in seeds_table(left["seeds"])
    assert not (folder / "predictions.csv").exists()
    load_bundle(folder)


def test_networks_on_other_data_are_not_calibrated(bundle_folder, images, tmp_path):
    fingerprint = build_dataset(open_source(images)).fingerprint
    splits = (build_dataset(open_source(images), seed) for seed in range(1, 20))
    next(dataset for dataset in splits if dataset.fingerprint != fingerprint).save(tmp_path / "other.json")
    before = (bundle_folder / MANIFEST).read_bytes()
    with pytest.raises(TrainingError, match="the data that it was made with"):
        recalibrate(bundle_folder, tmp_path / "other.json")
    assert (bundle_folder / MANIFEST).read_bytes() == before


# --- where it is made -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", ["{}", "[", "[]", '{"data": 3}'])
def test_bundle_is_made_anew_in_its_own_folder(bundled, runs, manifest, no_heat, tmp_path, left):
    """Also with the segmenter that lies in it, and whatever is left of its metrics."""
    folder = Path(shutil.copytree(bundled, tmp_path / "models"))
    (folder / METRICS).write_text(left)
    make_bundle(runs, manifest, folder, folder)
    assert (folder / SEGMENTER).read_bytes() == (bundled / SEGMENTER).read_bytes()
    assert not (folder / METRICS).exists()
    load_bundle(folder)


@pytest.mark.parametrize("same", [True, False])
def test_what_was_measured_of_others_on_the_same_data_stays(bundled, runs, manifest, content, no_heat, tmp_path, same):
    folder = Path(shutil.copytree(bundled, tmp_path / "models"))
    data = content["data"]["fingerprint"] if same else "other"
    beside = {"recipe": "reference", "test": {}}
    (folder / METRICS).write_text(json.dumps({"data": data, "test": {"cnn": {}}, "beside": beside, "seeds": {}}))
    pairs = {"cnn": {"cnn_two": 1, "cnn_rnn": 2}, "cnn_two": {"cnn_64": 3, "cnn": 4}, "cnn_64": {}}
    systems = {"cnn": {}, "cnn_rnn": {}, "cnn_two": {"minutes": 5}, "cnn_64": {}}
    report = {"data": data, "images": 624, "systems": systems, "auc_differences": pairs}
    (folder / SYSTEMS).write_text(json.dumps(report))
    make_bundle(runs, manifest, folder, folder)
    if not same:
        assert not (folder / METRICS).exists()
        assert not (folder / SYSTEMS).exists()
        return
    assert json.loads((folder / METRICS).read_text()) == {"data": data, "beside": beside}
    assert json.loads((folder / SYSTEMS).read_text()) == report | {
        "systems": {"cnn_two": {"minutes": 5}, "cnn_64": {}},
        "auc_differences": {"cnn_two": {"cnn_64": 3}, "cnn_64": {}},
    }


def test_segmenter_of_before_is_replaced(bundled, runs, manifest, segmenter, no_heat, tmp_path):
    folder = Path(shutil.copytree(bundled, tmp_path / "models"))
    (folder / SEGMENTER).write_bytes(b"another")
    make_bundle(runs, manifest, segmenter, folder)
    assert (folder / SEGMENTER).read_bytes() == (segmenter / SEGMENTER).read_bytes()


# --- refusals ---------------------------------------------------------------------------------------------------


def refused(match: str, runs: Path, manifest: Path, segmenter: Path | None, folder: Path) -> None:
    with pytest.raises((TrainingError, DataError), match=match) as caught:
        make_bundle(runs, manifest, segmenter, folder)
    assert "\n" not in str(caught.value)
    assert not folder.exists()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_network_without_a_finished_run_is_refused(copy, manifest, segmenter, tmp_path, name):
    for path in (copy / name).glob(f"seed-*/{RUN}"):
        path.unlink()
    refused(f"{name} has none", copy, manifest, segmenter, tmp_path / "models")


def test_no_runs_at_all_are_refused(manifest, segmenter, tmp_path):
    refused("needs a finished training", tmp_path / "absent", manifest, segmenter, tmp_path / "models")


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", '{"data": null}', '{"data": {}}'])
def test_damaged_record_is_refused(copy, manifest, segmenter, tmp_path, content):
    (copy / "cnn" / "seed-1" / RUN).write_text(content)
    refused("seed-1 is not. Train it again", copy, manifest, segmenter, tmp_path / "models")


def test_run_of_a_release_with_other_stresses_is_refused(copy, manifest, segmenter, tmp_path):
    path = copy / "cnn" / "seed-1" / HELD_OUT
    with np.load(path) as saved:
        answers = {title: saved[title] for title in saved.files if title != "mirrored"}
    np.savez_compressed(path, **answers)
    refused("of this release left it; .*seed-1 is not. Train it again", copy, manifest, segmenter, tmp_path / "models")


def test_runs_on_other_data_are_refused(runs, images, segmenter, tmp_path):
    dataset = build_dataset(open_source(images), seed=1)
    dataset.save(tmp_path / "dataset.json")
    refused("trained on the data of its manifest", runs, tmp_path / "dataset.json", segmenter, tmp_path / "models")


def test_lungs_without_a_segmenter_are_refused(runs, manifest, tmp_path):
    refused("no segmenter was given", runs, manifest, None, tmp_path / "models")
    refused("python -m training lungs", runs, manifest, tmp_path / "absent", tmp_path / "models")


def test_another_segmenter_is_refused(copy, manifest, segmenter, tmp_path):
    for path in copy.glob(f"*/seed-*/{RUN}"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"segmenter": "0" * 64}))
    refused("segmenter that they were trained with", copy, manifest, segmenter, tmp_path / "models")


def test_network_without_any_heat_is_refused(runs, manifest, segmenter, tmp_path, monkeypatch):
    """A dead network draws nothing, and no scale can be given."""

    def nothing(self, name, inputs, label):
        return np.zeros((len(inputs), 4, 4))

    monkeypatch.setattr(Explainer, "evidence", nothing)
    with pytest.raises(TrainingError, match="needs a heatmap"):
        make_bundle(runs, manifest, segmenter, tmp_path / "models")
