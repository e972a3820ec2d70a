"""Weights are those that Keras would load, and what it would refuse is refused."""

import warnings

import keras
import numpy as np
import pytest

from pneumo.bundle import EMBEDDED, SEGMENTER
from pneumo.weights import _match, load_weights
from pneumo.zoo import ARCHITECTURES, build, build_segmenter


def small(name: str) -> keras.Model:
    return build(name, 48, (4, 4, 8, 8, 8))


def shaken(model: keras.Model, seed: int = 1) -> keras.Model:
    generator = np.random.default_rng(seed)
    model.set_weights([generator.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def assert_same(model: keras.Model, other: keras.Model) -> None:
    assert len(model.weights) == len(other.weights)
    for weight, expected in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.fixture
def unasked(monkeypatch):
    """A Keras that must not be asked."""

    def load(*_arguments):
        raise AssertionError("Keras was asked.")

    monkeypatch.setattr(keras.Model, "load_weights", load)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_networks_without_keras(tmp_path, unasked, name):
    trained = shaken(small(name))
    trained.save(tmp_path / "network.keras")
    found = shaken(small(name), seed=2)
    load_weights(found, tmp_path / "network.keras")
    assert_same(found, trained)


def test_segmenter_that_ships(unasked, monkeypatch):
    found = build_segmenter()
    load_weights(found, EMBEDDED / SEGMENTER)
    monkeypatch.undo()
    expected = build_segmenter()
    expected.load_weights(EMBEDDED / SEGMENTER)
    assert_same(found, expected)


def nested() -> keras.Model:
    inputs = keras.Input((4, 3))
    x = keras.layers.Bidirectional(keras.layers.LSTM(2))(inputs)
    return keras.Model(inputs, keras.layers.Dense(1)(x))


def test_layers_that_hold_others(tmp_path):
    trained = shaken(nested())
    trained.save(tmp_path / "network.keras")
    found = shaken(nested(), seed=2)
    load_weights(found, tmp_path / "network.keras")
    assert_same(found, trained)


@pytest.mark.parametrize(("saved", "asked"), [("cnn", "cnn_lstm"), ("cnn_lstm", "cnn_rnn"), ("cnn_rnn", "cnn")])
def test_another_architecture(tmp_path, saved, asked):
    small(saved).save(tmp_path / "network.keras")
    # Keras also warns of layers that the file lacks.
    with warnings.catch_warnings(action="ignore"), pytest.raises(ValueError, match=r"could not be loaded|expected"):
        load_weights(small(asked), tmp_path / "network.keras")


def test_more_layers_than_the_network_has():
    """A layer of the file that nothing takes."""
    inputs = keras.Input((3,))
    one = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    kernel, bias = (np.zeros(shape, np.float32) for shape in ((3, 3), (3,)))
    layer = {"vars": {"0": kernel, "1": bias}}
    assert [layer for layer, _ in _match(one, {"layers": {"dense": layer}})] == [one.layers[1]]
    assert _match(one, {"layers": {"dense": layer, "dense_1": layer}}) is None
