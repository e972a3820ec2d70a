"""The sanity check of a heatmap: what a network that has learnt nothing shows (Adebayo et al., NeurIPS 2018).

If a map looked the same with random weights, it would show the radiograph and the architecture, not what was learnt.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pneumo.bundle import Bundle
from pneumo.framing import Prepared
from pneumo.methods import DEFAULT_METHOD
from pneumo.saliency import Explainer, Heatmap, HeatStatus

if TYPE_CHECKING:
    import keras

_SIDE = 28
_SEED = 0


@dataclass(frozen=True, slots=True)
class SanityCheck:
    """A network's map beside that of the same network with random weights.

    Attributes
    ----------
    network : str
    heatmap : Heatmap
        Of the random network, on a scale of its own peak.
    correlation : float or None
        Spearman's rank correlation of the two maps, -1 to 1; None if one of them is flat.
    """

    network: str
    heatmap: Heatmap
    correlation: float | None

    @property
    def words(self) -> str:
        """What to make of it, in one or two sentences."""
        if self.correlation is None:
            return "One of the two maps is empty, flat or not finite: there is nothing to compare."
        return (
            f"Rank correlation with the trained network's map: {self.correlation:.2f}. Near 0, the two have nothing in "
            "common, as it should be; near 1, the trained map would mean nothing. Drawn on a scale of its own peak."
        )


def randomised(model: keras.Model, layers: Collection[str] | None = None, seed: int = _SEED) -> keras.Model:
    """A copy of a network in which some layers have forgotten all that they learnt.

    Parameters
    ----------
    model : keras.Model
    layers : collection of str, optional
        Names of those layers. Default: all.
    seed : int
        Of their new weights, drawn as He et al. (ICCV 2015) draw them; biases are 0.
    """
    import keras

    generator = np.random.default_rng(seed)
    copy = keras.models.clone_model(model)
    # A fresh copy has biases of 0, and normalises nothing.
    for layer, trained in zip(copy.layers, model.layers, strict=True):
        if layers is not None and layer.name not in layers:
            layer.set_weights(trained.get_weights())
            continue
        for weight in layer.trainable_weights:
            if len(weight.shape) > 1:
                spread = np.sqrt(2 / np.prod(weight.shape[:-1]))
                weight.assign(generator.normal(0, spread, weight.shape))
    return copy


def untrained(bundle: Bundle, seed: int = _SEED) -> Bundle:
    """The same networks with random weights."""
    networks = {
        name: dataclasses.replace(network, model=randomised(network.model, seed=seed))
        for name, network in bundle.networks.items()
    }
    return dataclasses.replace(bundle, networks=networks)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rank correlation of two maps of any shape; None if one of them is flat or not finite.

    Parameters
    ----------
    first, second : numpy.ndarray of float, shape (rows, columns)
    """
    maps = [cv2.resize(np.asarray(values, np.float32), (_SIDE, _SIDE)).ravel() for values in (first, second)]
    if any(not np.isfinite(values).all() or np.ptp(values) == 0 for values in maps):
        return None
    return float(np.corrcoef([_ranks(values) for values in maps])[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


class SanityChecker:
    """Compares a bundle's maps with those of untrained networks.

    Parameters
    ----------
    bundle : Bundle
    method : str
        One of `pneumo.methods.METHODS`.
    """

    def __init__(self, bundle: Bundle, method: str = DEFAULT_METHOD) -> None:
        self._random = Explainer(untrained(bundle), method)

    def check(self, prepared: Prepared, trained: Mapping[str, Heatmap]) -> list[SanityCheck]:
        """Check each network's map.

        Parameters
        ----------
        prepared : Prepared
        trained : mapping of str to Heatmap
            By network, its map of that radiograph, of the method.
        """
        checks = []
        for name, heatmap in trained.items():
            random = self._random.explain(name, prepared, heatmap.target)
            if random.status is HeatStatus.DRAWN:
                random = dataclasses.replace(random, scale=float(random.values.max()))
            checks.append(SanityCheck(name, random, rank_correlation(heatmap.values, random.values)))
        return checks
