"""What a network says of a radiograph of which a region is covered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from pneumo.classifier import Prediction
from pneumo.evidence import Evidence, zone_words
from pneumo.lungs import ZONES, Lungs
from pneumo.report import probability

HOTTEST = "hottest"
"""Names, as a region to cover, the zone with most of the heat of each network's own map."""
COVERS = ("", HOTTEST, *ZONES)
"""What can be covered by name; "" for nothing."""
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


def regions(
    cover: str | np.ndarray, lungs: Lungs | None, networks: Iterable[str], found: Mapping[str, Evidence | None]
) -> dict[str, tuple[str, np.ndarray]]:
    """What is covered for each network, as name and mask; without one for which there is nothing.

    Parameters
    ----------
    cover : str or numpy.ndarray of bool, shape (224, 224)
        One of `COVERS`, or a painted region.
    lungs : Lungs or None
    networks : iterable of str
    found : mapping of str to Evidence or None
        Where the heat of each network's map lies.
    """
    if not isinstance(cover, str):
        return dict.fromkeys(networks, (PAINTED, cover))
    if not cover or lungs is None or not lungs.found:
        return {}
    chosen = dict.fromkeys(networks, cover)
    if cover == HOTTEST:
        chosen = {name: heat.main_zone for name, heat in found.items() if heat and heat.main_zone}
    zones = lungs.zones()
    return {name: (zone, zones[zone]) for name, zone in chosen.items()}
