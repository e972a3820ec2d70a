"""Batteries of altered radiographs: stress, which should change no decision, and shortcuts, which should allow none."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from pneumo.cover import fill
from pneumo.framing import to_raster
from pneumo.lungs import Lungs
from pneumo.radiograph import read_radiograph
from training.augment import compress

_RING = 1 / 16
"""Width of the border ring, as a share of the side: two pixels of a 32 x 32 thumbnail."""


def _curve(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    table = np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
    return lambda pixels: cv2.LUT(pixels, table)


def _contrast(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def alter(pixels: np.ndarray) -> np.ndarray:
        middle = float(pixels.mean())
        return np.clip(np.rint(middle + (pixels - middle) * factor), 0, 255).astype(np.uint8)

    return alter


def _blur(pixels: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape) / 150)


def _noise(pixels: np.ndarray) -> np.ndarray:
    grain = np.random.default_rng(0).normal(0, 0.05 * 255, pixels.shape)
    return np.clip(np.rint(pixels + grain), 0, 255).astype(np.uint8)


def _jpeg(pixels: np.ndarray) -> np.ndarray:
    return compress(pixels, 30)


def _sixteen_bit(pixels: np.ndarray) -> np.ndarray:
    """As a 12-bit detector stores it, with what lies between two of its 8-bit levels, in a 16-bit file."""
    between = np.random.default_rng(0).uniform(-0.5, 0.5, pixels.shape)
    values = np.clip(np.rint((pixels + between) * (4095 / 255)), 0, 4095).astype(np.uint16)
    return read_radiograph(cv2.imencode(".png", values)[1].tobytes(), "16-bit.png").pixels


def _rotation(angle: float) -> Callable[[np.ndarray], np.ndarray]:
    """By so many degrees, counterclockwise; black corners appear."""

    def alter(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1)
        return cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_CONSTANT)

    return alter


def _mirror(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[:, ::-1])


def _paste_marker(pixels: np.ndarray) -> np.ndarray:
    """A white R in the upper corner on the patient's right, as technologists place it."""
    height, width = pixels.shape
    size = height / 224
    return cv2.putText(
        pixels.copy(),
        "R",
        (round(0.04 * width), round(0.13 * height)),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.7 * size,
        255,
        max(1, round(2 * size)),
        cv2.LINE_AA,
    )


def _remove_marker(pixels: np.ndarray) -> np.ndarray:
    """Bright spots of a marker's size in the upper corners, filled from around (Telea, J. Graph. Tools 9, 2004)."""
    height, width = pixels.shape
    bright = (pixels >= 235).astype(np.uint8)
    count, parts, figures, centres = cv2.connectedComponentsWithStats(bright)
    spots = np.zeros(pixels.shape, np.uint8)
    for number in range(1, count):
        area, (x, y) = figures[number, cv2.CC_STAT_AREA] / pixels.size, centres[number]
        if area < 0.01 and y < height / 3 and not width / 4 < x < 3 * width / 4:
            spots[parts == number] = 1
    if not spots.any():
        return pixels
    side = 2 * max(1, round(width / 100)) + 1
    return cv2.inpaint(pixels, cv2.dilate(spots, np.ones((side, side), np.uint8)), 3, cv2.INPAINT_TELEA)


_GRAY = np.arange(256) / 255
STRESSES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gamma 0.6": _curve(_GRAY**0.6),
    "gamma 1.6": _curve(_GRAY**1.6),
    "contrast 0.5": _contrast(0.5),
    "contrast 1.8": _contrast(1.8),
    "brightness -25 %": _curve(_GRAY * 0.75),
    "brightness +25 %": _curve(_GRAY * 1.25),
    "blur": _blur,
    "noise": _noise,
    "JPEG 30": _jpeg,
    "16-bit input": _sixteen_bit,
    "rotation 5 degrees": _rotation(5),
    "rotation -5 degrees": _rotation(-5),
    "mirrored": _mirror,
    "marker pasted": _paste_marker,
    "marker removed": _remove_marker,
}
"""Stresses by title: each takes gray values, uint8, shape (height, width), and returns as many."""


def stressed(rasters: np.ndarray, title: str) -> np.ndarray:
    """Radiographs under one of `STRESSES`.

    Parameters
    ----------
    rasters : numpy.ndarray of uint8, shape (n, 224, 224)
    title : str

    Returns
    -------
    numpy.ndarray of uint8, shape (n, 224, 224)
    """
    return np.stack([to_raster(STRESSES[title](raster)) for raster in rasters])


def _lungs_black(raster: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return np.where(inside, np.uint8(0), raster)


def _lungs_gray(raster: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return np.where(inside, np.uint8(round(float(raster[~inside].mean()))), raster)


def _all_but_lungs_black(raster: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return np.where(inside, raster, np.uint8(0))


def _ring_alone(raster: np.ndarray, _inside: np.ndarray) -> np.ndarray:
    width = round(raster.shape[0] * _RING)
    result = raster.copy()
    result[width:-width, width:-width] = 0
    return result


SHORTCUTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "lungs black": _lungs_black,
    "lungs gray": _lungs_gray,
    "lungs filled from around": fill,
    "all but the lungs black": _all_but_lungs_black,
    "border ring alone": _ring_alone,
}
"""Shortcuts by title: each takes a raster and where the lungs are, and returns a raster."""


def shortcut(rasters: np.ndarray, lungs: list[np.ndarray] | list[Lungs], title: str) -> np.ndarray:
    """Radiographs that leave only shortcuts, by one of `SHORTCUTS`.

    Parameters
    ----------
    rasters : numpy.ndarray of uint8, shape (n, 224, 224)
    lungs : list of Lungs or of numpy.ndarray of bool, shape (224, 224)
        A mask each, drawn by a person or found by the segmenter.
    title : str

    Returns
    -------
    numpy.ndarray of uint8, shape (n, 224, 224)
    """
    masks = [item.mask if isinstance(item, Lungs) else item for item in lungs]
    return np.stack([SHORTCUTS[title](raster, mask) for raster, mask in zip(rasters, masks, strict=True)])
