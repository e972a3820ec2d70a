"""Heatmaps: what each method is, and when there is nothing to draw."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from pneumo.bundle import load_bundle
from pneumo.classifier import Classifier
from pneumo.errors import BundleError, UnknownNameError
from pneumo.framing import WHOLE, Prepared
from pneumo.radiograph import read_radiograph
from pneumo.saliency import METHODS, Explainer, Heatmap, HeatStatus
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES


@pytest.fixture(scope="module")
def bundle(bundle_folder):
    return load_bundle(bundle_folder)


@pytest.fixture(scope="module")
def explainer(bundle):
    return Explainer(bundle)


@pytest.fixture(scope="module")
def prepared(bundle, images):
    return bundle.prepare(read_radiograph(images / "test" / "PNEUMONIA" / "person100_bacteria_482.jpeg"))


@pytest.fixture(
    scope="module",
    params=["NORMAL/IM-0005-0001.jpeg", "PNEUMONIA/person100_bacteria_482.jpeg", "PNEUMONIA/person59_virus_116.jpeg"],
)
def each_prepared(bundle, images, request):
    return bundle.prepare(read_radiograph(images / "test" / request.param))


def parts(model: keras.Model, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last feature map and the gradient of the logit there, layer by layer."""
    x = tf.constant(inputs)
    *hidden, last = model.layers[1:]
    with tf.GradientTape() as tape:
        for layer in hidden:
            x = layer(x, training=False)
            if layer.name == "conv5":
                features = x
                tape.watch(features)
        logit = tf.matmul(x, last.kernel)[:, 0] + last.bias
    return features.numpy(), tape.gradient(logit, features).numpy()


