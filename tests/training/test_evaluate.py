"""A bundle is chosen by validation alone; what is said of the test split is what its predictions say."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from pneumo.backend import load_tensorflow
from pneumo.bundle import Bundle, load_bundle
from pneumo.classifier import Classifier, decide
from pneumo.radiograph import read_radiograph, scale_gray
from pneumo.saliency import METHODS, Explainer
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES
from training.compare import insert_table, table
from training.dataset import build_dataset, load_pixels, open_dataset
from training.errors import DataError, TrainingError
from training.metrics import measure, operating_point, wilson_interval
from training.sources import open_source

load_tensorflow()
import keras  # noqa: E402

from training.bundling import make_bundle  # noqa: E402
from training.evaluate import evaluate  # noqa: E402

NAMES = (*ARCHITECTURES, "together")


def read_json(path: Path):
    """JSON as others read it, who know no NaN."""

    def refuse(constant: str):
        raise AssertionError(f"{path.name} holds {constant}, which is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture(scope="module")
def content(bundle_folder) -> dict:
    return read_json(bundle_folder / "manifest.json")


@pytest.fixture(scope="module")
def rows(bundle_folder) -> list[dict[str, str]]:
    with (bundle_folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def bundle(bundle_folder) -> Bundle:
    return load_bundle(bundle_folder)


@pytest.fixture(scope="module")
def probabilities(bundle, manifest) -> dict[str, dict[str, np.ndarray]]:
    """What the bundle's networks say of each split, asked anew, and the labels."""
    dataset, source = open_dataset(manifest)
    classifier = Classifier(bundle)
    result = {}
    for split in ("validation", "test"):
        answers = {}
        for name, network in bundle.networks.items():
            pixels, answers["labels"] = load_pixels(source, dataset.split(split), network.input_size)
            answers[name] = classifier.probability(name, scale_gray(pixels))
        answers["together"] = sum(answers[name] for name in ARCHITECTURES) / len(ARCHITECTURES)
        result[split] = answers
    return result


@pytest.fixture
def copy(bundle_folder, tmp_path) -> Path:
    """A copy of the bundle that a test may alter."""
    return Path(shutil.copytree(bundle_folder, tmp_path / "models"))


def entry(content: dict, name: str) -> dict:
    return content["together"] if name == "together" else content["networks"][name]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- predictions.csv --------------------------------------------------------------------------------------------


def test_one_row_per_test_image(rows, manifest):
    dataset, _ = open_dataset(manifest)
    assert [(row["file"], row["sha256"], row["patient"], row["label"], row["subtype"]) for row in rows] == [
        (image.file, image.sha256, image.patient, image.label, image.subtype) for image in dataset.split("test")
    ]
    assert {row["label"] for row in rows} == set(CLASS_NAMES)


def test_columns(rows):
    decisions = [f"{name}_decision" for name in NAMES]
    assert list(rows[0]) == ["file", "sha256", "patient", "label", "subtype", *NAMES, *decisions]


def test_predictions_are_those_of_the_bundle(rows, probabilities):
    for name in NAMES:
        found = [float(row[name]) for row in rows]
        assert found == pytest.approx(probabilities["test"][name].tolist(), abs=1e-6)
        assert all(0 <= value <= 1 for value in found)


def test_predictions_are_those_of_the_page(rows, bundle, manifest):
    """One image at a time, through the very call of the page."""
    _, source = open_dataset(manifest)
    classifier = Classifier(bundle)
    for row in rows[::4]:
        predictions = classifier.predict(read_radiograph(source.read(row["file"]), row["file"]))
        predictions["together"] = classifier.together(predictions)
        for name in NAMES:
            assert predictions[name].probability == pytest.approx(float(row[name]), abs=1e-5)
            assert predictions[name].decision == row[f"{name}_decision"]


def test_together_is_the_mean(rows):
    for row in rows:
        mean = sum(float(row[name]) for name in ARCHITECTURES) / len(ARCHITECTURES)
        assert float(row["together"]) == pytest.approx(mean, abs=1e-6)


