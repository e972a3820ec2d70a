"""Heatmaps: what Grad-CAM is, and when there is nothing to draw."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pneumo.bundle import load_bundle
from pneumo.classifier import Classifier
from pneumo.errors import UnknownNameError
from pneumo.radiograph import preprocess, read_radiograph
from pneumo.saliency import METHODS, Explainer, Heatmap, HeatStatus
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES


@pytest.fixture(scope="module")
def bundle(bundle_folder):
    return load_bundle(bundle_folder)


@pytest.fixture(scope="module")
def explainer(bundle):
    return Explainer(bundle)


@pytest.fixture(scope="module")
def radiograph(images):
    return read_radiograph(images / "test" / "PNEUMONIA" / "person100_bacteria_482.jpeg")


@pytest.fixture(
    scope="module",
    params=["NORMAL/IM-0005-0001.jpeg", "PNEUMONIA/person100_bacteria_482.jpeg", "PNEUMONIA/person59_virus_116.jpeg"],
)
def each_radiograph(images, request):
    return read_radiograph(images / "test" / request.param)


def evidence(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """Grad-CAM of the logit before its negative part is dropped, layer by layer, by nothing of tf-keras-vis."""
    x = tf.constant(inputs)
    *hidden, last = model.layers[1:]
    with tf.GradientTape() as tape:
        for layer in hidden:
            x = layer(x, training=False)
            if layer.name == "conv5":
                features = x
                tape.watch(features)
        logit = tf.matmul(x, last.kernel)[:, 0] + last.bias
    gradient = tape.gradient(logit, features).numpy()
    return np.einsum("bijk,bk->ij", features.numpy(), gradient.mean(axis=(1, 2)))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradcam(bundle, explainer, each_radiograph, name):
    network = bundle.networks[name]
    signed = evidence(network.model, preprocess(each_radiograph.pixels, network.input_size)[np.newaxis])
    assert signed.shape == (3, 3)
    assert np.any(signed != 0)
    for target, sign in (("NORMAL", -1), ("PNEUMONIA", 1)):
        heatmap = explainer.explain(name, each_radiograph, target)
        assert (heatmap.method, heatmap.target, heatmap.scale) == ("gradcam", target, network.heat_scale[target])
        assert heatmap.values.dtype == np.float32
        np.testing.assert_allclose(
            heatmap.values, np.maximum(sign * signed, 0), rtol=1e-3, atol=1e-5 * np.abs(signed).max()
        )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_classes_have_their_own_maps(explainer, each_radiograph, name):
    normal, pneumonia = (explainer.explain(name, each_radiograph, target).values for target in CLASS_NAMES)
    assert not np.array_equal(normal, pneumonia)
    # What speaks for one class speaks against the other.
    assert not np.any((normal > 0) & (pneumonia > 0))


def test_maps_follow_the_radiograph(explainer, radiograph):
    blank = read_radiograph(np.zeros((224, 224), np.uint8))
    for name in ARCHITECTURES:
        signed = [
            explainer.explain(name, image, "PNEUMONIA").values - explainer.explain(name, image, "NORMAL").values
            for image in (radiograph, blank)
        ]
        assert not np.allclose(*signed)


def test_explaining_changes_nothing(bundle, radiograph):
    classifier = Classifier(bundle)
    before = classifier.predict(radiograph)
    weights = {name: network.model.get_weights() for name, network in bundle.networks.items()}
    explainer = Explainer(bundle)
    maps = [explainer.explain(name, radiograph, target).values for name in ARCHITECTURES for target in CLASS_NAMES]
    again = [explainer.explain(name, radiograph, target).values for name in ARCHITECTURES for target in CLASS_NAMES]
    assert np.array_equal(maps, again)
    assert classifier.predict(radiograph) == before
    assert Classifier(bundle).predict(radiograph) == before
    for name, network in bundle.networks.items():
        for old, new in zip(weights[name], network.model.get_weights(), strict=True):
            assert np.array_equal(old, new)


@pytest.mark.parametrize(
    ("weight", "status"), [(0, HeatStatus.EMPTY), (np.nan, HeatStatus.NOT_FINITE)], ids=["zero", "NaN"]
)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_network_without_evidence(bundle_folder, radiograph, name, weight, status):
    altered = load_bundle(bundle_folder, (name,))
    kernel = altered.networks[name].model.get_layer("probability").kernel
    kernel.assign(np.full(kernel.shape, weight))
    explainer = Explainer(altered)
    assert [explainer.explain(name, radiograph, target).status for target in CLASS_NAMES] == [status, status]


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
    heatmap = Heatmap("gradcam", "PNEUMONIA", np.array(values, np.float32), 4.0)
    assert heatmap.status is status
    assert heatmap.peak == (None if peak is None else pytest.approx(peak))


@pytest.mark.parametrize("method", ["", "GradCAM", "lime"])
def test_unknown_method(bundle, method):
    with pytest.raises(UnknownNameError) as caught:
        Explainer(bundle, method)
    assert str(caught.value) == (
        f"A saliency method must be one of {', '.join(METHODS)}; received {method!r}. Correct the name."
    )
