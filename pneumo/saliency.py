"""Heatmaps by name: one interface, one method each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import cv2
import numpy as np

from pneumo.bundle import Bundle
from pneumo.errors import BundleError, UnknownNameError
from pneumo.framing import Box, Prepared
from pneumo.zoo import CLASS_NAMES, SALIENCY_LAYER

DEFAULT_METHOD = "hirescam"
"""The method where none is named."""
_Explain = Callable[[np.ndarray, str], np.ndarray]


class HeatStatus(StrEnum):
    """What can be done with a heatmap."""

    DRAWN = "drawn"
    EMPTY = "empty"
    NOT_FINITE = "not finite"


@dataclass(frozen=True, slots=True)
class Heatmap:
    """Where one network found evidence for one class.

    Attributes
    ----------
    method : str
        One of `METHODS`.
    target : str
        The class explained, one of `pneumo.zoo.CLASS_NAMES`.
    values : numpy.ndarray of float32, shape (rows, columns)
        Raw evidence, 0 or more, in units of the logit.
    box : Box
        What of the radiograph it covers; elsewhere the network saw nothing.
    scale : float
        Value that is drawn at full strength: fixed for a network and class, not stretched image by image.
    """

    method: str
    target: str
    values: np.ndarray = field(repr=False)
    box: Box
    scale: float

    @property
    def status(self) -> HeatStatus:
        """Whether there is something to draw; a blank or broken map is said in words instead."""
        if not np.isfinite(self.values).all():
            return HeatStatus.NOT_FINITE
        return HeatStatus.DRAWN if self.values.max(initial=0) > 0 else HeatStatus.EMPTY

    @property
    def peak(self) -> float | None:
        """Largest value as a share of the scale, 0 or more; None if the map is not finite."""
        if self.status is HeatStatus.NOT_FINITE:
            return None
        return float(self.values.max(initial=0)) / self.scale

    def placed(self, width: int, height: int) -> np.ndarray:
        """The map where it lies on the radiograph.

        Parameters
        ----------
        width, height : int
            Size of the result in pixels.

        Returns
        -------
        numpy.ndarray of float32, shape (height, width)
            Evidence in units of the logit; 0 outside of the box.
        """
        left, right = round(self.box.left * width), round(self.box.right * width)
        top, bottom = round(self.box.top * height), round(self.box.bottom * height)
        size = max(1, right - left), max(1, bottom - top)
        values = cv2.resize(self.values, size, interpolation=cv2.INTER_LINEAR)
        result = np.zeros((height, width), np.float32)
        # A box may reach beyond the radiograph.
        rows, columns = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
        result[rows, columns] = values[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return result


class Explainer:
    """Draws heatmaps of the networks of a bundle.

    Parameters
    ----------
    bundle : Bundle
    method : str
        One of `METHODS`.

    Raises
    ------
    UnknownNameError
        If there is no such method.
    BundleError
        If the bundle has no scale for its maps.
    """

    def __init__(self, bundle: Bundle, method: str = DEFAULT_METHOD) -> None:
        if method not in METHODS:
            raise UnknownNameError(
                f"A saliency method must be one of {', '.join(METHODS)}; received {method!r}. Correct the name."
            )
        for network in bundle.networks.values():
            if network.heat_scale and method not in network.heat_scale:
                raise BundleError(
                    f"A bundle must hold the scales of its heatmaps; {network.name} of {bundle.location} has none for "
                    f"{method}. Make the bundle again, or name another method."
                )
        self.method = method
        self._bundle = bundle
        make = METHODS[method].make
        self._explain = {name: make(network.model) for name, network in bundle.networks.items()}

    def explain(self, name: str, prepared: Prepared, target: str) -> Heatmap:
        """Explain one network's output for one class.

        Parameters
        ----------
        name : str
            A network of the bundle.
        prepared : Prepared
            A radiograph, by `Bundle.prepare`.
        target : str
            One of `pneumo.zoo.CLASS_NAMES`.

        Returns
        -------
        Heatmap

        Raises
        ------
        UnknownNameError
            If there is no such network or class.
        """
        for kind, value, known in (("network", name, self._bundle.networks), ("class", target, CLASS_NAMES)):
            if value not in known:
                raise UnknownNameError(
                    f"A {kind} must be one of {', '.join(known)}; received {value!r}. Correct the name."
                )
        network = self._bundle.networks[name]
        inputs = prepared.inputs(network.framing, network.scaling, network.input_size)
        values = self.evidence(name, inputs, target)[0]
        scale = network.heat_scale[self.method][target]
        return Heatmap(self.method, target, values, prepared.box(network.framing), scale)

    def evidence(self, name: str, inputs: np.ndarray, target: str) -> np.ndarray:
        """Raw maps of many inputs of a network at once.

        Parameters
        ----------
        name : str
            A network of the bundle.
        inputs : numpy.ndarray of float32, shape (n, input_size, input_size, 1)
            By `Prepared.inputs`.
        target : str
            One of `pneumo.zoo.CLASS_NAMES`.

        Returns
        -------
        numpy.ndarray of float32, shape (n, rows, columns)
            Evidence for the class, 0 or more, in units of the logit.
        """
        return self._explain[name](inputs, target)


_SIGNS = {label: 1.0 if label == CLASS_NAMES[1] else -1.0 for label in CLASS_NAMES}
"""The logit is that of pneumonia: evidence for NORMAL is evidence that lowers it. It is the logit that is explained,
because the gradient of the sigmoid vanishes where a network is sure."""


def _gradcam(model) -> _Explain:
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear

    gradcam = Gradcam(model, model_modifier=ReplaceToLinear(), clone=True)

    def explain(inputs: np.ndarray, target: str) -> np.ndarray:
        maps = gradcam(
            lambda output: _SIGNS[target] * output[:, 0],
            inputs,
            penultimate_layer=SALIENCY_LAYER,
            seek_penultimate_conv_layer=False,
            expand_cam=False,
            normalize_cam=False,
        )
        return np.asarray(maps, np.float32)

    return explain


def _hirescam(model) -> _Explain:
    import keras
    import tensorflow as tf

    last = model.layers[-1]
    probe = keras.Model(model.inputs, [model.get_layer(SALIENCY_LAYER).output, last.input])

    @tf.function(input_signature=[tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)])
    def contributions(inputs):
        with tf.GradientTape() as tape:
            features, hidden = probe(inputs, training=False)
            logit = tf.matmul(hidden, last.kernel.value) + last.bias.value
        return tf.reduce_sum(features * tape.gradient(logit, features), axis=-1)

    def explain(inputs: np.ndarray, target: str) -> np.ndarray:
        signed = _SIGNS[target] * contributions(inputs).numpy()
        # numpy.maximum keeps what is no number, which TensorFlow's relu turns into 0.
        return np.maximum(signed, 0).astype(np.float32)

    return explain


@dataclass(frozen=True, slots=True)
class Method:
    """One way to explain a network.

    Attributes
    ----------
    title : str
        How it is called on the page.
    make : callable
        Takes a network of the zoo and returns a function of (inputs, target) to raw maps: see `Explainer.evidence`.
    """

    title: str
    make: Callable[..., _Explain]


METHODS = {
    "hirescam": Method("HiResCAM", _hirescam),
    "gradcam": Method("Grad-CAM", _gradcam),
}
"""All methods by name, each on the last convolution.

- HiResCAM (Draelos and Carin, arXiv 2011.08891, 2020) multiplies each place of the feature map by its own gradient.
- Grad-CAM (Selvaraju et al., ICCV 2017), by tf-keras-vis, multiplies it by the gradient's mean over all places. For a
  head that weighs places differently, as these networks' do, that leaves many radiographs without any map.
"""
