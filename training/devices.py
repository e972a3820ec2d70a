"""Where a network is trained: on one device, or on all accelerators of the machine, by the backend that Keras runs on.

The backend is TensorFlow, unless KERAS_BACKEND=jax.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import keras
import numpy as np

from pneumo.probe import compile_folded, compile_outputs
from training.errors import TrainingError


def uses_tensorflow() -> bool:
    """Whether Keras runs on TensorFlow."""
    return keras.backend.backend() == "tensorflow"


def be_deterministic(seed: int) -> None:
    """Seed everything, and have TensorFlow choose kernels that give the same result each time."""
    keras.utils.set_random_seed(seed)
    if uses_tensorflow():
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def devices() -> list[str]:
    """The accelerators of the machine; without one, its logical CPU devices, which is one unless more are asked for."""
    if not uses_tensorflow():
        return list(keras.distribution.list_devices())
    import tensorflow as tf

    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in found]


def on_all_devices(batch_size: int) -> AbstractContextManager:
    """Where a network is built and trained so that all `devices` share each batch.

    By TensorFlow's MirroredStrategy or Keras's DataParallel. The batch stays that of the recipe. With TensorFlow batch
    normalisation takes the statistics of each device's share, with JAX those of the batch.

    Parameters
    ----------
    batch_size : int
        Images a step.

    Raises
    ------
    TrainingError
        If the devices cannot share a batch equally.
    """
    names = devices()
    if len(names) < 2:
        return contextlib.nullcontext()
    if batch_size % len(names):
        raise TrainingError(
            f"The batch_size of a recipe must be a multiple of the number of devices, {len(names)}; received "
            f"{batch_size}. Change it by --set batch_size=N, or hide devices by CUDA_VISIBLE_DEVICES."
        )
    if not uses_tensorflow():
        return keras.distribution.DataParallel(devices=names).scope()
    return _mirrored(tuple(names)).scope()


@cache
def _mirrored(names: tuple[str, ...]) -> Any:
    """One for all trainings of the process: the sums of a second would be taken for those of the first."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(names)


def shared_equally(rows: np.ndarray, shares: int) -> np.ndarray:
    """Rows, shape (n,), with the first of them again at the end, so that the last batch has equal shares too."""
    return np.resize(rows, -(-len(rows) // shares) * shares)


def stream(batches: Callable[[], Iterator[tuple[np.ndarray, ...]]], ahead: int = 2) -> Any:
    """What `fit` takes for endless batches of float32 arrays, some of them made ahead of time where that is known."""
    if not uses_tensorflow():
        return batches()
    import tensorflow as tf

    signature = tf.nest.map_structure(lambda part: tf.TensorSpec((None, *part.shape[1:]), tf.float32), next(batches()))
    return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(ahead)


def compiled(function: Callable) -> Callable:
    """A function of floats that alters variables, as one graph where the backend has such."""
    if not uses_tensorflow():
        return function
    import tensorflow as tf

    graph = tf.function(function, autograph=False)
    return lambda *values: graph(*(tf.constant(value, tf.float32) for value in values))


def forward(model: keras.Model, folded: bool = False) -> Callable[[np.ndarray], Any]:
    """From inputs, shape (n, size, size, channels), to a network's output, or a list of its outputs, compiled once.

    On TensorFlow it can be `pneumo.probe.compile_folded`.
    """
    if not uses_tensorflow():
        return model.predict_on_batch
    import tensorflow as tf

    graph = (compile_folded if folded else compile_outputs)(model)
    return lambda inputs: tf.nest.map_structure(np.asarray, graph(inputs))


def slope(function: Callable, values: Any) -> Any:
    """The gradient of the sum of a function's results at tensors; a loss may depend on it."""
    if not uses_tensorflow():
        import jax

        return jax.grad(lambda given: function(given).sum())(values)
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        found = function(values)
    return tape.gradient(found, values)


def settle(model: keras.Model) -> None:
    """Bring the weights of a network that is being trained up to date, which JAX keeps elsewhere meanwhile."""
    if not uses_tensorflow():
        model.jax_state_sync()
