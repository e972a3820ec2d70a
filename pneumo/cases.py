"""The case library: every test radiograph with its label, what the networks said of it, and where they looked.

One ZIP of a bundle, made by `python -m training cases`. Its members are `index.json` (`CaseIndex`), for each case
`ID.json` (`CaseRecord`) and `ID.jpeg` (the radiograph, 224 x 224), and the altered
radiographs of the tour.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from typing_extensions import TypedDict

from pneumo.errors import UNREADABLE_ZIP, BundleError
from pneumo.records import SaliencyRecord

CASES = "cases.zip"
"""Name of the library in a bundle."""
INDEX = "index.json"
"""The member that lists the cases."""
TOUR = "tour-"
"""How the names of altered radiographs begin."""


class CaseNetwork(TypedDict):
    """A network, or the mean of all: `thresholds` by operating point; `sha256` is null for the mean."""

    title: str
    sha256: str | None
    thresholds: dict[str, float]


class CaseRow(TypedDict):
    """A case in the index: `subtype` is "bacteria", "virus" or ""; `aspect` is width divided by height as taken."""

    id: str
    label: str
    subtype: str
    aspect: float
    probabilities: dict[str, float]


class MapRecord(TypedDict):
    """A heatmap: `values`, of `shape` rows x columns, are bytes in base64, 255 at the scale or above; `box` as shares
    of width and height. `values` is null where nothing is drawn; `evidence` says why."""

    box: list[float]
    shape: list[int]
    values: str | None
    evidence: SaliencyRecord


class CaseLungs(TypedDict):
    """The lungs of a case: SVG paths of the patient's right and left lung on a raster of 224 x 224, and the rows at
    which the three zones of each begin and the last ends; `drawn` by people, else found by the program."""

    right: str
    left: str
    rows: dict[str, list[int]]
    drawn: bool


class CaseRecord(TypedDict):
    """A case: `maps` by network and by the class explained; `lungs` is null where there are no two."""

    id: str
    lungs: CaseLungs | None
    maps: dict[str, dict[str, MapRecord]]


class TourAnswer(TypedDict):
    """What a network says of a panel; `map` and `words` where a heatmap is shown, the others null for one with random
    weights."""

    probability: float | None
    decision: str | None
    map: MapRecord | None
    words: str


class TourPanel(TypedDict):
    """A radiograph of the tour: `image` is a member of the library."""

    title: str
    image: str
    answers: dict[str, TourAnswer]


class TourStop(TypedDict):
    """A stop of the tour: how the networks can fool one, on a real case that a stated rule chose."""

    kind: str
    title: str
    rule: str
    words: str
    case: str
    panels: list[TourPanel]


class CaseIndex(TypedDict):
    """The whole library: `method` is that of the heatmaps and `title` what it is called, `scale` the rule of their
    scale, `ramp` their colours, 256 of red, green, blue, opacity, as bytes in base64."""

    networks: dict[str, CaseNetwork]
    method: str
    title: str
    scale: str
    ramp: str
    cases: list[CaseRow]
    tour: list[TourStop]


class CaseLibrary:
    """The members of a case library, read once.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    networks : dict of str to str
        SHA-256 of the weights of each network that the cases were made with.

    Raises
    ------
    BundleError
        If there is none, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                self._members = {name: archive.read(name) for name in archive.namelist()}
        except UNREADABLE_ZIP as error:
            raise BundleError(
                f"The teaching room needs the case library of the networks; {path} cannot be read "
                f"({error}). Make it with `python -m training cases`."
            ) from error
        try:
            entries = json.loads(self._members[INDEX]).get("networks", {})
            self.networks = {name: entry["sha256"] for name, entry in entries.items() if entry["sha256"]}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise BundleError(
                f"A case library must hold {INDEX}, as it was written; {path} does not. "
                "Make it again with `python -m training cases`."
            ) from error

    def member(self, name: str) -> bytes | None:
        """The content of a member; None if there is none of that name."""
        return self._members.get(name)
