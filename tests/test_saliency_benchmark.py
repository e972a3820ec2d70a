"""The measures of `python -m benchmarks saliency`, on a judge whose evidence is known."""

import json
import shutil

import cv2
import numpy as np
import pytest
import scipy.integrate

from benchmarks.faithfulness import Judge as NetworkJudge
from benchmarks.faithfulness import average_drop, curves, imputed, road, sight
from benchmarks.saliency import (
    BASELINES,
    _affordable,
    _called,
    _Case,
    _forgetful,
    _instead,
    _likeness,
    _opaque_share,
    saliency,
)
from pneumo.bundle import EMBEDDED, MANIFEST, SALIENCY, load_bundle
from pneumo.classifier import Classifier, logit
from pneumo.framing import RASTER, WHOLE, Prepared
from pneumo.lungs import lungs_of
from pneumo.methods import DEFAULT_METHOD
from pneumo.radiograph import read_radiograph
from pneumo.saliency import Heatmap
from pneumo.zoo import ARCHITECTURES
from training.saliency_table import best_method, default_table, saliency_table

SIZE = 56


class Judge:
    """Looks at one corner alone: its probability is what is bright there."""

    def ask(self, images: np.ndarray) -> np.ndarray:
        return logit(images[:, :16, :16].mean(axis=(1, 2)))


@pytest.fixture
def image() -> np.ndarray:
    """Bright in that corner, black elsewhere."""
    found = np.zeros((SIZE, SIZE), np.float32)
    found[:16, :16] = 1
    return found


def corner(row: int, column: int) -> np.ndarray:
    values = np.zeros((14, 14))
    values[row : row + 4, column : column + 4] = 1
    return values


def gain(image: np.ndarray, values: np.ndarray) -> float:
    return curves(Judge(), sight(Judge(), image), values)["gain"]


def test_right_map_deletes_at_once_and_inserts_at_once(image):
    seen = sight(Judge(), image)
    right, wrong = (curves(Judge(), seen, corner(*place)) for place in ((0, 0), (10, 10)))
    assert right["gain"] == right["insertion"] - right["deletion"]
    assert right["gain"] > 0.2
    assert wrong["deletion"] > right["deletion"]
    assert wrong["insertion"] < right["insertion"]
    assert abs(gain(image, np.random.default_rng(0).random((14, 14)))) < 0.2


def test_flat_map_is_a_random_order(image):
    assert abs(gain(image, np.zeros((7, 7)))) < 0.2


def test_curves_are_areas_under_what_is_asked_step_by_step():
    """One altered input at a time, 14 cells further at each step; the cells are 4 pixels wide."""
    generator = np.random.default_rng(3)
    image, values = generator.random((SIZE, SIZE)).astype(np.float32), generator.random((14, 14))
    weights = generator.normal(0, 0.05, (SIZE, SIZE))

    class Linear:
        def ask(self, images: np.ndarray) -> np.ndarray:
            return (images * weights).sum(axis=(1, 2))

    blurred = cv2.GaussianBlur(image, (0, 0), SIZE / 8)
    answers = {"deletion": [], "insertion": []}
    for step in range(15):
        taken = np.zeros(14 * 14, bool)
        taken[np.argsort(-values.ravel())[: 14 * step]] = True
        taken = taken.reshape(14, 14).repeat(4, axis=0).repeat(4, axis=1)
        for name, altered in (("deletion", ~taken), ("insertion", taken)):
            answers[name].append((np.where(altered, image, blurred) * weights).sum())
    found = curves(Linear(), sight(Linear(), image), values)
    for name, odds in answers.items():
        assert found[f"{name}_log_odds"] == pytest.approx(scipy.integrate.trapezoid(odds, dx=1 / 14), abs=1e-4)
        probabilities = 1 / (1 + np.exp(-np.array(odds)))
        assert found[name] == pytest.approx(scipy.integrate.trapezoid(probabilities, dx=1 / 14), abs=1e-5)


def test_log_odds_tell_maps_apart_where_the_probability_is_saturated(image):
    """A network that is sure of the blurred image too: its probability shows next to nothing."""

    class Sure:
        def ask(self, images: np.ndarray) -> np.ndarray:
            return 8 + 8 * images[:, :16, :16].mean(axis=(1, 2))

    seen = sight(Sure(), image)
    right, wrong = (curves(Sure(), seen, corner(*place)) for place in ((0, 0), (10, 10)))
    assert abs(right["gain"] - wrong["gain"]) < 0.001
    assert right["gain_log_odds"] - wrong["gain_log_odds"] > 1


