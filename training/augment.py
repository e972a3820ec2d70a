"""Random transforms, on training images alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pneumo.framing import DILATION, near
from training.errors import RecipeError

_ODDS = 0.5
"""Chance with which each of the photometric transforms is applied to an image."""
_FILM, _ASIDE = (0.86, 1.2), 0.06
"""Smallest and largest width and height of a turned film, and by how much it may lie aside, as shares of the side."""
_FADING = 1 / 16, 1 / 5
"""Smallest and largest standard deviation of a blur after which nothing can be read, as shares of the side."""


_Rule = tuple[str, Callable[[float], bool]]
_POSITIVE: _Rule = ("a number of at least 0", lambda value: value >= 0)
_FACTOR: _Rule = ("a number of at least 1", lambda value: value >= 1)
_SHARE: _Rule = ("a number from 0 to 1", lambda value: 0 <= value <= 1)
_RULES: dict[str, _Rule] = {
    "zoom": ("a number of at least 0 and below 1", lambda value: 0 <= value < 1),
    "flip": ("True or False", lambda _: True),
    **dict.fromkeys(("aspect", "gamma", "contrast", "brighten"), _FACTOR),
    "jpeg": ("a whole number from 1 to 100", lambda value: isinstance(value, int) and 1 <= value <= 100),
    **dict.fromkeys(("strip", "blind", "fade"), _SHARE),
}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Ranges of the random transforms of one image; the geometric ones are all applied in one interpolation.

    A field at its default does nothing. Each photometric transform is applied to every second image.

    Attributes
    ----------
    rotation : float
        Largest rotation to either side, in degrees.
    zoom : float
        Largest relative change of scale, drawn for width and height apart, as Keras's ImageDataGenerator does.
    shift : float
        Largest shift along each axis, as a share of the side.
    flip : bool
        Whether every second image is mirrored left to right.
    aspect : float
        Largest factor, 1 or more, by which the ratio of width to height grows or shrinks.
    gamma : float
        Largest exponent, 1 or more, of the gray values; drawn between its inverse and itself.
    contrast : float
        Largest factor, 1 or more, of the distance from middle gray; drawn between its inverse and itself.
    brightness : float
        Largest shift of the gray values to either side, as a share of their range.
    brighten : float
        Largest factor, 1 or more, by which every image is multiplied; drawn between 1 and itself.
    blur : float
        Largest standard deviation of a Gaussian blur, in pixels; sharpening, of every second such image, is by as much.
    noise : float
        Largest standard deviation of Gaussian noise, as a share of the range of gray values.
    jpeg : int
        Lowest quality of a JPEG compression, 1 to 100.
    strip : float
        Share of the images of which everything but the lungs becomes one gray; needs lung masks.
    film : float
        Largest angle to either side, in degrees, by which the edges of the film lie turned about the frame of every
        second image: beyond them all is black, or of another gray, as where a radiograph was turned and filled up.
    blind : float
        Share of the images whose lungs become one gray or noise, and which are then labelled one half: there is
        nothing left to decide by. Needs lung masks.
    fade : float
        Share of the images that are blurred until nothing can be read off the lungs, and which are labelled one half,
        too. What explains a network by blurring the image then shows it nothing that it was not trained on (Hase, Xie
        and Bansal, NeurIPS 2021). Needs lung masks.

    Raises
    ------
    RecipeError
        If a field has a value that no transform can use.
    """

    rotation: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    flip: bool = False
    aspect: float = 1.0
    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0
    brighten: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 100
    film: float = 0.0
    strip: float = 0.0
    blind: float = 0.0
    fade: float = 0.0

    def __post_init__(self) -> None:
        """Check every field."""
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            rule, holds = _RULES.get(item.name, _POSITIVE)
            # True is a number to Python, but not to a reader.
            if isinstance(value, bool) is not (item.name == "flip") or not isinstance(value, int | float):
                raise RecipeError(f"The field {item.name} of an augmentation must be {rule}; received {value!r}.")
            if not (math.isfinite(value) and holds(value)):
                raise RecipeError(f"The field {item.name} of an augmentation must be {rule}; received {value!r}.")

    def apply(
        self, images: np.ndarray, generator: np.random.Generator, size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Transform each image by its own random draw: `place`, then `expose`.

        Parameters and results are theirs.
        """
        placed, blind = self.place(images, generator, size)
        return self.expose(placed, generator), blind

    def place(
        self, images: np.ndarray, generator: np.random.Generator, size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Move each image and hide what is to be hidden; what enters at the border repeats the edge.

        Parameters
        ----------
        images : numpy.ndarray of uint8, shape (n, side, side) or (n, side, side, 2)
            Gray values, and in the second plane, where there is one, the lung mask, 0 to 255.
        generator : numpy.random.Generator
        size : int, optional
            Side of the result, which shows the middle of the images. Default: their side.

        Returns
        -------
        images : numpy.ndarray of uint8, shape (n, size, size) or (n, size, size, 2)
        blind : numpy.ndarray of bool, shape (n,)
            Which images have nothing left to decide by.
        """
        size = size or images.shape[1]
        result = np.empty((len(images), size, size, *images.shape[3:]), np.uint8)
        blind = np.zeros(len(images), bool)
        for index, image in enumerate(images):
            result[index] = self._move(image, size, generator)
            if images.ndim == 4:
                gray, mask = result[index, ..., 0], result[index, ..., 1]
                blind[index] = self._hide(gray, mask, generator)
            else:
                gray = result[index]
            self._turn_film(gray, generator)
        return result, blind

    def expose(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Change the gray values of each image, and of no mask; shapes as of `place`."""
        result = images.copy()
        for image in result:
            gray = image[..., 0] if image.ndim == 3 else image
            gray[...] = self._expose(np.ascontiguousarray(gray), generator)
        return result

    def _move(self, image: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
        return cv2.warpAffine(
            image,
            self._matrix(image.shape[0], size, generator),
            (size, size),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def _matrix(self, side: int, size: int, generator: np.random.Generator) -> np.ndarray:
        """Draw a matrix, shape (2, 3), that takes a place in the result to its place in the image."""
        angle = np.deg2rad(generator.uniform(-self.rotation, self.rotation))
        scale_x, scale_y = generator.uniform(1 - self.zoom, 1 + self.zoom, size=2)
        shift = generator.uniform(-self.shift, self.shift, size=2) * size
        mirror = -1.0 if generator.random() < 0.5 and self.flip else 1.0
        if self.aspect > 1:
            stretch = np.sqrt(_factor(self.aspect, generator))
            scale_x, scale_y = scale_x * stretch, scale_y / stretch
        cos, sin = np.cos(angle), np.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([scale_x * mirror, scale_y])
        middle = np.full(2, (side - 1) / 2)
        return np.column_stack([linear, middle - linear @ np.full(2, (size - 1) / 2) + shift])

    def _hide(self, gray: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> bool:
        """Remove the lungs, or all but the lungs, or all detail from some images; tell whether nothing is left."""
        draw = generator.random()
        inside = mask >= 128
        if not inside.any():
            return False
        if draw < self.blind:
            kind = generator.integers(3)
            level = int(gray.mean()) if kind == 1 else int(generator.integers(256))
            # At times all but a rim: where only the lungs are shown, what lies around has their mean.
            hidden = inside if generator.random() < 0.5 else inside | ~near(inside, generator.uniform(0, 2 * DILATION))
            gray[hidden] = level
            if kind == 2:
                grain = generator.normal(level, generator.uniform(5, 60), int(inside.sum()))
                gray[inside] = np.clip(grain, 0, 255)
            return True
        if draw < self.blind + self.strip:
            gray[~inside] = generator.integers(256)
            return False
        if draw < self.blind + self.strip + self.fade:
            gray[...] = cv2.GaussianBlur(gray, (0, 0), gray.shape[0] * generator.uniform(*_FADING))
            return True
        return False

    def _turn_film(self, gray: np.ndarray, generator: np.random.Generator) -> None:
        if self.film == 0 or generator.random() >= _ODDS:
            return
        extent, aside = generator.uniform(*_FILM, size=2), generator.uniform(-_ASIDE, _ASIDE, size=2)
        beyond = beyond_film(gray.shape[0], extent, aside, generator.uniform(-self.film, self.film))
        gray[beyond] = 0 if generator.random() < 0.5 else generator.integers(256)

    def _expose(self, gray: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Change exposure, sharpness and compression."""
        values = np.arange(256) / 255
        if self.gamma > 1 and generator.random() < _ODDS:
            values = values ** _factor(self.gamma, generator)
        if self.contrast > 1 and generator.random() < _ODDS:
            values = 0.5 + (values - 0.5) * _factor(self.contrast, generator)
        if self.brightness > 0 and generator.random() < _ODDS:
            values = values + generator.uniform(-self.brightness, self.brightness)
        if self.brighten > 1:
            values = values * generator.uniform(1, self.brighten)
        gray = cv2.LUT(gray, np.clip(np.rint(values * 255), 0, 255).astype(np.uint8))
        if self.blur > 0 and generator.random() < _ODDS:
            soft = cv2.GaussianBlur(gray, (0, 0), generator.uniform(0.2, 1) * self.blur)
            gray = soft if generator.random() < 0.5 else cv2.addWeighted(gray, 2, soft, -1, 0)
        if self.noise > 0 and generator.random() < _ODDS:
            grain = generator.standard_normal(gray.shape, np.float32) * (generator.uniform(0, self.noise) * 255)
            gray = np.clip(np.rint(gray + grain), 0, 255).astype(np.uint8)
        if self.jpeg < 100 and generator.random() < _ODDS:
            quality = int(generator.integers(self.jpeg, 100))
            gray = compress(gray, quality)
        return gray


def beyond_film(side: int, extent: np.ndarray, aside: np.ndarray, angle: float) -> np.ndarray:
    """Where a frame shows what a film does not cover that was turned within its own sides, as a viewer turns it.

    Beyond these sides a frame shows their mirror image, as `pneumo.framing.cut` has it.

    Parameters
    ----------
    side : int
        Of the frame, in pixels.
    extent, aside : numpy.ndarray of shape (2,)
        Width and height of the film, and how far to the right and down its middle lies from the frame's; shares of the
        frame's side.
    angle : float
        In degrees, clockwise.

    Returns
    -------
    numpy.ndarray of bool, shape (side, side)
    """
    half = extent[:, np.newaxis] / 2 * side
    away = np.arange(side) - (side - 1) / 2 - aside[:, np.newaxis] * side
    x, y = np.where(np.abs(away) > half, np.sign(away) * 2 * half - away, away)
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    across, down = cos * x + sin * y[:, np.newaxis], cos * y[:, np.newaxis] - sin * x
    return (np.abs(across) > half[0]) | (np.abs(down) > half[1])


def compress(gray: np.ndarray, quality: int) -> np.ndarray:
    """Gray values, uint8, after a JPEG of a quality from 1 to 100."""
    content = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE), np.uint8)


def _factor(largest: float, generator: np.random.Generator) -> float:
    """A factor between the inverse of the largest and the largest, as often below 1 as above."""
    return float(largest ** generator.uniform(-1, 1))
