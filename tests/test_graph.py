"""All networks in one graph: the same answers as one network after the other, built once."""

import dataclasses

import cv2
import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from pneumo.bundle import EMBEDDED, SEGMENTER, load_bundle, open_bundle
from pneumo.classifier import Classifier
from pneumo.examination import Examiner
from pneumo.framing import Prepared, scale_gray
from pneumo.graph import NetworkGraph
from pneumo.methods import DEFAULT_METHOD, class_evidence
from pneumo.probe import compile_folded, compile_outputs
from pneumo.radiograph import read_radiograph
from pneumo.saliency import Explainer
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES, build, build_segmenter

PROBABILITY = 1e-5
"""How far probabilities of the two ways may lie apart."""
EVIDENCE = 1e-3
"""How far their maps may, as a share of the value that is drawn at full strength."""


@pytest.fixture(scope="module")
def bundle():
    """The networks that ship."""
    return load_bundle(EMBEDDED)


@pytest.fixture(scope="module")
def radiographs(images):
    return [read_radiograph(path) for path in sorted((images / "test").rglob("*.jpeg"))[::2]]


@pytest.fixture(scope="module")
def prepared(bundle, radiographs) -> list[Prepared]:
    return bundle.prepare_all(radiographs)


@pytest.fixture(scope="module")
def graph(bundle) -> NetworkGraph:
    return NetworkGraph(bundle, explained=True)


def plain_evidence(network, prepared, label) -> np.ndarray:
    """The evidence as Keras and TensorFlow give it, with nothing compiled, one point of the way after the other."""
    model = network.model
    inputs = np.concatenate([item.inputs(*network.view) for item in prepared])
    fine, coarse = (model.get_layer(layer).output for layer in ("conv2", "conv5"))
    below, within = keras.Model(model.inputs[0], fine), keras.Model(fine, coarse)
    above = keras.Model(coarse, model.layers[-1].input)
    blurred = np.stack([cv2.GaussianBlur(image[..., 0], (0, 0), len(image) / 8) for image in inputs])[..., np.newaxis]
    found, nothing = (below(values, training=False) for values in (inputs, blurred))
    total = 0
    for third in range(3):
        with tf.GradientTape() as tape:
            ends = [nothing + (third + step) / 3 * (found - nothing) for step in (0, 1)]
            tape.watch(ends)
            first, last = (within(end, training=False) for end in ends)
            mean = 0
            for place, weight in zip(*scipy.special.roots_legendre(6), strict=True):
                hidden = above((1 - place) / 2 * first + (1 + place) / 2 * last, training=False)
                mean += weight / 6 * (hidden @ model.layers[-1].kernel + model.layers[-1].bias)
        total += sum(tape.gradient(mean, ends))
    return class_evidence(tf.reduce_sum((found - nothing) * total, axis=-1).numpy(), network.input_size, label)


def assert_equal_to_separate(bundle, graph, prepared, scales) -> None:
    """Probabilities, and maps of both classes, of each network by itself."""
    classifier, explainer = Classifier(bundle), Explainer(bundle)
    answers = graph.ask(prepared)
    for name, network in bundle.networks.items():
        inputs = np.concatenate(
            [item.inputs(network.framing, network.scaling, network.input_size) for item in prepared]
        )
        np.testing.assert_allclose(
            answers.probabilities[name], classifier.probability(name, inputs), atol=PROBABILITY, rtol=0
        )
        for label in CLASS_NAMES:
            expected = plain_evidence(network, prepared, label)
            assert expected.max() > 0
            for found in (
                class_evidence(answers.signed[name], network.input_size, label),
                explainer.evidence(name, prepared, label),
            ):
                apart = np.abs(found - expected) / scales(network, label)
                # Where a unit is all but inactive, rounding decides on its gradient.
                assert np.mean(apart > EVIDENCE) < 0.005
                assert apart.max() < 20 * EVIDENCE


def test_equal_to_one_network_after_the_other(bundle, graph, prepared):
    assert_equal_to_separate(bundle, graph, prepared, lambda network, label: network.heat_scale[DEFAULT_METHOD][label])


def test_probabilities_alone_are_the_same(bundle, graph, prepared):
    alone = NetworkGraph(bundle).ask(prepared)
    assert alone.signed == {}
    for name, values in graph.ask(prepared).probabilities.items():
        np.testing.assert_allclose(alone.probabilities[name], values, atol=PROBABILITY, rtol=0)


