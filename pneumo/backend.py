"""The one place where TensorFlow is imported for the first time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# TensorFlow prints these before any of its log settings apply (tensorflow/tensorflow#79029).
_NOISE = (b"All log messages before absl::InitializeLog", b"oneDNN custom operations are on")
_FILTER = f"""
import sys
for line in sys.stdin.buffer:
    if not any(noise in line for noise in {_NOISE!r}):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""


def load_tensorflow() -> None:
    """Import TensorFlow and Keras, without the lines that TensorFlow prints on every start."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _without_noise():
        import keras  # noqa: F401
        import tensorflow as tf

        # oneDNN reports itself again when the first operation runs.
        tf.constant(0.0) + 1.0


@contextmanager
def _without_noise() -> Iterator[None]:
    """Pass what the process writes to its standard error through a filter.

    The filter is a process of its own: what TensorFlow says as it aborts, on a processor too old for it, still arrives.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with subprocess.Popen([sys.executable, "-S", "-c", _FILTER], stdin=subprocess.PIPE, stderr=saved) as listener:
        assert listener.stdin is not None
        os.dup2(listener.stdin.fileno(), 2)
        listener.stdin.close()
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
