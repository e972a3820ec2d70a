"""What is said of one radiograph: decisions, words, warnings and the record."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from pneumo.bundle import OPERATING_POINTS, load_bundle
from pneumo.classifier import Classifier, JointPrediction, Prediction, decide
from pneumo.cover import covered
from pneumo.covering import COVERS, PAINTED, Covering
from pneumo.errors import UnknownNameError
from pneumo.evidence import evidence_of
from pneumo.examination import TARGETS, Examination, Examiner, uncertain_words
from pneumo.framing import RASTER, WHOLE, needs_lungs
from pneumo.lungs import ZONES, Lungs
from pneumo.methods import DEFAULT_METHOD, METHODS
from pneumo.radiograph import read_radiograph
from pneumo.records import ExaminationRecord, SaliencyRecord
from pneumo.report import percent
from pneumo.saliency import Heatmap
from pneumo.zoo import ARCHITECTURES

RECORD = TypeAdapter(ExaminationRecord)
MAPS = {"drawn": [[0, 1], [2, 0]], "empty": [[0, 0], [0, 0]], "not finite": [[0, np.nan], [2, 0]]}


@pytest.fixture(scope="module")
def bundle(tiny_examiner):
    return tiny_examiner.bundle


@pytest.fixture(scope="module")
def examiner(bundle):
    return Examiner(bundle)


@pytest.fixture(scope="module")
def radiograph(images):
    return read_radiograph(images / "test" / "PNEUMONIA" / "person100_bacteria_482.jpeg")


def heatmap(values, target="PNEUMONIA") -> Heatmap:
    return Heatmap("gradcam", target, np.array(values, np.float32), WHOLE, 4.0)


def assert_same(found: dict[str, Prediction], expected: dict[str, Prediction]) -> None:
    """Predictions of all networks at once and of one after the other differ by rounding alone."""
    assert list(found) == list(expected)
    for name, prediction in expected.items():
        assert found[name].probability == pytest.approx(prediction.probability, abs=1e-5)
        assert (found[name].threshold, found[name].decision) == (prediction.threshold, prediction.decision)


def examination(radiograph, calls: dict[str, bool], **fields) -> Examination:
    predictions = {name: Prediction(0.9 if call else 0.1, 0.5) for name, call in calls.items()}
    return Examination(**{"heatmaps": {}, "together": None, **fields}, radiograph=radiograph, predictions=predictions)


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
    found = Examination(radiograph, predictions, {}, None)
    assert found.calling_pneumonia == ("cnn_lstm", "cnn_rnn")


PRECEDENTS = {"images": 40, "pneumonia": 10, "share": 0.25, "interval": [0.14, 0.4], "of": 624, "prevalence": 0.625}


def test_meaning(radiograph):
    found = examination(radiograph, {"cnn": True}, precedents=PRECEDENTS)
    for words in ("40 of the 624 official test images", "25 %", "14 %", "40 %", "62 %"):
        assert words in found.meaning
    assert found.record()["summary"] == f"CNN calls pneumonia. {found.meaning}"


def test_meaning_of_an_answer_that_no_test_image_got(radiograph):
    precedents = {**PRECEDENTS, "images": 0, "pneumonia": 0, "share": None, "interval": None}
    assert examination(radiograph, {"cnn": True}, precedents=precedents).meaning == ""


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
    assert heatmap(values, "NORMAL").status_words == words


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


def test_heat_against_the_lungs_is_told(radiograph):
    lungs = two_lungs()
    inside, outside = lungs.zones()["left_lower"], ~lungs.mask
    maps = {"cnn": heatmap(inside), "cnn_lstm": heatmap(outside), "cnn_rnn": heatmap(lungs.zones()["right_upper"])}
    found = examination(radiograph, dict.fromkeys(ARCHITECTURES, True), heatmaps=maps, lungs=lungs)
    assert (
        found.heat_warnings
        == found.warnings
        == (
            "CNN-LSTM: its heat lies no better in the lungs than chance; do not believe its map.",
            "The networks point at different zones: CNN at the left lower zone, CNN-RNN at the right upper zone.",
        )
    )
    saliency = {name: entry["saliency"] for name, entry in found.record()["networks"].items()}
    assert [saliency[name]["share_in_lungs"] for name in ARCHITECTURES] == [1, 0, 1]
    assert saliency["cnn"]["peak_zone"] == "left_lower"
    assert valid(found.record())


@pytest.mark.parametrize(
    ("misplaced", "words"),
    [
        (("cnn_rnn",), "CNN-RNN: its heat lies no better in the lungs than chance; do not believe its map."),
        (
            ("cnn", "cnn_rnn"),
            "CNN and CNN-RNN: their heat lies no better in the lungs than chance; do not believe their maps.",
        ),
        (
            ("cnn", "cnn_lstm", "cnn_rnn"),
            "CNN, CNN-LSTM and CNN-RNN: their heat lies no better in the lungs than chance; do not believe their maps.",
        ),
    ],
)
def test_networks_with_misplaced_heat_are_named_in_one_warning(radiograph, misplaced, words):
    lungs = two_lungs()
    inside, outside = lungs.zones()["left_lower"], ~lungs.mask
    maps = {name: heatmap(outside if name in misplaced else inside) for name in ARCHITECTURES}
    found = examination(radiograph, dict.fromkeys(ARCHITECTURES, True), heatmaps=maps, lungs=lungs)
    assert found.heat_warnings == (words,)


def two_lungs() -> Lungs:
    right, left = np.zeros((2, RASTER, RASTER), bool)
    right[20:188, 28:84] = True
    left[20:200, 140:196] = True
    return Lungs(right, left)


def test_no_warnings(radiograph):
    maps = {"cnn": heatmap(two_lungs().mask)}
    together = JointPrediction(0.7, 0.5, 0.3, 0.7)
    found = examination(radiograph, {"cnn": True}, heatmaps=maps, together=together, lungs=two_lungs())
    assert found.warnings == ()


def test_lungs_record(radiograph):
    found = examination(radiograph, {"cnn": True}, lungs=two_lungs())
    record = found.record()
    assert record["lungs"] == {
        "found": True,
        "reason": "",
        "share": round(56 * (168 + 180) / 224**2, 4),
        "box": [0.125, round(20 / 224, 4), 0.875, round(200 / 224, 4)],
    }
    assert valid(record)
    assert examination(radiograph, {"cnn": True}).record()["lungs"] is None


def test_lungs_that_were_not_found(radiograph):
    nothing = np.zeros((RASTER, RASTER), bool)
    found = examination(radiograph, {"cnn": True}, lungs=Lungs(nothing, nothing, "Only one lung was found."))
    (warning,) = found.warnings
    assert warning.startswith("Only one lung was found. The networks were shown the whole image")
    record = found.record()
    assert record["lungs"] == {"found": False, "reason": "Only one lung was found.", "share": 0, "box": None}
    assert record["warnings"] == [warning]
    assert valid(record)


def test_uncertain(radiograph):
    together = JointPrediction(0.4, 0.5, 0.3, 0.65)
    found = examination(radiograph, dict.fromkeys(ARCHITECTURES, True), together=together)
    assert found.warnings == (uncertain_words(together),)
    for words in ("40.0 %", "30.0 %", "65.0 %"):
        assert words in found.warnings[0]
    record = found.record()
    assert record["together"] == {"probability": 0.4, "threshold": 0.5, "decision": "NORMAL", "uncertain": True}
    assert valid(record)
    certain = dataclasses.replace(found, together=dataclasses.replace(together, probability=0.65))
    assert certain.warnings == ()
    assert certain.record()["together"]["uncertain"] is False


def test_warnings_are_in_order():
    nothing = np.zeros((RASTER, RASTER), bool)
    found = examination(
        read_radiograph(np.full((64, 64), 4000, np.uint16)),
        {"cnn": True},
        notices=("The cache was used.",),
        lungs=Lungs(nothing, nothing, "No lung was found."),
        together=JointPrediction(0.5, 0.5, 0.4, 0.6),
        heatmaps={"cnn": heatmap(MAPS["empty"])},
    )
    starts = ("The cache", "Its 16-bit", "No lung was found.", "Together the networks are uncertain", "CNN: no")
    assert len(found.warnings) == len(starts)
    for warning, start in zip(found.warnings, starts, strict=True):
        assert warning.startswith(start)


def valid(record) -> bool:
    """Whether a record is as its type says, with no key beside, before and after it was JSON."""
    text = json.dumps(record, allow_nan=False)
    return RECORD.validate_python(record, strict=True) == record == RECORD.validate_json(text, strict=True)


@pytest.mark.parametrize("operating_point", [*OPERATING_POINTS, 0.25, "0.25"])
def test_record(bundle, examiner, radiograph, operating_point):
    found = examiner.examine(radiograph, operating_point)
    record = found.record()
    assert valid(record)
    keys = ["file", "operating_point", "networks", "together", "lungs", "header", "gate"]
    keys += ["agreement", "summary", "warnings"]
    assert list(record) == keys
    assert (record["file"], record["header"]) == ("person100_bacteria_482.jpeg", None)
    assert record["operating_point"] == (operating_point if operating_point in OPERATING_POINTS else "custom")
    assert list(record["networks"]) == list(ARCHITECTURES)
    for name, entry in record["networks"].items():
        prediction, network = found.predictions[name], bundle.networks[name]
        assert entry["probability"] == pytest.approx(prediction.probability, abs=1e-6)
        threshold = network.thresholds.get(operating_point, 0.25)
        assert entry["threshold"] == pytest.approx(threshold, abs=1e-6)
        assert entry["decision"] == ("PNEUMONIA" if prediction.probability >= threshold else "NORMAL")
        assert entry["saliency"].keys() == SaliencyRecord.__annotations__.keys()
        evidence = found.heat_evidence[name]
        if evidence is None:
            assert entry["saliency"]["share_in_lungs"] is None
        else:
            assert entry["saliency"]["share_in_lungs"] == pytest.approx(evidence.share_in_lungs, abs=1e-4)
            assert entry["saliency"]["chance"] == pytest.approx(evidence.chance, abs=1e-4)
            seen = found.heatmaps[name].box.clipped(RASTER, RASTER)
            assert evidence.chance == found.lungs.mask[seen].mean() > found.lungs.share
            assert entry["saliency"]["zones"] == pytest.approx(evidence.zones, abs=1e-4)
            assert entry["saliency"]["words"] == evidence.words
        assert entry["saliency"]["method"] == DEFAULT_METHOD
        assert entry["saliency"]["target"] == entry["decision"]
    mean = np.mean([prediction.probability for prediction in found.predictions.values()])
    consensus = bundle.consensus
    threshold = consensus.thresholds.get(operating_point, 0.25)
    assert record["together"] == {
        "probability": pytest.approx(mean, abs=1e-6),
        "threshold": pytest.approx(threshold, abs=1e-6),
        "decision": decide(mean, threshold),
        "uncertain": bool(consensus.low <= mean < consensus.high),
    }
    assert any("uncertain" in warning for warning in found.warnings) == record["together"]["uncertain"]
    lungs = bundle.prepare(radiograph).lungs
    assert record["lungs"] == {
        "found": True,
        "reason": "",
        "share": round(lungs.share, 4),
        "box": [round(edge, 4) for edge in dataclasses.astuple(lungs.box)],
    }
    # How often an answer was right is known of the default operating point alone.
    assert (found.precedents is None) == (found.meaning == "") == (operating_point != OPERATING_POINTS[0])


@pytest.mark.parametrize("operating_point", ["", "sensitive", 0, 1, float("nan")])
def test_no_operating_point(examiner, radiograph, operating_point):
    with pytest.raises(UnknownNameError, match="An operating point must be balanced or screening"):
        examiner.examine(radiograph, operating_point)


def test_higher_thresholds_call_less(examiner, radiograph):
    counts = [len(examiner.examine(radiograph, point).calling_pneumonia) for point in (0.001, 0.25, 0.5, 0.999)]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (3, 0)


def test_image_without_lungs(bundle, examiner):
    assert all(needs_lungs(network.framing) for network in bundle.networks.values())
    found = examiner.examine(read_radiograph(np.full((300, 400), 90, np.uint8)))
    assert not found.lungs.found
    assert [heat.box for heat in found.heatmaps.values()] == [WHOLE] * 3
    assert found.warnings[0].startswith(f"{found.lungs.reason} The networks were shown the whole image")
    record = found.record()
    assert record["lungs"] == {"found": False, "reason": found.lungs.reason, "share": 0, "box": None}
    assert valid(record)


def test_examination_is_that_of_its_parts(bundle, examiner, radiograph):
    found = examiner.examine(radiograph)
    assert found.radiograph is radiograph
    prepared = bundle.prepare(radiograph)
    assert_same(found.predictions, Classifier(bundle).predict(prepared))
    assert np.array_equal(found.lungs.mask, prepared.lungs.mask)
    assert [heat.box for heat in found.heatmaps.values()] == [
        prepared.box(network.framing) for network in bundle.networks.values()
    ]
    assert {name: heat.target for name, heat in found.heatmaps.items()} == {
        name: prediction.decision for name, prediction in found.predictions.items()
    }


def test_precedents_are_the_test_images(bundle, examiner, images):
    test = bundle.manifest["together"]["test"]
    seen = {}
    paths = sorted((images / "test").rglob("*.jpeg"))
    for path in paths:
        found = examiner.examine(read_radiograph(path))
        positive = len(found.calling_pneumonia)
        seen.setdefault(positive, []).append("PNEUMONIA" in path.parts)
        assert found.precedents["of"] == test["images"] == len(paths)
        assert (
            f" networks calling pneumonia; {percent(found.precedents['share'], 0)} of those are labelled pneumonia"
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
    assert found.precedents is None
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
    network = bundle.networks["cnn"]
    last = network.model.get_layer("probability")
    last.set_weights([np.zeros_like(weight) for weight in last.get_weights()])
    found = Examiner(bundle).examine(radiograph)
    assert found.predictions["cnn"].probability == pytest.approx(1 / (1 + np.exp(-network.offset)))
    decision = found.predictions["cnn"].decision
    assert found.warnings == (f"CNN: no positive evidence for {decision} was found, so no heatmap is drawn.",)


# --- what is explained, and what is covered ---------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_method_is_chosen_by_name(examiner, radiograph, method):
    found = examiner.examine(radiograph, method=method)
    assert {heat.method for heat in found.heatmaps.values()} == {method}
    assert found.predictions == examiner.examine(radiograph).predictions


@pytest.mark.parametrize("target", TARGETS)
def test_class_is_chosen_by_name(examiner, radiograph, target):
    found = examiner.examine(radiograph, target=target)
    for name, heat in found.heatmaps.items():
        assert heat.target == (found.predictions[name].decision if target == "decided" else target)


@pytest.mark.parametrize("cover", ZONES)
def test_zone_is_covered_for_all(examiner, bundle, radiograph, cover):
    found = examiner.examine(radiograph, cover=cover)
    prepared = bundle.prepare(radiograph)
    zone = prepared.lungs.zones()[cover]
    again = Classifier(bundle).predict(covered(prepared, zone))
    assert found.coverings.keys() == found.predictions.keys()
    assert_same({name: covering.after for name, covering in found.coverings.items()}, again)
    for name, covering in found.coverings.items():
        assert (covering.region, covering.before) == (cover, found.predictions[name])
        np.testing.assert_array_equal(covering.mask, zone)
        assert covering.after.probability != covering.before.probability


def test_hottest_zone_is_that_of_each_network(examiner, radiograph):
    found = examiner.examine(radiograph, method="occlusion-zones", target="PNEUMONIA", cover="hottest")
    evidence = {name: evidence_of(heat, found.lungs) for name, heat in found.heatmaps.items()}
    assert {name: item.region for name, item in found.coverings.items()} == {
        name: item.main_zone for name, item in evidence.items() if item
    }
    assert found.coverings


def test_painted_region_is_covered(examiner, bundle, radiograph):
    region = np.zeros((RASTER, RASTER), bool)
    region[80:150, 60:100] = True
    found = examiner.examine(radiograph, cover=region)
    again = Classifier(bundle).predict(covered(bundle.prepare(radiograph), region))
    assert_same({name: covering.after for name, covering in found.coverings.items()}, again)
    assert {covering.region for covering in found.coverings.values()} == {PAINTED}


def test_covering_is_recorded(examiner, radiograph):
    found = examiner.examine(radiograph, "screening", cover="left_lower")
    record = found.record()
    RECORD.validate_python(record)
    assert json.loads(json.dumps(record)) == record
    for name, covering in found.coverings.items():
        entry = record["networks"][name]["covered"]
        assert (entry["region"], entry["words"]) == ("left_lower", covering.words)
        assert entry["probability"] == pytest.approx(covering.after.probability, abs=1e-6)
        assert entry["threshold"] == record["networks"][name]["threshold"]
    assert all(entry["covered"] is None for entry in examiner.examine(radiograph).record()["networks"].values())


@pytest.mark.parametrize(
    ("region", "after", "words"),
    [
        ("left_lower", 0.2, "With the left lower zone covered, 90.0 % becomes 20.0 %: NORMAL."),
        ("right_upper", 0.8, "With the right upper zone covered, 90.0 % becomes 80.0 %: still PNEUMONIA."),
        (PAINTED, 0.2, "With the painted region covered, 90.0 % becomes 20.0 %: NORMAL."),
    ],
)
def test_words_of_a_covering(region, after, words):
    mask = np.zeros((RASTER, RASTER), bool)
    assert Covering(region, mask, Prediction(0.9, 0.5), Prediction(after, 0.5)).words == words


@pytest.mark.parametrize("cover", [cover for cover in COVERS if cover])
def test_without_lungs_no_zone_is_covered(examiner, cover):
    found = examiner.examine(read_radiograph(np.full((224, 224), 90, np.uint8)), cover=cover)
    assert not found.lungs.found
    assert found.coverings == {}


@pytest.mark.parametrize(
    "choice", [{"method": "lime"}, {"target": "normal"}, {"cover": "left"}, {"cover": "HOTTEST"}], ids=str
)
def test_unknown_choice(examiner, radiograph, choice):
    with pytest.raises(UnknownNameError, match=f"received '{next(iter(choice.values()))}'"):
        examiner.examine(radiograph, **choice)
