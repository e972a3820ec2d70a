"""Pictures of an examination: the radiograph, the heat on it, and the legend. No numerical work on networks."""

from __future__ import annotations

import cv2
import numpy as np

from pneumo.radiograph import Radiograph
from pneumo.saliency import Heatmap

COLOUR_MAP = cv2.COLORMAP_PLASMA
"""A perceptually even colour map without the grays of a radiograph."""
OPACITY = 0.7
"""Opacity of heat at full strength, 0 to 1, unless the viewer chooses another."""
_FULL_OPACITY_FROM = 0.6


def display_pixels(radiograph: Radiograph, longest_side: int = 1024) -> np.ndarray:
    """Gray values, shape (height, width) uint8, at the radiograph's own aspect ratio, reduced to fit a screen."""
    factor = longest_side / max(radiograph.width, radiograph.height)
    if factor >= 1:
        return radiograph.pixels
    size = (max(1, round(radiograph.width * factor)), max(1, round(radiograph.height * factor)))
    return cv2.resize(radiograph.pixels, size, interpolation=cv2.INTER_AREA)


def heat_rgba(heatmap: Heatmap, width: int, height: int) -> np.ndarray:
    """Colours of a heatmap, to be laid over the radiograph.

    Colour follows the value on the network's fixed scale; opacity rises with it, so that no evidence is
    transparent and weak evidence is faint, however the image's other values lie.

    Parameters
    ----------
    heatmap : Heatmap
        Must be finite.
    width, height : int
        Size of the result in pixels.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width, 4)
        Red, green, blue and opacity.
    """
    return _colours(heatmap.placed(width, height) / heatmap.scale)


def overlay(radiograph: Radiograph, heatmap: Heatmap, opacity: float = OPACITY) -> np.ndarray:
    """The radiograph with heat over it.

    Parameters
    ----------
    radiograph : Radiograph
    heatmap : Heatmap
        Must be finite.
    opacity : float
        Of heat at full strength, 0 to 1.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width, 3)
        Red, green, blue, at the radiograph's own aspect ratio.
    """
    gray = display_pixels(radiograph)
    rgba = heat_rgba(heatmap, gray.shape[1], gray.shape[0]).astype(np.float32)
    share = rgba[..., 3:] / 255 * opacity
    return np.rint(gray[..., np.newaxis] * (1 - share) + rgba[..., :3] * share).astype(np.uint8)


def legend_rgba(width: int = 256, height: int = 1) -> np.ndarray:
    """The colours of `heat_rgba` from no evidence to full strength, shape (height, width, 4) uint8."""
    return np.repeat(_colours(np.linspace(0, 1, width, dtype=np.float32)[np.newaxis]), height, axis=0)


def outline(mask: np.ndarray) -> str:
    """The border of a mask, bool, shape (height, width), as the data of an SVG path in its pixels."""
    curves, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    path = ""
    for curve in curves:
        # Without the steps of the pixels.
        smooth = np.mean([np.roll(curve, shift, axis=0) for shift in range(-3, 4)], axis=0)
        points = cv2.approxPolyDP(smooth.astype(np.float32), 0.2, closed=True)[:, 0] + 0.5
        path += "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z"
    return path


def encode_png(pixels: np.ndarray) -> bytes:
    """Gray, RGB or RGBA values as the bytes of a PNG."""
    if pixels.ndim == 3:
        order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
        pixels = cv2.cvtColor(pixels, order)
    return cv2.imencode(".png", pixels)[1].tobytes()


def encode_jpeg(pixels: np.ndarray, quality: int = 92) -> bytes:
    """Gray values as the bytes of a JPEG."""
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _colours(values: np.ndarray) -> np.ndarray:
    """Values on the scale, shape (height, width), to red, green, blue and opacity, shape (height, width, 4)."""
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, COLOUR_MAP), cv2.COLOR_BGR2RGBA)
    colours[..., 3] = np.rint(np.clip(values / _FULL_OPACITY_FROM, 0, 1) * 255)
    return colours
