"""From a network's output to a probability and a decision."""

import numpy as np
import pytest

from pneumo.bundle import OPERATING_POINTS, Consensus, load_bundle
from pneumo.classifier import (
    Classifier,
    JointPrediction,
    Prediction,
    calibrate,
    decide,
    logit,
    parse_operating_point,
)
from pneumo.errors import BundleError, PneumoError, UnknownNameError
from pneumo.radiograph import read_radiograph
from pneumo.zoo import ARCHITECTURES

RAW = np.array([1e-6, 0.001, 0.2, 0.5, 0.500001, 0.9, 0.999, 1 - 1e-6])


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


# Calibration


def test_logit():
    np.testing.assert_allclose(logit([0.5, 0.75, 0.1]), [0, np.log(3), -np.log(9)])
    assert logit(np.array([0.0, 1.0], np.float32)) == pytest.approx([-np.log(1e7), np.log(1e7)], rel=1e-6)


def test_slope_1_and_offset_0_change_nothing():
    np.testing.assert_allclose(calibrate(RAW, 1, 0), RAW, rtol=1e-9)


@pytest.mark.parametrize("slope", [0.05, 0.7, 1, 5])
@pytest.mark.parametrize("offset", [-3, 0, 0.4])
def test_calibration(slope, offset):
    calibrated = calibrate(RAW, slope, offset)
    assert calibrated.dtype == np.float64
    assert np.all(np.diff(calibrated) > 0)
    np.testing.assert_allclose(logit(calibrated[2:6]), slope * np.log(RAW / (1 - RAW))[2:6] + offset, atol=1e-6)


@pytest.mark.parametrize("slope", [0.05, 1, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saturated_outputs_stay_finite(slope, dtype):
    low, middle, high = calibrate(np.array([0, 0.5, 1], dtype), slope, 0)
    assert 0 <= low < middle < high <= 1
    assert (middle, low + high) == pytest.approx((0.5, 1))


def test_what_is_no_number_stays_none():
    assert np.isnan(calibrate(np.array([np.nan]), 2, 1)).all()


# Operating points


@pytest.mark.parametrize("name", OPERATING_POINTS)
def test_operating_point_by_name(name):
    assert parse_operating_point(name) == name


@pytest.mark.parametrize(
    ("text", "number"), [("0.3", 0.3), (0.3, 0.3), (" .5 ", 0.5), ("1e-3", 0.001), (np.float32(0.25), 0.25)]
)
def test_operating_point_by_number(text, number):
    found = parse_operating_point(text)
    assert type(found) is float
    assert found == number


@pytest.mark.parametrize(
    "text",
    ["foo", "", "Balanced", "screening ", "0", 0, "1", 1.0, True, "-0.1", "1.5", "nan", float("nan"), "inf", None],
)
def test_no_operating_point(text):
    with pytest.raises(UnknownNameError) as caught:
        parse_operating_point(text)
    assert str(caught.value) == (
        f"An operating point must be balanced or screening, or a number between 0 and 1; received {text!r}. Correct it."
    )
    assert isinstance(caught.value, PneumoError)


# The three together


@pytest.mark.parametrize(
    ("probability", "low", "high", "uncertain"),
    [
        (0.2999, 0.3, 0.6, False),
        (0.3, 0.3, 0.6, True),
        (0.45, 0.3, 0.6, True),
        (0.5999, 0.3, 0.6, True),
        (0.6, 0.3, 0.6, False),
        (0.9, 0.3, 0.6, False),
        (0.5, 0.5, 0.5, False),
    ],
)
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.7])
def test_uncertain(probability, low, high, uncertain, threshold):
    together = JointPrediction(probability, threshold, low, high)
    assert together.uncertain is uncertain
    # It decides nevertheless.
    assert together.decision == decide(probability, threshold)


# A classifier


@pytest.fixture(scope="module")
def bundle(tiny_examiner):
    return tiny_examiner.bundle


@pytest.fixture(scope="module")
def classifier(bundle):
    return Classifier(bundle)


@pytest.fixture(scope="module")
def prepared(bundle, images):
    return bundle.prepare(read_radiograph(images / "test" / "PNEUMONIA" / "person100_bacteria_482.jpeg"))


@pytest.mark.parametrize("operating_point", [*OPERATING_POINTS, 0.123])
def test_predict(bundle, classifier, prepared, operating_point):
    predictions = classifier.predict(prepared, operating_point)
    assert list(predictions) == list(ARCHITECTURES)
    for name, prediction in predictions.items():
        network = bundle.networks[name]
        inputs = prepared.inputs(network.framing, network.scaling, network.input_size)
        raw = network.model(inputs, training=False).numpy()[0, 0]
        expected = 1 / (1 + np.exp(-(network.slope * np.log(raw / (1 - raw)) + network.offset)))
        assert prediction.probability == pytest.approx(float(expected), abs=1e-5)
        assert prediction.threshold == network.thresholds.get(operating_point, operating_point)


def test_default_operating_point(classifier, prepared):
    predictions = classifier.predict(prepared)
    assert predictions == classifier.predict(prepared, OPERATING_POINTS[0])
    assert classifier.together(predictions) == classifier.together(predictions, OPERATING_POINTS[0])


def test_probability_of_a_batch(bundle, classifier, prepared):
    network = bundle.networks["cnn"]
    inputs = prepared.inputs(network.framing, network.scaling, network.input_size)
    batch = classifier.probability("cnn", np.concatenate([inputs, inputs * 0, inputs]))
    assert batch.shape == (3,)
    assert batch.dtype == np.float64
    assert batch[0] == pytest.approx(batch[2])
    assert batch[0] == pytest.approx(classifier.predict(prepared)["cnn"].probability, abs=1e-6)


@pytest.mark.parametrize("operating_point", [*OPERATING_POINTS, 0.123])
def test_together(bundle, classifier, operating_point):
    predictions = {name: Prediction(value, 0.5) for name, value in zip(ARCHITECTURES, (0.1, 0.2, 0.9), strict=True)}
    together = classifier.together(predictions, operating_point)
    consensus = bundle.consensus
    assert isinstance(consensus, Consensus)
    assert together.probability == pytest.approx(0.4)
    assert together.threshold == consensus.thresholds.get(operating_point, operating_point)
    assert (together.low, together.high) == (consensus.low, consensus.high)


def test_together_needs_all(bundle_folder, classifier, prepared):
    predictions = classifier.predict(prepared)
    del predictions["cnn"]
    assert classifier.together(predictions) is None
    some = Classifier(load_bundle(bundle_folder, ("cnn", "cnn_rnn")))
    assert some.together(some.predict(prepared)) is None


def test_damaged_network(bundle_folder, prepared):
    bundle = load_bundle(bundle_folder, ("cnn_lstm",))
    bias = bundle.networks["cnn_lstm"].model.get_layer("probability").bias
    bias.assign(np.full(bias.shape, np.nan))
    with pytest.raises(BundleError, match="A probability must lie between 0 and 1; cnn_lstm gave nan"):
        Classifier(bundle).predict(prepared)
