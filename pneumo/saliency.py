"""Heatmaps: one interface to every method and network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import cv2
import numpy as np

from pneumo.bundle import Bundle
from pneumo.errors import BundleError, UnknownNameError
from pneumo.framing import Box, Prepared
from pneumo.methods import DEFAULT_METHOD, METHODS, class_evidence
from pneumo.zoo import CLASS_NAMES


class HeatStatus(StrEnum):
    """What can be done with a heatmap."""

    DRAWN = "drawn"
    EMPTY = "empty"
    FLAT = "flat"
    NOT_FINITE = "not finite"


@dataclass(frozen=True, slots=True)
class Heatmap:
    """Where one network found evidence for one class.

    Attributes
    ----------
    method : str
        One of `pneumo.methods.METHODS`.
    target : str
        The class explained, one of `pneumo.zoo.CLASS_NAMES`.
    values : numpy.ndarray of float32, shape (rows, columns)
        Raw evidence, 0 or more, in units of the method.
    box : Box
        What of the radiograph it covers; elsewhere the network saw nothing.
    scale : float
        Value that is drawn at full strength: fixed for a network and class, not stretched image by image; the same for
        both classes where the method has no sign.
    """

    method: str
    target: str
    values: np.ndarray = field(repr=False)
    box: Box
    scale: float

    @property
    def status(self) -> HeatStatus:
        """Whether there is something to draw; a blank or broken map is said in words instead."""
        low, high = float(self.values.min(initial=np.inf)), float(self.values.max(initial=-np.inf))
        if self.values.size and not math.isfinite(high - low):
            return HeatStatus.NOT_FINITE
        if high <= 0:
            return HeatStatus.EMPTY
        return HeatStatus.DRAWN if high > low else HeatStatus.FLAT

    @property
    def peak(self) -> float | None:
        """Largest value as a share of the scale, 0 or more; None if the map is not finite."""
        if self.status is HeatStatus.NOT_FINITE:
            return None
        return float(self.values.max(initial=0)) / self.scale

    @property
    def status_words(self) -> str:
        """Why it is not drawn, in one sentence; "" if it is."""
        if self.status is HeatStatus.EMPTY:
            return f"no positive evidence for {self.target} was found, so no heatmap is drawn."
        if self.status is HeatStatus.FLAT:
            return f"the evidence for {self.target} is the same everywhere, so no heatmap is drawn."
        if self.status is HeatStatus.NOT_FINITE:
            return "the heatmap has values that are not finite, so none is drawn."
        return ""

    def placed(self, width: int, height: int) -> np.ndarray:
        """The map where it lies on the radiograph.

        Parameters
        ----------
        width, height : int
            Size of the result in pixels.

        Returns
        -------
        numpy.ndarray of float32, shape (height, width)
            Evidence; 0 outside of the box.
        """
        left, right = round(self.box.left * width), round(self.box.right * width)
        top, bottom = round(self.box.top * height), round(self.box.bottom * height)
        size = max(1, right - left), max(1, bottom - top)
        values = cv2.resize(self.values, size, interpolation=cv2.INTER_LINEAR)
        result = np.zeros((height, width), np.float32)
        # A box may reach beyond the radiograph.
        rows, columns = self.box.clipped(width, height)
        result[rows, columns] = values[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return result


class Explainer:
    """Draws heatmaps of the networks of a bundle.

    Parameters
    ----------
    bundle : Bundle
    method : str
        One of `pneumo.methods.METHODS`.

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
        self._explain = {name: make(network) for name, network in bundle.networks.items()}

    def explain(self, name: str, prepared: Prepared, target: str, signed: np.ndarray | None = None) -> Heatmap:
        """Explain one network's output for one class.

        Parameters
        ----------
        name : str
            A network of the bundle.
        prepared : Prepared
            A radiograph, by `Bundle.prepare`.
        target : str
            One of `pneumo.zoo.CLASS_NAMES`.
        signed : numpy.ndarray of float32, shape (rows, columns), optional
            What `pneumo.graph.Answers` holds of it, of the layer of this method; else the network is run.

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
        if signed is None:
            values = self.evidence(name, [prepared], target)[0]
        else:
            values = class_evidence(signed[np.newaxis], network.input_size, target)[0]
        scale = METHODS[self.method].scale(network.heat_scale[self.method], target)
        return Heatmap(self.method, target, values, prepared.box(network.framing), scale)

    def evidence(self, name: str, prepared: Sequence[Prepared], target: str) -> np.ndarray:
        """Raw maps of many radiographs at once.

        Parameters
        ----------
        name : str
            A network of the bundle.
        prepared : sequence of Prepared
        target : str
            One of `pneumo.zoo.CLASS_NAMES`.

        Returns
        -------
        numpy.ndarray of float32, shape (n, rows, columns)
            Evidence for the class, 0 or more, over the box that the network sees.
        """
        return self._explain[name](prepared, target)
