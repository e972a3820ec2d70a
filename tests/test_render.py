"""Pictures: the radiograph, the heat over it, the legend."""

import cv2
import numpy as np
import pytest

from pneumo.framing import WHOLE, Box, cut, frame, to_raster
from pneumo.radiograph import Radiograph, read_radiograph
from pneumo.render import OPACITY, display_pixels, encode_jpeg, encode_png, heat_rgba, legend_rgba, overlay
from pneumo.saliency import Heatmap

SCALE = 4.0


def heatmap(values, box: Box = WHOLE) -> Heatmap:
    return Heatmap("gradcam", "PNEUMONIA", np.array(values, np.float32), box, SCALE)


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


BOXES = {
    "inside": Box(0.25, 0.1, 0.75, 0.9),
    "beyond the bottom": Box(0.1, 0.2, 0.9, 1.08),
    "beyond the left and top": Box(-0.2, -0.1, 0.6, 0.5),
    "beyond all sides": Box(-0.1, -0.3, 1.1, 1.3),
    "beyond top and bottom": Box(0, -0.5, 1, 1.5),
    "small": Box(0.5, 0.5, 0.53, 0.52),
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200), (224, 224), (1024, 623), (64, 1), (1, 64)])
def test_outside_its_box_heat_is_transparent(box, width, height):
    rgba = heat_rgba(heatmap(np.full((5, 5), SCALE), box), width, height)
    assert rgba.shape == (height, width, 4)
    # Centres of pixels.
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5)[:, np.newaxis] / height
    half_x, half_y = 0.5001 / width, 0.5001 / height
    inside = (x > box.left + half_x) & (x < box.right - half_x) & (y > box.top + half_y) & (y < box.bottom - half_y)
    outside = (x < box.left - half_x) | (x > box.right + half_x) | (y < box.top - half_y) | (y > box.bottom + half_y)
    assert np.all(rgba[outside, 3] == 0)
    assert np.all(rgba[inside, 3] == 255)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("cell", [(0, 0), (1, 3), (2, 2), (4, 0), (4, 4)])
def test_heat_lies_where_its_cell_is(box, cell):
    width, height = 1000, 800
    values = np.zeros((5, 5))
    values[cell] = SCALE
    opacity = heat_rgba(heatmap(values, box), width, height)[..., 3]
    row, column = cell
    x = (box.left + (box.right - box.left) * (column + 0.5) / 5) * width
    y = (box.top + (box.bottom - box.top) * (row + 0.5) / 5) * height
    reach_x, reach_y = (box.right - box.left) / 5 * width, (box.bottom - box.top) / 5 * height
    rows, columns = np.nonzero(opacity)
    if 0 <= x < width - 1 and 0 <= y < height - 1:
        assert opacity[int(y), int(x)] == 255
    # Nothing further away than the neighbours' centres.
    assert np.all(np.abs(columns + 0.5 - x) <= reach_x + 1)
    assert np.all(np.abs(rows + 0.5 - y) <= reach_y + 1)


@pytest.mark.parametrize("aspect", [0.6, 1, 1.7])
def test_heat_lies_on_what_the_network_saw(aspect):
    """A bright square of the radiograph, taken through the cut that the network sees and back as heat."""
    width, height = round(600 * aspect), 600
    pixels = np.zeros((height, width), np.uint8)
    pixels[height // 5 : height // 2, width // 3 : 2 * width // 3] = 255
    for box in (WHOLE, Box(0.2, 0.1, 0.8, 1.1), frame("whole", aspect, None)):
        seen = cut(to_raster(pixels), box, 128)
        drawn = heat_rgba(heatmap(seen / 255 * SCALE, box), width, height)[..., 3] >= 128
        assert np.mean(drawn != (pixels >= 128)) < 0.02


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
