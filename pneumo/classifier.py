"""From a radiograph to each network's probability and decision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pneumo.bundle import OPERATING_POINTS, Bundle
from pneumo.errors import BundleError, UnknownNameError
from pneumo.framing import Prepared
from pneumo.probe import compile_outputs
from pneumo.zoo import CLASS_NAMES


def decide(probability: float, threshold: float) -> str:
    """The class that a probability of pneumonia means at an operating point: pneumonia from there on."""
    return CLASS_NAMES[int(probability >= threshold)]


def parse_operating_point(text: str | float) -> str | float:
    """An operating point from what a user typed: the name of one, or a threshold.

    Parameters
    ----------
    text : str or float
        One of `pneumo.bundle.OPERATING_POINTS`, or a number between 0 and 1.

    Raises
    ------
    UnknownNameError
        If it is neither.
    """
    if text in OPERATING_POINTS:
        return text
    try:
        number = float(text)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number < 1:
        raise UnknownNameError(
            f"An operating point must be {' or '.join(OPERATING_POINTS)}, or a number between 0 and 1; "
            f"received {text!r}. Correct it."
        )
    return number


def calibrate(probabilities: np.ndarray, slope: float, offset: float) -> np.ndarray:
    """Platt scaling (Platt, Advances in Large Margin Classifiers, 1999) of a network's raw outputs.

    Parameters
    ----------
    probabilities : numpy.ndarray of float, shape (n,)
        0 to 1, as the network puts them out.
    slope, offset : float
        Of the calibrated logit as a function of the raw one.

    Returns
    -------
    numpy.ndarray of float64, shape (n,)
    """
    # Beyond 700 the exponential overflows.
    return 1 / (1 + np.exp(-np.clip(slope * logit(probabilities) + offset, -700, 700)))


def logit(probabilities: np.ndarray) -> np.ndarray:
    """Log odds, float64; a probability that a float has saturated counts as one in ten million."""
    clipped = np.clip(np.asarray(probabilities, np.float64), 1e-7, 1 - 1e-7)
    return np.log(clipped) - np.log1p(-clipped)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one network, or the mean of several, says of one radiograph.

    Attributes
    ----------
    probability : float
        Of pneumonia, 0 to 1, calibrated on held-out images.
    threshold : float
        Operating point, 0 to 1.
    """

    probability: float
    threshold: float

    @property
    def decision(self) -> str:
        """One of `pneumo.zoo.CLASS_NAMES`, at the operating point."""
        return decide(self.probability, self.threshold)


@dataclass(frozen=True, slots=True)
class JointPrediction(Prediction):
    """What the mean of all networks says.

    Attributes
    ----------
    low, high : float
        The mean is uncertain from `low` on and below `high`.
    """

    low: float
    high: float

    @property
    def uncertain(self) -> bool:
        """Whether the mean lies where held-out radiographs of both kinds are found: from low on, below high."""
        return self.low <= self.probability < self.high


class Classifier:
    """The networks of a bundle, each compiled once.

    Parameters
    ----------
    bundle : Bundle
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._forward = {name: compile_outputs(network.model) for name, network in bundle.networks.items()}

    def probability(self, name: str, inputs: np.ndarray) -> np.ndarray:
        """Calibrated probability of pneumonia of images as the network takes them.

        Parameters
        ----------
        name : str
            A network of the bundle.
        inputs : numpy.ndarray of float32, shape (n, size, size, channels)

        Returns
        -------
        numpy.ndarray of float64, shape (n,)
        """
        network = self.bundle.networks[name]
        return calibrate(self._forward[name](inputs).numpy()[:, 0], network.slope, network.offset)

    def predict(self, prepared: Prepared, operating_point: str | float = OPERATING_POINTS[0]) -> dict[str, Prediction]:
        """Each network's prediction, by name.

        Parameters
        ----------
        prepared : Prepared
            A radiograph, by `Bundle.prepare`.
        operating_point : str or float
            As `parse_operating_point` returns it.

        Raises
        ------
        BundleError
            If a network's output is no probability.
        """
        predictions = {}
        for name, network in self.bundle.networks.items():
            inputs = prepared.inputs(*network.view)
            predictions[name] = self.decided(name, float(self.probability(name, inputs)[0]), operating_point)
        return predictions

    def decided(self, name: str, probability: float, operating_point: str | float = OPERATING_POINTS[0]) -> Prediction:
        """What one network's probability means at an operating point; errors as `predict`."""
        if not 0 <= probability <= 1:
            raise BundleError(
                f"A probability must lie between 0 and 1; {name} gave {probability}. "
                "The network is damaged: make or copy the bundle again."
            )
        return Prediction(probability, _threshold(self.bundle.networks[name].thresholds, operating_point))

    def together(
        self, predictions: dict[str, Prediction], operating_point: str | float = OPERATING_POINTS[0]
    ) -> JointPrediction | None:
        """The mean of the calibrated probabilities; None unless all networks of the bundle were asked."""
        consensus = self.bundle.consensus
        if consensus is None or len(predictions) < len(self.bundle.manifest["networks"]):
            return None
        mean = float(np.mean([prediction.probability for prediction in predictions.values()]))
        return JointPrediction(mean, _threshold(consensus.thresholds, operating_point), consensus.low, consensus.high)


def _threshold(thresholds: dict[str, float], operating_point: str | float) -> float:
    return thresholds[operating_point] if isinstance(operating_point, str) else operating_point
