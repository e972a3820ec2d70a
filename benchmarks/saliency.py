"""How far each saliency method can be believed, measured on called pneumonias.

The rule by which a default is chosen, on held-out images: of the methods that run a network, or a part of it, at most
ten times for a map, so that an answer feels instant, that leave at most 1 % of the maps blank, and whose maps have a
rank correlation between -0.2 and 0.2 with those of networks with random weights, mean of four draws of these, for each
network, the one with the largest insertion minus deletion, mean of the networks. Where none passes, the rank
correlation is left out of it.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from benchmarks.faithfulness import GRID, Judge, Sight, average_drop, curves, road, sight
from pneumo.backend import load_tensorflow
from pneumo.bundle import SALIENCY, Bundle, Network, load_bundle
from pneumo.classifier import Classifier
from pneumo.evidence import evidence_of
from pneumo.framing import RASTER, Prepared, cut
from pneumo.lungs import Lungs, lungs_of
from pneumo.methods import METHODS
from pneumo.saliency import Explainer, Heatmap, HeatStatus
from pneumo.sanity import randomised, rank_correlation
from pneumo.zoo import CLASS_NAMES, architecture

if TYPE_CHECKING:
    import keras

TARGET = CLASS_NAMES[1]
BASELINES = ("random", "centre", "lungs")
"""Orders of places that need no network: by chance, from the middle, and lungs first."""
SPLITS = ("held out", "test")
_RUNS = 100
"""How often a network may be run for the maps of one method, times the images: slow methods are measured on fewer."""
_LEAST = 12
"""Images on which a method is measured at least, if there are as many."""
_COMPARED, _LEAST_COMPARED = 12, 4
"""Of them, those whose maps are compared with other maps, at most and, of slow methods, at least."""
_DRAWS = 4
"""Of a network whose weights are all random, which the rule looks at: two maps may be alike by chance."""
_COMPARISONS = 5 + _DRAWS
"""With networks that forgot in part, and all, noise and another exposure."""
_COARSE = 8
"""Standard deviation, in pixels of the raster, of the blur that leaves opacities."""
_BATCH = 64


def saliency(
    images: int,
    split: str,
    data: Path,
    masks: Path | None,
    runs: Path,
    models: Path,
    methods: Sequence[str] = tuple(METHODS),
) -> None:
    """Measure every method on every network; print the table and write the numbers.

    Parameters
    ----------
    images : int
        How many pneumonias that all networks call are measured, evenly spread over the split.
    split : str
        "held out", to choose by, or "test", to report.
    data : Path
        Data manifest.
    masks : Path or None
        Folder of lung masks that people drew; None for those that the segmenter finds.
    runs : Path
        Folder of runs: other seeds of a network tell how repeatable its maps are. Without, what was measured of them
        before stays.
    models : Path
        The bundle; the numbers are written beside it, and those of another split are kept.
    methods : sequence of str
        Those to measure.
    """
    load_tensorflow()
    from training.bundling import write_json
    from training.compare import read_json
    from training.saliency_table import saliency_table

    started = time.process_time()
    bundle = _with_scales(load_bundle(models))
    cases, patients = _cases(bundle, images, split, data, masks)
    if not cases:
        sys.exit(f"No pneumonia of the split {split!r} is called by all networks: there is nothing to measure.")
    print(f"{len(cases)} called pneumonias, {split}", flush=True)
    rows = {
        name: _measure_network(Judge(bundle, name), methods, cases, patients, _other_seeds(network, runs))
        for name, network in bundle.networks.items()
    }
    out = models / SALIENCY
    before = read_json(out) or {}
    _keep_seeds(rows, before.get(split, {}).get("networks", {}))
    content = before | {split: {"images": len(cases), "networks": rows}}
    write_json(out, content)
    print(saliency_table(content[split]))
    print(f"{time.process_time() - started:.0f} s of processor time")


def _keep_seeds(rows: dict[str, Any], before: dict[str, Any]) -> None:
    """Keep what was measured with other seeds before, where their runs are not at hand: it needs no probability."""
    for name, row in rows.items():
        for method, measured in row["methods"].items():
            known = before.get(name, {}).get("methods", {}).get(method, {})
            measured["seeds"] = measured["seeds"] or known.get("seeds")


def _with_scales(bundle: Bundle) -> Bundle:
    """The bundle with a scale of 1 for every method: nothing here is drawn."""
    scales = {method: dict.fromkeys(CLASS_NAMES, 1.0) for method in METHODS}
    networks = {name: dataclasses.replace(network, heat_scale=scales) for name, network in bundle.networks.items()}
    return dataclasses.replace(bundle, networks=networks)


@dataclasses.dataclass(frozen=True)
class _Case:
    """A radiograph as the networks see it, and the lungs that heat is held against."""

    prepared: Prepared
    lungs: Lungs


def _cases(
    bundle: Bundle, count: int, split: str, manifest: Path, masks: Path | None
) -> tuple[list[_Case], np.ndarray]:
    """Called pneumonias, evenly spread over a split, and the patient of each."""
    from training.dataset import open_dataset
    from training.views import load_views

    dataset, source = open_dataset(manifest)
    wanted = dataset.held_out() if split == "held out" else dataset.split(split)
    wanted = [image for image in wanted if image.label == TARGET]
    prepared = load_views(source, wanted, bundle.segmenter).prepared()
    called = _called(bundle, prepared)
    kept = []
    for image, item, is_called in zip(wanted, prepared, called, strict=True):
        # The networks see what the segmenter finds; heat is held against the mask.
        lungs = _drawn(masks / image.file, item) if masks else item.lungs
        if is_called and item.lungs.found and lungs and lungs.found:
            kept.append((_Case(item, lungs), image.patient))
    chosen = [kept[index] for index in _spread(len(kept), count)]
    return [case for case, _ in chosen], np.array([patient for _, patient in chosen])


def _drawn(file: Path, prepared: Prepared) -> Lungs | None:
    """The lungs that people drew of an image; None if they drew none."""
    drawn = cv2.imread(str(file.with_suffix(".png")), cv2.IMREAD_GRAYSCALE)
    if drawn is None:
        return None
    return lungs_of(cv2.resize(drawn, prepared.raster.shape[::-1], interpolation=cv2.INTER_NEAREST) >= 128)


def _called(bundle: Bundle, prepared: Sequence[Prepared]) -> np.ndarray:
    """Which radiographs all networks call pneumonia, bool, shape (n,)."""
    classifier = Classifier(bundle)
    called = np.ones(len(prepared), bool)
    for start in range(0, len(prepared), _BATCH):
        part = prepared[start : start + _BATCH]
        for name, network in bundle.networks.items():
            found = classifier.probability(name, np.concatenate([item.inputs(*network.view) for item in part]))
            called[start : start + _BATCH] &= [
                classifier.decided(name, float(probability)).decision == TARGET for probability in found
            ]
    return called


def _spread(total: int, count: int) -> np.ndarray:
    """Numbers of some of a list, evenly spread over it."""
    return np.linspace(0, total - 1, min(count, total)).astype(int)


def _affordable(images: int, passes: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the images on which a method is measured, and, of these, of those whose maps are compared."""
    maps = _RUNS * images // passes
    some = _spread(images, max(_LEAST, maps))
    return some, _spread(len(some), min(_COMPARED, max(_LEAST_COMPARED, maps // _COMPARISONS)))


def _measure_network(
    judge: Judge, methods: Sequence[str], cases: list[_Case], patients: np.ndarray, others: list[keras.Model]
) -> dict[str, Any]:
    sights = [sight(judge, judge.inputs(case.prepared)) for case in cases]
    baselines = {kind: _baseline(kind, judge, cases, sights) for kind in BASELINES}
    # Each compiled once for all methods; a graph holds the normalisations of the network it was made of.
    forgetful = {
        step: [_instead(judge, model) for model in models] for step, models in _forgetful(judge.network).items()
    }
    seeds = [_instead(judge, model) for model in others]
    rows = {}
    for method in methods:
        some, compared = _affordable(len(cases), METHODS[method].passes)
        row = _measure(
            judge,
            method,
            [cases[index] for index in some],
            [sights[index] for index in some],
            patients[some],
            compared,
            forgetful,
            seeds,
            {kind: {key: values[some] for key, values in found.items()} for kind, found in baselines.items()},
        )
        rows[method] = row
        print(f"{judge.name} {method}: {row['gain']['value']:.3f}, {row['milliseconds']:.1f} ms", flush=True)
    return {
        "baselines": {kind: _summary(found["gain"], patients) for kind, found in baselines.items()},
        "baselines_log_odds": {kind: _summary(found["gain_log_odds"], patients) for kind, found in baselines.items()},
        "methods": rows,
    }


def _summary(values: Sequence[float] | np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    from training.metrics import interval_of_mean

    return interval_of_mean(np.asarray(values), patients)


def _baseline(kind: str, judge: Judge, cases: list[_Case], sights: list[Sight]) -> dict[str, np.ndarray]:
    found = []
    for index, (case, seen) in enumerate(zip(cases, sights, strict=True)):
        if kind == "random":
            values = np.random.default_rng(index).random((GRID, GRID))
        elif kind == "centre":
            away = np.linspace(-1, 1, GRID)
            values = 2 - np.hypot(away[:, np.newaxis], away)
        else:
            values = _in_frame(judge.network, case.prepared, case.lungs.mask)
        found.append(curves(judge, seen, values))
    return {key: np.array([areas[key] for areas in found]) for key in ("gain", "gain_log_odds")}


def _in_frame(network: Network, prepared: Prepared, mask: np.ndarray) -> np.ndarray:
    return cut(mask.astype(np.uint8) * 255, prepared.box(network.framing), network.input_size).astype(np.float32)


def _measure(
    judge: Judge,
    method: str,
    cases: list[_Case],
    sights: list[Sight],
    patients: np.ndarray,
    compared: np.ndarray,
    forgetful: dict[str, list[Bundle]],
    seeds: list[Bundle],
    baselines: dict[str, dict[str, np.ndarray]],
) -> dict[str, Any]:
    explainer = Explainer(judge.bundle, method)
    # Compiles.
    explainer.explain(judge.name, cases[0].prepared, TARGET)
    lists: list[dict[str, float]] = []
    times, processor, blank, maps = [], [], 0, []
    for case, seen in zip(cases, sights, strict=True):
        started, busy = time.perf_counter(), time.process_time()
        heatmap = explainer.explain(judge.name, case.prepared, TARGET)
        times.append(1000 * (time.perf_counter() - started))
        processor.append(1000 * (time.process_time() - busy))
        maps.append(heatmap.values)
        blank += heatmap.status is not HeatStatus.DRAWN
        evidence = evidence_of(heatmap, case.lungs)
        # An empty map points nowhere: no heat in the lungs, no order better than chance.
        lists.append(
            {
                "share": evidence.share_in_lungs if evidence else 0.0,
                "ratio": evidence.share_in_lungs / evidence.chance if evidence else 0.0,
                "peak": float(bool(evidence and evidence.peak_zone)),
                "opaque": _opaque_share(heatmap, case),
                **curves(judge, seen, heatmap.values),
                "drop": average_drop(judge, seen, heatmap.values),
                "road": road(judge, seen.image, heatmap.values),
            }
        )
    measured = {key: np.array([found[key] for found in lists]) for key in lists[0]}
    row: dict[str, Any] = {key: _summary(values, patients) for key, values in measured.items()}
    for beyond, gain in (("beyond", "gain"), ("beyond_log_odds", "gain_log_odds")):
        row[beyond] = {kind: _summary(measured[gain] - found[gain], patients) for kind, found in baselines.items()}

    few, own = [cases[index].prepared for index in compared], [maps[index] for index in compared]

    def likeness(*others: Sequence[np.ndarray]) -> dict[str, Any] | None:
        return _likeness(own, others, patients[compared])

    def maps_of(bundle: Bundle) -> np.ndarray:
        return Explainer(bundle, method).evidence(judge.name, few, TARGET)

    # Rank correlation with the maps of networks that forget from the top, layer by layer (Adebayo et al., 2018).
    row["cascade"] = {step: likeness(*map(maps_of, bundles)) for step, bundles in forgetful.items()}
    row["noise"] = likeness(explainer.evidence(judge.name, [_noisy(item) for item in few], TARGET))
    row["exposure"] = likeness(explainer.evidence(judge.name, [_exposed(item) for item in few], TARGET))
    row["seeds"] = likeness(*map(maps_of, seeds)) if seeds else None
    return row | {
        "images": len(cases),
        "compared": len(few),
        "blank": blank / len(cases),
        "milliseconds": statistics.median(times),
        "processor_milliseconds": statistics.median(processor),
    }


def _opaque_share(heatmap: Heatmap, case: _Case) -> float:
    """Share of the heat in the lungs that lies in the brightest third of them, where air is missing; chance is 1/3."""
    heat, inside = heatmap.placed(RASTER, RASTER), case.lungs.mask
    # Opacities and not ribs.
    gray = cv2.GaussianBlur(case.prepared.raster.astype(np.float32), (0, 0), _COARSE)
    brightest = inside & (gray > np.percentile(gray[inside], 200 / 3))
    total = heat[inside].sum()
    return float(heat[brightest].sum() / total) if total > 0 else 0.0


def _instead(judge: Judge, model: keras.Model) -> Bundle:
    """The judge's bundle with another network of the same architecture alone."""
    return dataclasses.replace(judge.bundle, networks={judge.name: dataclasses.replace(judge.network, model=model)})


def _forgetful(network: Network) -> dict[str, list[keras.Model]]:
    """Networks that forgot from the top down to a layer, by that layer: the head, block 5, block 3, all.

    One for each, of the last as many as `_DRAWS`.
    """
    names = [layer.name for layer in reversed(network.model.layers) if layer.weights]
    features = architecture(network.name).features
    steps = ("probability", features[-1], features[len(features) // 2], names[-1])
    draws = dict.fromkeys(steps, 1) | {names[-1]: _DRAWS}
    return {
        step: [randomised(network.model, names[: names.index(step) + 1], seed) for seed in range(count)]
        for step, count in draws.items()
    }


def _likeness(
    own: Sequence[np.ndarray], others: Sequence[Sequence[np.ndarray]], patients: np.ndarray
) -> dict[str, Any] | None:
    """Mean rank correlation of maps with their counterparts, and its interval; None where none can be compared."""
    pairs = [[rank_correlation(one, other) for one, other in zip(own, maps, strict=True)] for maps in others]
    found = [[value for value in values if value is not None] for values in zip(*pairs, strict=True)]
    known = np.array([bool(values) for values in found])
    if not known.any():
        return None
    means = [float(np.mean(values)) for values in found if values]
    return _summary(means, patients[known]) | {"images": len(means)}


def _altered(prepared: Prepared, change: Callable[[np.ndarray], np.ndarray]) -> Prepared:
    pixels = np.clip(np.rint(change(prepared.raster.astype(np.float32))), 0, 255).astype(np.uint8)
    return dataclasses.replace(prepared, raster=pixels)


def _noisy(prepared: Prepared) -> Prepared:
    """Noise with a standard deviation of 2 % of the gray values' range."""
    grain = np.random.default_rng(0).normal(0, 0.02 * 255, prepared.raster.shape)
    return _altered(prepared, lambda pixels: pixels + grain)


def _exposed(prepared: Prepared) -> Prepared:
    """A gamma of 0.8."""
    return _altered(prepared, lambda pixels: 255 * (pixels / 255) ** 0.8)


def _other_seeds(network: Network, runs: Path) -> list[keras.Model]:
    """The same architecture from other seeds, where their runs are here."""
    from pneumo.zoo import build
    from training.bundling import run_folders
    from training.fit import KEPT

    found = []
    for folder in run_folders(runs, network.name):
        model = build(network.name, network.input_size)
        model.load_weights(folder / KEPT)
        same = all(map(np.array_equal, model.get_weights(), network.model.get_weights()))
        if not same:
            found.append(model)
    return found
