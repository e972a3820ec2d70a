"""Heatmaps: what each method is, and when there is nothing to draw."""

import dataclasses
import functools

import cv2
import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
from tf_keras_vis.layercam import Layercam
from tf_keras_vis.saliency import Saliency
from tf_keras_vis.utils.model_modifiers import ReplaceToLinear

from pneumo.bundle import EMBEDDED, load_bundle
from pneumo.classifier import Classifier
from pneumo.cover import fill
from pneumo.errors import BundleError, UnknownNameError
from pneumo.framing import WHOLE, Prepared
from pneumo.methods import DEFAULT_METHOD, METHODS, _integrated_gradients
from pneumo.radiograph import read_radiograph
from pneumo.saliency import Explainer, Heatmap, HeatStatus
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES


@pytest.fixture(scope="module")
def bundle(tiny_examiner):
    return tiny_examiner.bundle


@pytest.fixture(scope="module")
def explainers(bundle):
    """By method; each compiles a network when it is first asked about it."""
    return functools.cache(functools.partial(Explainer, bundle))


@pytest.fixture(scope="module")
def explainer(explainers):
    return explainers("hirescam")


@pytest.fixture(scope="module")
def prepared(bundle, images):
    return bundle.prepare(read_radiograph(images / "test" / "PNEUMONIA" / "person100_bacteria_482.jpeg"))


@pytest.fixture(
    scope="module",
    params=["NORMAL/IM-0005-0001.jpeg", "PNEUMONIA/person100_bacteria_482.jpeg", "PNEUMONIA/person59_virus_116.jpeg"],
)
def each_prepared(bundle, images, request):
    return bundle.prepare(read_radiograph(images / "test" / request.param))


@pytest.fixture(scope="module")
def shipped(images):
    """The networks that ship, and all radiographs that ship of the test split."""
    bundle = load_bundle(EMBEDDED)
    files = sorted((images / "test").glob("*/*.jpeg"))
    return bundle, bundle.prepare_all([read_radiograph(file) for file in files])


def parts(model: keras.Model, inputs: np.ndarray, name: str = "conv5") -> tuple[np.ndarray, np.ndarray]:
    """A feature map and the gradient of the logit there, layer by layer."""
    x = tf.constant(inputs)
    *hidden, last = model.layers[1:]
    with tf.GradientTape() as tape:
        for layer in hidden:
            x = layer(x, training=False)
            if layer.name == name:
                features = x
                tape.watch(features)
        logit = tf.matmul(x, last.kernel)[:, 0] + last.bias
    return features.numpy(), tape.gradient(logit, features).numpy()


