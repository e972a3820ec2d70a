"""What a gate refuses and warns of, counted: on pictures of held-out sources, and on those of the test split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pneumo.bundle import GATE_RECORD
from pneumo.framing import to_raster
from pneumo.gate import FACTS, ODDITIES, Judgement, Look
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
_FOUND = FACTS.index("found")


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
    kinds = {}
    for kind in sorted({item.kind for item in others}):
        own = [item.raster for item in others if item.kind == kind]
        kinds[kind] = judge.count(own) | {"fitted": kind not in UNSEEN}
    test = sample(source, dataset, ("test",))
    radiographs = {"test radiographs": judge.count(test)}
    if originals:
        found = [to_raster(read_radiograph(path).pixels) for path in sorted(originals.rglob("*.jpeg"))]
        radiographs["test radiographs as published"] = judge.count(found)
    rows = np.unique(np.linspace(0, len(test) - 1, min(altered, len(test))).astype(int))
    for title in HARMLESS:
        radiographs[title] = judge.count([STRESSES[title](test[row]) for row in rows])
    rng = np.random.default_rng(1)
    refused, with_lungs = (sum(entry[key] for entry in kinds.values()) for key in ("refused", "lungs"))
    report = {
        "others": _share(refused, len(others), with_lungs),
        "kinds": kinds,
        "radiographs": radiographs,
        "odd": {
            title: judge.count([alter(test[row], rng) for row in rows]) | {"wanted": wanted}
            for title, (wanted, alter) in ODD.items()
        },
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

    def count(self, rasters: Sequence[np.ndarray] | np.ndarray) -> dict[str, Any]:
        """How many pictures, each uint8, shape (224, 224), are refused, warned of, and said to show two lungs."""
        looks = self._looker.look(rasters)
        found = [self._judged(*pair) for pair in zip(rasters, looks, strict=True)]
        tally = Counter(oddity for judgement in found for oddity in judgement.oddities)
        refused, lungs = sum(judgement.refused for judgement in found), sum(int(look.plain[_FOUND]) for look in looks)
        return _share(refused, len(found), lungs) | {"warned": {name: tally[name] for name in ODDITIES if tally[name]}}

    def _judged(self, raster: np.ndarray, look: Look) -> Judgement:
        return self._gate.judge(look, lambda turn, invert: self._looker.look([right(raster, turn, invert)])[0])


def _share(refused: int, images: int, lungs: int) -> dict[str, Any]:
    return {"refused": refused, "images": images, "interval": wilson_interval(refused, images), "lungs": lungs}
