"""Random transforms, on training images alone."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Ranges of the random geometric transforms of one image, all applied in one interpolation.

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
    """

    rotation: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    flip: bool = False

    def apply(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Transform each image by its own random draw; what enters at the border repeats the edge.

        Parameters
        ----------
        images : numpy.ndarray of uint8, shape (n, size, size)
        generator : numpy.random.Generator

        Returns
        -------
        numpy.ndarray of uint8, shape (n, size, size)
        """
        size = images.shape[1]
        result = np.empty_like(images)
        for index, image in enumerate(images):
            cv2.warpAffine(
                image,
                self._matrix(size, generator),
                (size, size),
                dst=result[index],
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
        return result

    def _matrix(self, size: int, generator: np.random.Generator) -> np.ndarray:
        """Draw a matrix, shape (2, 3), that takes a place in the result to its place in the image."""
        angle = np.deg2rad(generator.uniform(-self.rotation, self.rotation))
        scale_x, scale_y = generator.uniform(1 - self.zoom, 1 + self.zoom, size=2)
        shift = generator.uniform(-self.shift, self.shift, size=2) * size
        mirror = -1.0 if generator.random() < 0.5 and self.flip else 1.0
        cos, sin = np.cos(angle), np.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([scale_x * mirror, scale_y])
        centre = np.full(2, (size - 1) / 2)
        return np.column_stack([linear, centre - linear @ centre + shift])
