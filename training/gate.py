"""Fits the gate on training images and on pictures of other things.

Radiographs of the training split are fitted, in every pose and at every exposure, with pictures of `FIT` sources;
thresholds are set on held-out radiographs, and that of other things by cross-validation among those fitted. Nothing of
the test split is used but to count, once the gate is done.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console

from pneumo.bundle import GATE, MANIFEST, load_bundle
from pneumo.framing import to_raster
from pneumo.gate import (
    FACTS,
    LIMITS,
    OTHER,
    POSES,
    UPRIGHT,
    Look,
    distances,
    leanings,
    look_at,
    mirror_outlines,
    outlines,
    probabilities,
    traits,
)
from pneumo.graph import NetworkGraph
from training.batteries import STRESSES
from training.bundling import write_json
from training.dataset import HELD_OUT as HELD_OUT_SPLITS
from training.dataset import Dataset, load_rasters, open_dataset
from training.errors import TrainingError
from training.outsiders import FIT, Outsider, outsiders
from training.sources import Source

COMPONENTS = 48
"""Principal components of what the segmenter, and of what each network, makes of a radiograph."""
ACCEPTED = 99.8
"""Percentile of held-out radiographs beyond which one is far from the training images: refused, unless turned or
inverted it is not, or the classifier takes it for a radiograph all the same."""
RARE = 99.5
"""Percentile of radiographs beyond which one is odd."""
REFUSED = 98
"""Percent of the fitted pictures of other things, each judged by a classifier fitted without any of its source, that
are to be refused: so high is the limit of how likely another thing is."""
CROPPED = 200
"""How many training radiographs are fitted cropped, at most: they vary more than those in other poses."""
PICTURES = (8, 30)
"""How many `training.outsiders.outsiders` are looked at."""
_BATCH = 64
_STRENGTH = 0.2
_FOLDS = 3
_SIDES = 4


def _posed(turn: int, invert: bool) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Alter a radiograph so that this turn and this inversion right it."""

    def alter(raster: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
        turned = np.rot90(raster, turn // 90)
        return np.ascontiguousarray(255 - turned if invert else turned)

    return alter


def _exposed(gamma: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    table = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return lambda raster, _rng: cv2.LUT(raster, table)


def cropped(raster: np.ndarray, rng: np.random.Generator, side: int | None = None) -> np.ndarray:
    """A radiograph of which a side, 0 to 3 from the top to the right, or any, is cut off through the lungs."""
    share = round(raster.shape[0] * rng.uniform(0.3, 0.45))
    side = int(rng.integers(0, _SIDES)) if side is None else side
    return to_raster(np.ascontiguousarray(np.rot90(np.rot90(raster, side)[share:], -side)))


ODD: dict[str, tuple[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]]] = {
    **{
        f"turned by {360 - turn}°": ("turned", _posed(turn, False))
        for turn, invert in dict.fromkeys(POSES.values())
        if turn and not invert
    },
    "inverted": ("inverted", _posed(0, True)),
    "turned by 90° and inverted": ("turned", _posed(270, True)),
    "mirrored": ("mirrored", lambda raster, _rng: np.ascontiguousarray(raster[:, ::-1])),
    "cropped through the lungs": ("cropped", cropped),
    "gamma 3": ("dark", _exposed(3)),
    "gamma 0.3": ("bright", _exposed(0.3)),
}
"""Oddities that are made, by title: the warning that should come, and what makes it."""
HARMLESS = (
    *("gamma 0.6", "gamma 1.6", "contrast 0.5", "contrast 1.8"),
    *("blur", "noise", "JPEG 30", "rotation 5 degrees"),
)
"""Stresses of `training.batteries`: a radiograph under them is still one."""


class Looker:
    """Looks at many pictures as the program does.

    Parameters
    ----------
    folder : Path
        Of a bundle with a segmenter.
    gated : bool
        Whether its gate is loaded.

    Raises
    ------
    TrainingError
        If it has none.
    """

    def __init__(self, folder: Path, gated: bool = True) -> None:
        self.bundle = load_bundle(folder, gated=gated)
        if self.bundle.segmenter is None:
            raise TrainingError(f"A gate needs networks that ask for the lungs; those of {folder} do not. Do without.")
        self._graph = NetworkGraph(self.bundle)

    def look(self, rasters: Sequence[np.ndarray] | np.ndarray) -> list[Look]:
        """Look at pictures, each uint8, shape (224, 224)."""
        looks = []
        for start in range(0, len(rasters), _BATCH):
            part = list(rasters[start : start + _BATCH])
            prepared = self.bundle.prepare_rasters(part, [1.0] * len(part))
            answers = self._graph.ask(prepared)
            looks += [look_at(item, answers.of(number)) for number, item in enumerate(prepared)]
        return looks


def sample(source: Source, dataset: Dataset, splits: Sequence[str], most: int | None = None) -> np.ndarray:
    """Radiographs of some splits, evenly spread; shape (n, 224, 224)."""
    images = [image for split in splits for image in dataset.split(split)]
    rows = np.unique(np.linspace(0, len(images) - 1, min(most or len(images), len(images))).astype(int))
    return load_rasters(source, [images[row] for row in rows])[0]


def make_gate(
    manifest: Path,
    folder: Path,
    radiographs: int = 400,
    altered: int = 100,
    pictures: Sequence[Outsider] | None = None,
    console: Console | None = None,
) -> None:
    """Fit the gate of a bundle, and write it there, with its entry in the manifest.

    Parameters
    ----------
    manifest : Path
        Data manifest that its networks were trained with.
    folder : Path
        Of the bundle.
    radiographs : int
        How many of the training split are fitted, at most; three quarters as many held-out ones set the thresholds.
        What tells mirrored and cropped ones sees all of both.
    altered : int
        How many of those are fitted in every pose, at every exposure and under every stress, too.
    pictures : sequence of Outsider, optional
        What is no chest radiograph. Default: `training.outsiders.outsiders`.
    console : Console, optional
        Where to say how far it is.

    Raises
    ------
    TrainingError
        If the bundle finds no lungs, or a package that carries pictures is missing.
    """
    console = console or Console(quiet=True)
    dataset, source = open_dataset(manifest)
    looker = Looker(folder, gated=False)
    rng = np.random.default_rng(0)
    everything, unseen = (sample(source, dataset, splits) for splits in (("train",), HELD_OUT_SPLITS))
    plain = _spread(everything, radiographs)
    console.print(f"{len(plain)} training radiographs")
    looks, labels = looker.look(plain), [UPRIGHT] * len(plain)
    groups = [f"radiograph {row}" for row in range(len(plain))]
    order = rng.permutation(len(plain))
    for label, alter in _alterations():
        rows = order[: CROPPED if label == "cropped" else altered]
        looks += looker.look([alter(plain[row], rng) for row in rows])
        labels += [label] * len(rows)
        groups += [f"radiograph {row}" for row in rows]
    console.print(f"{len(looks) - len(plain)} altered ones")
    others = list(pictures if pictures is not None else outsiders(*PICTURES))
    fitted = [item for item in others if item.use == FIT]
    looks += looker.look([item.raster for item in fitted])
    labels += [OTHER] * len(fitted)
    groups += [item.source.partition("/")[0] for item in fitted]
    console.print(f"{len(fitted)} pictures of other things")
    parts = fit_leanings(everything, rng) | fit(looks, labels)
    limits = _limits(parts, looks[: len(plain)], looker.look(_spread(unseen, 3 * radiographs // 4)), unseen)
    limits["other"] = other_limit(parts, looks, labels, groups)
    parts["limits"] = np.array([limits[name] for name in LIMITS])
    save_gate(folder, parts)


def fit(looks: Sequence[Look], labels: Sequence[str]) -> dict[str, np.ndarray]:
    """What tells radiographs, in any pose, from other things.

    Parameters
    ----------
    looks : sequence of Look
        At training radiographs, the unaltered first, and at other things.
    labels : sequence of str
        Of each, one of `pneumo.gate.POSES`, or `OTHER`.
    """
    plain = looks[: next((place for place, label in enumerate(labels) if label != UPRIGHT), len(looks))]
    parts = _components(plain)
    return parts | _classifier(np.stack([traits(parts, look) for look in looks]), labels)


def fit_leanings(rasters: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What tells mirrored radiographs, and those cut off at a side, from others: see `pneumo.gate.leanings`.

    Parameters
    ----------
    rasters : numpy.ndarray of uint8, shape (n, 224, 224)
        Of training radiographs.
    rng : numpy.random.Generator
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression

    sides = np.arange(len(rasters)) % _SIDES
    whole = np.stack([outlines(raster) for raster in rasters]).astype(np.float64)
    cut = np.stack([outlines(cropped(raster, rng, side)) for raster, side in zip(rasters, sides.tolist(), strict=True)])
    apart = whole - mirror_outlines(whole)
    answers = np.repeat([0, 1], len(apart))
    model = LogisticRegression(C=1, solver="newton-cholesky", fit_intercept=False)
    model.fit(np.concatenate([apart, -apart]), answers)
    # A mirror image is cut off at the other of left and right, and is whole as well.
    values = np.concatenate([whole, mirror_outlines(whole), cut, mirror_outlines(cut)])
    numbers = np.concatenate([np.zeros(2 * len(whole)), 1 + sides, 1 + np.where(sides % 2, _SIDES - sides, sides)])
    alike = np.full(1 + _SIDES, 1 / (1 + _SIDES))
    discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01, priors=alike).fit(values, numbers)
    return {"mirrored": model.coef_[0], "sides": discriminant.coef_.T, "sides_bias": discriminant.intercept_}


def other_limit(
    parts: dict[str, np.ndarray], looks: Sequence[Look], labels: Sequence[str], groups: Sequence[str]
) -> float:
    """From where on how likely another thing is counts as one: see `REFUSED`.

    Parameters
    ----------
    parts : dict of str to numpy.ndarray
        As `fit` returns them.
    looks, labels
        As `fit` takes them.
    groups : sequence of str
        Radiograph or source of each, which is never on both sides of a fold.
    """
    values = np.stack([traits(parts, look) for look in looks])
    folds = np.array([zlib.crc32(group.encode()) % _FOLDS for group in groups])
    others = np.array([label == OTHER for label in labels])
    chances = []
    for fold in range(_FOLDS):
        rest = [label for label, other_fold in zip(labels, folds, strict=True) if other_fold != fold]
        without = _classifier(values[folds != fold], rest)
        chances += [probabilities(without, item)[-1] for item in values[others & (folds == fold)]]
    return float(np.percentile(chances, 100 - REFUSED))


def _spread(items: np.ndarray, most: int) -> np.ndarray:
    """Some of them, evenly spread."""
    return items[np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).astype(int))]


def _alterations() -> Iterator[tuple[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]]]:
    """Poses with what brings a radiograph into them, and what leaves it upright."""
    for name, (turn, invert) in POSES.items():
        if name in ("mirrored", "cropped"):
            yield name, next(alter for wanted, alter in ODD.values() if wanted == name)
        elif name != UPRIGHT:
            yield name, _posed(turn, invert)
    for title in ("gamma 3", "gamma 0.3"):
        yield UPRIGHT, ODD[title][1]
    for title in HARMLESS:
        yield UPRIGHT, lambda raster, _rng, title=title: STRESSES[title](raster)  # type: ignore[misc]


def _components(looks: Sequence[Look]) -> dict[str, np.ndarray]:
    """The principal components of what the segmenter and each network make of radiographs."""
    from sklearn.decomposition import PCA

    known = {"sight": np.stack([look.sight for look in looks])}
    known |= {name: np.stack([look.features[name] for look in looks]) for name in looks[0].features}
    parts = {}
    for name, values in known.items():
        values = values.astype(np.float64)
        # Of few images, as a test has them, there are fewer. Of units that no training image wakes something must be
        # left beside the components, else nothing there would ever vary, and any picture would be far.
        rank = int(np.linalg.matrix_rank(values - values.mean(axis=0)))
        count = max(1, min(COMPONENTS, len(values) // 2, rank // 2))
        fitted = PCA(count, svd_solver="full").fit(values)
        scale = np.sqrt(np.maximum(fitted.explained_variance_, 1e-12))
        parts[f"{name}_mean"] = fitted.mean_
        parts[f"{name}_basis"] = fitted.components_.T / scale
        parts[f"{name}_scale"] = scale
        parts[f"{name}_usual"] = np.array([[0.0, 1.0], [0.0, 1.0]])
        found = np.array([distances(parts, name, item)[1:] for item in values])
        parts[f"{name}_usual"] = np.stack([found.mean(axis=0), np.maximum(found.std(axis=0), 1e-6)], axis=1)
    return {name: np.asarray(values, np.float32) for name, values in parts.items()}


def _classifier(values: np.ndarray, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """A logistic regression that tells the poses and other things apart by their traits, shape (n, d)."""
    from sklearn.linear_model import LogisticRegression

    centre, spread = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-6)
    classes = [*POSES, OTHER]
    numbers = np.array([classes.index(label) for label in labels])
    counts = np.bincount(numbers, minlength=len(classes))
    model = LogisticRegression(C=_STRENGTH, max_iter=1000)
    # Each class weighs alike, however many pictures there are of it.
    model.fit(
        (values - centre) / spread, numbers, sample_weight=(len(numbers) / counts.clip(1) / len(classes))[numbers]
    )
    weights, bias = np.zeros((values.shape[1], len(classes))), np.full(len(classes), -1e3)
    weights[:, model.classes_], bias[model.classes_] = model.coef_.T, model.intercept_
    return {"centre": centre, "spread": spread, "weights": weights, "bias": bias}


def _limits(
    parts: dict[str, np.ndarray], fitted: Sequence[Look], held_out: Sequence[Look], unseen: np.ndarray
) -> dict[str, float]:
    """From where on a picture is far, or odd: of `pneumo.gate.LIMITS` all but that of other things."""
    far = [traits(parts, look)[0] for look in held_out]
    gray = [look.plain[FACTS.index("gray")] for look in (*fitted, *held_out)]
    mirrored, cut = leanings(parts, np.stack([outlines(raster) for raster in unseen]))
    return {
        "far": float(np.percentile(far, ACCEPTED)),
        "unlike": float(np.percentile(far, RARE)),
        "mirrored": float(np.percentile(mirrored, RARE)),
        "cropped": float(np.percentile(cut, RARE)),
        "dark": float(np.percentile(gray, 100 - RARE)),
        "bright": float(np.percentile(gray, RARE)),
    }


def save_gate(folder: Path, parts: dict[str, np.ndarray]) -> None:
    """Write gate.npz into a bundle, and its entry into the manifest."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(value, np.float32) for name, value in parts.items()}
    np.savez_compressed(buffer, **arrays)
    (folder / GATE).write_bytes(buffer.getvalue())
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    content["gate"] = {"file": GATE, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
    write_json(folder / MANIFEST, content)
