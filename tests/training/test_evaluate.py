"""What is said of the test split is what the program says of its images, one by one."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import statistics
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import DATA
from sklearn import metrics as sk

from pneumo.backend import load_tensorflow
from pneumo.bundle import Bundle, Consensus, Network, load_bundle
from pneumo.classifier import Classifier, decide
from pneumo.examination import Examiner
from pneumo.framing import RASTER
from pneumo.radiograph import Radiograph, read_radiograph
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES, build
from training.batteries import SHORTCUTS, STRESSES
from training.dataset import build_dataset, open_dataset
from training.decisions import BALANCED_POINT, calibration, operating_point
from training.errors import DataError, TrainingError
from training.floors import floors
from training.matching import overlap_weights, size_model, sizes
from training.metrics import measure, wilson_interval
from training.sources import open_source

load_tensorflow()

from training.evaluate import evaluate  # noqa: E402

NAMES = (*ARCHITECTURES, "together")
ORIGINALS = DATA / "full_resolution"


def read_json(path: Path):
    """JSON as others read it, who know no NaN."""

    def refuse(constant: str):
        raise AssertionError(f"{path.name} holds {constant}, which is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture(scope="module")
def content(bundle_folder) -> dict:
    return read_json(bundle_folder / "manifest.json")


@pytest.fixture(scope="module")
def report(bundle_folder) -> dict:
    return read_json(bundle_folder / "metrics.json")


@pytest.fixture(scope="module")
def rows(bundle_folder) -> list[dict[str, str]]:
    with (bundle_folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def bundle(tiny_examiner) -> Bundle:
    return tiny_examiner.bundle


@pytest.fixture(scope="module")
def radiographs(manifest) -> list[Radiograph]:
    dataset, source = open_dataset(manifest)
    return [read_radiograph(source.read(image.file), image.file) for image in dataset.split("test")]


@pytest.fixture(scope="module")
def labels(rows) -> np.ndarray:
    return np.array([row["label"] == "PNEUMONIA" for row in rows])


@pytest.fixture(scope="module")
def asked(bundle, radiographs) -> dict[str, np.ndarray]:
    """What the page says of each test image, one at a time."""
    return ask(bundle, radiographs)


@pytest.fixture
def copy(bundle_folder, tmp_path) -> Path:
    """A copy of the bundle that a test may alter."""
    return Path(shutil.copytree(bundle_folder, tmp_path / "models"))


def ask(bundle: Bundle, radiographs: list[Radiograph]) -> dict[str, np.ndarray]:
    examiner = Examiner(bundle, saliency=None)
    found = [examiner.examine(radiograph) for radiograph in radiographs]
    result = {
        name: np.array([examination.predictions[name].probability for examination in found]) for name in bundle.networks
    }
    return result | {"together": np.array([examination.together.probability for examination in found])}


def through_a_file(pixels: np.ndarray) -> Radiograph:
    return read_radiograph(cv2.imencode(".png", pixels)[1].tobytes(), "altered.png")


def entry(content: dict, name: str) -> dict:
    return content["together"] if name == "together" else content["networks"][name]


def threshold(content: dict, name: str, point: str = "balanced") -> float:
    return entry(content, name)["operating_points"][point]["threshold"]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- predictions.csv --------------------------------------------------------------------------------------------


def test_one_row_per_test_image(rows, manifest):
    dataset, _ = open_dataset(manifest)
    decisions = [f"{name}_decision" for name in NAMES]
    assert list(rows[0]) == ["file", "sha256", "patient", "label", "subtype", *NAMES, *decisions]
    assert [(row["file"], row["sha256"], row["patient"], row["label"], row["subtype"]) for row in rows] == [
        (image.file, image.sha256, image.patient, image.label, image.subtype) for image in dataset.split("test")
    ]
    assert {row["label"] for row in rows} == set(CLASS_NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_those_of_the_page(rows, asked, content, name):
    """Calibrated, and decided at the balanced operating point."""
    found = [float(row[name]) for row in rows]
    assert found == pytest.approx(asked[name].tolist(), abs=2e-6)
    for row, probability in zip(rows, asked[name], strict=True):
        if abs(probability - threshold(content, name)) > 1e-6:
            assert row[f"{name}_decision"] == decide(probability, threshold(content, name))


def test_together_is_the_mean(rows):
    for row in rows:
        mean = sum(float(row[name]) for name in ARCHITECTURES) / len(ARCHITECTURES)
        assert float(row["together"]) == pytest.approx(mean, abs=1e-6)
    assert {row[f"{name}_decision"] for row in rows for name in NAMES} == set(CLASS_NAMES)


# --- measures ---------------------------------------------------------------------------------------------------


def by_scikit_learn(rows: list[dict[str, str]], labels: np.ndarray, values: np.ndarray, name: str) -> dict[str, float]:
    calls = np.array([row[f"{name}_decision"] == "PNEUMONIA" for row in rows])
    precision, recall, f1, _ = sk.precision_recall_fscore_support(labels, calls, labels=[0, 1], zero_division=np.nan)
    (tn, fp), (fn, tp) = sk.confusion_matrix(labels, calls, labels=[0, 1])
    viral, bacterial = (np.array([row["subtype"] == kind for row in rows]) for kind in ("virus", "bacteria"))
    result = {
        "loss": sk.log_loss(labels, values),
        "accuracy": sk.accuracy_score(labels, calls),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, calls),
        "accuracy_at_half": sk.accuracy_score(labels, values >= 0.5),
        "auc": sk.roc_auc_score(labels, values),
        "mcc": sk.matthews_corrcoef(labels, calls) if len(set(calls)) == 2 else np.nan,
        "brier": sk.brier_score_loss(labels, values),
        "sensitivity": recall[1],
        "sensitivity_viral": calls[viral].mean(),
        "sensitivity_bacterial": calls[bacterial].mean(),
        "specificity": recall[0],
        "precision_pneumonia": precision[1],
        "recall_pneumonia": recall[1],
        "f1_pneumonia": f1[1],
        "precision_normal": precision[0],
        "recall_normal": recall[0],
        "f1_normal": f1[0],
        "true_positives": tp,
        "false_negatives": fn,
        "false_positives": fp,
        "true_negatives": tn,
        "sensitivity_at_specificity_90": best(labels, values, kept=~labels, least=0.90),
        "specificity_at_sensitivity_95": best(labels, values, kept=labels, least=0.95),
        "ece": calibration_error(labels, values),
    }
    return {measure: value for measure, value in result.items() if not np.isnan(value)}


def best(labels: np.ndarray, values: np.ndarray, kept: np.ndarray, least: float) -> float:
    """Every threshold tried: the largest share of the other class called right where enough of one class is."""
    found = 0.0
    for cut in [*values, 0.0, 2.0]:
        right = (values >= cut) == labels
        if right[kept].mean() >= least:
            found = max(found, right[~kept].mean())
    return found


def calibration_error(labels: np.ndarray, values: np.ndarray) -> float:
    """Fifteen bins of equal mass, one image after the other; equal probabilities share the bin of their middle."""
    gaps = [0.0] * 15
    for label, value in zip(labels.tolist(), values.tolist(), strict=True):
        middle = sum(values < value) + sum(values == value) / 2
        gaps[min(int(middle / len(values) * 15), 14)] += value - label
    return sum(map(abs, gaps)) / len(values)


@pytest.mark.parametrize("name", NAMES)
def test_measures_equal_those_of_scikit_learn(report, rows, labels, asked, name):
    found = report["test"][name]
    expected = by_scikit_learn(rows, labels, asked[name], name)
    for measured, value in expected.items():
        assert found[measured]["value"] == pytest.approx(value, abs=1e-5), measured
    more = {"images", "prevalence", "agreement", "uncertain"} if name == "together" else set()
    assert found.keys() - expected.keys() == {"auc_above_floor", "auc_same_sizes", "screening"} | more


@pytest.mark.parametrize("name", NAMES)
def test_screening_is_measured_at_its_own_threshold(report, content, labels, asked, name):
    calls = asked[name] >= threshold(content, name, "screening")
    found = {measure: value["value"] for measure, value in report["test"][name]["screening"].items()}
    expected = {
        "accuracy": (calls == labels).mean(),
        "sensitivity": calls[labels].mean(),
        "specificity": (~calls)[~labels].mean(),
    }
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_intervals_are_of_patients_and_hold_the_value(report, content, rows, labels, asked, name):
    patients, subtypes = (np.array([row[column] for row in rows]) for column in ("patient", "subtype"))
    assert report["patients"] == len(set(patients))
    expected = measure(labels.astype(np.uint8), asked[name], threshold(content, name), patients, subtypes)
    for measured, values in expected.items():
        low, high = report["test"][name][measured]["interval"]
        assert [low, high] == pytest.approx(values["interval"], abs=1e-5)
        # Resampling the images of a bin can only add to its gap.
        assert (measured == "ece") or low - 1e-9 <= values["value"] <= high + 1e-9, measured


def test_both_files_say_the_same(report, content, manifest):
    dataset, _ = open_dataset(manifest)
    assert {name: entry(content, name)["test"] for name in NAMES} == report["test"]
    assert content["floors"] == report["floors"]
    assert content["data"]["fingerprint"] == report["data"] == dataset.fingerprint
    together = report["test"]["together"]
    assert report["images"] == together["images"] == len(dataset.split("test"))
    assert together["prevalence"] == pytest.approx(dataset.counts()["test"]["PNEUMONIA"] / report["images"])
    assert "2000 bootstrap resamples of patients" in report["interval"]


def test_agreement_adds_up(rows, report):
    agreement = report["test"]["together"]["agreement"]
    assert list(agreement) == ["0", "1", "2", "3"]
    calling = [sum(row[f"{name}_decision"] == "PNEUMONIA" for name in ARCHITECTURES) for row in rows]
    assert len(set(calling)) > 1
    for count, group in agreement.items():
        kinds = [row["label"] for row, calls in zip(rows, calling, strict=True) if calls == int(count)]
        images, pneumonia = len(kinds), kinds.count("PNEUMONIA")
        assert (group["images"], group["pneumonia"]) == (images, pneumonia)
        assert group["share"] == (pneumonia / images if images else None)
        low, high = group["interval"]
        assert low <= (group["share"] or 0) <= high
        if pneumonia in (0, images):
            assert [low, high] == wilson_interval(pneumonia, images)


def test_uncertain_answers_are_counted(report, content, rows, asked):
    band = content["together"]["uncertain"]
    groups = {"uncertain": [], "certain": []}
    for row, mean in zip(rows, asked["together"], strict=True):
        groups["uncertain" if band["low"] <= mean < band["high"] else "certain"].append(
            row["together_decision"] == row["label"]
        )
    found = report["test"]["together"]["uncertain"]
    assert (found["images"], found["share"]) == (len(groups["uncertain"]), len(groups["uncertain"]) / len(rows))
    for name, right in groups.items():
        accuracy = found[f"accuracy_{name}"]
        assert accuracy["value"] == (pytest.approx(statistics.mean(right)) if right else None)
        assert accuracy["interval"][0] <= (accuracy["value"] or 0) <= accuracy["interval"][1]


# --- stress, shortcuts, originals -------------------------------------------------------------------------------


def rates(labels: np.ndarray, values: np.ndarray, cut: float) -> tuple[float, float]:
    """Sensitivity and specificity, image by image."""
    pairs = list(zip(labels.tolist(), (values >= cut).tolist(), strict=True))
    return pairs.count((True, True)) / sum(labels), pairs.count((False, False)) / sum(~labels)


@pytest.mark.parametrize(
    ("title", "alter"), [("mirrored", np.fliplr), ("JPEG 30", lambda pixels: STRESSES["JPEG 30"](pixels))]
)
def test_stress_is_that_of_altered_files(report, content, bundle, radiographs, labels, rows, asked, title, alter):
    answers = ask(bundle, [through_a_file(alter(radiograph.pixels)) for radiograph in radiographs])
    for name in ("cnn", "together"):
        before, after, cut = asked[name], answers[name], threshold(content, name)
        (sensitivity, specificity), (clean_sensitivity, clean_specificity) = (
            rates(labels, values, cut) for values in (after, before)
        )
        expected = {
            "auc": sk.roc_auc_score(labels, after),
            "sensitivity": sensitivity,
            "specificity": specificity,
            "loss_of_sensitivity": clean_sensitivity - sensitivity,
            "loss_of_specificity": clean_specificity - specificity,
            "flips": sum((one >= cut) != (other >= cut) for one, other in zip(before, after, strict=True)),
            "mean_change": statistics.mean(abs(one - other) for one, other in zip(before, after, strict=True)),
        }
        found = dict(report["stress"][title][name])
        intervals = found.pop("intervals")
        assert found == pytest.approx(expected, abs=1e-5)
        patients = np.array([row["patient"] for row in rows])
        measured = measure(labels.astype(np.uint8), after, cut, patients)
        assert intervals.keys() == {"auc", "sensitivity", "specificity"}
        for part, interval in intervals.items():
            assert interval == pytest.approx(measured[part]["interval"], abs=1e-5)
    assert report["stress"][title]["cnn"]["mean_change"] > 0


def test_every_stress_and_shortcut_is_there(report, rows):
    assert (list(report["stress"]), list(report["shortcuts"])) == (list(STRESSES), list(SHORTCUTS))
    for battery in (report["stress"], report["shortcuts"]):
        for row in battery.values():
            assert list(row) == list(NAMES)
    for row in report["shortcuts"].values():
        for area in row.values():
            assert area["interval"][0] <= area["value"] <= area["interval"][1]
    for name, row in report["stress"]["16-bit input"].items():
        # Other values of the same radiograph: no answer stays as it was, and none moves far.
        assert 0 < row["mean_change"] < 0.01
        # These tiny networks answer close to one half, and no answer moves by more than all together do.
        farthest = len(rows) * row["mean_change"]
        near = sum(abs(float(item[name]) - BALANCED_POINT) <= farthest + 1e-6 for item in rows)
        assert row["flips"] <= near


def drawn_mask(masks: Path, file: str) -> np.ndarray:
    return cv2.imread(str(masks / file.replace(".jpeg", ".png")), cv2.IMREAD_GRAYSCALE) > 127


def without_lungs(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 0, pixels).astype(np.uint8)


def border(pixels: np.ndarray, _mask: np.ndarray) -> np.ndarray:
    result = np.zeros_like(pixels)
    width = RASTER * 2 // 32
    for rows in (slice(None, width), slice(-width, None)):
        result[rows] = pixels[rows]
        result[:, rows] = pixels[:, rows]
    return result


SHORTCUTS_BY_HAND = {"lungs black": without_lungs, "border ring alone": border}


def left(bundle: Bundle, radiographs: list[Radiograph], masks: list[np.ndarray], alter, labels: np.ndarray) -> float:
    """AUC of the first network on altered radiographs, framed as if they were not."""
    classifier = Classifier(bundle)
    values = []
    for radiograph, mask in zip(radiographs, masks, strict=True):
        prepared = bundle.prepare(radiograph)
        altered = dataclasses.replace(prepared, raster=alter(radiograph.pixels, mask))
        values.append(classifier.predict(altered)["cnn"].probability)
    return sk.roc_auc_score(labels, values)


@pytest.mark.parametrize("title", SHORTCUTS_BY_HAND)
def test_shortcuts_have_the_lungs_that_people_drew(report, bundle, radiographs, masks, labels, title):
    drawn = [drawn_mask(masks, radiograph.name) for radiograph in radiographs]
    expected = left(bundle, radiographs, drawn, SHORTCUTS_BY_HAND[title], labels)
    assert report["shortcuts"][title]["cnn"]["value"] == pytest.approx(expected)


def originals_by_hand(bundle: Bundle, images: Path, shrink: bool) -> tuple[dict[str, np.ndarray], ...]:
    files = sorted(ORIGINALS.glob("*.jpeg"))
    published = [read_radiograph(path) for path in files]
    if shrink:
        pixels = [radiograph.pixels for radiograph in published]
        sizes = [np.array(image.shape[::-1]) * 256 / max(image.shape) for image in pixels]
        published = [
            through_a_file(cv2.resize(image, size.round().astype(int).tolist(), interpolation=cv2.INTER_AREA))
            for image, size in zip(pixels, sizes, strict=True)
        ]
    copies = [read_radiograph(next(images.glob(f"test/*/{path.name}"))) for path in files]
    return ask(bundle, copies), ask(bundle, published)


@pytest.mark.parametrize("title", ["full resolution", "downsized to 256"])
def test_originals_against_their_copies(report, content, bundle, images, title):
    found = report["originals"][title]
    assert found.keys() == {*NAMES, "images"}
    before, after = originals_by_hand(bundle, images, title != "full resolution")
    assert found["images"] == len(before["cnn"]) == 2
    for name in ("cnn", "together"):
        calls = [answer[name] >= threshold(content, name) for answer in (before, after)]
        assert found[name]["flips"] == (calls[0] != calls[1]).sum()
        assert found[name]["mean_change"] == pytest.approx(np.abs(before[name] - after[name]).mean(), abs=1e-6)
        # One image of each class: whichever way it is decided, the interval is wide.
        for part in ("sensitivity", "specificity"):
            assert found[name]["intervals"][part] == wilson_interval(round(found[name][part]), 1)
        assert found[name]["intervals"]["auc"] == [found[name]["auc"]] * 2


# --- seeds, lungs, floors ---------------------------------------------------------------------------------------


def test_each_seed_has_its_own_calibration(report, runs, bundle, manifest, radiographs, labels):
    dataset, _ = open_dataset(manifest)
    held_out = np.array([image.label == "PNEUMONIA" for image in dataset.held_out()])
    found = report["seeds"]["cnn"]
    assert [row["seed"] for row in found["seeds"]] == [0, 1]
    areas = []
    for row in found["seeds"]:
        folder = runs / "cnn" / f"seed-{row['seed']}"
        recipe = read_json(folder / "run.json")["recipe"]
        model = build("cnn", recipe["input_size"], tuple(recipe["filters"]))
        model.load_weights(folder / "best.keras")
        slope, offset = calibration(held_out, np.load(folder / "held_out.npz"))
        cut = 0.5
        network = Network(
            "cnn",
            model,
            recipe["input_size"],
            recipe["framing"],
            recipe["scaling"],
            slope,
            offset,
            {"balanced": cut},
            {},
        )
        alone = Bundle("", {"cnn": network}, Consensus({"balanced": cut}, 0, 0), bundle.segmenter, {"networks": {1: 1}})
        classifier = Classifier(alone)
        values = np.array([classifier.predict(alone.prepare(item))["cnn"].probability for item in radiographs])
        calls = values >= cut
        expected = {
            "seed": row["seed"],
            "auc": sk.roc_auc_score(labels, values),
            "accuracy": (calls == labels).mean(),
            "sensitivity": calls[labels].mean(),
            "specificity": (~calls)[~labels].mean(),
            "ece": calibration_error(labels, values),
        }
        assert row == pytest.approx(expected, abs=1e-5)
        areas.append(row["auc"])
    assert areas[0] != areas[1]
    assert found["auc"]["runs"] == areas
    assert found["auc"]["value"] == pytest.approx(statistics.mean(areas))


def test_mean_and_spread_over_the_seeds(report, content):
    assert list(report["seeds"]) == list(ARCHITECTURES)
    for name, found in report["seeds"].items():
        for measured, spread in found["spread"].items():
            values = [row[measured] for row in found["seeds"]]
            assert spread["mean"] == pytest.approx(statistics.mean(values))
            assert spread["sd"] == (pytest.approx(statistics.stdev(values)) if len(values) > 1 else None)
        shipped = content["networks"][name]["recipe"]["seed"]
        (row,) = (row for row in found["seeds"] if row["seed"] == shipped)
        for measured in found["spread"]:
            assert row[measured] == pytest.approx(report["test"][name][measured]["value"], abs=1e-5), "it ships"


def test_lungs_against_those_that_people_drew(report, bundle, radiographs, masks):
    overlaps = {}
    for radiograph in radiographs:
        found = set(np.flatnonzero(bundle.prepare(radiograph).lungs.mask))
        drawn = set(np.flatnonzero(drawn_mask(masks, radiograph.name)))
        both = len(found & drawn)
        overlaps[radiograph.name] = 2 * both / (len(found) + len(drawn)), both / len(found | drawn)
    lungs = report["lungs"]
    assert (lungs["images"], lungs["not_found"]) == (len(radiographs), 0)
    for place, name in enumerate(("dice", "iou")):
        expected = statistics.mean(pair[place] for pair in overlaps.values())
        assert lungs[name]["value"] == pytest.approx(expected, abs=1e-4)
        assert lungs[name]["interval"][0] <= expected <= lungs[name]["interval"][1]
    assert [case["dice"] for case in lungs["worst"]] == sorted(case["dice"] for case in lungs["worst"])
    lowest = sorted(dice for dice, _ in overlaps.values())[:8]
    assert [case["dice"] for case in lungs["worst"]] == pytest.approx(lowest, abs=1e-4)
    for case in lungs["worst"]:
        assert case["dice"] == pytest.approx(overlaps[case["file"]][0], abs=1e-4)


@pytest.fixture(scope="module")
def floor_data(manifest):
    """The data set, with aspect ratios that tell something."""
    dataset, source = open_dataset(manifest)
    images = tuple(
        dataclasses.replace(image, aspect=1 + index % 7 / 10 + 0.3 * (image.label == "NORMAL"))
        for index, image in enumerate(dataset.images)
    )
    dataset = dataclasses.replace(dataset, images=images)
    return dataset, source, floors(dataset, source)


@pytest.mark.parametrize(("title", "number"), [("size in bytes", "bytes"), ("aspect ratio", "aspect")])
def test_floors_of_one_number_rank_by_it(floor_data, title, number):
    """In one direction: the AUC is that of the number itself, or of its opposite."""
    dataset, source, (found, _) = floor_data
    (floor,) = (floor for floor in found if title in floor["title"])

    def values(split: str) -> tuple[np.ndarray, np.ndarray]:
        images = dataset.split(split)
        numbers = [len(source.read(image.file)) if number == "bytes" else image.aspect for image in images]
        return np.array(numbers), np.array([image.label == "PNEUMONIA" for image in images])

    numbers, kinds = values("train")
    direction = np.sign(np.log(numbers)[kinds].mean() - np.log(numbers)[~kinds].mean())
    numbers, kinds = values("test")
    assert floor["test"]["auc"]["value"] == pytest.approx(sk.roc_auc_score(kinds, direction * numbers))


@pytest.mark.parametrize(("place", "ring"), [(0, False), (1, True)])
def test_floors_of_nearest_neighbours(floor_data, place, ring):
    """The share of pneumonias among the nearest, their number chosen by validation."""
    dataset, source, (found, nearest) = floor_data
    features, kinds = {}, {}
    for split in ("train", "validation", "test"):
        images = dataset.split(split)
        pixels = [read_radiograph(source.read(image.file)).pixels for image in images]
        small = np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in pixels]) / 255
        if ring:
            small[:, 2:30, 2:30] = 0
        features[split] = small.reshape(len(images), -1)
        kinds[split] = np.array([image.label == "PNEUMONIA" for image in images])

    def share(split: str, count: int) -> np.ndarray:
        distances = np.linalg.norm(features[split][:, np.newaxis] - features["train"], axis=2)
        return kinds["train"][np.argsort(distances, axis=1)[:, :count]].mean(axis=1)

    count = max((1, 5, 15), key=lambda count: sk.roc_auc_score(kinds["validation"], share("validation", count)))
    values = share("test", count)
    assert found[place]["test"]["auc"]["value"] == pytest.approx(sk.roc_auc_score(kinds["test"], values))
    assert found[place]["threshold"] == operating_point(kinds["validation"], share("validation", count))
    if not ring:
        np.testing.assert_allclose(nearest, values)


def test_the_floor_of_the_size_is_chance_among_the_same_sizes(floor_data):
    dataset, _, (found, _) = floor_data
    images = dataset.split("test")
    kinds = np.array([image.label == "PNEUMONIA" for image in images])
    told = size_model(dataset.split("train")).predict_proba(sizes(images))[:, 1]
    (floor,) = (floor["test"] for floor in found if "width and height" in floor["title"])
    assert floor["auc"]["value"] == pytest.approx(sk.roc_auc_score(kinds, told))
    weights = overlap_weights(dataset.split("train"), images)
    expected = sk.roc_auc_score(kinds, told, sample_weight=weights)
    assert floor["auc_same_sizes"]["value"] == pytest.approx(expected)
    # A few dozen images: far less than without the weights, but not all gone.
    assert abs(expected - 0.5) < abs(floor["auc"]["value"] - 0.5) / 2


@pytest.mark.parametrize("name", NAMES)
def test_area_among_originals_of_the_same_sizes(report, manifest, labels, asked, name):
    dataset, _ = open_dataset(manifest)
    images = dataset.split("test")
    weights = overlap_weights(dataset.split("train"), images)
    found = report["test"][name]["auc_same_sizes"]
    assert found["value"] == pytest.approx(sk.roc_auc_score(labels, asked[name], sample_weight=weights), abs=1e-5)
    assert np.ptp(weights) > 0.1
    low, high = found["interval"]
    assert low <= found["value"] <= high


def test_floors_are_measured_as_the_networks_are(report, labels):
    assert [floor["title"][:7] for floor in report["floors"]] == ["floor: "] * 5
    for floor in report["floors"]:
        counts = [floor["test"][name]["value"] for name in ("true_positives", "false_negatives")]
        assert sum(counts) == labels.sum()
        assert {"sensitivity_viral", "sensitivity_bacterial", "ece", "balanced_accuracy"} <= floor["test"].keys()
    first = report["floors"][0]["test"]["auc"]["value"]
    for name in NAMES:
        difference = report["test"][name]["auc_above_floor"]
        assert difference["value"] == pytest.approx(report["test"][name]["auc"]["value"] - first)


# --- again, and beside another ----------------------------------------------------------------------------------


def test_evaluating_again_writes_the_same(copy, manifest, runs, masks, bundle_folder):
    """No chance in it; and nothing of the first evaluation enters the second."""
    for name in ("metrics.json", "predictions.csv"):
        (copy / name).unlink()
    evaluation = evaluate(copy, manifest, runs=runs, masks=masks, originals=ORIGINALS)
    assert files_of(copy) == files_of(bundle_folder)
    assert list(evaluation.probabilities) == list(evaluation.thresholds) == list(NAMES)
    assert len(evaluation.images) == len(evaluation.labels)
    assert len(evaluation.worst_lungs) == 8


def test_beside_another_bundle(copy, bundle_folder, tmp_path, manifest, images, report, bundle, radiographs, labels):
    """Without runs and masks; the other differs by what its first network sees, and by its name."""
    other = Path(shutil.copytree(bundle_folder, tmp_path / "other"))
    altered = read_json(other / "manifest.json")
    altered["networks"]["cnn"]["framing"] = "whole"
    altered["networks"]["cnn"]["recipe"]["name"] = "reference"
    (other / "manifest.json").write_text(json.dumps(altered))
    before = files_of(other)
    evaluate(copy, manifest, beside=other, originals=ORIGINALS)
    assert files_of(other) == before
    found = read_json(copy / "metrics.json")
    assert found.keys() == report.keys() - {"lungs"} | {"beside"}
    for part in ("test", "stress", "originals", "floors", "seeds"):
        assert found[part] == report[part]

    lungs = [bundle.prepare(radiograph).lungs.mask for radiograph in radiographs]
    for title, alter in SHORTCUTS_BY_HAND.items():
        expected = left(bundle, radiographs, lungs, alter, labels)
        assert found["shortcuts"][title]["cnn"]["value"] == pytest.approx(expected), "of the lungs that were found"

    evaluate(copy, manifest)
    again = read_json(copy / "metrics.json")
    assert (again["beside"], again["seeds"]) == (found["beside"], found["seeds"]), "what is not at hand stays"

    beside = found["beside"]
    assert (beside["recipe"], beside.keys()) == ("reference", {"recipe", "test", "stress", "shortcuts", "originals"})
    whole = load_bundle(other)
    answers = ask(whole, radiographs)["cnn"]
    assert beside["test"]["cnn"]["auc"]["value"] == pytest.approx(sk.roc_auc_score(labels, answers))
    assert beside["test"]["cnn"]["brier"]["value"] != report["test"]["cnn"]["brier"]["value"]
    assert beside["stress"]["mirrored"]["cnn_rnn"] == report["stress"]["mirrored"]["cnn_rnn"]
    # The whole image at its true aspect ratio: that of the published file.
    one, two = originals_by_hand(whole, images, shrink=False)
    difference = np.abs(one["cnn"] - two["cnn"]).mean()
    assert beside["originals"]["full resolution"]["cnn"]["mean_change"] == pytest.approx(difference, abs=1e-6)


# --- what is refused, before anything is written ----------------------------------------------------------------


def refused(folder: Path, manifest: Path, words: str, error: type[Exception] = TrainingError, **options: Path) -> None:
    before = files_of(folder)
    with pytest.raises(error, match=words) as caught:
        evaluate(folder, manifest, **options)
    assert "\n" not in str(caught.value)
    assert files_of(folder) == before


def test_bundle_of_other_data(copy, images, manifest, tmp_path):
    fingerprint = build_dataset(open_source(images)).fingerprint
    splits = (build_dataset(open_source(images), seed) for seed in range(1, 20))
    next(dataset for dataset in splits if dataset.fingerprint != fingerprint).save(tmp_path / "other.json")
    refused(copy, tmp_path / "other.json", "the data that it was made with")


def test_test_image_that_has_changed(copy, images, tmp_path):
    folder = Path(shutil.copytree(images, tmp_path / "chest_xray"))
    build_dataset(open_source(folder)).save(tmp_path / "dataset.json")
    with (folder / "test/NORMAL/IM-0005-0001.jpeg").open("ab") as file:
        file.write(b" ")
    refused(copy, tmp_path / "dataset.json", "has changed since", DataError)


def select(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(read_json(path) | {"together": None}))


def test_selection_of_the_networks(copy, bundle_folder, manifest, tmp_path):
    other = Path(shutil.copytree(bundle_folder, tmp_path / "other"))
    select(other)
    refused(copy, manifest, "must hold all networks to be evaluated; .*other holds", beside=other)
    refused(other, manifest, "must hold all networks to be evaluated")


@pytest.mark.parametrize("kept", [[], ["IM-0081-0001.jpeg"]])
def test_originals_that_are_none_or_of_one_class(copy, manifest, tmp_path, kept):
    for name in kept:
        shutil.copyfile(ORIGINALS / name, tmp_path / name)
    refused(copy, manifest, f"of both classes; .* has {len(kept)} such images", originals=tmp_path)


def test_runs_that_are_missing_or_of_other_data(copy, manifest, runs, tmp_path):
    folder = Path(shutil.copytree(runs, tmp_path / "runs"))
    path = folder / "cnn" / "seed-0" / "run.json"
    record = read_json(path)
    record["data"]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(record))
    refused(copy, manifest, r"seed-0 was not\. Train it again", runs=folder)
    shutil.rmtree(folder / "cnn")
    refused(copy, manifest, "need finished trainings of each network; .*cnn has none", runs=folder)


def test_masks_that_are_none(copy, manifest, tmp_path):
    refused(copy, manifest, "has none", DataError, masks=tmp_path)
