"""The fused batch normalisation is Keras's own, but for rounding."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

from pneumo.zoo import build  # noqa: E402
from training.fused import FusedBatchNormalization, fused  # noqa: E402


@pytest.mark.parametrize("shape", [(4, 9, 7, 3), (1, 1, 1, 3), (2, 1, 1, 3)])
def test_output_gradients_and_moving_statistics_are_those_of_keras(shape):
    generator = np.random.default_rng(0)
    values = tf.constant(generator.normal(3, 2, shape), tf.float32)
    results = []
    for kind in (keras.layers.BatchNormalization, FusedBatchNormalization):
        layer = kind(momentum=0.9, epsilon=1e-2)
        layer.build(shape)
        layer.set_weights([np.array(row, np.float32) for row in ([2, 0.5, 1], [0, 1, -1], [1, 2, 3], [1, 4, 9])])
        with tf.GradientTape() as tape:
            tape.watch(values)
            output = layer(values, training=True)
            loss = tf.reduce_sum(output**3)
        gradients = tape.gradient(loss, [values, *[weight.value for weight in layer.trainable_weights]])
        results.append([output, *gradients, *layer.get_weights(), layer(values, training=False)])
    for expected, received in zip(*results, strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-4)


def test_a_frozen_layer_does_not_move():
    layer = FusedBatchNormalization()
    layer.build((None, 4, 4, 2))
    layer.trainable = False
    before = layer.get_weights()
    layer(np.full((2, 4, 4, 2), 7, np.float32), training=True)
    for first, second in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_fused_network_answers_as_its_original():
    model = build("cnn_lstm", 32, (2, 2, 2, 2, 2))
    twin = fused(model)
    values = np.random.default_rng(1).normal(size=(3, 32, 32, 1)).astype(np.float32)
    np.testing.assert_array_equal(model.predict(values, verbose=0), twin.predict(values, verbose=0))
    kinds = [type(layer) for layer in twin.layers]
    assert FusedBatchNormalization in kinds
    assert keras.layers.BatchNormalization not in kinds
    assert [layer.name for layer in twin.layers] == [layer.name for layer in model.layers]
