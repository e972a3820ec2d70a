"""What is said of one radiograph: decisions, words, warnings and the record."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from pneumo.bundle import load_bundle
from pneumo.classifier import Classifier, Prediction, decide
from pneumo.examination import Examination, ExaminationRecord, Examiner, heat_words
from pneumo.radiograph import read_radiograph
from pneumo.report import percent
from pneumo.saliency import Heatmap
from pneumo.zoo import ARCHITECTURES

RECORD = TypeAdapter(ExaminationRecord)
MAPS = {"drawn": [[0, 1], [2, 0]], "empty": [[0, 0], [0, 0]], "not finite": [[0, np.nan], [2, 0]]}


@pytest.fixture(scope="module")
def bundle(bundle_folder):
    return load_bundle(bundle_folder)


@pytest.fixture(scope="module")
def examiner(bundle):
    return Examiner(bundle)


@pytest.fixture(scope="module")
def radiograph(images):
    return read_radiograph(images / "test" / "PNEUMONIA" / "person100_bacteria_482.jpeg")


def heatmap(values, target="PNEUMONIA") -> Heatmap:
    return Heatmap("gradcam", target, np.array(values, np.float32), 4.0)


def examination(radiograph, calls: dict[str, bool], **fields) -> Examination:
    predictions = {name: Prediction(0.9 if call else 0.1, 0.5) for name, call in calls.items()}
    return Examination(
        **{"heatmaps": {}, "together": None, "evidence": None, **fields}, radiograph=radiograph, predictions=predictions
    )


@pytest.mark.parametrize(
    ("probability", "threshold", "decision"),
    [
        (0.0, 0.5, "NORMAL"),
        (0.4999999, 0.5, "NORMAL"),
        (0.5, 0.5, "PNEUMONIA"),
        (1.0, 0.5, "PNEUMONIA"),
        (0.7, 0.83, "NORMAL"),
        (0.83, 0.83, "PNEUMONIA"),
        (0.1, 0.05, "PNEUMONIA"),
        (1.0, 1.0, "PNEUMONIA"),
        (0.0, 0.0, "PNEUMONIA"),
    ],
)
def test_decision(probability, threshold, decision):
    assert decide(probability, threshold) == Prediction(probability, threshold).decision == decision


# Which networks were asked and call pneumonia, and the sentence for it.
HEADLINES = [
    ({"cnn": False}, "CNN calls normal."),
    ({"cnn_rnn": True}, "CNN-RNN calls pneumonia."),
    ({"cnn": False, "cnn_lstm": False}, "Both networks call normal."),
    ({"cnn": True, "cnn_rnn": True}, "Both networks call pneumonia."),
    ({"cnn": False, "cnn_rnn": True}, "The networks disagree: CNN-RNN calls pneumonia, CNN calls normal."),
    ({"cnn": False, "cnn_lstm": False, "cnn_rnn": False}, "All three networks call normal."),
    (
        {"cnn": False, "cnn_lstm": True, "cnn_rnn": False},
        "The networks disagree: CNN-LSTM calls pneumonia, CNN and CNN-RNN call normal.",
    ),
    (
        {"cnn": True, "cnn_lstm": True, "cnn_rnn": False},
        "The networks disagree: CNN and CNN-LSTM call pneumonia, CNN-RNN calls normal.",
    ),
    ({"cnn": True, "cnn_lstm": True, "cnn_rnn": True}, "All three networks call pneumonia."),
]


@pytest.mark.parametrize(("calls", "headline"), HEADLINES)
def test_headline(radiograph, calls, headline):
    found = examination(radiograph, calls)
    positive = tuple(name for name, call in calls.items() if call)
    assert found.headline == headline
    assert found.calling_pneumonia == positive
    assert found.unanimous == (len(set(calls.values())) == 1)
    assert found.meaning == ""
    record = found.record()
    assert record["summary"] == headline
    assert record["agreement"] == {
        "calling_pneumonia": len(positive),
        "networks": len(calls),
        "unanimous": found.unanimous,
    }


def test_headline_follows_each_threshold(radiograph):
    predictions = {"cnn": Prediction(0.6, 0.7), "cnn_lstm": Prediction(0.6, 0.6), "cnn_rnn": Prediction(0.6, 0.5)}
    found = Examination(radiograph, predictions, {}, None, None)
    assert found.calling_pneumonia == ("cnn_lstm", "cnn_rnn")


EVIDENCE = {"images": 40, "pneumonia": 10, "share": 0.25, "interval": [0.14, 0.4], "of": 624, "prevalence": 0.625}


def test_meaning(radiograph):
    found = examination(radiograph, {"cnn": True}, evidence=EVIDENCE)
    for words in ("40 of the 624 official test images", "25 %", "14 %", "40 %", "62 %"):
        assert words in found.meaning
    assert found.record()["summary"] == f"CNN calls pneumonia. {found.meaning}"


def test_meaning_of_an_answer_that_no_test_image_got(radiograph):
    evidence = {**EVIDENCE, "images": 0, "pneumonia": 0, "share": None, "interval": None}
    assert examination(radiograph, {"cnn": True}, evidence=evidence).meaning == ""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (MAPS["drawn"], ""),
        (MAPS["empty"], "no positive evidence for NORMAL was found, so no heatmap is drawn."),
        (MAPS["not finite"], "the heatmap has values that are not finite, so none is drawn."),
    ],
    ids=MAPS,
)
def test_heat_words(values, words):
    assert heat_words(heatmap(values, "NORMAL")) == words


def test_warnings():
    values = np.full((64, 64), 4000, np.uint16)
    maps = dict(zip(ARCHITECTURES, (heatmap(values) for values in MAPS.values()), strict=True))
    found = examination(read_radiograph(values), dict.fromkeys(ARCHITECTURES, True), heatmaps=maps)
    assert found.warnings == (
        "Its 16-bit values are all below 4096 and were read as 12-bit.",
        "CNN-LSTM: no positive evidence for PNEUMONIA was found, so no heatmap is drawn.",
        "CNN-RNN: the heatmap has values that are not finite, so none is drawn.",
    )
    record = found.record()
    assert record["warnings"] == list(found.warnings)
    assert [entry["saliency"]["status"] for entry in record["networks"].values()] == list(MAPS)
    assert [entry["saliency"]["peak"] for entry in record["networks"].values()] == [0.5, 0, None]
    assert valid(record)


def test_no_warnings(radiograph):
    maps = {"cnn": heatmap(MAPS["drawn"])}
    assert examination(radiograph, {"cnn": True}, heatmaps=maps).warnings == ()


def valid(record) -> bool:
    """Whether a record is as its type says, with no key beside, before and after it was JSON."""
    text = json.dumps(record, allow_nan=False)
    return RECORD.validate_python(record, strict=True) == record == RECORD.validate_json(text, strict=True)


def test_record(bundle, examiner, radiograph):
    found = examiner.examine(radiograph)
    record = found.record()
    assert valid(record)
    assert list(record) == ["file", "networks", "together", "agreement", "summary", "warnings"]
    assert record["file"] == "person100_bacteria_482.jpeg"
    assert list(record["networks"]) == list(ARCHITECTURES)
    for name, entry in record["networks"].items():
        prediction, network = found.predictions[name], bundle.networks[name]
        assert entry["probability"] == pytest.approx(prediction.probability, abs=1e-6)
        assert entry["threshold"] == pytest.approx(network.threshold, abs=1e-6)
        assert entry["decision"] == ("PNEUMONIA" if prediction.probability >= network.threshold else "NORMAL")
        assert entry["saliency"].keys() == {"method", "target", "status", "peak"}
        assert entry["saliency"]["method"] == "gradcam"
        assert entry["saliency"]["target"] == entry["decision"]
    mean = np.mean([prediction.probability for prediction in found.predictions.values()])
    assert record["together"] == {
        "probability": pytest.approx(mean, abs=1e-6),
        "threshold": pytest.approx(bundle.threshold, abs=1e-6),
        "decision": decide(mean, bundle.threshold),
    }


def test_examination_is_that_of_its_parts(bundle, examiner, radiograph):
    found = examiner.examine(radiograph)
    assert found.radiograph is radiograph
    assert found.predictions == Classifier(bundle).predict(radiograph)
    assert {name: heat.target for name, heat in found.heatmaps.items()} == {
        name: prediction.decision for name, prediction in found.predictions.items()
    }


def test_evidence_is_that_of_the_test_images(bundle, examiner, images):
    test = bundle.manifest["together"]["test"]
    seen = {}
    for path in sorted((images / "test").rglob("*.jpeg")):
        found = examiner.examine(read_radiograph(path))
        positive = len(found.calling_pneumonia)
        seen.setdefault(positive, []).append("PNEUMONIA" in path.parts)
        assert found.evidence["of"] == test["images"] == 13
        assert (
            f" networks calling pneumonia; {percent(found.evidence['share'], 0)} of those are labelled pneumonia"
            in found.meaning
        )
    # Counted here once more.
    for positive, labels in seen.items():
        entry = test["agreement"][str(positive)]
        assert (entry["images"], entry["pneumonia"]) == (len(labels), sum(labels))


@pytest.mark.parametrize("names", [("cnn",), ("cnn_rnn", "cnn")])
def test_networks_left_out(bundle_folder, examiner, radiograph, names):
    found = Examiner(load_bundle(bundle_folder, names)).examine(radiograph)
    assert set(found.predictions) == set(found.heatmaps) == set(names)
    assert found.together is None
    # How test images with this answer turned out is known of the three alone.
    assert found.evidence is None
    assert found.meaning == ""
    record = found.record()
    assert record["together"] is None
    assert valid(record)
    whole = examiner.examine(radiograph).record()
    assert record["networks"] == {name: whole["networks"][name] for name in ARCHITECTURES if name in names}


def test_bundle_of_some_networks(bundle_folder, tmp_path, radiograph):
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "models"))
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["networks"]["cnn_lstm"]
    (folder / "manifest.json").write_text(json.dumps({**manifest, "together": None}))
    found = Examiner(load_bundle(folder)).examine(radiograph)
    assert list(found.predictions) == ["cnn", "cnn_rnn"]
    assert found.together is None
    assert valid(found.record())


def test_without_heatmaps(bundle, radiograph):
    found = Examiner(bundle, saliency=None).examine(radiograph)
    assert found.heatmaps == {}
    record = found.record()
    assert [entry["saliency"] for entry in record["networks"].values()] == [None] * 3
    assert valid(record)


def test_network_that_finds_nothing(bundle_folder, radiograph):
    bundle = load_bundle(bundle_folder, ("cnn",))
    last = bundle.networks["cnn"].model.get_layer("probability")
    last.set_weights([np.zeros_like(weight) for weight in last.get_weights()])
    found = Examiner(bundle).examine(radiograph)
    assert found.predictions["cnn"].probability == 0.5
    decision = found.predictions["cnn"].decision
    assert found.warnings == (f"CNN: no positive evidence for {decision} was found, so no heatmap is drawn.",)
