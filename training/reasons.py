"""What a network is to decide by: evidence for pneumonia that lies outside the lungs costs."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers, ops

from training.devices import slope

_CELL = 2
"""Places a side of the cells in which evidence is summed with its signs, as a heatmap's are."""


def side(size: int) -> int:
    """Places a side of the feature map that the third block takes, for an input of so many pixels."""
    return -(-size // 4)


class Reasons(layers.Layer):
    """Adds to the loss by how much of a network's evidence for pneumonia lies outside the lungs.

    A network is to be right for the right reasons (Ross et al., IJCAI 2017). Evidence at a place is by how much a
    feature map differs there from that of an image of zeros, times the logit's gradient at a random point of the way
    from the one to the other (Erion et al., Nature Machine Intelligence 3, 2021), summed over filters and over the
    cells of a heatmap; what is below 0 is none. It is asked while the network trains, of at most half of the images:
    those whose lungs are known come first, and of the others nothing is added.

    Parameters
    ----------
    weight : float
        Of the mean share outside the lungs in the loss.
    lower : callable
        From inputs, shape (n, size, size, channels), to the feature map.
    upper : callable
        From the feature map to the logit, shape (n,).
    """

    def __init__(self, weight: float, lower: Callable, upper: Callable, **options) -> None:
        super().__init__(**options)
        self._weight, self._lower, self._upper = weight, lower, upper
        self._places = keras.random.SeedGenerator(0)

    def call(self, values, training=None):
        """Take the network's output, its inputs, its feature map and where the lungs are; return the output.

        The last has shape (n, rows, columns), as the map: of each place the share that is lung, 0 in all where that is
        not known.
        """
        output, inputs, found, inside = values
        if training:
            known = ops.any(inside > 0, axis=(1, 2))
            rows = ops.argsort(ops.logical_not(known))[: (ops.shape(inside)[0] + 1) // 2]
            found, inside, known = (ops.take(item, rows, axis=0) for item in (found, inside, known))
            outside = self._outside(inputs[:1], found, inside)
            known = ops.cast(known, "float32")
            self.add_loss(self._weight * ops.sum(known * outside) / ops.maximum(ops.sum(known), 1.0))
        return output

    def _outside(self, like, found, inside):
        """The share of the evidence outside the lungs, shape (n,)."""
        nothing = ops.cast(self._lower(ops.zeros_like(like)), found.dtype)
        away = found - nothing
        place = keras.random.uniform((ops.shape(away)[0], 1, 1, 1), dtype=found.dtype, seed=self._places)
        evidence = ops.cast(away * slope(self._upper, nothing + place * away), "float32")
        heat = ops.relu(_in_cells(ops.sum(evidence, axis=-1)))
        total = ops.sum(heat, axis=(1, 2))
        return ops.sum(heat * (1 - _in_cells(inside)), axis=(1, 2)) / ops.maximum(total, keras.config.epsilon())


def _in_cells(values):
    pooled = ops.average_pool(values[..., None], _CELL, padding="same", data_format="channels_last")
    return pooled[..., 0]


def reasoning(model: keras.Model, network: keras.Model, weight: float) -> keras.Model:
    """A model that takes where the lungs are too, for the loss of `Reasons`; its layers and weights are the same.

    Parameters
    ----------
    model : keras.Model
        What is trained: the network, or what `training.imitation.imitating` made of it.
    network : keras.Model
        One of five blocks.
    weight : float
        See `Reasons`.
    """
    last, found = network.layers[-1], network.get_layer("conv3").input
    below, above = keras.Model(network.inputs, found), keras.Model(found, last.input)

    def lower(inputs):
        return below(inputs, training=False)

    def upper(values):
        return (ops.matmul(above(values, training=False), last.kernel) + last.bias)[:, 0]

    inside = keras.Input(found.shape[1:3], name="inside")
    values = [model.output, network.inputs[0], found, inside]
    output = Reasons(weight, lower, upper, name="reasons", dtype="float32")(values)
    return keras.Model([*model.inputs, inside], output, name=model.name)
