"""A network as it is trained: the same, with faster kernels."""

from __future__ import annotations

import keras


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation of feature maps, in TensorFlow's fused kernel where it trains.

    Keras composes it of single operations, each of which walks through the whole feature map. Results differ by
    rounding alone. Networks are saved with Keras's own layer.
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


def fused(model: keras.Model, precision: str = "float32", dropout: float = 1.0) -> keras.Model:
    """Copy a Functional model, its weights included, with every batch normalisation fused where TensorFlow runs it.

    Parameters
    ----------
    model : keras.Model
    precision : str
        Policy of Keras for what makes feature maps. All weights, and all that comes after the feature maps, are
        float32 (Micikevicius et al., ICLR 2018).
    dropout : float
        What the rates of its dropout are multiplied by, 0 to 1.
    """

    def copy(layer: keras.Layer) -> keras.Layer:
        kind, config = type(layer), layer.get_config()
        if kind is keras.layers.BatchNormalization and keras.backend.backend() == "tensorflow":
            kind = FusedBatchNormalization
        if len(layer.output.shape) == 4 and not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = precision
        if isinstance(layer, keras.layers.Dropout):
            config["rate"] *= dropout
        return kind.from_config(config)

    twin = keras.models.clone_model(model, clone_function=copy)
    twin.set_weights(model.get_weights())
    for layer in twin.layers:
        if isinstance(layer, keras.layers.Normalization):
            # It keeps what it computes from its weights.
            layer.finalize_state()
    return twin
