"""Heatmaps by name: one interface, one method each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from pneumo.bundle import Bundle
from pneumo.errors import UnknownNameError
from pneumo.radiograph import Radiograph, preprocess
from pneumo.zoo import CLASS_NAMES, SALIENCY_LAYER


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
        Raw evidence, 0 or more, in units of the logit; it covers the whole radiograph.
    scale : float
        Value that is drawn at full strength: fixed for a network and class, not stretched image by image.
    """

    method: str
    target: str
    values: np.ndarray = field(repr=False)
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
    """

    def __init__(self, bundle: Bundle, method: str = "gradcam") -> None:
        if method not in METHODS:
            raise UnknownNameError(
                f"A saliency method must be one of {', '.join(METHODS)}; received {method!r}. Correct the name."
            )
        self.method = method
        self._bundle = bundle
        self._explain = {name: METHODS[method](network.model) for name, network in bundle.networks.items()}

    def explain(self, name: str, radiograph: Radiograph, target: str) -> Heatmap:
        """Explain one network's output for one class.

        Parameters
        ----------
        name : str
            A network of the bundle.
        radiograph : Radiograph
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
                raise UnknownNameError(f"A {kind} must be one of {', '.join(known)}; received {value!r}.")
        network = self._bundle.networks[name]
        inputs = preprocess(radiograph.pixels, network.input_size)[np.newaxis]
        return Heatmap(self.method, target, self._explain[name](inputs, target), network.heat_scale[target])


def _gradcam(model) -> Callable[[np.ndarray, str], np.ndarray]:
    """Grad-CAM (Selvaraju et al., ICCV 2017) on the last convolution, by tf-keras-vis.

    The gradient is that of the logit, because the sigmoid's own vanishes where a network is sure; evidence
    for NORMAL is evidence that lowers it.
    """
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear

    gradcam = Gradcam(model, model_modifier=ReplaceToLinear(), clone=True)
    signs = {label: 1.0 if label == CLASS_NAMES[1] else -1.0 for label in CLASS_NAMES}

    def explain(inputs: np.ndarray, target: str) -> np.ndarray:
        maps = gradcam(
            lambda output: signs[target] * output[:, 0],
            inputs,
            penultimate_layer=SALIENCY_LAYER,
            seek_penultimate_conv_layer=False,
            expand_cam=False,
            normalize_cam=False,
        )
        return np.asarray(maps[0], np.float32)

    return explain


METHODS: dict[str, Callable[..., Callable[[np.ndarray, str], np.ndarray]]] = {"gradcam": _gradcam}
"""All methods by name: each takes a network and returns a function of (inputs, target) to raw values."""
