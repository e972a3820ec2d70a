"""What a network sees of a radiograph. Training and serving call the same functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pneumo.errors import UnknownNameError

if TYPE_CHECKING:
    from pneumo.lungs import Lungs

RASTER = 224
"""Side, in pixels, of the square to which every radiograph is first brought: all training images are stored so."""
MARGIN = 0.08
"""Margin around the lungs' box, as a share of its width and height."""
DILATION = 0.03
"""Radius by which the lungs grow before all else is removed, as a share of the side."""
FRAMINGS = {
    "squashed": "the whole radiograph, its aspect ratio lost",
    "whole": "the whole radiograph at its true aspect ratio",
    "lungs": f"the radiograph cropped to the box of the lungs with a margin of {100 * MARGIN:.0f} % and brought to a "
    "square",
    "lungs_alone": f"the radiograph cropped to the box of the lungs with a margin of {100 * MARGIN:.0f} %, everything "
    f"further than {100 * DILATION:.0f} % from the lungs removed, and brought to a square",
}
"""What a network sees of a radiograph, by name, in words: see `frame` and `show`."""
SCALINGS = {
    "unit": "divided by 255",
    "standard": "scaled so that each image has mean 0 and standard deviation 1",
    "byte": "as they are, 0 to 255",
}
"""How gray values are scaled, by name, in words: see `scale_gray`."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle on a radiograph.

    Attributes
    ----------
    left, right : float
        Shares of the radiograph's width, 0 at its left edge and 1 at its right; outside of it below 0 or above 1.
    top, bottom : float
        Shares of the radiograph's height.
    """

    left: float
    top: float
    right: float
    bottom: float

    def grown(self, share: float) -> Box:
        """The box with a margin on each side, a share of its own width and height."""
        x, y = share * (self.right - self.left), share * (self.bottom - self.top)
        return Box(self.left - x, self.top - y, self.right + x, self.bottom + y)

    def clipped(self, width: int, height: int) -> tuple[slice, slice]:
        """Rows and columns, of a radiograph of so many pixels, that lie in the box."""
        rows = slice(max(0, round(self.top * height)), min(height, round(self.bottom * height)))
        return rows, slice(max(0, round(self.left * width)), min(width, round(self.right * width)))


WHOLE = Box(0.0, 0.0, 1.0, 1.0)
"""The whole radiograph."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One radiograph, ready to be framed for any network.

    Attributes
    ----------
    raster : numpy.ndarray of uint8, shape (224, 224)
        See `to_raster`.
    aspect : float
        Width divided by height, in pixels.
    lungs : Lungs or None
        Where its lungs are; None if no network of the bundle asks.
    sight : numpy.ndarray of float32, shape (d,), or None
        What the segmenter made of it as a whole: see `pneumo.lungs.Segmenter.look`.
    """

    raster: np.ndarray
    aspect: float
    lungs: Lungs | None
    sight: np.ndarray | None = None

    def inputs(self, framing: str, scaling: str, size: int, channels: int = 1) -> np.ndarray:
        """A network's input, float32, shape (1, size, size, channels).

        Raises
        ------
        UnknownNameError
            If there is no such framing or scaling.
        """
        return scale_gray(show(self.raster, framing, self.aspect, self.lungs, size), scaling, channels)[np.newaxis]

    def box(self, framing: str) -> Box:
        """What of the radiograph those inputs show."""
        return frame(framing, self.aspect, self.lungs)


def to_raster(pixels: np.ndarray) -> np.ndarray:
    """Bring gray values of any size to the raster of the training images; the aspect ratio is not kept.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (height, width)

    Returns
    -------
    numpy.ndarray of uint8, shape (224, 224)
    """
    if pixels.shape == (RASTER, RASTER):
        return pixels
    larger = min(pixels.shape) >= RASTER
    return cv2.resize(pixels, (RASTER, RASTER), interpolation=cv2.INTER_AREA if larger else cv2.INTER_LINEAR)


def frame(framing: str, aspect: float, lungs: Lungs | None) -> Box:
    """Which rectangle of a radiograph a network sees; it is then brought to a square.

    - `squashed`: all of it, its aspect ratio lost.
    - `whole`: all of it, at its true aspect ratio, with bars where it does not fill the square.
    - `lungs`: the box of the lungs with a margin of 8 %. The lungs' own width and height fill the square, so
      that the aspect ratio of the radiograph does not matter. Where no two lungs were found, all of it.
    - `lungs_alone`: the same; everything further than 3 % from the lungs is removed.

    Parameters
    ----------
    framing : str
        One of `FRAMINGS`.
    aspect : float
        Width of the radiograph divided by its height, in pixels.
    lungs : Lungs or None
        Needed for `lungs` and `lungs_alone`.

    Raises
    ------
    UnknownNameError
        If there is no such framing.
    """
    if framing not in FRAMINGS:
        raise UnknownNameError(
            f"A framing must be one of {', '.join(FRAMINGS)}; received {framing!r}. Correct the name."
        )
    if framing == "whole":
        x, y = max(0.0, 1 / aspect - 1) / 2, max(0.0, aspect - 1) / 2
        return Box(-x, -y, 1 + x, 1 + y)
    if needs_lungs(framing) and lungs is not None and lungs.found:
        return lungs.box.grown(MARGIN)
    return WHOLE


