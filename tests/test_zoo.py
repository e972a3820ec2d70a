"""One battery over every architecture of the zoo."""

import keras
import numpy as np
import pytest

from pneumo.errors import PneumoError, UnknownNameError
from pneumo.zoo import (
    ARCHITECTURES,
    CLASS_NAMES,
    SEGMENTER_FILTERS,
    SYSTEMS,
    architecture,
    build,
    build_segmenter,
)

PARAMETERS = {"cnn": 1_246_401, "cnn_lstm": 1_206_209, "cnn_rnn": 628_097}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def network(request) -> keras.Model:
    """Each network in turn, at its full size, with fresh weights."""
    keras.utils.set_random_seed(5)
    return build(request.param)


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    """Four images of noise on a slope."""
    noise = np.random.default_rng(0).random((4, 150, 150, 1), np.float32)
    return (noise + np.linspace(0, 1, 150, dtype=np.float32)[:, np.newaxis]) / 2


def test_registry():
    assert ARCHITECTURES.keys() == PARAMETERS.keys()
    for name, design in ARCHITECTURES.items():
        assert design.name == name
        assert architecture(name) is design
    assert len({design.title for design in ARCHITECTURES.values()}) == len(ARCHITECTURES)


def test_parameters(network):
    assert network.count_params() == PARAMETERS[network.name] == architecture(network.name).parameters


def test_is_functional(network):
    # tf-keras-vis fails on Sequential models, and cannot look into nested ones.
    assert isinstance(network, keras.Model)
    assert not isinstance(network, keras.Sequential)
    assert not any(isinstance(layer, keras.Model) for layer in network.layers)


def test_saliency_layer_is_the_last_convolution(network):
    layers = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.name for layer in layers] == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert layers[-1].name == architecture(network.name).last_map
    assert layers[-1].output.shape == (None, 10, 10, 256)


def test_output(network, inputs):
    assert network.input_shape == (None, 150, 150, 1)
    assert network.output_shape == (None, 1)
    probabilities = network(inputs, training=False).numpy()
    assert probabilities.shape == (4, 1)
    assert probabilities.dtype == np.float32
    assert np.all((probabilities > 0) & (probabilities < 1))
    assert len(np.unique(probabilities)) == 4


def test_output_does_not_depend_on_the_batch(network, inputs):
    alone = np.concatenate([network(inputs[index : index + 1], training=False) for index in range(4)])
    np.testing.assert_allclose(network(inputs, training=False), alone, atol=1e-6)


def test_dropout_acts_in_training_alone(network, inputs):
    def spread(training):
        return np.abs(network(inputs, training=training).numpy() - network(inputs, training=training).numpy()).max()

    assert spread(training=False) == 0
    assert spread(training=True) > 0


def test_every_weight_gets_a_gradient(network, inputs):
    import tensorflow as tf

    labels = np.array([[0], [1], [0], [1]], np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.binary_crossentropy(labels, network(inputs, training=True)))
    variables = network.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert gradient is not None, variable.path
        values = gradient.numpy()
        assert np.isfinite(values).all(), variable.path
        assert np.any(values != 0), variable.path


def test_saved_file_opens_with_plain_keras(network, inputs, tmp_path):
    path = tmp_path / "network.keras"
    network.save(path)
    expected = network(inputs, training=False)

    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded(inputs, training=False), expected)

    fresh = build(network.name)
    assert np.any(fresh(inputs, training=False) != expected)
    fresh.load_weights(path)
    np.testing.assert_array_equal(fresh(inputs, training=False), expected)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("size", "filters"), [(48, (4, 4, 8, 8, 8)), (150, (2, 2, 2, 2, 2)), (224, (1, 1, 1, 1, 1))])
def test_other_sizes(name, size, filters):
    network = build(name, size, filters)
    assert network.input_shape == (None, size, size, 1)
    assert [network.get_layer(f"conv{number}").filters for number in range(1, 6)] == list(filters)


@pytest.mark.parametrize("filters", [(4, 4, 8, 8), (4, 4, 8, 8, 8, 8)])
def test_five_blocks(filters):
    with pytest.raises(ValueError, match="zip"):
        build("cnn", 48, filters)


@pytest.mark.parametrize("name", ["", "CNN", "resnet", "cnn_lstm "])
@pytest.mark.parametrize("look_up", [architecture, build])
def test_unknown_name(look_up, name):
    with pytest.raises(UnknownNameError) as caught:
        look_up(name)
    assert str(caught.value) == (f"A network must be one of {', '.join(SYSTEMS)}; received {name!r}. Correct the name.")
    assert isinstance(caught.value, PneumoError)
    assert isinstance(caught.value, ValueError)


def test_class_names():
    assert CLASS_NAMES == ("NORMAL", "PNEUMONIA")


# The segmenter


@pytest.fixture(scope="module")
def segmenter() -> keras.Model:
    """The segmenter at its full size, with fresh weights."""
    keras.utils.set_random_seed(5)
    return build_segmenter()


@pytest.fixture(scope="module")
def larger_inputs() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 192, 192, 1)).astype(np.float32)


def test_segmenter(segmenter, larger_inputs):
    assert segmenter.count_params() == 791_649
    assert not any(isinstance(layer, keras.Model) for layer in segmenter.layers)
    masks = segmenter(larger_inputs, training=False).numpy()
    assert masks.shape == larger_inputs.shape
    assert masks.dtype == np.float32
    assert np.all((masks > 0) & (masks < 1))
    alone = np.concatenate([segmenter(larger_inputs[index : index + 1], training=False) for index in range(2)])
    np.testing.assert_allclose(masks, alone, atol=1e-5)


@pytest.mark.parametrize("size", [64, 96, 256])
def test_segmenter_of_other_sizes(size):
    model = build_segmenter(size, (2, 3, 4, 5, 6))
    assert model.output_shape == model.input_shape == (None, size, size, 1)


def test_every_weight_of_the_segmenter_gets_a_gradient(segmenter, larger_inputs):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(segmenter(larger_inputs, training=True) ** 2)
    variables = segmenter.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        values = gradient.numpy()
        assert np.isfinite(values).all(), variable.path
        assert np.any(values != 0), variable.path


def test_saved_segmenter_opens_with_plain_keras(segmenter, larger_inputs, tmp_path):
    segmenter.save(tmp_path / "segmenter.keras")
    expected = segmenter(larger_inputs, training=False)
    loaded = keras.models.load_model(tmp_path / "segmenter.keras")
    np.testing.assert_array_equal(loaded(larger_inputs, training=False), expected)
    fresh = build_segmenter(filters=SEGMENTER_FILTERS)
    fresh.load_weights(tmp_path / "segmenter.keras")
    np.testing.assert_array_equal(fresh(larger_inputs, training=False), expected)
