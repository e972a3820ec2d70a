"""The one place where TensorFlow is imported for the first time."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# TensorFlow prints these before any of its log settings apply (tensorflow/tensorflow#79029).
_NOISE = re.compile(rb"All log messages before absl::InitializeLog|oneDNN custom operations are on")


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
    """Hold back what the process writes to its standard error, and write the rest of it afterwards."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            for line in held:
                if not _NOISE.search(line):
                    os.write(2, line)