def needs_lungs(framing: str) -> bool:
    """Whether a framing depends on where the lungs are."""
    return framing in ("lungs", "lungs_alone")


def beyond(framing: str) -> int | None:
    """What `cut` is to show beyond the film; where the lungs alone are shown, their mean takes its place.

    Where the film ends must not show in a crop: the lungs of one class reach its edge more often.
    """
    return None if framing == "lungs" else 0


def cut(raster: np.ndarray, box: Box, size: int, outside: int | None = 0) -> np.ndarray:
    """Show a box of a raster as a square, in one bilinear interpolation.

    Parameters
    ----------
    raster : numpy.ndarray of uint8, shape (224, 224)
    box : Box
    size : int
        Side of the result in pixels.
    outside : int or None
        Gray value of what lies outside the raster, 0 to 255; None mirrors the raster there.

    Returns
    -------
    numpy.ndarray of uint8, shape (size, size)
    """
    side = raster.shape[0]
    step_x, step_y = side * (box.right - box.left) / size, side * (box.bottom - box.top) / size
    # Pixel centres lie at half pixels.
    matrix = np.array(
        [
            [step_x, 0, side * box.left + step_x / 2 - 0.5],
            [0, step_y, side * box.top + step_y / 2 - 0.5],
        ]
    )
    border = cv2.BORDER_REPLICATE
    if box.left < 0 or box.top < 0 or box.right > 1 or box.bottom > 1:
        border = cv2.BORDER_REFLECT_101 if outside is None else cv2.BORDER_CONSTANT
    return cv2.warpAffine(
        raster,
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=border,
        borderValue=outside or 0,
    )


def near(lungs: np.ndarray, share: float = DILATION) -> np.ndarray:
    """A lung mask, bool, shape (side, side), grown by a share of its side."""
    radius = round(share * lungs.shape[0])
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(lungs.astype(np.uint8), disc).astype(bool)


def hide_outside(raster: np.ndarray, lungs: Lungs) -> tuple[np.ndarray, int]:
    """The raster with everything that is not `near` the lungs set to the lungs' mean, and that mean."""
    mean = round(float(raster[lungs.mask].mean()))
    return np.where(near(lungs.mask), raster, np.uint8(mean)), mean


def show(
    raster: np.ndarray, framing: str, aspect: float, lungs: Lungs | None, size: int, around: float = 0.0
) -> np.ndarray:
    """What a network sees of a radiograph, before scaling.

    Parameters
    ----------
    raster : numpy.ndarray of uint8, shape (224, 224)
    framing, aspect, lungs
        As `frame`.
    size : int
        Side of the result in pixels; without surroundings, that of the network's input.
    around : float
        Surroundings on each side, as a share of what the network sees.

    Returns
    -------
    numpy.ndarray of uint8, shape (size, size)
    """
    outside = beyond(framing)
    if framing == "lungs_alone" and lungs is not None and lungs.found:
        raster, outside = hide_outside(raster, lungs)
    return cut(raster, frame(framing, aspect, lungs).grown(around), size, outside)


def scale_gray(pixels: np.ndarray, scaling: str = "unit", channels: int = 1) -> np.ndarray:
    """Gray values as a network takes them.

    - `unit`: 0 to 1.
    - `standard`: each image by itself to mean 0 and standard deviation 1, so that brightness and contrast of the
      exposure do not matter; an image of one gray becomes 0.
    - `byte`: 0 to 255, for networks that scale by themselves.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (..., size, size)
    scaling : str
        One of `SCALINGS`.
    channels : int
        How often the gray values are repeated.

    Returns
    -------
    numpy.ndarray of float32, shape (..., size, size, channels)

    Raises
    ------
    UnknownNameError
        If there is no such scaling.
    """
    values = np.asarray(pixels, np.float32) / np.float32(255)
    if scaling == "standard":
        values = values - values.mean(axis=(-2, -1), keepdims=True)
        values = values / np.maximum(values.std(axis=(-2, -1), keepdims=True), np.float32(1e-3))
    elif scaling == "byte":
        values = np.asarray(pixels, np.float32)
    elif scaling != "unit":
        raise UnknownNameError(
            f"A scaling must be one of {', '.join(SCALINGS)}; received {scaling!r}. Correct the name."
        )
    return np.repeat(values[..., np.newaxis], channels, axis=-1)