def logit_of(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    x = tf.constant(inputs)
    *hidden, last = model.layers[1:]
    for layer in hidden:
        x = layer(x, training=False)
    return (tf.matmul(x, last.kernel)[:, 0] + last.bias).numpy()


def input_gradient(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    x = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(x)
        odds = model(x, training=False)[:, 0]
        logit = tf.math.log(odds) - tf.math.log1p(-odds)
    return tape.gradient(logit, x).numpy()


def seen(network, *prepared: Prepared) -> np.ndarray:
    return np.concatenate([item.inputs(network.framing, network.scaling, network.input_size) for item in prepared])


def gradcam(network, prepared, sign):
    features, gradient = parts(network.model, seen(network, prepared))
    return sign * np.einsum("bijk,bk->ij", features, gradient.mean(axis=(1, 2)))


def hirescam(network, prepared, sign):
    return sign * np.einsum("bijk,bijk->ij", *parts(network.model, seen(network, prepared)))


def layercam(network, prepared, sign, layer="conv5"):
    features, gradient = parts(network.model, seen(network, prepared), layer)
    return np.einsum("bijk,bijk->ij", features, np.maximum(sign * gradient, 0))


def layercam_fused(network, prepared, sign):
    layers = [layercam(network, prepared, sign, f"conv{number}").astype(np.float32) for number in (3, 4, 5)]
    shape = layers[0].shape[::-1]
    return np.max([cv2.resize(layer, shape) * layer.size / layers[-1].size for layer in layers], axis=0)


def gradcam_plus_plus(network, prepared, sign):
    """By tf-keras-vis, but for the exponential of the score."""
    inputs = seen(network, prepared)
    cam = GradcamPlusPlus(network.model, model_modifier=ReplaceToLinear(), clone=True)
    found = cam(
        lambda output: sign * output[:, 0], inputs, penultimate_layer="conv5", expand_cam=False, normalize_cam=False
    )
    return np.asarray(found)[0] / np.exp(sign * logit_of(network.model, inputs)[0])


def scorecam(network, prepared, sign, channels=None):
    (image,) = inputs = seen(network, prepared)
    features = parts(network.model, inputs)[0][0]
    spread = features.std(axis=(0, 1))
    kept = sorted(range(len(spread)), key=lambda channel: -spread[channel])[:channels]
    kept = [channel for channel in kept if spread[channel] > 0]
    seen_through = [np.zeros_like(image)]
    for channel in kept:
        values = features[..., channel]
        mask = cv2.resize((values - values.min()) / np.ptp(values), image.shape[:2])
        seen_through.append(image * mask[..., np.newaxis])
    blank, *found = logit_of(network.model, np.stack(seen_through))
    gains = sign * (np.array(found) - blank)
    return features[..., kept] @ scipy.special.softmax(gains) * (gains.max() > 0)


def smoothgrad(network, prepared, sign):
    (image,) = seen(network, prepared)
    noise = np.random.default_rng(0).standard_normal((16, *image.shape), np.float32)
    noisy = image + np.float32(0.15 * np.ptp(image)) * noise
    return np.abs(input_gradient(network.model, noisy).mean(axis=0))[..., 0]


def summed(signed, cells):
    side = len(signed) // cells
    return signed.reshape(cells, side, cells, side).sum(axis=(1, 3))


def hirescam_fine(network, prepared, sign):
    features, gradient = parts(network.model, seen(network, prepared), "conv2")
    return summed((sign * features * gradient).sum(axis=-1)[0], network.input_size // 8)


def between(model: keras.Model, start: str, end: str, values: tf.Tensor) -> tf.Tensor:
    """What the layers after one, up to another, make of values; "" for the logit."""
    names = [layer.name for layer in model.layers]
    *hidden, last = model.layers[names.index(start) + 1 : names.index(end) + 1 if end else None]
    for layer in hidden:
        values = layer(values, training=False)
    return last(values, training=False) if end else (tf.matmul(values, last.kernel) + last.bias)[:, 0]


def blurred_away(inputs: np.ndarray) -> np.ndarray:
    blurred = [cv2.GaussianBlur(image, (0, 0), len(image) / 8) for image in inputs]
    return np.stack(blurred).reshape(inputs.shape)


def hirescam_integrated(network, prepared, sign):
    image = seen(network, prepared)
    own, nothing = (parts(network.model, inputs, "conv2")[0] for inputs in (image, blurred_away(image)))
    places, weights = scipy.special.roots_legendre(6)
    total = 0
    for third in range(3):
        ends = [tf.constant(nothing + np.float32(step / 3) * (own - nothing)) for step in (third, third + 1)]
        with tf.GradientTape() as tape:
            tape.watch(ends)
            first, last = (between(network.model, "conv2", "conv5", end) for end in ends)
            mean = sum(
                weight / 6 * between(network.model, "conv5", "", (1 - place) / 2 * first + (1 + place) / 2 * last)
                for place, weight in zip(places, weights, strict=True)
            )
        total += sum(part.numpy() for part in tape.gradient(mean, ends))
    return summed((sign * (own - nothing) * total).sum(axis=-1)[0], network.input_size // 8)


def integrated_gradients(network, prepared, sign, nodes=16):
    """What the positive and the negative part together must add up to is tested apart."""
    (image,) = seen(network, prepared)
    places, weights = scipy.special.roots_legendre(nodes)
    steps = ((places + 1) / 2).astype(np.float32)
    gradients = input_gradient(network.model, steps[:, np.newaxis, np.newaxis, np.newaxis] * image)
    signed = (sign * image * np.average(gradients, axis=0, weights=weights))[..., 0]
    return summed(signed, network.input_size // 8)


def zones(network, prepared, sign):
    whole = logit_of(network.model, seen(network, prepared))[0]
    result = np.zeros((224, 224))
    for zone in prepared.lungs.zones().values():
        hidden = Prepared(fill(prepared.raster, zone), prepared.aspect, prepared.lungs)
        result[zone] = sign * (whole - logit_of(network.model, seen(network, hidden))[0])
    return result


def patches(network, prepared, sign):
    (image,) = inputs = seen(network, prepared)
    side = network.input_size
    edges = [round(side * cell / 14) for cell in range(15)]
    hidden = []
    for row, column in np.ndindex(12, 12):
        inside, around = np.zeros((side, side), bool), np.zeros((side, side), bool)
        inside[edges[row] : edges[row + 3], edges[column] : edges[column + 3]] = True
        top, left = edges[max(row - 1, 0)], edges[max(column - 1, 0)]
        around[top : edges[min(row + 4, 14)], left : edges[min(column + 4, 14)]] = True
        hidden.append(image.copy())
        hidden[-1][inside] = image[around & ~inside].mean()
    drops = sign * (logit_of(network.model, inputs) - logit_of(network.model, np.stack(hidden)))
    found = np.full((144, 14, 14), np.nan)
    for place, (row, column) in enumerate(np.ndindex(12, 12)):
        found[place, row : row + 3, column : column + 3] = drops[place]
    return np.nanmean(found, axis=0)


SIGNED = np.array([[1, -2], [3, -4]], np.float32)
"""Evidence with its signs, as a graph of all networks hands it over."""
FORMULAS = {
    "hirescam": hirescam,
    "hirescam-fine": hirescam_fine,
    "hirescam-integrated": hirescam_integrated,
    "gradcam": gradcam,
    "gradcam++": gradcam_plus_plus,
    "layercam": layercam,
    "layercam-fused": layercam_fused,
    "scorecam": scorecam,
    "scorecam-fast": functools.partial(scorecam, channels=16),
    "smoothgrad": smoothgrad,
    "integrated-gradients": integrated_gradients,
    "integrated-gradients-fast": functools.partial(integrated_gradients, nodes=2),
    "occlusion-patches": patches,
}
"""What each method's map is before its negative part is dropped, layer by layer or one image at a time."""


def test_every_method_has_its_formula():
    assert {*FORMULAS, "occlusion-zones"} == METHODS.keys()


@pytest.mark.parametrize("method", FORMULAS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_formula(bundle, explainers, each_prepared, name, method):
    network, explainer = bundle.networks[name], explainers(method)
    for target, sign in (("NORMAL", -1), ("PNEUMONIA", 1)):
        signed = FORMULAS[method](network, each_prepared, sign)
        assert np.any(signed != 0) or "scorecam" in method
        heatmap = explainer.explain(name, each_prepared, target)
        assert (heatmap.method, heatmap.target) == (method, target)
        assert heatmap.scale == METHODS[method].scale(network.heat_scale[method], target)
        assert heatmap.box == each_prepared.box(network.framing)
        assert heatmap.values.dtype == np.float32
        np.testing.assert_allclose(heatmap.values, np.maximum(signed, 0), rtol=5e-3, atol=1e-4 * np.abs(signed).max())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layercam_is_that_of_tf_keras_vis(bundle, explainers, each_prepared, name):
    network = bundle.networks[name]
    oracle = Layercam(network.model, model_modifier=ReplaceToLinear(), clone=True)
    for target, sign in (("NORMAL", -1), ("PNEUMONIA", 1)):
        expected = oracle(
            functools.partial(lambda sign, output: sign * output[:, 0], sign),
            seen(network, each_prepared),
            penultimate_layer="conv5",
            expand_cam=False,
            normalize_cam=False,
        )
        assert np.max(expected) > 0
        found = explainers("layercam").evidence(name, [each_prepared], target)
        np.testing.assert_allclose(found, expected, rtol=5e-3, atol=1e-4 * np.max(expected))


# tf-keras-vis hands a network of one input a list.
@pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_smoothgrad_is_that_of_tf_keras_vis(bundle, explainers, each_prepared, name, monkeypatch):
    """Under the same noise, before the oracle drops the sign of each gradient by itself, which hides what cancels."""
    network = bundle.networks[name]
    inputs = seen(network, each_prepared)
    noise = np.random.default_rng(0).standard_normal((16, *inputs.shape), np.float32)
    monkeypatch.setattr(np.random, "normal", lambda _mean, spread, shape: np.asarray(spread) * noise.reshape(shape))
    oracle = Saliency(network.model, model_modifier=ReplaceToLinear(), clone=True)
    options = {"gradient_modifier": None, "keepdims": True, "normalize_map": False}
    expected = oracle(lambda output: output[:, 0], inputs, smooth_samples=16, smooth_noise=0.15, **options)
    found = explainers("smoothgrad").evidence(name, [each_prepared], "PNEUMONIA")
    np.testing.assert_allclose(found, np.abs(expected)[..., 0], rtol=5e-3, atol=1e-3 * np.abs(expected).max())
    # The noise matters: without any, the map is another.
    plain = oracle(lambda output: output[:, 0], inputs, **options)
    np.testing.assert_allclose(plain, input_gradient(network.model, inputs), rtol=5e-3, atol=1e-3 * np.abs(plain).max())
    assert not np.allclose(found, np.abs(plain)[..., 0], rtol=0.05, atol=0.05 * np.abs(plain).max())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_integrated_gradients_are_those_of_xplique(bundle, each_prepared, name):
    pytest.importorskip(
        "xplique",
        reason="xplique 2.0.2 asks for tensorflow <= 2.20 and scikit-learn <= 1.7, older than those pinned here",
    )
    from xplique.attributions import IntegratedGradients

    network = bundle.networks[name]
    model = keras.models.clone_model(network.model)
    model.set_weights(network.model.get_weights())
    ReplaceToLinear()(model)
    oracle = IntegratedGradients(model, steps=1000)
    signed = np.asarray(oracle(seen(network, each_prepared), np.ones((1, 1), np.float32)))
    expected = summed(signed.reshape(network.input_size, network.input_size), network.input_size // 8)
    # So many nodes that what the rule of quadrature leaves is small; the method itself has 16.
    explain = _integrated_gradients(256)(network)
    pro, contra = (explain([each_prepared], target)[0] for target in reversed(CLASS_NAMES))
    np.testing.assert_allclose(pro - contra, expected, atol=0.03 * np.abs(expected).max())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_zones_show_what_covering_them_costs(bundle, explainers, each_prepared, name):
    network = bundle.networks[name]
    for target, sign in (("NORMAL", -1), ("PNEUMONIA", 1)):
        found = explainers("occlusion-zones").explain(name, each_prepared, target).placed(224, 224)
        expected = np.maximum(zones(network, each_prepared, sign), 0)
        for zone in each_prepared.lungs.zones().values():
            inner = cv2.erode(zone.astype(np.uint8), np.ones((9, 9))).astype(bool)
            assert inner.any()
            np.testing.assert_allclose(found[inner], expected[inner], rtol=1e-2, atol=1e-3)
        assert not found[cv2.dilate(each_prepared.lungs.mask.astype(np.uint8), np.ones((9, 9))) == 0].any()


@pytest.mark.parametrize(
    ("method", "begin"), [("integrated-gradients", np.zeros_like), ("hirescam-integrated", blurred_away)]
)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_integrated_gradients_are_complete(bundle, explainers, each_prepared, name, method, begin):
    """They add up to the difference of the logit to that of the baseline (Sundararajan et al., 2017)."""
    network = bundle.networks[name]
    explainer = explainers(method)
    image = seen(network, each_prepared)
    difference = -np.diff(logit_of(network.model, np.concatenate([image, begin(image)])))[0]
    pro, contra = (explainer.evidence(name, [each_prepared], target).sum() for target in reversed(CLASS_NAMES))
    assert pro - contra == pytest.approx(difference, rel=0.05, abs=0.02)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_default_maps_of_the_networks_that_ship_hold_all_the_evidence(shipped, name):
    """They are certain of an opaque lung within a short part of the way, which must not be stepped over."""
    bundle, radiographs = shipped
    network = bundle.networks[name]
    inputs = np.concatenate([seen(network, item) for item in radiographs])
    differences = logit_of(network.model, inputs) - logit_of(network.model, blurred_away(inputs))
    explainer = Explainer(bundle)
    pro, contra = (explainer.evidence(name, radiographs, target).sum(axis=(1, 2)) for target in reversed(CLASS_NAMES))
    missed = np.abs(pro - contra - differences) / (1 + np.abs(differences))
    assert np.median(missed) < 0.2
    assert missed.max() < 1


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_map_without_a_sign_looks_the_same_for_both_classes(bundle, explainers, prepared, name):
    scales = {"NORMAL": 0.25, "PNEUMONIA": 0.5}
    network = dataclasses.replace(bundle.networks[name], heat_scale=dict.fromkeys(METHODS, scales))
    for method, design in METHODS.items():
        explainer = Explainer(dataclasses.replace(bundle, networks={name: network}), method)
        drawn = [explainer.explain(name, prepared, target, signed=SIGNED) for target in CLASS_NAMES]
        assert [heatmap.scale for heatmap in drawn] == ([0.25, 0.5] if design.signed else [0.5, 0.5])
    assert [method for method, design in METHODS.items() if not design.signed] == ["smoothgrad"]
    normal, pneumonia = (explainers("smoothgrad").explain(name, prepared, target) for target in CLASS_NAMES)
    assert np.array_equal(normal.values, pneumonia.values)
    assert normal.peak == pneumonia.peak


def test_fewest_passes_are_told(bundle, prepared):
    """What `make models` takes its time from."""
    assert METHODS["hirescam"].passes < METHODS["scorecam-fast"].passes < METHODS["scorecam"].passes


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
def test_many_at_once_are_as_one_by_one(bundle, explainers, prepared, method):
    explainer = explainers(method)
    mirrored = Prepared(np.ascontiguousarray(prepared.raster[:, ::-1]), prepared.aspect, None)
    for name in bundle.networks:
        together = explainer.evidence(name, [prepared, mirrored], "PNEUMONIA")
        for one, found in zip([prepared, mirrored], together, strict=True):
            np.testing.assert_allclose(found, explainer.evidence(name, [one], "PNEUMONIA")[0], rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module", params=[(0, HeatStatus.EMPTY), (np.nan, HeatStatus.NOT_FINITE)], ids=["zero", "NaN"])
def without_evidence(bundle_folder, request):
    """Explainers by method of networks whose last weights are all the same, and what their maps then are."""
    weight, status = request.param
    altered = load_bundle(bundle_folder)
    for network in altered.networks.values():
        kernel = network.model.get_layer("probability").kernel
        kernel.assign(np.full(kernel.shape, weight))
    return functools.cache(functools.partial(Explainer, altered)), status


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_network_without_evidence(without_evidence, prepared, name, method):
    explainers, status = without_evidence
    explainer = explainers(method)
    assert [explainer.explain(name, prepared, target).status for target in CLASS_NAMES] == [status, status]


# Values of a heatmap on a scale of 4: what can be done with it, and its peak.
HEATMAPS = {
    "drawn": ([[0, 1], [2, 0]], HeatStatus.DRAWN, 0.5),
    "at the scale": ([[4, 3], [4, 4]], HeatStatus.DRAWN, 1),
    "above the scale": ([[0, 0], [0, 6]], HeatStatus.DRAWN, 1.5),
    "tiny": ([[0, 0], [0, 1e-30]], HeatStatus.DRAWN, 2.5e-31),
    "flat": ([[2, 2], [2, 2]], HeatStatus.FLAT, 0.5),
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
    with pytest.raises(BundleError, match=f"has none for {DEFAULT_METHOD}"):
        Explainer(other)
    assert Explainer(other, "gradcam").method == "gradcam"


@pytest.mark.parametrize("method", ["", "GradCAM", "lime"])
def test_unknown_method(bundle, method):
    with pytest.raises(UnknownNameError) as caught:
        Explainer(bundle, method)
    assert str(caught.value) == (
        f"A saliency method must be one of {', '.join(METHODS)}; received {method!r}. Correct the name."
    )
