"""The one place where TensorFlow is imported for the first time."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

# TensorFlow prints these before any of its log settings apply (tensorflow/tensorflow#79029).
_NOISE = (b"All log messages before absl::InitializeLog", b"oneDNN custom operations are on")
_UNUSED = ("matplotlib.pyplot", "pandas", "sklearn")
"""What Keras imports where it is installed, which takes longer than Keras itself, for parts that are not used here."""
_FILTER = f"""
import sys
for line in sys.stdin.buffer:
    if not any(noise in line for noise in {_NOISE!r}):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""


_preloading: list[threading.Thread] = []


def preload_tensorflow() -> None:
    """Begin to load TensorFlow's own library, half a second of another core's, while Python imports other things."""
    # No daemon: a program that ends meanwhile waits for it, and is not torn down under it.
    thread = threading.Thread(target=_preload, name="preload-tensorflow")
    _preloading.append(thread)
    thread.start()


def _preload() -> None:
    found = importlib.util.find_spec("tensorflow")
    library = Path(found.origin).with_name("libtensorflow_cc.so.2") if found and found.origin else None
    if library and library.exists():
        _quiet()
        with _without_noise():
            # By the C function itself: Python's import would hold all other threads up meanwhile.
            ctypes.CDLL(None).dlopen(os.fsencode(library), os.RTLD_NOW)


def _quiet() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def load_tensorflow() -> None:
    """Import TensorFlow and Keras, without the lines that TensorFlow prints on every start.

    Where KERAS_BACKEND names another backend, on which a training can run, Keras alone.
    """
    if "tensorflow" in sys.modules:
        return
    if os.environ.setdefault("KERAS_BACKEND", "tensorflow") != "tensorflow":
        import keras

        return
    # Gradio asks matplotlib for its backend, where it is installed, which otherwise looks for a screen.
    os.environ.setdefault("MPLBACKEND", "agg")
    _quiet()
    while _preloading:
        _preloading.pop().join()
    with _without_noise(), uncollected(), without(_UNUSED):
        import keras  # noqa: F401
        import tensorflow as tf

        # oneDNN reports itself again when the first operation runs.
        tf.constant(0.0) + 1.0


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: loading makes hundreds of thousands of objects, and all of them stay."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # What was loaded is not looked through again and again later either.
        gc.freeze()
        if was_enabled:
            gc.enable()


@contextmanager
def without(names: Iterable[str]) -> Iterator[None]:
    """Let packages that are not imported yet appear as not installed."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


@contextmanager
def replaced(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    """Let a module have another value of a name meanwhile."""
    saved = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, saved)


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