def test_many_at_once_are_each_as_if_alone(bundle, radiographs):
    examiner = Examiner(bundle)
    for found in examiner.examine_all(radiographs):
        alone = examiner.examine(found.radiograph)
        assert found.headline == alone.headline
        for name, heatmap in alone.heatmaps.items():
            assert found.predictions[name].probability == pytest.approx(alone.predictions[name].probability, abs=1e-4)
            np.testing.assert_allclose(found.heatmaps[name].values, heatmap.values, atol=1e-3 * heatmap.scale)
    assert examiner.examine_all([]) == []


def test_nothing_is_traced_again(bundle, radiographs):
    examiner = Examiner(bundle)
    for radiograph in radiographs[:3]:
        examiner.examine(radiograph)
    examiner.examine_all(radiographs[:5], target="NORMAL", cover="hottest")
    examiner.examine(radiographs[0], "screening", method="layercam", target="PNEUMONIA", cover="left_lower")
    examiner.examine(read_radiograph(np.full((80, 300), 9, np.uint8)), 0.3, anyway=True)
    assert examiner.graph().traces == 1
    assert bundle.segmenter.traces == 1
    assert examiner.graph(explained=False).traces == 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_normalisations_that_turn_the_order_round(bundle, prepared, name):
    """Pooling may come first only where a normalisation keeps the order of values, as all do that ship."""
    keras.utils.set_random_seed(1)
    model = build(name, 48, (4, 4, 8, 8, 8))
    for number in range(1, 6):
        norm = model.get_layer(f"norm{number}")
        norm.gamma.assign(np.where(np.arange(norm.gamma.shape[0]) % 2, 1.5, -0.5))
        norm.beta.assign(np.linspace(-1, 1, norm.gamma.shape[0]))
    one = with_model(bundle, name, model)
    scales = Explainer(one).evidence(name, prepared[:4], "PNEUMONIA").max()
    assert_equal_to_separate(one, NetworkGraph(one, explained=True), prepared[:4], lambda *_: scales)


def test_network_that_is_no_chain(bundle, prepared):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((48, 48, 1))
    x = keras.layers.Conv2D(4, 3, 2, activation="relu", name="conv1")(inputs)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="conv2")(x)
    x = keras.layers.Add(name="conv5")([x, keras.layers.Conv2D(4, 1, name="conv3")(x)])
    x = keras.layers.GlobalAveragePooling2D()(x)
    one = with_model(bundle, "cnn", keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(x)))
    scales = Explainer(one).evidence("cnn", prepared[:4], "PNEUMONIA").max()
    assert_equal_to_separate(one, NetworkGraph(one, explained=True), prepared[:4], lambda *_: scales + 1e-3)


def with_model(bundle, name, model):
    """The bundle with one network alone, of other weights or layers."""
    network = dataclasses.replace(bundle.networks[name], model=model, input_size=model.inputs[0].shape[1])
    return dataclasses.replace(bundle, networks={name: network})


def test_normalisations_folded_into_convolutions():
    """Of the segmenter, and where there is a bias, another user of the outputs, or an activation between."""
    keras.utils.set_random_seed(1)
    generator = np.random.default_rng(1)
    model = build_segmenter(32, (2, 3, 4, 5, 6))
    plain = keras.Input((32, 32, 1))
    x = keras.layers.Conv2D(3, 3, 2, padding="same", name="with_bias")(plain)
    twice = keras.layers.BatchNormalization()(x)
    x = keras.layers.Concatenate()([x, twice])
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(2, 3, dilation_rate=2, name="wide")(x))
    other = keras.Model(plain, keras.layers.BatchNormalization()(keras.layers.Conv2D(2, 1, activation="relu")(x)))
    for network in (model, other):
        for weight in network.weights:
            low = 0.3 if weight.path.endswith(("gamma", "moving_variance")) else -0.5
            weight.assign(generator.uniform(low, 0.5, weight.shape))
        inputs = generator.normal(size=(3, 32, 32, 1)).astype(np.float32)
        expected = network(inputs, training=False).numpy()
        assert expected.std() > 1e-3
        np.testing.assert_allclose(compile_folded(network)(inputs).numpy(), expected, atol=1e-5, rtol=1e-5)


def test_folded_segmenter_finds_the_same_masks(prepared):
    files = open_bundle(EMBEDDED)
    model = build_segmenter()
    model.load_weights(files.path(SEGMENTER))
    size = model.inputs[0].shape[1:3]
    small = np.stack([cv2.resize(item.raster, size, interpolation=cv2.INTER_AREA) for item in prepared])
    inputs = scale_gray(small, "standard")
    expected, found = (make(model)(inputs).numpy() for make in (compile_outputs, compile_folded))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    sure = abs(expected - 0.5) > 1e-4
    assert sure.mean() > 0.999
    assert np.array_equal(found[sure] >= 0.5, expected[sure] >= 0.5)
