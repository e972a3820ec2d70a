"""Layers in forms that train faster on a CPU: the same network, which is saved with Keras's own layers."""

from __future__ import annotations

import keras


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation of feature maps, in TensorFlow's fused kernel where it trains.

    Keras composes it of single operations, each of which walks through the whole feature map. Results differ by
    rounding alone.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise feature maps of shape (batch, rows, columns, filters)."""
        if not (training and self.trainable) or mask is not None or len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma.value, self.beta.value, epsilon=self.epsilon, is_training=True
        )
        # The kernel gives the unbiased variance; Keras keeps the biased one.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), variance.dtype)
        variance *= tf.maximum(count - 1, 1) / count
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1 - self.momentum))
        return outputs


class ByteDropout(keras.layers.Dropout):
    """Keras's dropout, decided by one random byte a value where Keras draws a float32.

    The rate is rounded to a multiple of 1/256, and what is kept is scaled by the rounded one, so that the mean stays.
    """

    def call(self, inputs, training=False):
        """Drop values of an array of any shape."""
        dropped = round(self.rate * 256)
        if not training or not 0 < dropped < 256 or self.noise_shape is not None:
            return super().call(inputs, training=training)
        import tensorflow as tf

        size = tf.size(inputs)
        words = tf.random.stateless_uniform(
            [(size + 3) // 4], self.seed_generator.next(), minval=None, maxval=None, dtype=tf.int32
        )
        draws = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size], tf.shape(inputs))
        kept = tf.cast(draws >= dropped, inputs.dtype)
        return inputs * (kept * (256 / (256 - dropped)))


_FASTER: dict[type[keras.Layer], type[keras.Layer]] = {
    keras.layers.BatchNormalization: FusedBatchNormalization,
    keras.layers.Dropout: ByteDropout,
}


def fused(model: keras.Model) -> keras.Model:
    """Copy a Functional model, its weights included, with those layers in their fast form where TensorFlow runs it."""
    faster = _FASTER if keras.backend.backend() == "tensorflow" else {}

    def copy(layer: keras.Layer) -> keras.Layer:
        kind = type(layer)
        return faster.get(kind, kind).from_config(layer.get_config())

    twin = keras.models.clone_model(model, clone_function=copy)
    twin.set_weights(model.get_weights())
    for layer in twin.layers:
        if isinstance(layer, keras.layers.Normalization):
            # It keeps what it computes from its weights.
            layer.finalize_state()
    return twin
