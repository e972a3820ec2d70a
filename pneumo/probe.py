"""What is asked of one network: its logit, its feature maps and its gradients, each compiled once.

A network whose layers follow one another is run faster than Keras runs it, with the same results but for rounding in
the last digits: recurrences are unrolled, and pooling comes before a normalisation that keeps the order of values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

_BATCH = 64


def probe(model: keras.Model, layers: Sequence[str]) -> Callable:
    """A function from inputs to the outputs of some layers, by name, "" for what the last takes, and the logit."""
    return _chain(model, layers) if _is_chain(model) else _taps(model, layers)


def signature(model: keras.Model):
    """Shape and kind of a network's input, of any number of radiographs."""
    import tensorflow as tf

    return tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)


def compile_outputs(model: keras.Model):
    """A network as Keras runs it, from inputs to its output, or outputs, as tensors."""
    import tensorflow as tf

    return tf.function(
        lambda inputs: model(inputs, training=False), input_signature=[signature(model)], autograph=False
    )


def compile_folded(model: keras.Model):
    """The same, faster: what normalises a convolution's outputs becomes part of its weights, as they are now.

    Every layer must be used once. Results differ by rounding in the last digits.
    """
    import tensorflow as tf

    given = {layer: layer.input if isinstance(layer.input, list) else [layer.input] for layer in model.layers[1:]}
    taken = Counter(id(item) for items in (*given.values(), model.outputs) for item in items)
    norms = {id(layer.input): layer for layer in given if _is_affine(layer)}
    steps: dict[keras.Layer, Callable] = {}
    for layer in given:
        norm = norms.get(id(layer.output))
        if norm and taken[id(layer.output)] == 1 and _is_linear_convolution(layer):
            steps |= {layer: _folded(layer, norm), norm: tf.identity}
        elif layer not in steps:
            steps[layer] = partial(layer, training=False)

    def run(inputs):
        found = {id(model.inputs[0]): inputs}
        for layer, items in given.items():
            values = [found[id(item)] for item in items]
            found[id(layer.output)] = steps[layer](values if isinstance(layer.input, list) else values[0])
        outputs = [found[id(item)] for item in model.outputs]
        return outputs if len(outputs) > 1 else outputs[0]

    return tf.function(run, input_signature=[signature(model)], autograph=False)


def compile_logit(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """From inputs, shape (n, size, size, channels), to their logits, shape (n,)."""
    import tensorflow as tf

    run = probe(model, ())
    forward = tf.function(lambda inputs: run(inputs)[1], input_signature=[signature(model)], autograph=False)
    return lambda inputs: _in_batches(forward, inputs)


def compile_input_gradient(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """From inputs, shape (n, size, size, channels), to the gradients of their logits, of the same shape."""
    import tensorflow as tf

    run = probe(model, ())

    @tf.function(input_signature=[signature(model)], autograph=False)
    def gradient(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            _, logit = run(inputs)
        return tape.gradient(logit, inputs)

    return lambda inputs: _in_batches(gradient, inputs)


def compile_features(model: keras.Model, *layers: str) -> Callable[[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]:
    """From inputs to the output of each layer and the logit's gradient there, each (n, rows, columns, filters)."""
    import tensorflow as tf

    run = probe(model, layers)

    @tf.function(input_signature=[signature(model)], autograph=False)
    def compute(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            features, logit = run(inputs)
        return features, tape.gradient(logit, features)

    def features_of(inputs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        features, gradients = compute(inputs)
        return [(one.numpy(), other.numpy()) for one, other in zip(features, gradients, strict=True)]

    return features_of


def _in_batches(function: Callable, inputs: np.ndarray) -> np.ndarray:
    return np.concatenate([function(inputs[start : start + _BATCH]).numpy() for start in range(0, len(inputs), _BATCH)])


def _taps(model: keras.Model, layers: Sequence[str]) -> Callable:
    import keras
    import tensorflow as tf

    last = model.layers[-1]
    taps = keras.Model(model.inputs, {name: model.get_layer(name).output for name in layers if name} | {"": last.input})

    def run(inputs):
        found = taps(inputs, training=False)
        return [found[name] for name in layers], (tf.matmul(found[""], last.kernel.value) + last.bias.value)[:, 0]

    return run


def _is_chain(model: keras.Model) -> bool:
    """Whether each layer takes what the one before it puts out, and nothing else."""
    return all(after.input is before.output for before, after in pairwise(model.layers))


def _chain(model: keras.Model, layers: Sequence[str]) -> Callable:
    import keras
    import tensorflow as tf

    *hidden, last = (item for item in model.layers[1:] if not isinstance(item, keras.layers.Dropout))
    for place, (first, second) in enumerate(list(pairwise(hidden))):
        pools = isinstance(first, keras.layers.BatchNormalization) and isinstance(second, keras.layers.MaxPooling2D)
        asked = first.name in layers or second.name in layers
        # The largest of four values is the same before and after a normalisation that keeps their order, and there is
        # a quarter to normalise.
        if pools and not asked and _is_affine(first) and np.min(first.gamma) > 0:
            hidden[place : place + 2] = second, first

    affine = {item: _affine(item) for item in hidden if _is_affine(item)}

    def run(values):
        found = {model.layers[0].name: values}
        for item in hidden:
            if isinstance(item, keras.layers.RNN) and not item.go_backwards:
                values = _unrolled(item, values)
            elif item in affine:
                scale, shift = affine[item]
                values = values * scale + shift
            else:
                values = item(values, training=False)
            found[item.name] = values
        found[""] = values
        return [found[name] for name in layers], (tf.matmul(values, last.kernel.value) + last.bias.value)[:, 0]

    return run


def _is_affine(layer: keras.Layer) -> bool:
    import keras

    return isinstance(layer, keras.layers.BatchNormalization) and layer.scale and layer.center and layer.axis == -1


def _affine(layer: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """What a normalisation multiplies by and adds: a graph of a few numbers is built in less time."""
    gamma, beta, mean, variance = layer.get_weights()
    scale = gamma / np.sqrt(variance + np.float32(layer.epsilon))
    return scale, beta - mean * scale


def _is_linear_convolution(layer: keras.Layer) -> bool:
    import keras

    # Not a kind of it, such as a depthwise one.
    plain = type(layer) is keras.layers.Conv2D and layer.activation is keras.activations.linear
    return plain and layer.groups == 1 and layer.data_format == "channels_last"


def _folded(layer: keras.layers.Conv2D, norm: keras.layers.BatchNormalization) -> Callable:
    """A convolution and the normalisation after it as one convolution."""
    import tensorflow as tf

    scale, shift = _affine(norm)
    kernel, *bias = layer.get_weights()
    kernel, shift = kernel * scale, shift + scale * bias[0] if bias else shift

    def run(values):
        outputs = tf.nn.conv2d(values, kernel, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate)
        return tf.nn.bias_add(outputs, shift)

    return run


def _unrolled(layer: keras.layers.RNN, values):
    """A recurrent layer without a loop in the graph: there are only a few rows."""
    import tensorflow as tf

    states = layer.get_initial_state(tf.shape(values)[0])
    outputs = []
    for row in tf.unstack(values, axis=1):
        output, states = layer.cell(row, states, training=False)
        outputs.append(output)
    return tf.stack(outputs, axis=1) if layer.return_sequences else outputs[-1]
