"""A training shared by several devices is the same training, whichever backend Keras runs on."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

PROGRAM = """
import dataclasses, json, os, sys
from pathlib import Path
import numpy as np

folder, count = Path(sys.argv[1]), int(sys.argv[2])
if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf

    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * count)
import keras
from training.augment import Augmentation
from training.devices import devices
from training.errors import TrainingError
from training.balance import Images
from training.fit import KEPT, train
from training.recipes import recipe

assert len(devices()) == count
generator = np.random.default_rng(0)
labels = np.arange(30, dtype=np.uint8) % 2
pixels = np.clip(generator.normal(90 + 60 * labels[:, None, None], 40, (30, 32, 32)), 0, 255).astype(np.uint8)
# Everything that depends on the order of steps, and a last batch of two.
fields = dict(input_size=32, epochs=2, batch_size=4, optimizer="adamw", schedule="cosine", average=0.9)
images, held_out = Images(pixels, labels), Images(pixels[:9], labels[:9])
result = {}
for system in ("cnn_small", "cnn_bn"):
    history = train(system, recipe(system, **fields), images, held_out, folder / system)
    model = keras.saving.load_model(folder / system / KEPT, compile=False)
    answers = model.predict(np.repeat(pixels[..., None] / np.float32(255), 3, axis=-1), verbose=0)[:, 0]
    result[system] = {"history": history, "answers": answers.tolist()}
try:
    train("cnn_small", recipe("cnn_small", **fields | {"batch_size": 7}), images, held_out, folder / "refused")
except TrainingError as error:
    result["refused"] = str(error)
print(json.dumps(result))
"""


@pytest.fixture(scope="module", params=["tensorflow", "jax"])
def results(request, tmp_path_factory) -> dict[int, dict]:
    """What the program says on one device and on two."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    found = {}
    for count in (1, 2):
        environment = {
            "KERAS_BACKEND": request.param,
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        result = subprocess.run(
            [sys.executable, "-c", PROGRAM, tmp_path_factory.mktemp(f"devices{count}"), str(count)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=os.environ | environment,
        )
        assert result.returncode == 0, result.stderr
        found[count] = json.loads(result.stdout.strip().splitlines()[-1])
    return found


def test_two_devices_give_what_one_gives(results):
    alone, shared = (results[count]["cnn_small"] for count in (1, 2))
    for one, other in zip(alone["history"], shared["history"], strict=True):
        # Of the nine held-out images one counts twice where two devices share them.
        for key in ("loss", "accuracy", "auc", "learning_rate"):
            assert other[key] == pytest.approx(one[key], rel=1e-3, abs=1e-4), key
    np.testing.assert_allclose(shared["answers"], alone["answers"], atol=1e-3)
    assert np.ptp(alone["answers"]) > 1e-3, "equal because they say something, not because they say nothing"


def test_batch_normalisation_and_dropout_train_on_two_devices(results):
    history = results[2]["cnn_bn"]["history"]
    assert [row["epoch"] for row in history] == [1, 2]
    assert all(np.isfinite(row["loss"]) for row in history)
    assert np.isfinite(results[2]["cnn_bn"]["answers"]).all()


def test_a_batch_that_cannot_be_shared_is_refused(results):
    assert "refused" not in results[1]
    assert results[2]["refused"] == (
        "The batch_size of a recipe must be a multiple of the number of devices, 2; received 7. "
        "Change it by --set batch_size=N, or hide devices by CUDA_VISIBLE_DEVICES."
    )
