"""Muon takes kernels of convolutions as matrices, and leaves to AdamW what is none."""

import numpy as np
import pytest

from pneumo.backend import load_tensorflow
from pneumo.zoo import build

load_tensorflow()
import keras  # noqa: E402

from training.muon import Muon  # noqa: E402

RATE = 1e-2


def stepped(optimizer: keras.Optimizer, variable: keras.Variable, gradients: list[np.ndarray]) -> np.ndarray:
    """How a variable has moved after steps along gradients."""
    before = np.array(variable.numpy())
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return np.array(variable.numpy()) - before


def gradients_like(shape: tuple[int, ...]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    # One direction far larger than the others, which is what a matrix's step makes equal.
    return [generator.normal(size=shape).astype(np.float32) + 30 for _ in range(3)]


def variable_named(name: str, shape: tuple[int, ...]) -> keras.Variable:
    with keras.name_scope(name):
        return keras.Variable(np.ones(shape, np.float32), name="kernel")


@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (3, 3, 2, 32), (1, 1, 8, 8)])
def test_kernel_of_a_convolution_moves_as_the_matrix_that_it_is(shape):
    gradients = gradients_like(shape)
    flat = (shape[0] * shape[1] * shape[2], shape[3])
    found = stepped(Muon(RATE), variable_named("conv", shape), gradients)
    expected = stepped(
        keras.optimizers.Muon(RATE, weight_decay=0.0),
        variable_named("matrix", flat),
        [gradient.reshape(flat) for gradient in gradients],
    )
    np.testing.assert_allclose(found.reshape(flat), expected, rtol=1e-4, atol=1e-6)


def test_directions_of_a_step_count_alike():
    shape = (3, 3, 4, 8)
    gradient = gradients_like(shape)[0]
    steps = {
        kind: np.linalg.svd(
            stepped(kind(RATE), variable_named("conv", shape), [gradient]).reshape(36, 8), compute_uv=False
        )
        for kind in (Muon, keras.optimizers.SGD)
    }
    assert np.ptp(steps[Muon]) < steps[Muon].mean(), "the largest is not twice the mean"
    assert steps[keras.optimizers.SGD][0] > 10 * steps[keras.optimizers.SGD][1]
    assert steps[Muon].mean() == pytest.approx(RATE * 0.2 * 6, rel=0.3), "Liu et al., section 2.2"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1", (3, 3, 1, 8)),
        ("bias", (8,)),
        ("probability", (8, 1)),
        ("recurrent1", (8, 16)),
    ],
)
def test_what_is_no_matrix_of_its_own_moves_as_by_adamw(name, shape):
    gradients = gradients_like(shape)
    found = stepped(Muon(RATE, 0.1), variable_named(name, shape), gradients)
    expected = stepped(keras.optimizers.AdamW(RATE, weight_decay=0.1), variable_named("other", shape), gradients)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (8, 1)])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_weights_decay_as_the_recipe_says(shape, decay):
    moved = stepped(Muon(RATE, decay), variable_named("conv", shape), [np.zeros(shape, np.float32)])
    np.testing.assert_allclose(moved, -RATE * decay, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("network", ["cnn", "cnn_lstm", "cnn_rnn"])
def test_each_network_has_matrices_for_it(network):
    """What Muon and what AdamW moves, told by what each keeps of a variable."""
    model = build(network, 32, (2, 4, 4, 4, 4))
    optimizer = Muon(RATE)
    optimizer.build(model.trainable_variables)
    kept = zip(model.trainable_variables, optimizer.adam_velocities, strict=True)
    matrices = {variable.path.split("/")[0] for variable, velocity in kept if velocity is None}
    assert matrices == {"conv2", "conv3", "conv4", "conv5", "dense"}