def test_decisions_are_made_at_the_operating_point(rows, content):
    both = set()
    for name in NAMES:
        threshold = entry(content, name)["operating_point"]["threshold"]
        for row in rows:
            if abs(float(row[name]) - threshold) > 1e-6:
                assert row[f"{name}_decision"] == decide(float(row[name]), threshold)
                both.add(row[f"{name}_decision"])
    assert both == set(CLASS_NAMES)


# --- metrics.json and manifest.json -----------------------------------------------------------------------------


def by_scikit_learn(rows: list[dict[str, str]], name: str) -> dict[str, float]:
    labels = np.array([CLASS_NAMES.index(row["label"]) for row in rows])
    calls = np.array([CLASS_NAMES.index(row[f"{name}_decision"]) for row in rows])
    values = np.array([float(row[name]) for row in rows])
    precision, recall, f1, _ = sk.precision_recall_fscore_support(labels, calls, labels=[0, 1], zero_division=np.nan)
    (tn, fp), (fn, tp) = sk.confusion_matrix(labels, calls, labels=[0, 1])
    viral = np.array([row["subtype"] == "virus" for row in rows])
    bacterial = np.array([row["subtype"] == "bacteria" for row in rows])
    result = {
        "loss": sk.log_loss(labels, values),
        "accuracy": sk.accuracy_score(labels, calls),
        "accuracy_at_half": sk.accuracy_score(labels, values >= 0.5),
        "auc": sk.roc_auc_score(labels, values),
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
    }
    return {measure: value for measure, value in result.items() if not math.isnan(value)}


@pytest.mark.parametrize("name", NAMES)
def test_metrics_equal_those_of_scikit_learn_on_the_predictions(bundle_folder, rows, name):
    found = read_json(bundle_folder / "metrics.json")["test"][name]
    expected = by_scikit_learn(rows, name)
    # Six digits of a probability are exact enough for all but the order of two that differ by less.
    values = np.array([float(row[name]) for row in rows])
    positive = np.array([row["label"] == CLASS_NAMES[1] for row in rows])
    gaps = np.abs(values[positive, np.newaxis] - values[~positive])
    tolerance = {"auc": (gaps <= 1e-6).mean() + 1e-9}
    for metric, value in expected.items():
        assert found[metric]["value"] == pytest.approx(value, abs=tolerance.get(metric, 1e-5)), metric
        low, high = found[metric]["interval"]
        assert low <= high
    left = found.keys() - expected.keys()
    assert left == {"ece", "auc_above_floor", *({"images", "prevalence", "agreement"} if name == "together" else ())}


def test_intervals_are_of_patients(bundle_folder, content, probabilities, manifest):
    dataset, _ = open_dataset(manifest)
    patients = np.array([image.patient for image in dataset.split("test")])
    subtypes = np.array([image.subtype for image in dataset.split("test")])
    found = read_json(bundle_folder / "metrics.json")
    assert found["patients"] == len(set(patients))
    for name in NAMES:
        threshold = entry(content, name)["operating_point"]["threshold"]
        test = probabilities["test"]
        expected = measure(test["labels"], test[name], threshold, patients, subtypes)
        for metric, values in expected.items():
            assert found["test"][name][metric]["value"] == pytest.approx(values["value"], abs=1e-5)
            assert found["test"][name][metric]["interval"] == pytest.approx(values["interval"], abs=1e-5)


def test_both_files_say_the_same(bundle_folder, content, manifest):
    dataset, _ = open_dataset(manifest)
    metrics = read_json(bundle_folder / "metrics.json")
    assert {name: entry(content, name)["test"] for name in NAMES} == metrics["test"]
    assert content["floors"] == metrics["floors"]
    assert content["data"]["fingerprint"] == metrics["data"] == dataset.fingerprint
    assert content["data"]["counts"] == dataset.counts()
    images = sum(dataset.counts()["test"].values())
    together = metrics["test"]["together"]
    assert metrics["images"] == together["images"] == images
    assert together["prevalence"] == pytest.approx(dataset.counts()["test"]["PNEUMONIA"] / images)
    assert "2000 bootstrap resamples of patients" in metrics["interval"]


