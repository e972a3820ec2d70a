"""What a pupil learns of its teacher besides the answers: what the teacher's last feature map holds, place by place."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers, ops

TAUGHT = "block7a_project_norm"
"""The layer of the teacher that is imitated: the last before its filters are multiplied for the answer."""


class Imitation(layers.Layer):
    """Adds to the loss by how far a network's feature map is from its teacher's (Romero et al., ICLR 2015).

    The map is brought to the size of the teacher's and its filters are combined to as many; of the angle between both
    at each place, 1 - cosine is the distance. Where the teacher's map is 0, it is not known and nothing is added.

    Parameters
    ----------
    weight : float
        Of the mean distance in the loss.
    """

    def __init__(self, weight: float, **options) -> None:
        super().__init__(**options)
        self._weight = weight

    def build(self, shapes) -> None:
        """Make the weights that combine filters."""
        _, own, taught = shapes
        self.combine = layers.Dense(taught[-1], name="combine")
        self.combine.build((*taught[:-1], own[-1]))
        super().build(shapes)

    def call(self, values):
        """Take the network's output, its feature map and the teacher's; return the output."""
        output, own, taught = values
        size = taught.shape[1:3]
        own = ops.image.resize(own, size, interpolation="bilinear", antialias=True, data_format="channels_last")
        known = ops.cast(ops.any(taught != 0, axis=-1), "float32")
        cosine = ops.sum(ops.normalize(self.combine(own)) * ops.normalize(taught), axis=-1)
        distance = ops.sum(known * (1 - cosine)) / ops.maximum(ops.sum(known), 1.0)
        self.add_loss(self._weight * distance)
        return output


def imitating(network: keras.Model, layer: str, shape: Sequence[int], weight: float) -> keras.Model:
    """A network that takes its teacher's map too, for the loss of `Imitation`; its layers are shared.

    Its weights are those of the network, followed by those of the layer `Imitation`.

    Parameters
    ----------
    network : keras.Model
    layer : str
        Name of its layer whose output is held against the teacher's map.
    shape : sequence of int
        Rows, columns and filters of that map.
    weight : float
        See `Imitation`.
    """
    taught = keras.Input(tuple(shape), name="taught")
    values = [network.output, network.get_layer(layer).output, taught]
    output = Imitation(weight, name="imitation", dtype="float32")(values)
    return keras.Model([network.inputs[0], taught], output, name=network.name)
