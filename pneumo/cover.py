"""Cover and see: what the networks say of a radiograph of which a region is hidden.

The honest test of a heatmap (Zeiler and Fergus, ECCV 2014): if the evidence lies where the map says, the answer must
change when that place is covered. What is covered is filled from its surroundings, so that no edge and no gray level
of its own takes its place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from pneumo.errors import UnknownNameError
from pneumo.framing import RASTER, Prepared

BRUSH = 0.08
"""Width of the page's brush, as a share of the radiograph's width."""
_WIDTH = 20
"""Standard deviation, in pixels of the raster, of the blur that fills a region."""
_LARGEST_SHARE = 0.5
"""Largest share of a radiograph that can be covered: there must be surroundings to fill it from."""
_TALLEST = 8
"""Height of the tallest radiograph that is painted on in its own proportions, in widths."""


def fill(raster: np.ndarray, region: np.ndarray) -> np.ndarray:
    """A raster with a region filled from around it, by a very wide blur.

    Parameters
    ----------
    raster : numpy.ndarray of uint8, shape (224, 224)
    region : numpy.ndarray of bool, shape (224, 224)

    Returns
    -------
    numpy.ndarray of uint8, shape (224, 224)
    """
    weight = cv2.GaussianBlur((~region).astype(np.float32), (0, 0), _WIDTH)
    around = cv2.GaussianBlur(np.where(region, 0, raster).astype(np.float32), (0, 0), _WIDTH)
    return np.where(region, np.clip(around / np.maximum(weight, 1e-6), 0, 255).astype(np.uint8), raster)


def covered(prepared: Prepared, region: np.ndarray) -> Prepared:
    """A radiograph with a region filled from around it; its lungs stay where they were found.

    Parameters
    ----------
    prepared : Prepared
    region : numpy.ndarray of bool, shape (224, 224)
        On the raster of `pneumo.framing.to_raster`.
    """
    return dataclasses.replace(prepared, raster=fill(prepared.raster, region))


def painted(strokes: Sequence[Sequence[Sequence[float]]] | None, width: float, aspect: float) -> np.ndarray:
    """The region of a radiograph that strokes of a round brush cover.

    Parameters
    ----------
    strokes : sequence of sequence of (float, float)
        Points of each stroke, as shares of the radiograph's width and height.
    width : float
        Of the brush, as a share of the radiograph's width, above 0 and at most 1.
    aspect : float
        Width of the radiograph divided by its height, in pixels.

    Returns
    -------
    numpy.ndarray of bool, shape (224, 224)

    Raises
    ------
    UnknownNameError
        If there is no stroke, a value is no share, or hardly anything is left of the radiograph.
    """
    rule = "A painted region must be strokes of points, each a share of the radiograph's width and of its height"
    try:
        lines = [np.asarray(stroke, np.float64).reshape(-1, 2) for stroke in strokes or ()]
        size = float(width)
    except (TypeError, ValueError) as error:
        raise UnknownNameError(f"{rule}; received something else. Paint it again.") from error
    if not lines or not all(len(line) and np.isfinite(line).all() for line in lines) or not 0 < size <= 1:
        raise UnknownNameError(f"{rule}; received {len(lines)} strokes of width {width!r}. Paint it again.")
    # Round on the radiograph, whose aspect ratio the raster does not keep: painted on its own proportions.
    canvas = np.zeros((min(max(1, round(RASTER / aspect)), _TALLEST * RASTER), RASTER), np.uint8)
    scale = np.array([canvas.shape[1], canvas.shape[0]])
    for line in lines:
        points = np.rint(np.clip(line, -1, 2) * scale).astype(np.int32)
        cv2.polylines(canvas, [points], False, 1, max(1, round(size * RASTER)))
        cv2.circle(canvas, [int(value) for value in points[0]], max(1, round(size * RASTER / 2)), 1, cv2.FILLED)
    region = cv2.resize(canvas, (RASTER, RASTER), interpolation=cv2.INTER_NEAREST).astype(bool)
    if not region.any() or region.mean() > _LARGEST_SHARE:
        raise UnknownNameError(
            f"A painted region must lie on the radiograph and cover at most {100 * _LARGEST_SHARE:.0f} % of it; "
            f"this one covers {100 * region.mean():.0f} %. Paint it again."
        )
    return region
