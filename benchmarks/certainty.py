"""How certain the segmenter is of what it takes for two lungs, on radiographs and on other pictures."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pneumo.backend import load_tensorflow
from pneumo.bundle import load_bundle
from pneumo.lungs import LEAST_CERTAIN, Segmenter, certainty, lungs_of

STRESSED = 300
_BATCH = 64
_COLUMNS = ["two lungs by shape", "least certainty", "of the lowest 0.1 %", "median", "certain enough"]


def lung_certainty(data: Path, models: Path, stressed: int = STRESSED) -> None:
    """Print, of training and held-out radiographs and of other pictures, how certain their two lungs are.

    Nothing of the test split is looked at.

    Parameters
    ----------
    data : Path
        Data manifest.
    models : Path
        The bundle.
    stressed : int
        How many held-out radiographs are put under every stress, and made odd.
    """
    load_tensorflow()
    from training.batteries import STRESSES
    from training.dataset import HELD_OUT, open_dataset
    from training.gate import ODD, PICTURES, sample
    from training.markdown import markdown_table
    from training.outsiders import FIT, outsiders

    segmenter = load_bundle(models).segmenter
    if segmenter is None:
        print("The networks of this bundle do not ask for the lungs.")
        return
    dataset, source = open_dataset(data)
    some = sample(source, dataset, HELD_OUT, stressed)
    rng = np.random.default_rng(0)
    others = list(outsiders(*PICTURES))
    kinds = {
        "training radiographs": sample(source, dataset, ("train",)),
        "held-out radiographs": sample(source, dataset, HELD_OUT),
        "held-out radiographs under every stress": (stress(raster) for stress in STRESSES.values() for raster in some),
        **{
            f"held-out radiographs, {title}": [alter(raster, rng) for raster in some]
            for title, (_, alter) in ODD.items()
        },
        "other pictures that the gate is fitted on": [item.raster for item in others if item.use == FIT],
        "other pictures that it is not fitted on": [item.raster for item in others if item.use != FIT],
    }
    print(markdown_table(_COLUMNS, [(kind, _row(segmenter, rasters)) for kind, rasters in kinds.items()]))


def _row(segmenter: Segmenter, rasters: Iterable[np.ndarray]) -> list[str]:
    values = []
    rasters = iter(rasters)
    while part := list(itertools.islice(rasters, _BATCH)):
        # Without two lungs by their shape, certainty is not asked for.
        values += [
            certainty(mask) if lungs_of(mask >= 0.5).found else np.nan for mask in segmenter.masks(np.stack(part))
        ]
    known = np.array(values)[~np.isnan(values)]
    before, after = (f"{count} of {len(values)}" for count in (len(known), int((known >= LEAST_CERTAIN).sum())))
    quantiles = [f"{np.quantile(known, share):.3f}" if len(known) else "-" for share in (0, 0.001, 0.5)]
    return [before, *quantiles, after]
