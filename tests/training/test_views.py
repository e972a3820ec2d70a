"""What a network is trained on is what it is served, with its surroundings and the lungs in the right place."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pneumo.backend import load_tensorflow
from pneumo.framing import FRAMINGS, MARGIN, RASTER, Prepared, hide_outside, needs_lungs, scale_gray
from training.augment import Augmentation
from training.dataset import load_rasters, open_dataset
from training.fields import Recipe
from training.recipes import Reference, Robust

load_tensorflow()
from pneumo.lungs import Segmenter, lungs_of  # noqa: E402
from training import views as module  # noqa: E402
from training.segment import load_segmenter  # noqa: E402
from training.views import (  # noqa: E402
    SURROUNDINGS,
    Views,
    find_lungs,
    held_out_images,
    load_views,
    training_images,
    uses_lungs,
)


@pytest.fixture(scope="module")
def finder(segmenter) -> Segmenter:
    return Segmenter(load_segmenter(segmenter))


@pytest.fixture(scope="module")
def views(manifest, finder) -> Views:
    """The held-out images, at aspect ratios of their own."""
    dataset, source = open_dataset(manifest)
    found = load_views(source, dataset.held_out(), finder)
    assert all(lungs.found for lungs in found.lungs)
    for index, image in enumerate(found.images):
        object.__setattr__(image, "aspect", 1.6 if index % 2 else 0.8)
    found.rasters.flags.writeable = False
    return found


@pytest.fixture
def lost(views) -> Views:
    """The same, in none of which lungs were found."""
    nothing = lungs_of(np.zeros((RASTER, RASTER), bool))
    return Views(views.images, views.rasters, views.labels, [nothing] * len(views))


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal but for one more interpolation."""
    difference = np.abs(found.astype(float) - expected)
    return difference.mean() < 2 and bool(np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.998)


# --- what is read -----------------------------------------------------------------------------------------------


def test_radiographs_come_with_labels_and_lungs(manifest, finder, views):
    dataset, source = open_dataset(manifest)
    rasters, labels = load_rasters(source, dataset.held_out())
    assert len(views) == len(rasters) == len(views.lungs)
    np.testing.assert_array_equal(views.rasters, rasters)
    np.testing.assert_array_equal(views.labels, labels)
    for raster, lungs in zip(rasters, views.lungs, strict=True):
        # As the program finds them, one at a time; a pixel at the edge may round the other way.
        assert np.mean(finder.find(raster).mask != lungs.mask) < 1e-3


def test_lungs_of_more_than_one_batch(finder, views, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 4)
    assert len(views) > 4
    for lungs, expected in zip(find_lungs(finder, views.rasters), views.lungs, strict=True):
        assert np.mean(lungs.mask != expected.mask) < 1e-3


def test_without_a_segmenter_no_lungs_are_looked_for(manifest):
    dataset, source = open_dataset(manifest)
    found = load_views(source, dataset.split("test")[:2], None)
    assert found.lungs is None
    assert found.chosen([1]).lungs is None
    assert found.altered(found.rasters).lungs is None
    assert found.shown("whole", 32).shape == (2, 32, 32)


def test_some_are_chosen_by_number(views):
    for rows in ([3, 0], np.array([3, 0])):
        some = views.chosen(rows)
        assert len(some) == 2
        assert some.images == [views.images[3], views.images[0]]
        assert some.lungs == [views.lungs[3], views.lungs[0]]
        np.testing.assert_array_equal(some.rasters, views.rasters[[3, 0]])
        np.testing.assert_array_equal(some.labels, views.labels[[3, 0]])


def test_altered_pixels_have_lungs_found_anew_or_kept(views, finder):
    mirrored = np.ascontiguousarray(views.rasters[:, :, ::-1])
    kept, anew = views.altered(mirrored), views.altered(mirrored, finder)
    assert kept.lungs is views.lungs
    assert kept.images is anew.images is views.images
    for before, after in zip(views.lungs, anew.lungs, strict=True):
        assert np.mean(after.mask != before.mask[:, ::-1]) < 0.05
        assert np.mean(after.mask != before.mask) > np.mean(after.mask != before.mask[:, ::-1])


# --- what a network sees ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["unit", "standard"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_network_is_trained_on_what_it_is_served(views, framing, scaling):
    inputs = scale_gray(views.shown(framing, 96), scaling)
    for index, image in enumerate(views.images):
        served = Prepared(views.rasters[index], image.aspect, views.lungs[index]).inputs(framing, scaling, 96)
        np.testing.assert_array_equal(inputs[index], served[0])


@pytest.mark.parametrize("size", [48, 64, 128, 150])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_middle_of_a_training_image_is_what_the_network_sees(views, framing, size):
    """As the random transforms take it out where they draw nothing."""
    large = views.with_surroundings(framing, size, masks=False)
    side = size + 2 * round(size * SURROUNDINGS) if needs_lungs(framing) else size
    assert large.shape == (len(views), side, side)
    middle, _ = Augmentation().apply(large, np.random.default_rng(0), size)
    for found, expected in zip(middle, views.shown(framing, size), strict=True):
        assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("framing", ["lungs", "lungs_alone"])
