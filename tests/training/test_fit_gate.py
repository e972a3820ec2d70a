"""How the gate is fitted, on made pictures: two lungs, and a heart between them on one side."""

import cv2
import numpy as np
import pytest

from pneumo.gate import FACTS, OTHER, POSES, UPRIGHT, Look, leanings, mirror_outlines, outlines, traits
from training import gate

WHOLE = 60


def made(rng: np.random.Generator) -> np.ndarray:
    raster = np.full((224, 224), 150, np.uint8)
    for left in (66, 158):
        middle = (left + int(rng.integers(-8, 9)), 112 + int(rng.integers(-8, 9)))
        cv2.ellipse(raster, middle, (int(rng.integers(28, 36)), int(rng.integers(60, 75))), 0, 0, 360, 40, -1)
    cv2.circle(raster, (128 + int(rng.integers(-5, 6)), 150), int(rng.integers(24, 32)), 190, -1)
    return cv2.GaussianBlur(raster, (0, 0), 2)


@pytest.fixture(scope="module")
def rasters():
    rng = np.random.default_rng(0)
    return np.stack([made(rng) for _ in range(2 * WHOLE)])


def test_outlines_of_a_mirror_image_need_no_look(rasters):
    seen = outlines(rasters[0])
    assert seen.shape == (512,)
    np.testing.assert_allclose(mirror_outlines(seen), outlines(np.ascontiguousarray(rasters[0][:, ::-1])), atol=1e-5)
    assert np.abs(mirror_outlines(seen) - seen).max() > 0.1
    # Exposure hardly matters.
    brighter = (255 * (rasters[0] / 255) ** 0.5).astype(np.uint8)
    assert np.corrcoef(seen, outlines(brighter))[0, 1] > 0.95
    assert np.isfinite(outlines(np.zeros((224, 224), np.uint8))).all()


def test_mirrored_and_cropped_are_told_on_others_than_were_fitted(rasters):
    rng = np.random.default_rng(1)
    parts = gate.fit_leanings(rasters[:WHOLE], rng)
    whole = np.stack([outlines(raster) for raster in rasters[WHOLE:]])
    mirrored, cut = leanings(parts, whole)
    assert (mirrored < 0).all()
    assert (cut < 0).mean() > 0.95
    of_mirrored, _ = leanings(parts, mirror_outlines(whole))
    np.testing.assert_allclose(of_mirrored, -mirrored, atol=1e-4)
    for side in range(4):
        _, cut = leanings(parts, np.stack([outlines(gate.cropped(item, rng, side)) for item in rasters[WHOLE:]]))
        assert (cut > 0).mean() > 0.95, side


def looks_at(rng: np.random.Generator, middle: float, count: int) -> list[Look]:
    return [
        Look(rng.normal(middle, 1, 90), {"cnn": rng.normal(middle, 1, 90)}, np.zeros(len(FACTS)), np.zeros(512))
        for _ in range(count)
    ]


def test_the_limit_of_other_things_is_that_of_sources_that_were_not_fitted():
    rng = np.random.default_rng(0)
    looks = [*looks_at(rng, 0, 80), *looks_at(rng, 3, 60), *looks_at(rng, -3, 40)]
    labels = [UPRIGHT] * 80 + [OTHER] * 60 + ["cropped"] * 40
    groups = [f"radiograph {row}" for row in range(80)] + [f"source {row // 3}" for row in range(60)]
    groups += groups[:40]
    parts = gate.fit(looks, labels)
    easy = gate.other_limit(parts, looks, labels, groups)
    assert 0.5 < easy < 1
    # The pictures of one source look as radiographs do: without it, nothing tells them.
    looks[80:90] = looks_at(rng, 0, 10)
    groups[80:90] = ["source alike"] * 10
    assert gate.other_limit(parts, looks, labels, groups) < easy / 2


def test_units_that_no_training_image_wakes_make_no_radiograph_far():
    """Of 90 units ten vary: were all ten components, nothing would ever vary beside them."""
    rng = np.random.default_rng(2)

    def look() -> Look:
        values = np.zeros(90)
        values[:10] = rng.normal(5, 1, 10)
        return Look(rng.normal(0, 1, 90), {"cnn": values}, np.zeros(len(FACTS)), np.zeros(512))

    parts = gate._components([look() for _ in range(200)])
    assert parts["cnn_scale"].shape == (5,)
    far = [traits(parts, look())[0] for _ in range(50)]
    assert np.abs(far).max() < 5
    odd = look()
    odd.features["cnn"][40] = 100
    assert traits(parts, odd)[0] > max(far)


def test_every_pose_is_fitted():
    labels = {label for label, _ in gate._alterations()}
    assert labels == set(POSES)
