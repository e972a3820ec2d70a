"""What a gate refuses and warns of, counted: on pictures of held-out sources, and on those of the test split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pneumo.bundle import GATE_RECORD
from pneumo.framing import to_raster
from pneumo.gate import ODDITIES, Judgement, Look
from pneumo.radiograph import read_radiograph, right
from training.batteries import STRESSES
from training.bundling import write_json
from training.dataset import open_dataset
from training.errors import TrainingError
from training.gate import HARMLESS, ODD, PICTURES, Looker, sample
from training.metrics import wilson_interval
from training.outsiders import HELD_OUT, UNSEEN, Outsider, outsiders

ALTERED = 40
"""How many test radiographs are altered."""


def measure_gate(
    manifest: Path,
    folder: Path,
    originals: Path | None = None,
    pictures: Sequence[Outsider] | None = None,
    altered: int = ALTERED,
) -> dict[str, Any]:
    """Count what the gate of a bundle says, and write gate.json there.

    Parameters
    ----------
    manifest : Path
        Data manifest that its networks were trained with.
    folder : Path
        Of the bundle.
    originals : Path, optional
        Folder of test images as they were published, *.jpeg at any depth.
    pictures : sequence of Outsider, optional
        What is no chest radiograph, of which those of held-out sources are counted. Default: as `make_gate` takes them.
    altered : int
        How many of the test radiographs are made odd, and put under stress.

    Raises
    ------
    TrainingError
        If the bundle has no gate.
    """
    dataset, source = open_dataset(manifest)
    judge = Judge(folder)
    others = [item for item in (pictures or list(outsiders(*PICTURES))) if item.use == HELD_OUT]
    refused = [judgement.refused for judgement in judge([item.raster for item in others])]
    kinds = {}
    for kind in sorted({item.kind for item in others}):
        own = [hit for hit, item in zip(refused, others, strict=True) if item.kind == kind]
        kinds[kind] = _share(sum(own), len(own)) | {"fitted": kind not in UNSEEN}
    test = sample(source, dataset, ("test",))
    radiographs = {"test radiographs": judge(test)}
    if originals:
        found = [to_raster(read_radiograph(path).pixels) for path in sorted(originals.rglob("*.jpeg"))]
        radiographs["test radiographs as published"] = judge(found)
    rows = np.unique(np.linspace(0, len(test) - 1, min(altered, len(test))).astype(int))
    for title in HARMLESS:
        radiographs[title] = judge([STRESSES[title](test[row]) for row in rows])
    rng = np.random.default_rng(1)
    odd = {title: (wanted, judge([alter(test[row], rng) for row in rows])) for title, (wanted, alter) in ODD.items()}
    report = {
        "others": _share(sum(refused), len(refused)),
        "kinds": kinds,
        "radiographs": {title: _counted(found) for title, found in radiographs.items()},
        "odd": {title: _counted(found) | {"wanted": wanted} for title, (wanted, found) in odd.items()},
    }
    write_json(folder / GATE_RECORD, report)
    return report


class Judge:
    """Judges many pictures as the program does.

    Raises
    ------
    TrainingError
        If the bundle has no gate.
    """

    def __init__(self, folder: Path) -> None:
        self._looker = Looker(folder)
        gate = self._looker.bundle.gate
        if gate is None:
            raise TrainingError(
                f"A gate must be fitted to be measured; {folder} has none. Run `python -m training gate`."
            )
        self._gate = gate

    def __call__(self, rasters: Sequence[np.ndarray] | np.ndarray) -> list[Judgement]:
        """Judge pictures, each uint8, shape (224, 224)."""
        return [self._judged(*pair) for pair in zip(rasters, self._looker.look(rasters), strict=True)]

    def _judged(self, raster: np.ndarray, look: Look) -> Judgement:
        return self._gate.judge(look, lambda turn, invert: self._looker.look([right(raster, turn, invert)])[0])


def _share(count: int, total: int) -> dict[str, Any]:
    return {"refused": count, "images": total, "interval": wilson_interval(count, total)}


def _counted(found: Sequence[Judgement]) -> dict[str, Any]:
    tally = Counter(oddity for judgement in found for oddity in judgement.oddities)
    refused = sum(judgement.refused for judgement in found)
    return _share(refused, len(found)) | {"warned": {name: tally[name] for name in ODDITIES if tally[name]}}
