"""Maps of every kind of network in the zoo, made small, with random weights."""

from __future__ import annotations

import numpy as np
import pytest

from pneumo.backend import load_tensorflow
from pneumo.bundle import Bundle, Network
from pneumo.framing import Prepared
from pneumo.methods import DEFAULT_METHOD
from pneumo.saliency import Explainer
from pneumo.zoo import CLASS_NAMES, SYSTEMS, architecture, build

load_tensorflow()
import keras  # noqa: E402

# One system for each base, and two without: its side, and those of its maps, of the second feature map in cells of 8
# pixels, and of the last. tests/test_saliency.py has the networks that ship.
SMALL = {
    "dense_32_8": (32, 4, 4),
    "custom_cnn": (32, 4, 2),
    "vgg16_512": (32, 4, 2),
    "resnet50_frozen": (32, 4, 1),
    "mobilenet": (32, 4, 1),
    "efficientnet_b0": (32, 4, 1),
    "efficientnet_lite0": (32, 4, 1),
    "densenet121": (32, 4, 1),
}
DEEPER = {"VGG19": "VGG16", "ResNet152V2": "ResNet50"}
"""Bases that are others with more layers: slow to build."""


def test_every_base_is_tried():
    bases = {architecture(name).base for name in SMALL}
    assert {DEEPER.get(design.base, design.base) for design in SYSTEMS.values()} == bases


@pytest.mark.parametrize("name", SMALL)
def test_maps_are_finite_and_of_the_right_shape(name):
    side, fine, last = SMALL[name]
    keras.utils.set_random_seed(1)
    model = build(name, side)
    network = Network(name, model, side, "squashed", "unit", 1.0, 0.0, {}, {})
    bundle = Bundle("", {name: network}, None, None, {})
    raster = np.random.default_rng(0).integers(0, 256, (224, 224), np.uint8)
    radiographs = [Prepared(raster, 1.0, None), Prepared(raster.T.copy(), 1.0, None)]
    fine_maps = (("hirescam-fine", fine), ("hirescam-integrated", fine))
    for method, shape in ((DEFAULT_METHOD, side // 8), *fine_maps, ("layercam", last)):
        explainer = Explainer(bundle, method)
        normal, pneumonia = (explainer.evidence(name, radiographs, target) for target in CLASS_NAMES)
        for maps in (normal, pneumonia):
            assert maps.shape == (2, shape, shape)
            assert maps.dtype == np.float32
            assert np.isfinite(maps).all()
            assert (maps >= 0).all()
        # Random weights may leave nothing to explain at the end of a deep base, as EfficientNetB0's do.
        assert normal.any() or pneumonia.any() or (method, last) == ("layercam", 1)
        assert not np.array_equal(normal, pneumonia) or not normal.any(), "both classes have the same map"