def test_average_drop_is_of_the_probability_through_the_map_alone(image):
    seen = sight(Judge(), image)
    assert average_drop(Judge(), seen, np.ones((14, 14))) == pytest.approx(0, abs=1e-6)
    assert average_drop(Judge(), seen, np.zeros((14, 14))) == pytest.approx(1, abs=1e-6)
    assert average_drop(Judge(), seen, corner(10, 10)) == pytest.approx(1, abs=1e-6)


def test_road_tells_the_hottest_from_the_coldest(image):
    assert road(Judge(), image, corner(0, 0)) > 0.3
    assert road(Judge(), image, -corner(0, 0)) < -0.3


def test_imputation_is_linear():
    """What is harmonic is filled exactly: a plane among them."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(float)
    plane = 3 * rows - 2 * columns + 7
    mask = np.zeros((SIZE, SIZE), bool)
    mask[10:30, 20:40] = True
    mask[45, 5] = True
    np.testing.assert_allclose(imputed(np.where(mask, -1000, plane), mask), plane, atol=1e-9)


def test_whole_benchmark(manifest, masks, runs, tmp_path, capsys):
    """With the networks that ship, on two of the shipped pneumonias; the runs are those of other, tiny networks."""
    models, methods = shutil.copytree(EMBEDDED, tmp_path / "models"), ["hirescam"]
    before = json.loads((models / SALIENCY).read_text())["held out"]
    (models / SALIENCY).write_text(json.dumps({"held out": before}))
    saliency(2, "test", manifest, masks, runs / "none", models, methods)
    measured = json.loads((models / SALIENCY).read_text())
    assert measured["held out"] == before
    content = measured["test"]
    assert content["networks"].keys() == ARCHITECTURES.keys()
    for found in content["networks"].values():
        assert list(found["methods"]) == methods
        assert found["baselines"].keys() == set(BASELINES)
        for row in found["methods"].values():
            low, high = row["gain"]["interval"]
            assert low <= row["gain"]["value"] <= high
            assert row["gain"]["value"] == pytest.approx(row["insertion"]["value"] - row["deletion"]["value"])
            assert 0 <= row["share"]["value"] <= 1
            assert 0 <= row["blank"] <= 1
            assert 0 < row["opaque"]["value"] < 1
            assert row["images"] == row["compared"] == content["images"]
            assert row["gain_log_odds"]["value"] == pytest.approx(
                row["insertion_log_odds"]["value"] - row["deletion_log_odds"]["value"]
            )
            low, high = row["cascade"]["conv1"]["interval"]
            assert -1 <= low <= row["cascade"]["conv1"]["value"] <= high <= 1
            assert row["seeds"] is None, "there are no other seeds here"
    table = saliency_table(content)
    assert table in capsys.readouterr().out
    assert table.count("\n") == 1 + 3 * (len(methods) + len(BASELINES))


@pytest.fixture(scope="module")
def bundle(bundle_folder):
    return load_bundle(bundle_folder)


@pytest.fixture(scope="module")
def prepared(bundle, images):
    files = sorted((images / "test").glob("*/*.jpeg"))
    return bundle.prepare_all([read_radiograph(file) for file in files])


def test_heat_where_the_lungs_are_opaque_is_told_from_heat_elsewhere():
    """Of two lungs that grow darker from above, the upper third is the brightest."""
    mask = np.zeros((RASTER, RASTER), bool)
    mask[30:180, 30:90] = mask[30:180, 130:190] = True
    raster = np.repeat(np.arange(RASTER, 0, -1, np.uint8)[:, np.newaxis], RASTER, axis=1)
    case = _Case(Prepared(raster, 1.0, None), lungs_of(mask))

    def opaque(rows) -> float:
        values = np.zeros((RASTER, RASTER), np.float32)
        values[rows] = 1
        return _opaque_share(Heatmap("hirescam", "PNEUMONIA", values, WHOLE, 1.0), case)

    assert opaque(slice(75)) == 1
    assert opaque(slice(90, None)) == 0
    assert opaque(slice(None)) == pytest.approx(1 / 3, abs=0.01)
    assert opaque(slice(0)) == 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_judge_answers_as_the_program(bundle, prepared, name):
    judge = NetworkJudge(bundle, name)
    odds = judge.ask(np.stack([judge.inputs(item) for item in prepared]))
    classifier = Classifier(bundle)
    expected = [classifier.predict(item)[name].probability for item in prepared]
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), expected, atol=1e-5)


def test_called_is_what_every_network_decides(prepared):
    bundle = load_bundle(EMBEDDED)
    classifier = Classifier(bundle)
    expected = [all(found.decision == "PNEUMONIA" for found in classifier.predict(item).values()) for item in prepared]
    assert {*expected} == {True, False}
    assert _called(bundle, prepared).tolist() == expected


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_network_that_forgot_is_asked_with_its_own_normalisations(bundle, name):
    """A graph holds them as they were when it was made."""
    judge = NetworkJudge(bundle, name)
    inputs = np.random.default_rng(0).normal(size=(3, judge.network.input_size, judge.network.input_size))
    forgetful = _forgetful(judge.network)
    assert list(forgetful) == ["probability", "conv5", "conv3", "conv1"]
    kept = dict.fromkeys(forgetful, 0)
    assert [len(models) for models in forgetful.values()] == [1, 1, 1, 4]
    assert not np.array_equal(*(model.get_weights()[0] for model in forgetful["conv1"][:2]))
    for step, (model, *_) in forgetful.items():
        asked = NetworkJudge(_instead(judge, model), name).ask(inputs)
        expected = logit(model(inputs[..., np.newaxis].astype(np.float32), training=False).numpy()[:, 0])
        slope, offset = judge.network.slope, judge.network.offset
        np.testing.assert_allclose(asked, slope * expected + offset, rtol=1e-3, atol=1e-3)
        pairs = zip(model.get_weights(), judge.network.model.get_weights(), strict=True)
        kept[step] = sum(np.array_equal(*pair) for pair in pairs)
    # Each step forgets more; the trained network itself stays as it is.
    assert sorted(kept.values(), reverse=True) == list(kept.values())
    assert len({*kept.values()}) == len(kept)


def test_likeness_is_the_mean_correlation_with_its_interval():
    generator = np.random.default_rng(0)
    own = [generator.random((28, 28)) for _ in range(4)]
    flat = np.zeros((28, 28))
    found = _likeness(own, [own], np.array(list("abcd")))
    assert (found["value"], found["images"]) == (pytest.approx(1), 4)
    found = _likeness(own, [[own[0], -own[1], flat, own[3]]], np.array(list("abcd")))
    assert (found["value"], found["images"]) == (pytest.approx(1 / 3), 3)
    assert found["interval"] == pytest.approx([-1, 1])
    found = _likeness(own[:2], [own[:2], [-own[0], own[1]]], np.array(list("ab")))
    assert found["value"] == pytest.approx(0.5), "of several networks, their mean for each image"
    assert _likeness(own, [[flat] * 4], np.array(list("abcd"))) is None


@pytest.mark.parametrize(("images", "passes", "measured", "compared"), [(12, 2, 12, 12), (12, 257, 12, 4)])
def test_slow_methods_are_measured_on_fewer_images(images, passes, measured, compared):
    some, few = _affordable(images, passes)
    assert (len(some), len(few)) == (measured, compared)
    assert (some[0], some[-1], few[0], few[-1]) == (0, images - 1, 0, measured - 1)


MEAN = {"value": 0.5, "interval": [0.4, 0.6]}


def row(likeness, **others) -> dict:
    keys = ("share", "ratio", "insertion", "deletion", "gain", "road", "drop")
    return {
        **dict.fromkeys(keys, MEAN),
        "peak": {"value": 1.0, "interval": [1.0, 1.0]},
        "beyond": {"random": MEAN, "centre": {"value": 0.1, "interval": [0.0, 0.2]}},
        "cascade": {"probability": likeness, "conv5": None, "conv3": likeness, "conv1": likeness},
        **dict.fromkeys(("seeds", "noise", "exposure"), likeness),
        **{"images": 30, "blank": 0.2, "milliseconds": 7.6},
        **others,
    }


def test_table_of_a_measurement_without_intervals():
    """As the networks that ship were measured on held-out images."""
    found = {"baselines": {"centre": {"value": 0.3, "interval": [0.2, 0.4]}}, "methods": {"hirescam": row(0.25)}}
    head, _, first, order = saliency_table({"images": 30, "networks": {"cnn": found}}).split("\n")
    assert "log odds" not in head
    cells = dict(zip(head.split(" | "), first.split(" | "), strict=True))
    assert cells["of them for rank correlations |"] == "12 |"
    assert cells["images"] == "30"
    assert cells["blank"] == "20 % [10 %, 37 %]"
    assert cells["peak in the lungs"] == "1.00 [0.89, 1.00]"
    assert cells["the same beyond the best of the orders"] == "0.100 [0.000, 0.200]"
    assert cells["rank correlation: noise"] == "0.25"
    assert "0.25 / - / 0.25 / 0.25" in first
    assert cells["ms of processor time"] == "-"
    assert order.startswith("| CNN: centre order |")
    assert order.count("|") == head.count("|")


def test_table_of_a_measurement_with_intervals():
    likeness = {"value": 0.25, "interval": [0.1, 0.4], "images": 4}
    odds = {"value": 2.5, "interval": [2.0, 3.0]}
    more = {f"{key}_log_odds": odds for key in ("insertion", "deletion", "gain")}
    more |= {"beyond_log_odds": {"random": odds}, "compared": 4, "processor_milliseconds": 3.2}
    gain = {"centre": {"value": 0.3, "interval": [0.2, 0.4]}}
    found = {
        "baselines": gain,
        "baselines_log_odds": {"centre": odds},
        "methods": {"hirescam": row(likeness, **more, seeds=None)},
    }
    head, _, first, order = saliency_table({"images": 30, "networks": {"cnn": found}}).split("\n")
    cells = dict(zip(head.split(" | "), first.split(" | "), strict=True))
    assert cells["insertion - deletion, log odds"] == "2.50 [2.00, 3.00]"
    assert cells["rank correlation: other seeds"] == "-"
    assert cells["rank correlation: noise"] == "0.25 [0.10, 0.40]"
    assert cells["of them for rank correlations |"] == "4 |"
    assert cells["ms of processor time"] == "3"
    cells = dict(zip(head.split(" | "), order.split(" | "), strict=True))
    assert cells["insertion - deletion"] == "0.300 [0.200, 0.400]"
    assert cells["insertion - deletion, log odds"] == "2.50 [2.00, 3.00]"


def test_table_of_the_default_has_both_splits():
    found = {"cnn": {"baselines": {}, "methods": {DEFAULT_METHOD: row(0.25), "hirescam": row(0.5)}}}
    likeness = {"value": 0.15, "interval": [0.1, 0.2], "images": 12}
    more = {"cnn": {"baselines": {}, "methods": {DEFAULT_METHOD: row(likeness, beyond_log_odds={"lungs": MEAN})}}}
    splits = {"held out": {"images": 30, "networks": found}, "test": {"images": 12, "networks": more}}
    head, _, chosen_by, test, goal = default_table(splits).split("\n")
    assert head.count("|") == chosen_by.count("|") == test.count("|") == goal.count("|")
    assert chosen_by.startswith("| CNN, held out, which it was chosen by | 0.50 [0.40, 0.60] |")
    assert chosen_by.endswith("| - | 0.25 | 30 |")
    assert test.startswith("| CNN, test |")
    assert test.endswith("| 0.50 [0.40, 0.60] | 0.15 [0.10, 0.20] | 30 |")
    assert "at least 0.95" in goal


def test_rule_reads_correlations_with_and_without_intervals():
    def measured(wrap):
        rows = {"hirescam": row(wrap(0.3), blank=0.0), "layercam": row(wrap(0.1), blank=0.0)}
        rows["hirescam"]["gain"] = {"value": 0.9, "interval": [0.8, 1.0]}
        return {"networks": {"cnn": {"baselines": {}, "methods": rows}}}

    assert best_method(measured(lambda value: value)) == "layercam"
    assert best_method(measured(lambda value: {"value": value, "interval": [0, 1], "images": 4})) == "layercam"
    assert best_method(measured(lambda value: 0.1)) == "hirescam"


def test_nothing_to_measure_is_said(manifest, masks, runs, bundle_folder, tmp_path):
    """Networks that never call pneumonia."""
    models = shutil.copytree(bundle_folder, tmp_path / "models")
    content = json.loads((models / MANIFEST).read_text())
    for entry in content["networks"].values():
        entry["operating_points"]["balanced"]["threshold"] = 0.999999
    (models / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(SystemExit, match="No pneumonia"):
        saliency(2, "test", manifest, masks, runs, models)
