"""Pictures: the radiograph, the heat over it, the legend."""

import cv2
import numpy as np
import pytest

from pneumo.radiograph import Radiograph, read_radiograph
from pneumo.render import OPACITY, display_pixels, encode_jpeg, encode_png, heat_rgba, legend_rgba, overlay
from pneumo.saliency import Heatmap

SCALE = 4.0


def heatmap(values) -> Heatmap:
    return Heatmap("gradcam", "PNEUMONIA", np.array(values, np.float32), SCALE)


@pytest.fixture(scope="module")
def radiograph(images) -> Radiograph:
    return read_radiograph(images.parent / "full_resolution" / "IM-0081-0001.jpeg")


@pytest.fixture(scope="module")
def hot() -> Heatmap:
    return heatmap(np.linspace(0, SCALE, 25).reshape(5, 5))


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [
        ((224, 224), (224, 224)),
        ((64, 1024), (64, 1024)),
        ((1024, 1024), (1024, 1024)),
        ((1025, 1024), (1024, 1023)),
        ((767, 1260), (623, 1024)),
        ((2000, 1000), (1024, 512)),
        ((5000, 10000), (512, 1024)),
        ((64, 500_000), (1, 1024)),
    ],
)
def test_overlay_keeps_the_aspect_ratio(hot, shape, drawn):
    radiograph = read_radiograph(np.full(shape, 100, np.uint8))
    assert display_pixels(radiograph).shape == drawn
    picture = overlay(radiograph, hot)
    assert picture.shape == (*drawn, 3)
    assert picture.dtype == np.uint8


def test_display_pixels_do_not_enlarge(images):
    radiograph = read_radiograph(images / "test" / "NORMAL" / "IM-0005-0001.jpeg")
    assert np.array_equal(display_pixels(radiograph), radiograph.pixels)


def test_display_pixels_average(radiograph):
    small = display_pixels(radiograph, 126)
    assert small.shape == (77, 126)
    assert abs(small.mean() - radiograph.pixels.mean()) < 1


def test_no_opacity_is_the_bare_radiograph(radiograph, hot):
    picture = overlay(radiograph, hot, opacity=0)
    assert np.array_equal(picture, np.dstack([display_pixels(radiograph)] * 3))


@pytest.mark.parametrize("opacity", [0.3, OPACITY, 1])
def test_no_heat_changes_no_pixel(radiograph, opacity):
    bare = np.dstack([display_pixels(radiograph)] * 3)
    assert np.array_equal(overlay(radiograph, heatmap(np.zeros((5, 5))), opacity), bare)
    assert not np.array_equal(overlay(radiograph, heatmap(np.full((5, 5), SCALE)), opacity), bare)


def test_heat_is_drawn_where_it_is(radiograph):
    values = np.zeros((5, 5))
    values[0, 4] = SCALE
    difference = np.ptp(overlay(radiograph, heatmap(values)).astype(int), axis=2)
    height, width = difference.shape
    assert difference[: height // 10, -width // 10 :].min() > 0
    assert difference[height // 2 :].max() == 0
    assert difference[:, : width // 2].max() == 0


@pytest.mark.parametrize("share", [0.02, 0.25, 0.5, 0.75, 1])
@pytest.mark.parametrize("elsewhere", [0, 0.1, 1, 100])
def test_scale_is_fixed(share, elsewhere):
    values = np.full((5, 5), elsewhere * SCALE)
    values[:3, :3] = share * SCALE
    alone = heat_rgba(heatmap(np.full((5, 5), share * SCALE)), 100, 100)
    beside = heat_rgba(heatmap(values), 100, 100)
    # Where no neighbour of another value is near.
    assert np.array_equal(beside[:50, :50], alone[:50, :50])


def test_more_than_the_scale_is_drawn_as_the_scale():
    assert np.array_equal(
        heat_rgba(heatmap(np.full((5, 5), 9 * SCALE)), 10, 10), heat_rgba(heatmap(np.full((5, 5), SCALE)), 10, 10)
    )


def test_heat_has_the_colours_of_the_legend():
    legend = legend_rgba(5)
    for place, share in enumerate((0, 0.25, 0.5, 0.75, 1)):
        assert np.array_equal(heat_rgba(heatmap(np.full((2, 2), share * SCALE)), 1, 1)[0, 0], legend[0, place])


def test_legend():
    legend = legend_rgba(256, 3)
    assert legend.shape == (3, 256, 4)
    assert legend.dtype == np.uint8
    assert np.all(legend == legend[0])
    opacity = legend[0, :, 3].astype(int)
    assert opacity[0] == 0
    assert opacity[-1] == 255
    assert np.all(np.diff(opacity) >= 0)
    assert len(np.unique(legend[0], axis=0)) == 256
    # No colour is a gray of the radiograph.
    assert np.ptp(legend[0, :, :3].astype(int), axis=1).min() > 60


def test_overlay_with_more_heat_is_nearer_to_its_colour():
    black = read_radiograph(np.zeros((64, 64), np.uint8))
    brightness = [overlay(black, heatmap(np.full((5, 5), value))).sum() for value in np.linspace(0, SCALE, 9)]
    assert brightness[0] == 0
    assert np.all(np.diff(brightness) > 0)


@pytest.mark.parametrize("channels", [None, 3, 4])
def test_encode_png(channels):
    shape = (7, 5) if channels is None else (7, 5, channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = encode_png(pixels)
    assert data.startswith(b"\x89PNG")
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if channels:
        decoded = decoded[..., [2, 1, 0, 3][:channels]]
    assert np.array_equal(decoded, pixels)


def test_encode_jpeg(radiograph):
    data = encode_jpeg(radiograph.pixels)
    decoded = read_radiograph(data)
    assert decoded.format == "JPEG"
    assert decoded.pixels.shape == radiograph.pixels.shape
    assert np.abs(decoded.pixels.astype(int) - radiograph.pixels).mean() < 1
    assert len(encode_jpeg(radiograph.pixels, 50)) < len(data)