def test_agreement_adds_up(rows, content):
    agreement = content["together"]["test"]["agreement"]
    assert list(agreement) == ["0", "1", "2", "3"]
    assert sum(group["images"] for group in agreement.values()) == len(rows)
    assert sum(group["pneumonia"] for group in agreement.values()) == sum(row["label"] == "PNEUMONIA" for row in rows)
    for count, group in agreement.items():
        calling = [sum(row[f"{name}_decision"] == "PNEUMONIA" for name in ARCHITECTURES) for row in rows]
        labels = [row["label"] for row, calls in zip(rows, calling, strict=True) if calls == int(count)]
        assert group["images"] == len(labels)
        assert group["pneumonia"] == labels.count("PNEUMONIA")
        assert group["share"] == (labels.count("PNEUMONIA") / len(labels) if labels else None)
        low, high = group["interval"]
        assert low <= (group["share"] or 0) <= high
        if labels.count("PNEUMONIA") in (0, len(labels)):
            assert [low, high] == wilson_interval(labels.count("PNEUMONIA"), len(labels))
    assert sum(group["images"] > 0 for group in agreement.values()) > 1


def test_floors_are_measured_as_the_networks_are(content, manifest):
    dataset, source = open_dataset(manifest)
    floors = content["floors"]
    assert all(floor["title"].startswith("floor: ") for floor in floors)
    for floor in floors:
        counts = [floor["test"][name]["value"] for name in ("true_positives", "false_negatives")]
        assert sum(counts) == dataset.counts()["test"]["PNEUMONIA"]
        assert 0 < floor["threshold"] < 1
    (size,) = (floor for floor in floors if "size in bytes" in floor["title"])
    # One number an image, in one direction: its AUC is that of the number itself, or of its opposite.
    train, test = (
        [(len(source.read(image.file)), image.label == "PNEUMONIA") for image in dataset.split(split)]
        for split in ("train", "test")
    )
    sizes, labels = zip(*test, strict=True)
    of_class = {label: np.mean(np.log([number for number, kind in train if kind is label])) for label in (True, False)}
    direction = 1 if of_class[True] > of_class[False] else -1
    assert size["test"]["auc"]["value"] == pytest.approx(sk.roc_auc_score(labels, direction * np.array(sizes)))


def test_evaluating_again_writes_the_same(copy, manifest, bundle_folder):
    """No chance in it; and nothing of the first evaluation enters the second."""
    for name in ("metrics.json", "predictions.csv"):
        (copy / name).unlink()
    evaluation = evaluate(copy, manifest)
    assert files_of(copy) == files_of(bundle_folder)
    assert list(evaluation.probabilities) == list(NAMES)
    assert len(evaluation.images) == len(evaluation.labels)


