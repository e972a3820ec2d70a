"""What is asked of one network: its logit, its feature maps and its gradients, each compiled once.

A network whose layers follow one another is run faster than Keras runs it, with the same results but for rounding in
the last digits: recurrences are unrolled, and pooling comes before a normalisation that keeps the order of values. Few
operations are also compiled in less time: a layer of a known kind is one or two, and not all that Keras makes of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.polynomial.legendre import leggauss

if TYPE_CHECKING:
    import keras

_BATCH = 64
PATH_POINTS = 4
"""Points at which `integrated` runs the layers before the last map, and takes their gradients."""
POINTS_BETWEEN = 6
"""Points between each two of them at which it runs what follows."""
BLUR = 1 / 8
"""Standard deviation of the blur from which it begins, as a share of the side."""


def probe(model: keras.Model, layers: Sequence[str]) -> Callable:
    """A function from inputs to the outputs of some layers, by name, "" for what the last takes, and the logit.

    It also takes what is to be called with each of those outputs, or with the inputs, before they are used: `watch` of
    a gradient tape.
    """
    return _chain(model, layers) if _is_chain(model) else _taps(model, layers)


def divided(model: keras.Model, layers: Sequence[str]) -> list[Callable]:
    """A network in parts: from inputs to the first layer's output, from there to the next layer's, and so on.

    The last part goes on to what the last layer takes and the logit.
    """
    import keras
    import tensorflow as tf

    last = model.layers[-1]
    if not _is_chain(model):
        ends = [model.inputs, *(model.get_layer(name).output for name in layers), last.input]
        # A layer may be named twice: nothing lies between.
        parts = [
            tf.identity if start is end else partial(keras.Model(start, end), training=False)
            for start, end in pairwise(ends)
        ]
    else:
        steps = _steps(model, layers)
        names = [name for name, _ in steps]
        places = [0, *(1 + names.index(name) for name in layers), len(steps)]
        parts = [partial(_through, [step for _, step in steps[start:end]]) for start, end in pairwise(places)]
    *lower, upper = parts

    def ending(values):
        found = upper(values)
        return found, _dense(last, found)[:, 0]

    return [*lower, ending]


def _through(steps: Sequence[Callable], values):
    for step in steps:
        values = step(values)
    return values


def integrated(model: keras.Model, fine: str, coarse: str) -> Callable:
    """A function from inputs to what the last layer takes, the logit, and evidence at each place of the fine layer.

    Evidence is by how much the layer's output differs from that of the same image blurred away, times the logit's
    gradient, mean of the way from the one to the other (Sundararajan et al., ICML 2017; the blurred image as where it
    begins: Sturmfels et al., Distill 2020), summed over the layer's filters. Over all places it sums, but for the error
    of the quadrature, to the difference of the two logits.

    What follows the coarse layer costs little and may turn from one answer to the other within a short part of the way,
    as recurrent layers do; what lies before it costs much and changes slowly. So the layers up to the coarse one are
    run, and their gradients taken, at a few points, and what follows at several times as many, where the coarse layer's
    output is taken to lie on the straight line between those of the points next to it.
    """
    import tensorflow as tf

    lower, middle, upper = divided(model, (fine, coarse))
    blur = tf.constant(blurring(model.inputs[0].shape[1]))
    shares, weights = (tf.constant(part, tf.float32) for part in between())

    def explained(inputs):
        found, nothing = tf.split(lower(tf.concat([inputs, _along_both(blur, inputs)], axis=0)), 2)
        away = found - nothing
        inner = (nothing + place * away for place in np.linspace(0, 1, PATH_POINTS)[1:-1])
        points = tf.concat([nothing, *inner, found], axis=0)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            maps = middle(points)
            mixed = tf.matmul(shares, tf.reshape(maps, (PATH_POINTS, -1)))
            last, logit = upper(tf.reshape(mixed, (-1, *maps.shape[1:])))
            mean = tf.linalg.matvec(tf.reshape(logit, (len(weights), -1)), weights, transpose_a=True)
        gradient = tf.add_n(tf.split(tape.gradient(mean, points), PATH_POINTS))
        # The way ends at the radiograph itself, so that it is answered on the way.
        return *(tf.split(part, len(weights))[-1] for part in (last, logit)), tf.reduce_sum(away * gradient, axis=-1)

    return explained


def between() -> tuple[np.ndarray, np.ndarray]:
    """How values at points in the way are made of those at a few equally distant points, and what each counts.

    Returns
    -------
    tuple of numpy.ndarray
        Shares, shape (m, `PATH_POINTS`), and weights, shape (m,): Gauss-Legendre quadrature between each two of the
        few points, and the last of these itself, which counts nothing.
    """
    places, weights = gauss(POINTS_BETWEEN)
    parts = PATH_POINTS - 1
    way = np.append(np.add.outer(np.arange(parts), places), parts)
    shares = np.maximum(0, 1 - np.abs(way[:, np.newaxis] - np.arange(PATH_POINTS)))
    return shares, np.append(np.tile(np.array(weights) / parts, parts), 0)


def blurring(size: int) -> np.ndarray:
    """A Gaussian blur of a line of so many pixels, mirrored at its ends, as a matrix, float32, shape (size, size)."""
    return cv2.GaussianBlur(np.eye(size, dtype=np.float32), (1, 0), sigmaX=0, sigmaY=BLUR * size)


def _along_both(blur, images):
    import tensorflow as tf

    lines = tf.einsum("ij,njkc->nikc", blur, images)
    return tf.einsum("kl,nilc->nikc", blur, lines)


def gauss(count: int) -> tuple[list[float], list[float]]:
    """Places between 0 and 1, and weights, of Gauss-Legendre quadrature."""
    places, weights = leggauss(count)
    return [*map(float, (places + 1) / 2)], [*map(float, weights / 2)]


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
            steps[layer] = _step(layer)

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
        with tf.GradientTape(watch_accessed_variables=False) as tape:
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
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            features, logit = run(inputs, tape.watch)
        return features, tape.gradient(logit, features)

    def features_of(inputs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        features, gradients = compute(inputs)
        return [(one.numpy(), other.numpy()) for one, other in zip(features, gradients, strict=True)]

    return features_of


def compile_integrated(model: keras.Model, fine: str, coarse: str) -> Callable[[np.ndarray], np.ndarray]:
    """From inputs to the evidence of `integrated` at each place of the fine layer, shape (n, rows, columns)."""
    import tensorflow as tf

    run = integrated(model, fine, coarse)
    evidence = tf.function(lambda inputs: run(inputs)[2], input_signature=[signature(model)], autograph=False)
    return lambda inputs: _in_batches(evidence, inputs)


def _in_batches(function: Callable, inputs: np.ndarray) -> np.ndarray:
    return np.concatenate([function(inputs[start : start + _BATCH]).numpy() for start in range(0, len(inputs), _BATCH)])


def _taps(model: keras.Model, layers: Sequence[str]) -> Callable:
    import keras
    import tensorflow as tf

    last = model.layers[-1]
    taps = keras.Model(model.inputs, {name: model.get_layer(name).output for name in layers if name} | {"": last.input})

    def run(inputs, watch=None):
        if watch:
            watch(inputs)
        found = taps(inputs, training=False)
        return [found[name] for name in layers], (tf.matmul(found[""], last.kernel.value) + last.bias.value)[:, 0]

    return run


def _is_chain(model: keras.Model) -> bool:
    """Whether each layer takes what the one before it puts out, and nothing else."""
    return all(after.input is before.output for before, after in pairwise(model.layers))


def _steps(model: keras.Model, layers: Sequence[str]) -> list[tuple[str, Callable]]:
    """Of a chain, what each layer but the last does, by its name; the outputs of some layers stay their own."""
    import keras

    *hidden, _ = (item for item in model.layers[1:] if not isinstance(item, keras.layers.Dropout))
    for place, (first, second) in enumerate(list(pairwise(hidden))):
        pools = isinstance(first, keras.layers.BatchNormalization) and isinstance(second, keras.layers.MaxPooling2D)
        asked = first.name in layers or second.name in layers
        # The largest of four values is the same before and after a normalisation that keeps their order, and there is
        # a quarter to normalise.
        if pools and not asked and _is_affine(first) and np.min(first.gamma) > 0:
            hidden[place : place + 2] = second, first
    # A network without convolutions is explained at its input.
    return [(model.layers[0].name, lambda values: values), *((item.name, _step(item)) for item in hidden)]


def _chain(model: keras.Model, layers: Sequence[str]) -> Callable:
    steps, last = _steps(model, layers), model.layers[-1]

    def run(values, watch=None):
        found = {}
        for name, step in steps:
            values = step(values)
            found[name] = values
            if watch and name in layers:
                watch(values)
        found[""] = values
        return [found[name] for name in layers], _dense(last, values)[:, 0]

    return run


def _step(layer: keras.Layer) -> Callable:
    """What a layer does when nothing is trained, in few operations; the layer itself where it is of no known kind."""
    import keras
    import tensorflow as tf

    kind = type(layer)
    if _is_convolution(layer):
        return lambda values: _convolution(
            layer, values, layer.kernel.value, layer.bias.value if layer.use_bias else None
        )
    if _is_affine(layer):
        scale, shift = _affine(layer)
        return lambda values: tf.nn.bias_add(values * scale, shift)
    if kind is keras.layers.Dense and layer.use_bias:
        return lambda values: layer.activation(_dense(layer, values))
    if kind in (keras.layers.LSTM, keras.layers.SimpleRNN) and not layer.go_backwards and layer.use_bias:
        usual = layer.activation is keras.activations.tanh
        if kind is keras.layers.SimpleRNN and usual:
            return partial(_recurrent, layer)
        if kind is keras.layers.LSTM and usual and layer.recurrent_activation is keras.activations.sigmoid:
            return partial(_long_short_term_memory, layer)
    if isinstance(layer, keras.layers.RNN) and not layer.go_backwards:
        return partial(_unrolled, layer)
    if kind in (
        keras.layers.Activation,
        keras.layers.Concatenate,
        keras.layers.Flatten,
        keras.layers.MaxPooling2D,
        keras.layers.Reshape,
        keras.layers.UpSampling2D,
    ):
        return layer.call
    return partial(layer, training=False)


def _dense(layer: keras.layers.Dense, values):
    import tensorflow as tf

    return tf.nn.bias_add(tf.matmul(values, layer.kernel.value), layer.bias.value)


def _is_affine(layer: keras.Layer) -> bool:
    import keras

    return isinstance(layer, keras.layers.BatchNormalization) and layer.scale and layer.center and layer.axis == -1


def _affine(layer: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """What a normalisation multiplies by and adds."""
    gamma, beta, mean, variance = layer.get_weights()
    scale = gamma / np.sqrt(variance + np.float32(layer.epsilon))
    return scale, beta - mean * scale


def _is_convolution(layer: keras.Layer) -> bool:
    import keras

    # Not a kind of it, such as a depthwise one.
    return type(layer) is keras.layers.Conv2D and layer.groups == 1 and layer.data_format == "channels_last"


def _convolution(layer: keras.layers.Conv2D, values, kernel, bias):
    """What a convolution and its activation make of values, with weights that need not be the layer's own."""
    import tensorflow as tf

    outputs = tf.nn.conv2d(values, kernel, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate)
    return layer.activation(outputs if bias is None else tf.nn.bias_add(outputs, bias))


