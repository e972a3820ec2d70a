"""The architectures by name: one registry, one builder each. All are Keras 3 Functional models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pneumo.errors import UnknownNameError
from pneumo.systems import SYSTEMS as REPORTED
from pneumo.systems import Architecture

if TYPE_CHECKING:
    import keras

CLASS_NAMES = ("NORMAL", "PNEUMONIA")
"""Names of the classes by number; every network's sigmoid is the probability of the second."""

FILTERS = (32, 64, 64, 128, 256)
"""Filters of the five convolution blocks."""
DROPOUT = (0.0, 0.1, 0.0, 0.2, 0.2)
"""Dropout rate in each of the five convolution blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FiveBlocks(Architecture):
    """Five convolution blocks and a head: the networks of this program.

    Attributes
    ----------
    head : callable
        Takes the feature map of the last block, a Keras tensor of shape (batch, rows, columns, filters),
        and returns a tensor of shape (batch, features).
    """

    features: tuple[str, ...] = ("conv1", "conv2", "conv3", "conv4", "conv5")
    head: Callable

    def build(self, input_size: int, filters: tuple[int, ...] = FILTERS) -> keras.Model:
        """As `build`."""
        import keras
        from keras import layers

        inputs = keras.Input((input_size, input_size, 1), name="radiograph")
        x = inputs
        for number, (count, rate) in enumerate(zip(filters, DROPOUT, strict=True), start=1):
            x = layers.Conv2D(count, 3, padding="same", activation="relu", name=f"conv{number}")(x)
            if rate:
                x = layers.Dropout(rate, name=f"dropout{number}")(x)
            x = layers.BatchNormalization(name=f"norm{number}")(x)
            x = layers.MaxPooling2D(2, padding="same", name=f"pool{number}")(x)
        x = self.head(x)
        x = layers.Dense(128, activation="relu", name="dense")(x)
        x = layers.Dropout(0.2, name="dropout_dense")(x)
        outputs = layers.Dense(1, activation="sigmoid", name="probability")(x)
        return keras.Model(inputs, outputs, name=self.name)


def _flat(features):
    from keras import layers

    return layers.Flatten(name="flatten")(features)


def _recurrent(cell: str) -> Callable:
    def head(features):
        from keras import layers

        layer = getattr(layers, cell)
        _, rows, columns, filters = features.shape
        # Each row of the feature map is one step: the head reads the radiograph from top to bottom.
        x = layers.Reshape((rows, columns * filters), name="rows")(features)
        x = layer(128, return_sequences=True, name="recurrent1")(x)
        return layer(64, name="recurrent2")(x)

    return head


ARCHITECTURES: dict[str, Architecture] = {
    design.name: design
    for design in (
        FiveBlocks(
            name="cnn",
            title="CNN",
            summary="five convolution blocks, then a dense layer",
            parameters=1_246_401,
            trainable=1_245_313,
            head=_flat,
        ),
        FiveBlocks(
            name="cnn_lstm",
            title="CNN-LSTM",
            summary="five convolution blocks, then two LSTM layers that read the feature map row by row",
            parameters=1_206_209,
            trainable=1_205_121,
            head=_recurrent("LSTM"),
        ),
        FiveBlocks(
            name="cnn_rnn",
            title="CNN-RNN",
            summary="five convolution blocks, then two simple recurrent layers that read the feature map row by row",
            parameters=628_097,
            trainable=627_009,
            head=_recurrent("SimpleRNN"),
        ),
    )
}
"""The networks of this program by name: those that ship."""
SYSTEMS: dict[str, Architecture] = ARCHITECTURES | REPORTED
"""All that can be trained, compared and published, by name."""


def architecture(name: str) -> Architecture:
    """Look up an architecture.

    Raises
    ------
    UnknownNameError
        If the zoo has none of that name.
    """
    try:
        return SYSTEMS[name]
    except KeyError:
        raise UnknownNameError(
            f"A network must be one of {', '.join(SYSTEMS)}; received {name!r}. Correct the name."
        ) from None


def build(name: str, input_size: int | None = None, filters: tuple[int, ...] = ()) -> keras.Model:
    """Build a network with fresh weights.

    Parameters
    ----------
    name : str
        One of `SYSTEMS`.
    input_size : int, optional
        Side of the square input in pixels; the input is (input_size, input_size, channels), scaled as
        `pneumo.framing` says. Default: the architecture's own.
    filters : tuple of int
        Filters of the five convolution blocks, of the networks that have them. Fewer make the small networks of the
        tests. Default: `FILTERS`.

    Returns
    -------
    keras.Model
        Functional; its output of shape (batch, 1) is the probability of pneumonia, 0 to 1.

    Raises
    ------
    UnknownNameError
        If the zoo has none of that name, or filters are named for a network without the five blocks.
    """
    design = architecture(name)
    size = input_size or design.input_size
    if not filters:
        return design.build(size)
    if isinstance(design, FiveBlocks):
        return design.build(size, filters)
    raise UnknownNameError(
        f"Filters can be chosen of {', '.join(ARCHITECTURES)}; received {filters} for {name}. Leave them out."
    )


SEGMENTER_FILTERS = (16, 32, 64, 96, 128)
"""Filters of the segmenter at its five resolutions, from fine to coarse."""


def build_segmenter(input_size: int = 192, filters: tuple[int, ...] = SEGMENTER_FILTERS) -> keras.Model:
    """Build the network that finds lungs, a small U-Net (Ronneberger et al., MICCAI 2015), with fresh weights.

    The first convolution halves the resolution, and the last step doubles it again.

    Parameters
    ----------
    input_size : int
        Side of the square input in pixels, a multiple of 32; the input is (input_size, input_size, 1), each image
        scaled to mean 0 and standard deviation 1.
    filters : tuple of int
        Filters at each of five resolutions.

    Returns
    -------
    keras.Model
        Functional; its output of shape (batch, input_size, input_size, 1) is the probability of lung, 0 to 1.
        791,649 parameters.
    """
    import keras
    from keras import layers

    def convolve(x, count: int, name: str, strides: int = 1):
        x = layers.Conv2D(count, 3, strides, padding="same", use_bias=False, name=name)(x)
        x = layers.BatchNormalization(name=f"{name}_norm")(x)
        return layers.Activation("relu", name=f"{name}_relu")(x)

    inputs = keras.Input((input_size, input_size, 1), name="radiograph")
    x = convolve(inputs, filters[0], "down1a", strides=2)
    skips = []
    for number, count in enumerate(filters, start=1):
        if number > 1:
            x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
            x = convolve(x, count, f"down{number}a")
        x = convolve(x, count, f"down{number}b")
        skips.append(x)
    for number in range(len(filters) - 1, 0, -1):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up{number}")(x)
        x = layers.Concatenate(name=f"join{number}")([x, skips[number - 1]])
        x = convolve(x, filters[number - 1], f"up{number}a")
    x = layers.Conv2D(1, 1, name="logit")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear", name="full")(x)
    outputs = layers.Activation("sigmoid", name="lung")(x)
    return keras.Model(inputs, outputs, name="segmenter")
