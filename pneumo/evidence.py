"""Heat and lungs: how much of a heatmap lies in the lungs against chance, in which zones, and the words for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pneumo.framing import RASTER
from pneumo.lungs import ZONES, Lungs, share
from pneumo.report import percent
from pneumo.saliency import Heatmap, HeatStatus


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where the heat of one map lies.

    Attributes
    ----------
    share_in_lungs : float
        Share of the heat inside the lungs, 0 to 1.
    chance : float
        What heat spread evenly over what the network was shown would reach: the lungs' share of that.
    zones : dict of str to float
        Share of the heat in each of `pneumo.lungs.ZONES`; together the share in the lungs.
    peak : tuple of float
        Place of the largest value, as shares of the radiograph's width and height.
    peak_zone : str
        Zone of the peak, or "" if it lies outside the lungs.
    """

    share_in_lungs: float
    chance: float
    zones: dict[str, float]
    peak: tuple[float, float]
    peak_zone: str

    @property
    def above_chance(self) -> bool:
        """Whether more of the heat lies in the lungs than if it were spread evenly."""
        return self.share_in_lungs > self.chance

    @property
    def main_zone(self) -> str:
        """The zone with most of the heat; "" if none has any."""
        zone = max(self.zones, key=lambda name: self.zones[name])
        return zone if self.zones[zone] > 0 else ""

    @property
    def main_lung(self) -> str:
        """The lung, "right" or "left", with more than two thirds of the heat in the lungs; "" if none has."""
        sides = {side: sum(self.zones[zone] for zone in ZONES if zone.startswith(side)) for side in ("right", "left")}
        return next((side for side, share in sides.items() if share > 2 / 3 * self.share_in_lungs), "")

    @property
    def words(self) -> str:
        """All of it in one sentence of a reader's words."""
        chance = f"(chance {percent(self.chance, 0)})"
        if not self.main_zone:
            return f"None of the evidence lies in the lungs {chance}."
        part = "most" if self.zones[self.main_zone] > self.share_in_lungs / 2 else "the largest part"
        return (
            f"{percent(self.share_in_lungs, 0)} of the evidence lies in the lungs {chance}, "
            f"{part} of it in the {zone_words(self.main_zone)}."
        )


def evidence_of(heatmap: Heatmap, lungs: Lungs | None) -> Evidence | None:
    """Measure a heatmap against the lungs.

    Parameters
    ----------
    heatmap : Heatmap
    lungs : Lungs or None

    Returns
    -------
    Evidence or None
        None if there are no lungs, or no heat, to be measured.
    """
    if lungs is None or not lungs.found or heatmap.status is not HeatStatus.DRAWN:
        return None
    heat = heatmap.placed(RASTER, RASTER).astype(np.float64)
    total = heat.sum()
    if total <= 0:
        return None
    inside, numbers = lungs.places
    shares = np.bincount(numbers, heat.ravel()[inside], len(ZONES)) / total
    row, column = divmod(int(heat.argmax()), RASTER)
    return Evidence(
        share_in_lungs=float(shares.sum()),
        chance=share(lungs.mask[heatmap.box.clipped(RASTER, RASTER)]),
        zones=dict(zip(ZONES, shares.tolist(), strict=True)),
        peak=((column + 0.5) / RASTER, (row + 0.5) / RASTER),
        peak_zone=next((name for name, zone in lungs.zones().items() if zone[row, column]), ""),
    )


def zone_words(zone: str) -> str:
    """A zone as a reader names it, such as "left lower zone"; right is the patient's right."""
    return f"{zone.replace('_', ' ')} zone"


def disagreement(found: Mapping[str, Evidence]) -> str:
    """That networks point at different places, in one sentence; "" if they do not.

    They do if no two have the same main zone, or if two have their main lung on different sides. The sides of the main
    zones alone say little: where the heat lies in both lungs, chance decides which zone has most.

    Parameters
    ----------
    found : mapping of str to Evidence
        By the title of the network; of networks that decided alike.
    """
    zones = {title: evidence.main_zone for title, evidence in found.items() if evidence.main_zone}
    scattered = len(zones) > 1 and len(set(zones.values())) == len(zones)
    if not scattered and len({evidence.main_lung for evidence in found.values()} - {""}) < 2:
        return ""
    places = ", ".join(f"{title} at the {zone_words(zone)}" for title, zone in zones.items())
    return f"The networks point at different {'zones' if scattered else 'lungs'}: {places}."
