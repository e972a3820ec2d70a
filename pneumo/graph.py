"""All networks of a bundle as one compiled graph: probabilities, and the heatmaps of both classes, from one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pneumo.bundle import Bundle
from pneumo.classifier import calibrate
from pneumo.framing import Prepared
from pneumo.methods import probe
from pneumo.zoo import architecture

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class Answers:
    """What the networks say of n radiographs, by network.

    Attributes
    ----------
    probabilities : dict of str to numpy.ndarray of float64, shape (n,)
        Of pneumonia, 0 to 1, calibrated.
    signed : dict of str to numpy.ndarray of float32, shape (n, rows, columns)
        Evidence at each place of a layer, in units of the logit: above 0 for pneumonia, below for NORMAL. Empty if
        none was asked for.
    """

    probabilities: dict[str, np.ndarray]
    signed: dict[str, np.ndarray]


class NetworkGraph:
    """The networks of a bundle, compiled together once, for any number of radiographs at a time.

    Equal to one network after the other, but for rounding in the last digits: what is shared is computed once, and
    pooling comes before a normalisation that keeps the order of values, which leaves the result as it is.

    Parameters
    ----------
    bundle : Bundle
    explained : bool
        Whether evidence is taken too, as the default method does: each value of a network's finer feature map times
        the logit's gradient there, summed over its filters.
    """

    def __init__(self, bundle: Bundle, explained: bool = False) -> None:
        self._networks = bundle.networks
        layers = [architecture(name).fine_map if explained else None for name in bundle.networks]
        self._compiled = _compile([network.model for network in bundle.networks.values()], layers)

    def ask(self, prepared: Sequence[Prepared]) -> Answers:
        """What the networks say of radiographs, by `Bundle.prepare`."""
        seen: dict[tuple[str, str, int, int], np.ndarray] = {}
        inputs = []
        for network in self._networks.values():
            view = network.view
            if view not in seen:
                seen[view] = np.concatenate([item.inputs(*view) for item in prepared], dtype=np.float32)
            inputs.append(seen[view])
        outputs, signed = self._compiled(inputs)
        return Answers(
            {
                name: calibrate(output.numpy(), network.slope, network.offset)
                for (name, network), output in zip(self._networks.items(), outputs, strict=True)
            },
            {name: values.numpy() for name, values in zip(self._networks, signed, strict=False)},
        )

    @property
    def traces(self) -> int:
        """How often the graph was built; more than once is time lost."""
        return self._compiled.experimental_get_tracing_count()


def _compile(models: Sequence[keras.Model], layers: Sequence[str | None]):
    """From an input for each model to the outputs, each (n,), and evidence at its layer, each (n, rows, columns)."""
    import tensorflow as tf

    passes = [
        _chain(model, layer) if _is_chain(model) else probe(model, [layer] if layer else [])[0]
        for model, layer in zip(models, layers, strict=True)
    ]

    def compute(inputs):
        outputs, signed = [], []
        for run, values in zip(passes, inputs, strict=True):
            with tf.GradientTape() as tape:
                tape.watch(values)
                features, logit = run(values)
            for found, gradient in zip(features, tape.gradient(logit, features), strict=True):
                signed.append(tf.reduce_sum(found * gradient, axis=-1))
            outputs.append(tf.sigmoid(logit))
        return outputs, signed

    signature = [tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32) for model in models]
    return tf.function(compute, input_signature=[signature], autograph=False)


def _is_chain(model: keras.Model) -> bool:
    """Whether each layer takes what the one before it puts out, and nothing else."""
    return all(after.input is before.output for before, after in pairwise(model.layers))


def _chain(model: keras.Model, layer: str | None) -> Callable:
    """The same as `pneumo.methods.probe` for at most one layer, faster."""
    import keras
    import tensorflow as tf

    *hidden, last = (item for item in model.layers[1:] if not isinstance(item, keras.layers.Dropout))
    for place, (first, second) in enumerate(list(pairwise(hidden))):
        pools = isinstance(first, keras.layers.BatchNormalization) and isinstance(second, keras.layers.MaxPooling2D)
        # The largest of four values is the same before and after a normalisation that keeps their order, and there is
        # a quarter to normalise.
        if pools and first.name != layer and _is_affine(first) and np.min(first.gamma) > 0:
            hidden[place : place + 2] = second, first

    affine = {item: _affine(item) for item in hidden if _is_affine(item)}

    def run(values):
        features = [values] if model.layers[0].name == layer else []
        for item in hidden:
            if isinstance(item, keras.layers.RNN) and not item.go_backwards:
                values = _unrolled(item, values)
            elif item in affine:
                scale, shift = affine[item]
                values = values * scale + shift
            else:
                values = item(values, training=False)
            if item.name == layer:
                features.append(values)
        return features, (tf.matmul(values, last.kernel.value) + last.bias.value)[:, 0]

    return run


def _is_affine(layer: keras.Layer) -> bool:
    import keras

    return isinstance(layer, keras.layers.BatchNormalization) and layer.scale and layer.center and layer.axis == -1


def _affine(layer: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """What a normalisation multiplies by and adds: a graph of a few numbers is built in less time."""
    gamma, beta, mean, variance = layer.get_weights()
    scale = gamma / np.sqrt(variance + np.float32(layer.epsilon))
    return scale, beta - mean * scale


def _unrolled(layer: keras.layers.RNN, values):
    """A recurrent layer without a loop in the graph: there are only a few rows."""
    import tensorflow as tf

    states = layer.get_initial_state(tf.shape(values)[0])
    outputs = []
    for row in tf.unstack(values, axis=1):
        output, states = layer.cell(row, states, training=False)
        outputs.append(output)
    return tf.stack(outputs, axis=1) if layer.return_sequences else outputs[-1]
