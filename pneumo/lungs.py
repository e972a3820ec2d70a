"""The lungs of a radiograph: mask, box, right and left, and six zones."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pneumo.framing import RASTER, Box, scale_gray
from pneumo.probe import compile_folded

if TYPE_CHECKING:
    import keras

ZONES = tuple(f"{side}_{height}" for side in ("right", "left") for height in ("upper", "middle", "lower"))
"""Names of the six zones; right is the patient's right, on the left of the image."""
_LEAST_AREA = 0.02
"""Smallest lung, as a share of the radiograph."""
_LARGEST_AREA = 0.7
"""Largest area of both lungs, as a share of the radiograph."""
_LARGEST_RATIO = 4.0
"""Largest ratio between the areas of the two lungs."""
_WIDEST_NECK = 0.5
"""Largest height of the place where two lungs touch, as a share of the height of the lower of them."""
_LEAST_CONTRAST = 1.0
"""Standard deviation of gray values, 0 to 255, below which an image is blank; the network makes up lungs there."""
_LIKELY, _CERTAIN = 0.1, 0.9
"""Probabilities from which on a pixel may be lung, and is."""
LEAST_CERTAIN = 0.5
"""Least `certainty` of two lungs. Every training radiograph that shows two by shape has more (`python -m benchmarks
certainty`)."""


@dataclass(frozen=True)
class Lungs:
    """Where the lungs of a radiograph are.

    Attributes
    ----------
    right, left : numpy.ndarray of bool, shape (224, 224)
        The patient's right and left lung on the raster of `pneumo.framing.to_raster`; all False if not found.
    reason : str
        Why no two lungs were found, one sentence; "" if they were.
    """

    right: np.ndarray = field(repr=False)
    left: np.ndarray = field(repr=False)
    reason: str = ""

    @property
    def found(self) -> bool:
        """Whether there are two lungs."""
        return not self.reason

    @cached_property
    def mask(self) -> np.ndarray:
        """Both lungs, bool, shape (224, 224)."""
        return self.right | self.left

    @cached_property
    def box(self) -> Box:
        """The smallest box that holds both lungs.

        Raises
        ------
        ValueError
            If no two lungs were found.
        """
        if not self.found:
            raise ValueError(f"Only found lungs have a box. {self.reason}")
        rows, columns = (np.flatnonzero(self.mask.any(axis=axis)) for axis in (1, 0))
        edges = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return Box(*(float(edge) / RASTER for edge in edges))

    @property
    def share(self) -> float:
        """Area of both lungs as a share of the radiograph, 0 to 1."""
        return share(self.mask)

    def zones(self) -> dict[str, np.ndarray]:
        """The six zones by name: each lung's height, cut in three equal parts.

        Returns
        -------
        dict of str to numpy.ndarray of bool, shape (224, 224)
            Keys are `ZONES`. Together they are the mask.
        """
        return dict(self._zones)

    @cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the lungs are in a flat raster, and the place in `ZONES` of each such pixel: int64, shape (n,)."""
        numbers = np.zeros((RASTER, RASTER), np.int64)
        for number, zone in enumerate(self._zones.values()):
            numbers[zone] = number
        inside = np.flatnonzero(self.mask)
        return inside, numbers.ravel()[inside]

    @cached_property
    def _zones(self) -> dict[str, np.ndarray]:
        result = {}
        rows = np.arange(RASTER)[:, np.newaxis]
        for side, lung in (("right", self.right), ("left", self.left)):
            filled = np.flatnonzero(lung.any(axis=1))
            top, bottom = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
            thirds = [top, *(round(top + (bottom - top) * part / 3) for part in (1, 2)), bottom]
            for height, start, stop in zip(("upper", "middle", "lower"), thirds, thirds[1:], strict=False):
                result[f"{side}_{height}"] = lung & (rows >= start) & (rows < stop)
        return result


def share(mask: np.ndarray) -> float:
    """How much of a mask, bool, is set, 0 to 1; its mean, which NumPy takes several times as long for."""
    return np.count_nonzero(mask) / mask.size


def lungs_of(mask: np.ndarray) -> Lungs:
    """Tell the two lungs of a mask apart.

    Parameters
    ----------
    mask : numpy.ndarray of bool, shape (224, 224)
        Drawn by a person, or by a segmenter.

    Returns
    -------
    Lungs
        With a `reason` if there are not two of them, side by side and of comparable size.
    """
    count, parts, figures, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = figures[:, cv2.CC_STAT_AREA] / mask.size
    large = [number for number in range(1, count) if areas[number] >= _LEAST_AREA]
    if not large:
        return _none("No lung was found.")
    if len(large) == 1:
        # Lungs that touch are one part; the narrowest column between them is where they meet. One lung has no neck.
        right, left, neck = _cut_apart(parts == large[0])
        if neck > _WIDEST_NECK:
            return _none("Only one lung was found.")
    else:
        first, second = sorted(sorted(large, key=lambda number: -areas[number])[:2], key=lambda n: centres[n][0])
        right, left = _filled(parts == first), _filled(parts == second)
    smaller, larger = sorted((share(right), share(left)))
    if smaller < _LEAST_AREA:
        return _none("Only one lung was found.")
    if larger > _LARGEST_RATIO * smaller:
        return _none("The two parts found are too unequal to be two lungs.")
    if smaller + larger > _LARGEST_AREA:
        return _none("What was found is too large to be two lungs.")
    if _middle(left) - _middle(right) < 0.15:
        return _none("The two parts found do not lie side by side.")
    return Lungs(right, left)


def lungs_in(likely: np.ndarray) -> Lungs:
    """The two lungs in what a segmenter makes of a radiograph.

    Parameters
    ----------
    likely : numpy.ndarray of float32, shape (224, 224)
        The probability of lung at each pixel, 0 to 1.

    Returns
    -------
    Lungs
        As `lungs_of`; with a `reason`, too, if the segmenter is uncertain of most of what it found, as it mostly is
        where a picture shows no lungs, and where a radiograph lies on its side or is inverted.
    """
    lungs = lungs_of(likely >= 0.5)
    if lungs.found and certainty(likely) < LEAST_CERTAIN:
        return _none("What was found is too uncertain to be two lungs.")
    return lungs


def certainty(likely: np.ndarray) -> float:
    """How much of what may be lung is, 0 to 1, by the probability of lung at each pixel; 0 where none may be."""
    possible = np.count_nonzero(likely >= _LIKELY)
    return np.count_nonzero(likely >= _CERTAIN) / possible if possible else 0.0


class Segmenter:
    """Finds lungs by a network.

    Parameters
    ----------
    model : keras.Model
        As `pneumo.zoo.build_segmenter` builds it, with trained weights.
    """

    def __init__(self, model: keras.Model) -> None:
        import keras

        self._size = int(model.inputs[0].shape[1])
        # Where it is narrowest it knows most of what the whole shows, and least of where.
        narrowest = next(layer for layer in model.layers if isinstance(layer, keras.layers.UpSampling2D)).input
        model = keras.Model(model.inputs, [model.outputs[0], narrowest], name=model.name)
        if keras.backend.backend() != "tensorflow":
            # A training may run on another backend.
            self._forward = model.predict_on_batch
            return
        self._forward = compile_folded(model)

    @property
    def traces(self) -> int:
        """How often its graph was built; more than once is time lost."""
        return self._forward.experimental_get_tracing_count()

    def masks(self, rasters: np.ndarray) -> np.ndarray:
        """The probability of lung at each pixel.

        Parameters
        ----------
        rasters : numpy.ndarray of uint8, shape (n, 224, 224)

        Returns
        -------
        numpy.ndarray of float32, shape (n, 224, 224)
        """
        return self.look(rasters)[0]

    def look(self, rasters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same, and what the network made of each radiograph as a whole.

        Parameters
        ----------
        rasters : numpy.ndarray of uint8, shape (n, 224, 224)

        Returns
        -------
        masks : numpy.ndarray of float32, shape (n, 224, 224)
            As `masks`.
        sights : numpy.ndarray of float32, shape (n, d)
            Its narrowest feature map, averaged over 3 x 3 fields; the mask, over 7 x 7; and how certain the mask is.
        """
        size = (self._size, self._size)
        small = np.stack([cv2.resize(raster, size, interpolation=cv2.INTER_AREA) for raster in rasters])
        outputs, narrowest = map(np.asarray, self._forward(scale_gray(small, "standard")))
        found = outputs[..., 0]
        blank = small.std(axis=(1, 2)) < _LEAST_CONTRAST
        found = np.where(blank[:, np.newaxis, np.newaxis], np.float32(0), found)
        masks = [cv2.resize(mask, (RASTER, RASTER), interpolation=cv2.INTER_LINEAR) for mask in found]
        sights = [
            np.concatenate([_fields(seen, 3), _fields(mask, 7), [np.abs(2 * mask - 1).mean(dtype=np.float32)]])
            for seen, mask in zip(narrowest, found, strict=True)
        ]
        return np.stack(masks), np.stack(sights)

    def find(self, raster: np.ndarray) -> Lungs:
        """The lungs of one radiograph.

        Parameters
        ----------
        raster : numpy.ndarray of uint8, shape (224, 224)
        """
        return self.find_all(raster[np.newaxis])[0]

    def find_all(self, rasters: np.ndarray) -> list[Lungs]:
        """The lungs of several radiographs at once, uint8, shape (n, 224, 224)."""
        return [lungs_in(mask) for mask in self.masks(rasters)]


