"""What a network says of a radiograph of which a region is covered."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pneumo.classifier import Prediction
from pneumo.evidence import zone_words
from pneumo.report import probability

PAINTED = "painted"
"""Name of a covered region that a visitor painted."""


@dataclass(frozen=True, slots=True)
class Covering:
    """What one network says of a radiograph of which a region is covered.

    Attributes
    ----------
    region : str
        One of `pneumo.lungs.ZONES`, or "painted".
    mask : numpy.ndarray of bool, shape (224, 224)
        The region on the raster of `pneumo.framing.to_raster`.
    before, after : Prediction
    """

    region: str
    mask: np.ndarray = field(repr=False)
    before: Prediction
    after: Prediction

    @property
    def words(self) -> str:
        """What covering did, in one sentence."""
        place = "painted region" if self.region == PAINTED else zone_words(self.region)
        change = f"{probability(self.before.probability)} becomes {probability(self.after.probability)}"
        still = "still " if self.after.decision == self.before.decision else ""
        return f"With the {place} covered, {change}: {still}{self.after.decision}."
