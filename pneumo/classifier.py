"""From a radiograph to each network's probability and decision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pneumo.bundle import Bundle, Network
from pneumo.errors import BundleError
from pneumo.radiograph import Radiograph, preprocess
from pneumo.zoo import CLASS_NAMES


def decide(probability: float, threshold: float) -> str:
    """The class that a probability of pneumonia means at an operating point: pneumonia from there on."""
    return CLASS_NAMES[int(probability >= threshold)]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one network, or the mean of several, says of one radiograph.

    Attributes
    ----------
    probability : float
        Of pneumonia, 0 to 1, as the network puts it out: not calibrated.
    threshold : float
        Operating point, 0 to 1, chosen on validation images.
    """

    probability: float
    threshold: float

    @property
    def decision(self) -> str:
        """One of `pneumo.zoo.CLASS_NAMES`, at the operating point."""
        return decide(self.probability, self.threshold)


class Classifier:
    """The networks of a bundle, each compiled once.

    Parameters
    ----------
    bundle : Bundle
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._forward = {name: _compile(network) for name, network in bundle.networks.items()}

    def probability(self, name: str, inputs: np.ndarray) -> np.ndarray:
        """Probability of pneumonia of preprocessed images.

        Parameters
        ----------
        name : str
            A network of the bundle.
        inputs : numpy.ndarray of float32, shape (n, size, size, 1)

        Returns
        -------
        numpy.ndarray of float64, shape (n,)
        """
        return self._forward[name](inputs).numpy()[:, 0].astype(np.float64)

    def predict(self, radiograph: Radiograph) -> dict[str, Prediction]:
        """Each network's prediction, by name.

        Raises
        ------
        BundleError
            If a network's output is no probability.
        """
        predictions = {}
        for name, network in self.bundle.networks.items():
            inputs = preprocess(radiograph.pixels, network.input_size)[np.newaxis]
            probability = float(self.probability(name, inputs)[0])
            if not 0 <= probability <= 1:
                raise BundleError(
                    f"A probability must lie between 0 and 1; {name} gave {probability} for {radiograph.name}. "
                    "The network is damaged: make or copy the bundle again."
                )
            predictions[name] = Prediction(probability, network.threshold)
        return predictions

    def together(self, predictions: dict[str, Prediction]) -> Prediction | None:
        """The mean of the probabilities at its own operating point; None unless all networks were asked."""
        if self.bundle.threshold is None or len(predictions) < len(self.bundle.manifest["networks"]):
            return None
        mean = float(np.mean([prediction.probability for prediction in predictions.values()]))
        return Prediction(mean, self.bundle.threshold)


def _compile(network: Network):
    import tensorflow as tf

    size = network.input_size
    signature = [tf.TensorSpec((None, size, size, 1), tf.float32)]
    return tf.function(lambda inputs: network.model(inputs, training=False), input_signature=signature)
