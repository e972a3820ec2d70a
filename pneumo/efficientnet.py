"""EfficientNet-Lite0 as a flat Keras model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import keras

LAST_CONVOLUTION = "relu_head"
"""Its last feature map, with 1280 filters and 1/32 of the input's side."""
PIXEL_MEAN, PIXEL_DEVIATION = 127.0, 128.0
"""Its ImageNet weights expect (pixel - mean) / deviation of pixels 0 to 255, the same for the three colours."""

_STAGES = (  # repeats, kernel, stride of the first, expansion, filters
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class Block(NamedTuple):
    """One inverted bottleneck."""

    name: str
    kernel: int
    stride: int
    expansion: int
    filters: int


BLOCKS = tuple(
    Block(f"block{stage}{'abcd'[number]}", kernel, 1 if number else stride, expansion, filters)
    for stage, (repeats, kernel, stride, expansion, filters) in enumerate(_STAGES, start=1)
    for number in range(repeats)
)


def build_efficientnet_lite0(
    input_size: int = 224, channels: int = 1, classes: int = 1, dropout: float = 0.2
) -> keras.Model:
    """Build EfficientNet-Lite0 with fresh weights.

    The network of Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, in
    the Lite variant of the same authors' repository: no squeeze and excitation, ReLU6 for swish. Its stochastic depth
    while training is left out.

    Parameters
    ----------
    input_size : int
        Side of the square input in pixels.
    channels : int
        1 for gray, 3 for red, green and blue.
    classes : int
        Outputs: one sigmoid for 1, a softmax over more.
    dropout : float
        Rate of the dropout before the last layer, 0 to 1.

    Returns
    -------
    keras.Model
        Functional and flat; input of shape (batch, input_size, input_size, channels), output of shape (batch, classes)
        with values 0 to 1. Its last convolution is the layer "conv_head", with 1280 filters and 1/32 of the input's
        side, followed by "norm_head" and "relu_head"; its last layer is "probability".
    """
    import keras
    from keras import layers

    inputs = keras.Input((input_size, input_size, channels), name="radiograph")
    x = layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="conv_stem")(inputs)
    x = _relu6(_norm(x, "norm_stem"), "relu_stem")
    for block in BLOCKS:
        x = _inverted_bottleneck(x, block)
    x = layers.Conv2D(1280, 1, use_bias=False, name="conv_head")(x)
    x = _relu6(_norm(x, "norm_head"), "relu_head")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    outputs = layers.Dense(classes, activation="sigmoid" if classes == 1 else "softmax", name="probability")(x)
    return keras.Model(inputs, outputs, name="efficientnet_lite0")


def _norm(x, name: str):
    from keras import layers

    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def _relu6(x, name: str):
    from keras import layers

    return layers.ReLU(max_value=6.0, name=name)(x)


def _inverted_bottleneck(inputs, block: Block):
    from keras import layers

    name, filters = block.name, inputs.shape[-1]
    x = inputs
    if block.expansion != 1:
        x = layers.Conv2D(filters * block.expansion, 1, use_bias=False, name=f"{name}_expand")(x)
        x = _relu6(_norm(x, f"{name}_expand_norm"), f"{name}_expand_relu")
    x = layers.DepthwiseConv2D(block.kernel, block.stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = _relu6(_norm(x, f"{name}_depthwise_norm"), f"{name}_depthwise_relu")
    x = layers.Conv2D(block.filters, 1, use_bias=False, name=f"{name}_project")(x)
    x = _norm(x, f"{name}_project_norm")
    if block.stride == 1 and block.filters == filters:
        x = layers.Add(name=f"{name}_add")([x, inputs])
    return x