def test_surroundings_are_those_of_the_radiograph(views, framing):
    """On each side as much more as is promised, at the same scale."""
    large = views.with_surroundings(framing, 100, masks=False)
    for index, raster in enumerate(views.rasters):
        lungs = views.lungs[index]
        box = lungs.box.grown(MARGIN).grown(SURROUNDINGS)
        corners = np.array([[box.left, box.top], [box.right, box.top], [box.left, box.bottom]], np.float32) * RASTER
        matrix = cv2.getAffineTransform(corners - 0.5, np.float32([[-0.5, -0.5], [129.5, -0.5], [-0.5, 129.5]]))
        border = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}
        if framing == "lungs_alone":
            raster, mean = hide_outside(raster, lungs)
            border |= {"borderMode": cv2.BORDER_CONSTANT, "borderValue": mean}
        assert close(large[index], cv2.warpAffine(raster, matrix, (130, 130), **border))


@pytest.mark.parametrize("framing", FRAMINGS)
def test_masks_lie_on_their_lungs(views, framing):
    """The mask goes where a radiograph goes that is white where the lungs are."""
    white = np.stack([lungs.mask.astype(np.uint8) * 255 for lungs in views.lungs])
    pairs = views.with_surroundings(framing, 96, masks=True)
    assert pairs.shape[-1] == 2
    np.testing.assert_array_equal(pairs[..., 0], views.with_surroundings(framing, 96, masks=False))
    if framing != "lungs_alone":
        np.testing.assert_array_equal(pairs[..., 1], views.altered(white).with_surroundings(framing, 96, masks=False))
    assert (pairs[..., 1] >= 128).any(axis=(1, 2)).all()


def test_lungs_fill_the_middle_but_for_the_margin(views):
    size, side = 100, 130
    for mask in views.with_surroundings("lungs_alone", size, masks=True)[..., 1] >= 128:
        for axis in (0, 1):
            filled = np.flatnonzero(mask.any(axis=axis))
            edge = (side - size) / 2 + size * MARGIN / (1 + 2 * MARGIN)
            assert filled[0] == pytest.approx(edge, abs=1.5)
            assert filled[-1] + 1 == pytest.approx(side - edge, abs=1.5)


def test_what_is_far_from_the_lungs_is_removed_from_the_surroundings_too(views):
    alone = views.with_surroundings("lungs_alone", 96, masks=True)
    within = views.altered(np.full_like(views.rasters, 255)).with_surroundings("lungs", 96, masks=False) == 255
    for gray, mask, radiograph in zip(alone[..., 0], alone[..., 1], within, strict=True):
        far = cv2.dilate(mask, np.ones((25, 25), np.uint8)) == 0
        assert (far & radiograph).any()
        assert np.ptp(gray[far & radiograph]) == 0


@pytest.mark.parametrize("framing", ["lungs", "lungs_alone"])
def test_where_no_lungs_were_found_all_is_seen_and_none_can_be_hidden(lost, framing):
    np.testing.assert_array_equal(lost.shown(framing, 128), lost.shown("squashed", 128))
    pairs = lost.with_surroundings(framing, 128, masks=True)
    assert not pairs[..., 1].any()
    middle, blind = Augmentation(blind=1.0).apply(pairs, np.random.default_rng(0), 128)
    assert not blind.any()
    for found, expected in zip(middle[..., 0], lost.shown("squashed", 128), strict=True):
        assert close(found[2:-2, 2:-2], expected[2:-2, 2:-2])


# --- what a recipe asks for -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "lungs", "masks"),
    [
        (Reference(), False, False),
        (Reference(framing="whole"), False, False),
        (Reference(framing="lungs"), True, False),
        (Reference(framing="lungs_alone"), True, False),
        (Recipe(augmentation=Augmentation(blind=0.1)), True, True),
        (Recipe(augmentation=Augmentation(strip=0.1)), True, True),
        (Robust(), True, True),
        (Robust(framing="whole"), True, True),
    ],
)
def test_recipe_gets_what_it_needs(views, recipe, lungs, masks):
    assert uses_lungs(recipe) is lungs
    training, held_out = training_images(views, recipe), held_out_images(views, recipe)
    assert training.pixels.ndim == (4 if masks else 3)
    np.testing.assert_array_equal(held_out.pixels, views.shown(recipe.framing, recipe.input_size))
    np.testing.assert_array_equal(training.labels, views.labels)
    np.testing.assert_array_equal(held_out.labels, views.labels)


def test_share_of_the_patients_is_of_each_class_whole_and_nested(views):
    """What is trained on with fewer patients is trained on with more; another seed draws others."""

    def rows(share: float, seed: int = 0) -> set[int]:
        recipe = Recipe(framing="whole", input_size=48, patients=share, seed=seed)
        everything = training_images(views, Recipe(framing="whole", input_size=48)).pixels
        numbers = {image.tobytes(): number for number, image in enumerate(everything)}
        assert len(numbers) == len(views), "images can be told apart"
        images = training_images(views, recipe)
        found = [numbers[image.tobytes()] for image in images.pixels]
        np.testing.assert_array_equal(images.labels, views.labels[found])
        return set(found)

    patients = np.array([image.patient for image in views.images])
    chosen = {share: rows(share) for share in (0.25, 0.5, 1.0)}
    assert chosen[0.25] < chosen[0.5] < chosen[1.0]
    assert chosen[1.0] == set(range(len(views)))
    for share, kept in chosen.items():
        assert set(np.flatnonzero(np.isin(patients, patients[sorted(kept)]))) == kept, "no patient in part"
        for label in (0, 1):
            everyone = set(patients[views.labels == label])
            assert len(everyone & set(patients[sorted(kept)])) == int(np.ceil(share * len(everyone)))
    assert any(rows(0.5, seed) != chosen[0.5] for seed in (1, 2, 3))
