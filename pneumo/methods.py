"""How a network is explained: saliency methods by name, one function each.

All explain the logit, not the probability: the gradient of the sigmoid vanishes where a network is sure. The logit is
that of pneumonia; evidence for NORMAL is what lowers it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pneumo.cover import covered
from pneumo.framing import Prepared, cut
from pneumo.probe import PATH_POINTS, compile_features, compile_input_gradient, compile_integrated, compile_logit, gauss
from pneumo.zoo import CLASS_NAMES, Architecture, architecture

if TYPE_CHECKING:
    from pneumo.bundle import Network

DEFAULT_METHOD = "hirescam-integrated"
"""The method where none is named."""
Explain = Callable[[Sequence[Prepared], str], np.ndarray]
"""From n radiographs and one of `pneumo.zoo.CLASS_NAMES` to evidence for it, 0 or more, float32, (n, rows, columns)."""

_SIGNS = {label: 1.0 if label == CLASS_NAMES[1] else -1.0 for label in CLASS_NAMES}
_FUSED_MAPS = 3
_FAST_CHANNELS = 16
_NOISE_SAMPLES, _NOISE_LEVEL = 16, 0.15
_PATH_NODES, _FEW_NODES = 16, 2
_CELL = 8
"""Side, in pixels of the input, of the cells in which fine maps are summed with their signs."""
_GRID, _PATCH = 14, 3
"""Cells a side of the map of the sliding patch, and its side in cells."""
_ZONE_SIDE = 56


def _inputs(network: Network, prepared: Sequence[Prepared]) -> np.ndarray:
    return np.concatenate([item.inputs(*network.view) for item in prepared], dtype=np.float32)


def _evidence(signed: np.ndarray) -> np.ndarray:
    # numpy.maximum keeps what is no number, which TensorFlow's relu turns into 0.
    return np.maximum(signed, 0).astype(np.float32)


def _class_activation(
    weigh: Callable[[np.ndarray, np.ndarray], np.ndarray],
    layer: Callable[[Architecture], str] = attrgetter("last_map"),
) -> Callable[[Network], Explain]:
    """A method that weighs a feature map, by default the last, by the gradient there."""

    def make(network: Network) -> Explain:
        compute = network.compiled(compile_features, layer(architecture(network.name)))

        def explain(prepared: Sequence[Prepared], target: str) -> np.ndarray:
            features, gradient = compute(_inputs(network, prepared))[0]
            return class_evidence(weigh(features, _SIGNS[target] * gradient), network.input_size)

        return explain

    return make


def class_evidence(signed: np.ndarray, size: int, target: str = CLASS_NAMES[1]) -> np.ndarray:
    """Evidence for a class from values with their signs, those above 0 for pneumonia.

    Parameters
    ----------
    signed : numpy.ndarray of float32, shape (n, rows, columns)
        Finer maps are summed in cells of the network's input.
    size : int
        Side of that input in pixels.
    target : str
        One of `pneumo.zoo.CLASS_NAMES`.

    Returns
    -------
    numpy.ndarray of float32, shape (n, rows, columns)
        0 or more.
    """
    return _evidence(np.stack([_summed(_SIGNS[target] * values, size) for values in signed]))


def _hirescam(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return (features * gradient).sum(axis=-1)


def _layercam(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return (features * np.maximum(gradient, 0)).sum(axis=-1)


def _gradcam_plus_plus(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    places = (1, 2)
    square = gradient**2
    below = 2 * square + square * gradient * features.sum(axis=places, keepdims=True)
    alphas = square / np.where(square == 0, 1, below)
    total = alphas.sum(axis=places, keepdims=True)
    alphas = alphas / np.where(total == 0, 1, total)
    weights = (np.maximum(gradient, 0) * alphas).sum(axis=places, keepdims=True)
    return (weights * features).sum(axis=-1)


def _gradcam(network: Network) -> Explain:
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear

    gradcam = Gradcam(network.model, model_modifier=ReplaceToLinear(), clone=True)

    def explain(prepared: Sequence[Prepared], target: str) -> np.ndarray:
        maps = gradcam(
            lambda output: _SIGNS[target] * output[:, 0],
            _inputs(network, prepared),
            penultimate_layer=architecture(network.name).last_map,
            seek_penultimate_conv_layer=False,
            expand_cam=False,
            normalize_cam=False,
        )
        return np.asarray(maps, np.float32)

    return explain


def _hirescam_integrated(network: Network) -> Explain:
    design = architecture(network.name)
    compute = network.compiled(compile_integrated, design.fine_map, design.last_map)

    def explain(prepared: Sequence[Prepared], target: str) -> np.ndarray:
        return class_evidence(compute(_inputs(network, prepared)), network.input_size, target)

    return explain


def _layercam_fused(network: Network) -> Explain:
    compute = network.compiled(compile_features, *architecture(network.name).features[-_FUSED_MAPS:])

    def explain(prepared: Sequence[Prepared], target: str) -> np.ndarray:
        maps = [
            np.maximum(_layercam(features, _SIGNS[target] * gradient), 0)
            for features, gradient in compute(_inputs(network, prepared))
        ]
        finest, coarsest = maps[0].shape[1:], maps[-1].shape[1:]
        # Evidence per area: a finer map spreads it over more places.
        maps = [layer * (np.prod(layer.shape[1:]) / np.prod(coarsest)) for layer in maps]
        return np.stack(
            [np.max([_enlarged(layer[index], finest) for layer in maps], axis=0) for index in range(len(prepared))]
        ).astype(np.float32)

    return explain


def _summed(signed: np.ndarray, size: int) -> np.ndarray:
    """Values with their signs, summed in cells of a network's input; a coarser map is left as it is."""
    side = max(1, size // _CELL)
    if side >= len(signed):
        return signed
    return cv2.resize(signed, (side, side), interpolation=cv2.INTER_AREA) * (signed.size / side**2)


def _enlarged(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return cv2.resize(np.asarray(values, np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def _scorecam(channels: int | None) -> Callable[[Network], Explain]:
    """Score-CAM with all channels, or with those that vary most over the image."""

    def make(network: Network) -> Explain:
        compute = network.compiled(compile_features, architecture(network.name).last_map)
        logit = network.compiled(compile_logit)
        size = (network.input_size, network.input_size)
        blank = np.zeros((1, *size, network.channels), np.float32)

        def explain_one(image: np.ndarray, features: np.ndarray, target: str) -> np.ndarray:
            if channels:
                features = features[..., np.argsort(-features.std(axis=(0, 1)), kind="stable")[:channels]]
            low, high = features.min(axis=(0, 1)), features.max(axis=(0, 1))
            # A channel that is the same everywhere shows no place.
            features, low, high = (part[..., high > low] for part in (features, low, high))
            if not features.shape[-1]:
                return np.zeros(features.shape[:2], np.float32)
            masks = [_enlarged(mask, size) for mask in np.moveaxis((features - low) / (high - low), -1, 0)]
            masked = image * np.stack(masks)[..., np.newaxis]
            gains = _SIGNS[target] * (logit(masked) - logit(blank))
            if gains.max() <= 0:
                return np.zeros(features.shape[:2], np.float32)
            weights = np.exp(gains - gains.max())
            return (features * (weights / weights.sum())).sum(axis=-1)

        def explain(prepared: Sequence[Prepared], target: str) -> np.ndarray:
            inputs = _inputs(network, prepared)
            features, _ = compute(inputs)[0]
            return _evidence(
                np.stack([explain_one(image, own, target) for image, own in zip(inputs, features, strict=True)])
            )

        return explain

    return make


def _smoothgrad(network: Network) -> Explain:
    gradient = network.compiled(compile_input_gradient)

    def explain(prepared: Sequence[Prepared], _target: str) -> np.ndarray:
        maps = []
        for image in _inputs(network, prepared):
            noise = np.random.default_rng(0).standard_normal((_NOISE_SAMPLES, *image.shape), np.float32)
            noisy = image + noise * np.float32(_NOISE_LEVEL * np.ptp(image))
            maps.append(np.abs(gradient(noisy).mean(axis=0).sum(axis=-1)))
        return np.stack(maps).astype(np.float32)

    return explain


def _integrated_gradients(nodes: int) -> Callable[[Network], Explain]:
    """Integrated gradients by Gauss-Legendre quadrature, summed in cells with their signs."""
    places, weights = (np.array(part, np.float32)[:, np.newaxis, np.newaxis, np.newaxis] for part in gauss(nodes))

    def make(network: Network) -> Explain:
        gradient = network.compiled(compile_input_gradient)

        def explain_one(image: np.ndarray) -> np.ndarray:
            signed = image * (weights * gradient(places * image)).sum(axis=0)
            return _summed(signed.sum(axis=-1), network.input_size)

        def explain(prepared: Sequence[Prepared], target: str) -> np.ndarray:
            return _evidence(_SIGNS[target] * np.stack([explain_one(image) for image in _inputs(network, prepared)]))

        return explain

    return make


def _patches(network: Network) -> Explain:
    logit = network.compiled(compile_logit)
    size = network.input_size
    edges = np.rint(np.linspace(0, size, _GRID + 1)).astype(int)
    places = [(row, column) for row in range(_GRID - _PATCH + 1) for column in range(_GRID - _PATCH + 1)]

    def explain_one(image: np.ndarray, target: str) -> np.ndarray:
        hidden = np.repeat(image[np.newaxis], len(places) + 1, axis=0)
        for copy, (row, column) in zip(hidden[1:], places, strict=True):
            around = (slice(*_around(edges, row)), slice(*_around(edges, column)))
            inside = (slice(edges[row], edges[row + _PATCH]), slice(edges[column], edges[column + _PATCH]))
            ring = image[around].sum() - image[inside].sum()
            copy[inside] = ring / max(1, image[around].size - image[inside].size)
        logits = logit(hidden)
        drops = _SIGNS[target] * (logits[0] - logits[1:])
        total, count = np.zeros((_GRID, _GRID)), np.zeros((_GRID, _GRID))
        for drop, (row, column) in zip(drops, places, strict=True):
            cells = (slice(row, row + _PATCH), slice(column, column + _PATCH))
            total[cells] += drop
            count[cells] += 1
        return total / count

    def explain(prepared: Sequence[Prepared], target: str) -> np.ndarray:
        return _evidence(np.stack([explain_one(image, target) for image in _inputs(network, prepared)]))

    return explain


def _around(edges: np.ndarray, start: int) -> tuple[int, int]:
    return int(edges[max(0, start - 1)]), int(edges[min(_GRID, start + _PATCH + 1)])


def _zones(network: Network) -> Explain:
    logit = network.compiled(compile_logit)

    def explain_one(item: Prepared, target: str) -> np.ndarray:
        result = np.zeros((_ZONE_SIDE, _ZONE_SIDE), np.float32)
        if item.lungs is None or not item.lungs.found:
            return result
        zones = list(item.lungs.zones().values())
        logits = logit(_inputs(network, [item, *(covered(item, zone) for zone in zones)]))
        box = item.box(network.framing)
        for zone, drop in zip(zones, _SIGNS[target] * (logits[0] - logits[1:]), strict=True):
            inside = cut(zone.astype(np.uint8) * 255, box, _ZONE_SIDE) >= 128
            result[inside] = drop
        return result

    def explain(prepared: Sequence[Prepared], target: str) -> np.ndarray:
        return _evidence(np.stack([explain_one(item, target) for item in prepared]))

    return explain


@dataclass(frozen=True, slots=True)
class Method:
    """One way to explain a network.

    Attributes
    ----------
    title : str
        How it is called on the page.
    passes : int
        How often the network is run for one map, forward or backward; what follows the last map counts as nothing.
    make : callable
        Takes a `pneumo.bundle.Network` and returns an `Explain`.
    signed : bool
        Whether it tells what speaks for a class from what speaks against it. If not, both classes have the same map.
    """

    title: str
    passes: int
    make: Callable[[Network], Explain]
    signed: bool = True

    def scale(self, scales: Mapping[str, float], target: str) -> float:
        """Value that is drawn at full strength for a class, of those found for each; one for both without a sign."""
        return scales[target] if self.signed else max(scales.values())


METHODS = {
    "hirescam": Method("HiResCAM", 2, _class_activation(_hirescam)),
    "hirescam-fine": Method("HiResCAM, second block", 2, _class_activation(_hirescam, attrgetter("fine_map"))),
    "hirescam-integrated": Method("integrated HiResCAM", 1 + 2 * PATH_POINTS, _hirescam_integrated),
    "gradcam": Method("Grad-CAM", 2, _gradcam),
    "gradcam++": Method("Grad-CAM++", 2, _class_activation(_gradcam_plus_plus)),
    "layercam": Method("LayerCAM", 2, _class_activation(_layercam)),
    "layercam-fused": Method("LayerCAM, three blocks", 2, _layercam_fused),
    "scorecam": Method("Score-CAM", 257, _scorecam(None)),
    "scorecam-fast": Method("fast Score-CAM", _FAST_CHANNELS + 2, _scorecam(_FAST_CHANNELS)),
    "smoothgrad": Method("SmoothGrad", 2 * _NOISE_SAMPLES, _smoothgrad, signed=False),
    "integrated-gradients": Method("integrated gradients", 2 * _PATH_NODES, _integrated_gradients(_PATH_NODES)),
    "integrated-gradients-fast": Method("fast integrated gradients", 2 * _FEW_NODES, _integrated_gradients(_FEW_NODES)),
    "occlusion-zones": Method("occlusion of lung zones", 7, _zones),
    "occlusion-patches": Method("occlusion by a sliding patch", (_GRID - _PATCH + 1) ** 2 + 1, _patches),
}
"""All methods by name. What speaks against the class is left out of every map.

- HiResCAM (Draelos and Carin, arXiv 2011.08891, 2020) multiplies each place of the last feature map by its own
  gradient; in units of the logit. That of the second block, whose map is eight times as fine, is summed with its
  signs in cells of 8 x 8 pixels of the input, so that what speaks for and against side by side cancels.
- Integrated HiResCAM is integrated gradients of the second block's map (Dhamdhere et al., ICLR 2019; Sattarzadeh et
  al., ICASSP 2021): the same, of the difference to the map of the image blurred away, with the gradient's mean of the
  way between (`pneumo.probe.integrated`). What makes a network certain counts even where its gradient has vanished.
- Grad-CAM (Selvaraju et al., ICCV 2017), by tf-keras-vis, multiplies it by the gradient's mean over all places. For a
  head that weighs places differently, as these networks' do, that leaves many radiographs without any map.
- Grad-CAM++ (Chattopadhyay et al., WACV 2018) weighs the places of that mean. The exponential of the score, by which
  the paper multiplies all weights of an image alike, is left out: maps keep their scale.
- LayerCAM (Jiang et al., IEEE TIP 30, 2021) is HiResCAM with the positive gradients alone; of three blocks, the largest
  of their evidence per area, which shows finer detail.
- Score-CAM (Wang et al., CVPR workshops 2020) weighs each channel by what the logit gains when the image is seen
  through that channel alone, over an image of zeros; where no channel gains anything, the map is empty. The fast one
  asks the 16 channels that vary most.
- SmoothGrad (Smilkov et al., arXiv 1706.03825, 2017): size of the mean gradient over 16 noisy copies. It has no
  sign: the map for either class is the same.
- Integrated gradients (Sundararajan et al., ICML 2017) from an image of zeros; in units of the logit; summed in the
  same cells. The path is integrated at 16 points by Gauss-Legendre quadrature, by the fast ones at 2.
- Occlusion (Zeiler and Fergus, ECCV 2014): by how much the logit falls when a lung zone, or a sliding patch, is covered
  from its surroundings.

An image of zeros is one of the image's own mean gray where a network's `scaling` is "standard", and black where it is
"unit" or "byte": there what is black can have no integrated gradient.
"""
