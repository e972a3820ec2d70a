"""Weights from a .keras file, or a .weights.h5 in one, into a network that is already built."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import h5py
    import keras
    import numpy as np

_MEMBER = "model.weights.h5"


def load_weights(model: keras.Model, path: Path) -> None:
    """As `model.load_weights`, in a third of the time where each layer of the file is one of the network.

    Keras looks through all attributes of every layer for others in it. Where a layer holds others, or the file is
    of another architecture, it is asked after all: it knows them, and raises what it does.

    Parameters
    ----------
    model : keras.Model
    path : Path
        A .keras file.

    Raises
    ------
    ValueError, OSError, KeyError, zipfile.BadZipFile
        If it is none, or of another architecture.
    """
    import h5py

    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read(_MEMBER)), "r") as file:
        found = _match(model, file)
    if found is None:
        model.load_weights(path)
        return
    for layer, values in found:
        layer.set_weights(values)


def _match(model: keras.Model, file: h5py.File) -> list[tuple[keras.Layer, list[np.ndarray]]] | None:
    """The weights of each layer; None if file and network are not made of the same ones."""
    from keras.src.utils.naming import to_snake_case

    groups = {name: group.get("cell", group).get("vars", {}) for name, group in file.get("layers", {}).items()}
    numbers: Counter[str] = Counter()
    found = []
    for layer in model.layers:
        kind = to_snake_case(type(layer).__name__)
        group = groups.pop(f"{kind}_{numbers[kind]}" if numbers[kind] else kind, {})
        numbers[kind] += 1
        values = [group[str(place)][()] for place in range(len(group))]
        if [value.shape for value in values] != [tuple(weight.shape) for weight in layer.weights]:
            return None
        if values:
            found.append((layer, values))
    return None if any(map(len, groups.values())) else found