# --- chosen on validation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_operating_point_is_that_of_validation(content, probabilities, manifest, name):
    dataset, _ = open_dataset(manifest)
    validation = probabilities["validation"]
    found = entry(content, name)
    threshold = found["operating_point"]["threshold"]
    assert threshold == pytest.approx(operating_point(validation["labels"], validation[name]), abs=1e-6)
    assert "validation" in found["operating_point"]["rule"]
    patients = np.array([image.patient for image in dataset.split("validation")])
    expected = measure(validation["labels"], validation[name], threshold, patients)
    assert found["validation"].keys() == expected.keys()
    for metric, values in expected.items():
        assert found["validation"][metric]["value"] == pytest.approx(values["value"], abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_heat_scale_is_that_of_validation(content, bundle, manifest, name, method):
    """The 90th percentile, by hand, of the largest value of each image's map for its class."""
    dataset, source = open_dataset(manifest)
    explainer = Explainer(bundle, method)
    found = content["networks"][name]["saliency"][method]
    peaks = {label: [] for label in CLASS_NAMES}
    for image in dataset.split("validation"):
        radiograph = read_radiograph(source.read(image.file), image.file)
        peaks[image.label].append(float(explainer.explain(name, radiograph, image.label).values.max()))
    everything = sorted(peak for label in CLASS_NAMES for peak in peaks[label] if peak > 0)
    for label in CLASS_NAMES:
        drawn = sorted(peak for peak in peaks[label] if peak > 0)
        assert found["maps"][label] == len(peaks[label])
        assert found["empty_maps"][label] == len(peaks[label]) - len(drawn)
        drawn = drawn or everything
        place = 0.9 * (len(drawn) - 1)
        below, above = drawn[math.floor(place)], drawn[math.ceil(place)]
        expected = below + (place - math.floor(place)) * (above - below)
        assert found["scale"][label] == pytest.approx(expected, rel=1e-3)
        assert found["scale"][label] > 0


def test_bundle_is_made_without_the_test_images(runs, images, bundle_folder, tmp_path):
    """They are not there; so nothing was chosen by them."""
    folder = Path(shutil.copytree(images, tmp_path / "chest_xray"))
    build_dataset(open_source(folder)).save(tmp_path / "dataset.json")
    shutil.rmtree(folder / "test")
    make_bundle(runs, tmp_path / "dataset.json", tmp_path / "models")
    made, evaluated = (read_json(path / "manifest.json") for path in (tmp_path / "models", bundle_folder))
    for found in (*evaluated["networks"].values(), evaluated["together"]):
        assert found.pop("test")
    del evaluated["floors"]
    for content in (made, evaluated):
        for found in content["networks"].values():
            del found["sha256"]  # Keras writes the time into its files
    assert made == evaluated


def test_files_of_the_bundle_are_those_of_its_manifest(bundle_folder, content):
    assert files_of(bundle_folder).keys() == {
        "manifest.json",
        "metrics.json",
        "predictions.csv",
        *(f"{name}.keras" for name in ARCHITECTURES),
    }
    assert list(content["networks"]) == list(ARCHITECTURES)
    for name, found in content["networks"].items():
        assert found["file"] == f"{name}.keras"
        assert found["sha256"] == hashlib.sha256((bundle_folder / found["file"]).read_bytes()).hexdigest()
        assert found["architecture"] == name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_networks_are_the_best_of_their_runs_and_open_with_plain_keras(bundle_folder, runs, content, name):
    model = keras.models.load_model(bundle_folder / f"{name}.keras")
    best = keras.models.load_model(runs / name / "best.keras", compile=False)
    for one, other in zip(model.get_weights(), best.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    record = read_json(runs / name / "run.json")
    for key in ("recipe", "best", "minutes", "libraries", "commit"):
        assert content["networks"][name][key] == record[key]


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.fixture
def other_manifest(images, tmp_path) -> Path:
    """The same images, split by another seed."""
    expected = build_dataset(open_source(images)).fingerprint
    for seed in range(1, 20):
        dataset = build_dataset(open_source(images), seed)
        if dataset.fingerprint != expected:
            dataset.save(tmp_path / "other.json")
            return tmp_path / "other.json"
    raise AssertionError("no other split")


def test_bundle_of_other_data_is_not_evaluated(copy, other_manifest):
    before = files_of(copy)
    with pytest.raises(TrainingError, match="the data that it was made with") as caught:
        evaluate(copy, other_manifest)
    assert "\n" not in str(caught.value)
    assert files_of(copy) == before


def test_changed_test_image_is_not_evaluated(copy, images, tmp_path):
    folder = Path(shutil.copytree(images, tmp_path / "chest_xray"))
    build_dataset(open_source(folder)).save(tmp_path / "dataset.json")
    path = folder / "test/NORMAL/IM-0005-0001.jpeg"
    path.write_bytes(path.read_bytes() + b" ")
    before = files_of(copy)
    with pytest.raises(DataError, match="has changed since"):
        evaluate(copy, tmp_path / "dataset.json")
    assert files_of(copy) == before


def test_runs_of_other_data_are_not_bundled(runs, other_manifest, tmp_path):
    with pytest.raises(TrainingError, match=r"was not\. Train it again"):
        make_bundle(runs, other_manifest, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def no_runs(folder):
    shutil.rmtree(folder)


def no_run(folder):
    shutil.rmtree(folder / "cnn_lstm")


def unfinished(folder):
    (folder / "cnn_rnn" / "run.json").unlink()


def no_network(folder):
    (folder / "cnn" / "best.keras").unlink()


def cut_record(folder):
    path = folder / "cnn" / "run.json"
    path.write_text(path.read_text()[:100])


def empty_record(folder):
    (folder / "cnn" / "run.json").write_text("{}")


def list_for_a_record(folder):
    (folder / "cnn" / "run.json").write_text("[]")


@pytest.mark.parametrize(
    "damage", [no_runs, no_run, unfinished, no_network, cut_record, empty_record, list_for_a_record]
)
def test_bundle_needs_every_run(runs, manifest, tmp_path, damage):
    folder = Path(shutil.copytree(runs, tmp_path / "runs"))
    damage(folder)
    with pytest.raises(TrainingError, match="Run `python -m training train`") as caught:
        make_bundle(folder, manifest, tmp_path / "models")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "models").exists()


# --- the table --------------------------------------------------------------------------------------------------

MARKED = "# Title\n\n<!-- table:test -->\nold\n<!-- /table:test -->\n\nEnd \\1.\n"


def test_table_says_what_the_manifest_says(bundle_folder, content):
    head, line, *body, empty, sentence = table(bundle_folder).splitlines()
    assert (empty, sentence.count("CNN")) == ("", len(ARCHITECTURES))
    for name in ARCHITECTURES:
        low, high = content["networks"][name]["test"]["auc_above_floor"]["interval"]
        assert f"[{low:+.3f}, {high:+.3f}]" in sentence
    assert head.startswith("| | ROC AUC | accuracy at the operating point |")
    assert set(line) == {"|", "-"}
    assert len(body) == len(NAMES) + len(content["floors"])
    for text, name in zip(body, NAMES, strict=False):
        auc = content["together"]["test"]["auc"] if name == "together" else content["networks"][name]["test"]["auc"]
        low, high = auc["interval"]
        assert f"| {auc['value']:.3f} [{low:.3f}, {high:.3f}] |" in text
    assert len({text.count("|") for text in (head, line, *body)}) == 1


def test_table_of_a_bundle_that_was_not_evaluated_is_blank(copy):
    content = read_json(copy / "manifest.json")
    del content["floors"]
    for found in (*content["networks"].values(), content["together"]):
        del found["test"]
    (copy / "manifest.json").write_text(json.dumps(content))
    for line in table(copy).splitlines()[2:]:
        assert set(line.split("|")[2:-1]) == {" - "}


@pytest.mark.parametrize("content", ["| a |", "| \\1 \\g<0> |", "| < 0.1 % |\n|---|"])
def test_table_is_put_between_the_marks(tmp_path, content):
    readme = tmp_path / "README.md"
    readme.write_text(MARKED)
    for _ in range(2):
        insert_table(readme, content)
        assert readme.read_text() == MARKED.replace("old", content)


@pytest.mark.parametrize(
    "text", ["", "# Title\n", "<!-- table:test -->\n", "<!-- /table:test -->\n<!-- table:test -->\n"]
)
def test_file_without_marks_is_left_alone(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(TrainingError, match="table:test"):
        insert_table(readme, "| a |")
    assert readme.read_text() == text


@pytest.mark.parametrize("name", ["absent.md", ".", "binary.md"])
def test_file_that_cannot_be_read(tmp_path, name):
    (tmp_path / "binary.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrainingError, match="must be text that can be read"):
        insert_table(tmp_path / name, "| a |")