def _none(reason: str) -> Lungs:
    nothing = np.zeros((RASTER, RASTER), bool)
    return Lungs(nothing, nothing, reason)


def _fields(values: np.ndarray, side: int) -> np.ndarray:
    """Means over side x side fields, flat."""
    return cv2.resize(values, (side, side), interpolation=cv2.INTER_AREA).ravel()


def _filled(part: np.ndarray) -> np.ndarray:
    """A lung without holes."""
    outlines, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(part.shape, np.uint8), outlines, -1, 1, cv2.FILLED).astype(bool)


def _cut_apart(part: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The two sides of a part's narrowest column, and its height as a share of the lower side's highest."""
    heights = part.sum(axis=0)
    columns = np.flatnonzero(heights)
    start, stop = int(columns[0]), int(columns[-1]) + 1
    third = (stop - start) // 3
    seam = start + third + int(np.argmin(heights[start + third : stop - third]))
    right, left = part.copy(), part.copy()
    right[:, seam:] = False
    left[:, :seam] = False
    neck = heights[seam] / min(heights[:seam].max(initial=1), heights[seam:].max(initial=1))
    return _filled(right), _filled(left), float(neck)


def _middle(lung: np.ndarray) -> float:
    """Mean column of a lung, as a share of the width."""
    return float(np.flatnonzero(lung.any(axis=0)).mean()) / lung.shape[1]