def _is_linear_convolution(layer: keras.Layer) -> bool:
    import keras

    return _is_convolution(layer) and layer.activation is keras.activations.linear


def _folded(layer: keras.layers.Conv2D, norm: keras.layers.BatchNormalization) -> Callable:
    """A convolution and the normalisation after it as one convolution."""
    scale, shift = _affine(norm)
    kernel, *bias = layer.get_weights()
    kernel, shift = kernel * scale, shift + scale * bias[0] if bias else shift
    return lambda values: _convolution(layer, values, kernel, shift)


def _recurrent(layer: keras.layers.SimpleRNN, values):
    """A simple recurrent layer without a loop in the graph: there are only a few rows."""
    import tensorflow as tf

    outputs: list = []
    for given in _given(layer, values):
        # Unlike "+" a sum of several asks no shape, in its gradient either.
        sums = [given, *(tf.matmul(last, layer.cell.recurrent_kernel.value) for last in outputs[-1:])]
        outputs.append(tf.tanh(tf.add_n(sums)))
    return tf.stack(outputs, axis=1) if layer.return_sequences else outputs[-1]


def _long_short_term_memory(layer: keras.layers.LSTM, values):
    """An LSTM layer without a loop in the graph."""
    import tensorflow as tf

    outputs: list = []
    carried = None
    for given in _given(layer, values):
        sums = [given, *(tf.matmul(last, layer.cell.recurrent_kernel.value) for last in outputs[-1:])]
        enter, forget, candidate, leave = tf.split(tf.add_n(sums), 4, axis=1)
        entered = tf.sigmoid(enter) * tf.tanh(candidate)
        carried = entered if carried is None else tf.add_n([entered, tf.sigmoid(forget) * carried])
        outputs.append(tf.sigmoid(leave) * tf.tanh(carried))
    return tf.stack(outputs, axis=1) if layer.return_sequences else outputs[-1]


def _given(layer: keras.layers.RNN, values) -> list:
    """What each row alone gives a recurrent layer's cell, all in one product, for which its kernel is read once."""
    import tensorflow as tf

    _, rows, width = values.shape
    cell = layer.cell
    found = tf.nn.bias_add(tf.matmul(tf.reshape(values, (-1, width)), cell.kernel.value), cell.bias.value)
    return tf.unstack(tf.reshape(found, (-1, rows, found.shape[-1])), axis=1)


def _unrolled(layer: keras.layers.RNN, values):
    """Any other recurrent layer without a loop in the graph."""
    import tensorflow as tf

    states = layer.get_initial_state(tf.shape(values)[0])
    outputs = []
    for row in tf.unstack(values, axis=1):
        output, states = layer.cell(row, states, training=False)
        outputs.append(output)
    return tf.stack(outputs, axis=1) if layer.return_sequences else outputs[-1]
