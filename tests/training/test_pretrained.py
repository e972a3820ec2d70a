"""Pretrained weights arrive in the base, from a file or the network; what is missing is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from pneumo.backend import load_tensorflow
from pneumo.zoo import architecture, build
from training.errors import TrainingError

load_tensorflow()
import keras  # noqa: E402

from training.pretrained import CHEXNET, load_pretrained  # noqa: E402


def saved_base(name: str, folder: Path, size: int) -> tuple[keras.Model, Path]:
    """The base of a system with random weights, alone, and the file that they are saved in."""
    keras.utils.set_random_seed(11)
    base = architecture(name).build_base(weights=None, input_shape=(size, size, 3))
    path = folder / "base.weights.h5"
    base.save_weights(path)
    return base, path


@pytest.mark.parametrize(("name", "size"), [("mobilenet", 64), ("vgg19_frozen", 32), ("chexnet", 224)])
def test_weights_of_a_file_are_those_of_the_base(name, size, tmp_path):
    base, path = saved_base(name, tmp_path, size)
    model = build(name, size)
    inputs = np.random.default_rng(0).random((1, size, size, 3), np.float32)
    body = keras.Model(model.input, model.layers[len(base.layers) - 1].output)
    expected = base(inputs, training=False)
    assert np.any(body(inputs, training=False) != expected)
    head = [layer.get_weights() for layer in model.layers[len(base.layers) :]]
    load_pretrained(model, name, path)
    np.testing.assert_allclose(body(inputs, training=False), expected, rtol=1e-5, atol=1e-6)
    for layer, before in zip(model.layers[len(base.layers) :], head, strict=True):
        for one, other in zip(layer.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, other)


def test_input_of_efficientnet_is_normalised_whole(tmp_path):
    """The file's variance is a deviation: Keras divides once more, but only in a network that it builds itself."""
    base, path = saved_base("efficientnet_b0", tmp_path, 224)
    normal = next(layer for layer in base.layers if isinstance(layer, keras.layers.Normalization))
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normal.set_weights([mean.astype(np.float32), deviation.astype(np.float32), *normal.get_weights()[2:]])
    base.save_weights(path)
    model = build("efficientnet_b0")
    load_pretrained(model, "efficientnet_b0", path)
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype(np.float32)
    found = keras.Model(model.input, layer.output)(pixels)
    np.testing.assert_allclose(found, (pixels / 255 - mean) / deviation, atol=1e-4)


def refusal(name: str, path: Path | None, size: int = 64) -> str:
    with pytest.raises(TrainingError) as caught:
        load_pretrained(build(name, size), name, path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_chexnet_names_its_file():
    message = refusal("chexnet", None, 224)
    assert "must be named by --weights; none were" in message
    assert CHEXNET in message
    assert "github.com/brucechou1983/CheXNet-Keras" in message


def test_a_file_that_is_missing_or_of_something_else(tmp_path):
    assert refusal("mobilenet", tmp_path / "none.h5").startswith("The weights of a base must be a file;")
    text = tmp_path / "text.h5"
    text.write_text("no weights")
    assert f"must be those that Keras has for MobileNet, HDF5; {text} does not load (" in refusal("mobilenet", text)
    _, other = saved_base("vgg19_frozen", tmp_path, 32)
    assert f"{other} does not load (" in refusal("mobilenet", other)


def test_a_network_without_a_base_takes_no_weights():
    assert "cnn_64 has none" in refusal("cnn_64", None)


def test_a_failed_download_says_which_file_to_put_where(manifest, tmp_path):
    """A machine whose way to the network is closed."""
    closed = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = ["train", "--system", "vgg19_frozen", "--data", manifest, "--out", tmp_path / "runs"]
    result = subprocess.run(
        [sys.executable, "-m", "training", *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **closed, "no_proxy": "", "KERAS_HOME": str(tmp_path / "keras")},
    )
    assert result.returncode == 1
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: The ImageNet weights of VGG19 must be in Keras's cache or be downloaded; ")
    url = "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
    assert f"Put {url}vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5 into {tmp_path / 'keras' / 'models'}" in line
    assert "or name it by --weights FILE." in line
    assert "Traceback" not in result.stderr