def gradcam(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return np.einsum("bijk,bk->ij", features, gradient.mean(axis=(1, 2)))


def hirescam(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return np.einsum("bijk,bijk->ij", features, gradient)


FORMULAS = {"gradcam": gradcam, "hirescam": hirescam}
"""What each method's map is before its negative part is dropped."""


def test_every_method_has_its_formula():
    assert FORMULAS.keys() == METHODS.keys()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_formula(bundle, each_prepared, name, method):
    network = bundle.networks[name]
    explainer = Explainer(bundle, method)
    inputs = each_prepared.inputs(network.framing, network.scaling, network.input_size)
    signed = FORMULAS[method](*parts(network.model, inputs))
    assert signed.shape == (3, 3)
    assert np.any(signed != 0)
    for target, sign in (("NORMAL", -1), ("PNEUMONIA", 1)):
        heatmap = explainer.explain(name, each_prepared, target)
        assert (heatmap.method, heatmap.target) == (method, target)
        assert heatmap.scale == network.heat_scale[method][target]
        assert heatmap.box == each_prepared.box(network.framing)
        assert heatmap.values.dtype == np.float32
        np.testing.assert_allclose(
            heatmap.values, np.maximum(sign * signed, 0), rtol=1e-3, atol=1e-5 * np.abs(signed).max()
        )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_classes_have_their_own_maps(explainer, each_prepared, name):
    normal, pneumonia = (explainer.explain(name, each_prepared, target).values for target in CLASS_NAMES)
    assert not np.array_equal(normal, pneumonia)
    # What speaks for one class speaks against the other.
    assert not np.any((normal > 0) & (pneumonia > 0))


def test_maps_follow_the_radiograph(explainer, prepared):
    blank = Prepared(np.zeros_like(prepared.raster), 1.0, None)
    for name in ARCHITECTURES:
        signed = [
            explainer.explain(name, image, "PNEUMONIA").values - explainer.explain(name, image, "NORMAL").values
            for image in (prepared, blank)
        ]
        assert not np.allclose(*signed)


def test_explaining_changes_nothing(bundle, prepared):
    classifier = Classifier(bundle)
    before = classifier.predict(prepared)
    weights = {name: network.model.get_weights() for name, network in bundle.networks.items()}
    explainer = Explainer(bundle)
    maps = [explainer.explain(name, prepared, target).values for name in ARCHITECTURES for target in CLASS_NAMES]
    again = [explainer.explain(name, prepared, target).values for name in ARCHITECTURES for target in CLASS_NAMES]
    assert np.array_equal(maps, again)
    assert classifier.predict(prepared) == before
    assert Classifier(bundle).predict(prepared) == before
    for name, network in bundle.networks.items():
        for old, new in zip(weights[name], network.model.get_weights(), strict=True):
            assert np.array_equal(old, new)


@pytest.mark.parametrize("method", METHODS)
def test_many_at_once_are_as_one_by_one(bundle, prepared, method):
    explainer = Explainer(bundle, method)
    mirrored = Prepared(np.ascontiguousarray(prepared.raster[:, ::-1]), prepared.aspect, None)
    for name, network in bundle.networks.items():
        inputs = [item.inputs(network.framing, network.scaling, network.input_size) for item in (prepared, mirrored)]
        together = explainer.evidence(name, np.concatenate(inputs), "PNEUMONIA")
        for one, found in zip(inputs, together, strict=True):
            np.testing.assert_allclose(found, explainer.evidence(name, one, "PNEUMONIA")[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("weight", "status"), [(0, HeatStatus.EMPTY), (np.nan, HeatStatus.NOT_FINITE)], ids=["zero", "NaN"]
)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_network_without_evidence(bundle_folder, prepared, name, method, weight, status):
    altered = load_bundle(bundle_folder, (name,))
    kernel = altered.networks[name].model.get_layer("probability").kernel
    kernel.assign(np.full(kernel.shape, weight))
    explainer = Explainer(altered, method)
    assert [explainer.explain(name, prepared, target).status for target in CLASS_NAMES] == [status, status]


# Values of a heatmap on a scale of 4: what can be done with it, and its peak.
HEATMAPS = {
    "drawn": ([[0, 1], [2, 0]], HeatStatus.DRAWN, 0.5),
    "at the scale": ([[4, 4], [4, 4]], HeatStatus.DRAWN, 1),
    "above the scale": ([[0, 0], [0, 6]], HeatStatus.DRAWN, 1.5),
    "tiny": ([[0, 0], [0, 1e-30]], HeatStatus.DRAWN, 2.5e-31),
    "blank": ([[0, 0], [0, 0]], HeatStatus.EMPTY, 0),
    "negative": ([[-1, -1], [-1, -2]], HeatStatus.EMPTY, 0),
    "without a value": (np.zeros((0, 0)), HeatStatus.EMPTY, 0),
    "NaN": ([[0, np.nan], [2, 0]], HeatStatus.NOT_FINITE, None),
    "all NaN": ([[np.nan, np.nan]], HeatStatus.NOT_FINITE, None),
    "infinite": ([[0, np.inf], [2, 0]], HeatStatus.NOT_FINITE, None),
    "minus infinite": ([[0, -np.inf], [2, 0]], HeatStatus.NOT_FINITE, None),
}


@pytest.mark.parametrize(("values", "status", "peak"), HEATMAPS.values(), ids=HEATMAPS)
def test_status(values, status, peak):
    heatmap = Heatmap("gradcam", "PNEUMONIA", np.array(values, np.float32), WHOLE, 4.0)
    assert heatmap.status is status
    assert heatmap.peak == (None if peak is None else pytest.approx(peak))


@pytest.mark.parametrize(("name", "target"), [("cnn", "COVID"), ("resnet", "NORMAL"), ("cnn", "normal")])
def test_unknown_network_or_class(explainer, prepared, name, target):
    with pytest.raises(UnknownNameError, match=f"received '{target if name == 'cnn' else name}'"):
        explainer.explain(name, prepared, target)


def test_bundle_without_a_scale_for_the_method(bundle):
    network = bundle.networks["cnn"]
    lacking = dataclasses.replace(network, heat_scale={"gradcam": network.heat_scale["gradcam"]})
    other = dataclasses.replace(bundle, networks={"cnn": lacking})
    with pytest.raises(BundleError, match="has none for hirescam"):
        Explainer(other)
    assert Explainer(other, "gradcam").method == "gradcam"


@pytest.mark.parametrize("method", ["", "GradCAM", "lime"])
def test_unknown_method(bundle, method):
    with pytest.raises(UnknownNameError) as caught:
        Explainer(bundle, method)
    assert str(caught.value) == (
        f"A saliency method must be one of {', '.join(METHODS)}; received {method!r}. Correct the name."
    )
