"""How far each saliency method can be believed, measured on called pneumonias.

The rule by which a default is chosen, on held-out images: of the methods that run a network at most twice for a map, so
that an answer feels instant, that leave at most 1 % of the maps blank, and whose maps have a rank correlation between
-0.2 and 0.2 with those of networks with random weights, for each network, the one with the largest insertion minus
deletion, mean of the networks. Where none passes, the rank correlation is left out of it.
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
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve

from pneumo.backend import load_tensorflow
from pneumo.bundle import SALIENCY, Bundle, Network, load_bundle
from pneumo.classifier import Classifier
from pneumo.evidence import evidence_of
from pneumo.framing import Prepared, cut
from pneumo.lungs import lungs_of
from pneumo.methods import METHODS
from pneumo.saliency import Explainer, HeatStatus
from pneumo.sanity import randomised, rank_correlation
from pneumo.zoo import CLASS_NAMES, architecture

if TYPE_CHECKING:
    import keras

TARGET = CLASS_NAMES[1]
BASELINES = ("random", "centre", "lungs")
"""Orders of places that need no network: by chance, from the middle, and lungs first."""
_GRID = 14
_STEPS = 14
_BUDGET = 12_000
"""How often a network may be run for the maps of one method: slow methods are measured on fewer images."""
_SANITY_IMAGES = 12


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
        Folder of runs: other seeds of a network tell how repeatable its maps are.
    models : Path
        The bundle; the numbers are written beside it, and those of another split are kept.
    methods : sequence of str
        Those to measure.
    """
    load_tensorflow()
    from training.bundling import write_json
    from training.compare import read_json, saliency_table

    bundle = _with_scales(load_bundle(models))
    prepared, patients = _images(bundle, images, split, data, masks)
    if not prepared:
        sys.exit(f"No pneumonia of the split {split!r} is called by all networks: there is nothing to measure.")
    print(f"{len(prepared)} called pneumonias, {split}", flush=True)
    rows: dict[str, Any] = {}
    for name, network in bundle.networks.items():
        judge = _Judge(bundle, name)
        baselines = {kind: _baseline(kind, judge, prepared, patients) for kind in BASELINES}
        rows[name] = {"baselines": {kind: found["summary"] for kind, found in baselines.items()}, "methods": {}}
        others = _other_seeds(network, runs)
        for method in methods:
            count = max(_SANITY_IMAGES, min(len(prepared), _BUDGET // METHODS[method].passes // 4))
            some = np.linspace(0, len(prepared) - 1, min(count, len(prepared))).astype(int)
            row = _measure(
                judge,
                method,
                [prepared[index] for index in some],
                patients[some],
                others,
                {kind: found["gain"][some] for kind, found in baselines.items()},
            )
            rows[name]["methods"][method] = row
            print(f"{name} {method}: {row['gain']['value']:.3f}, {row['milliseconds']:.1f} ms", flush=True)
    out = models / SALIENCY
    content = (read_json(out) or {}) | {split: {"images": len(prepared), "networks": rows}}
    write_json(out, content)
    print(saliency_table(content[split]))


def _with_scales(bundle: Bundle) -> Bundle:
    """The bundle with a scale of 1 for every method: nothing here is drawn."""
    scales = {method: dict.fromkeys(CLASS_NAMES, 1.0) for method in METHODS}
    networks = {name: dataclasses.replace(network, heat_scale=scales) for name, network in bundle.networks.items()}
    return dataclasses.replace(bundle, networks=networks)


def _images(
    bundle: Bundle, count: int, split: str, manifest: Path, masks: Path | None
) -> tuple[list[_Case], np.ndarray]:
    from training.dataset import open_dataset
    from training.views import load_views

    dataset, source = open_dataset(manifest)
    wanted = dataset.held_out() if split == "held out" else dataset.split(split)
    wanted = [image for image in wanted if image.label == TARGET]
    views = load_views(source, wanted, bundle.segmenter)
    classifier = Classifier(bundle)
    kept = []
    for index, item in enumerate(views.prepared()):
        if masks:
            drawn = cv2.imread(str((masks / wanted[index].file).with_suffix(".png")), cv2.IMREAD_GRAYSCALE)
            if drawn is None:
                continue
            lungs = lungs_of(cv2.resize(drawn, item.raster.shape[::-1], interpolation=cv2.INTER_NEAREST) >= 128)
        else:
            lungs = item.lungs
        # The networks see what the segmenter finds; heat is held against the mask.
        if not lungs.found or not item.lungs.found:
            continue
        if all(found.decision == TARGET for found in classifier.predict(item).values()):
            kept.append((item, lungs, wanted[index].patient))
    chosen = [kept[index] for index in np.linspace(0, len(kept) - 1, min(count, len(kept))).astype(int)]
    return [_Case(item, lungs) for item, lungs, _ in chosen], np.array([patient for _, _, patient in chosen])


@dataclasses.dataclass(frozen=True)
class _Case:
    """A radiograph as the networks see it, and the lungs that heat is held against."""

    prepared: Prepared
    lungs: Any


class _Judge:
    """Asks one network about altered inputs."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.bundle, self.name = bundle, name
        self.network = bundle.networks[name]
        self._classifier = Classifier(dataclasses.replace(bundle, networks={name: self.network}))

    def inputs(self, prepared: Prepared) -> np.ndarray:
        """What the network sees, shape (size, size)."""
        network = self.network
        return prepared.inputs(network.framing, network.scaling, network.input_size)[0, ..., 0]

    def ask(self, images: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of inputs, shape (n, size, size)."""
        return self._classifier.probability(self.name, images[..., np.newaxis].astype(np.float32))


def _cells(values: np.ndarray) -> np.ndarray:
    """A map's mean in each of 14 x 14 cells."""
    return cv2.resize(np.asarray(values, np.float32), (_GRID, _GRID), interpolation=cv2.INTER_AREA)


def _curves(judge: _Judge, image: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Areas under the probability as the hottest places are taken out, and put in (Petsiuk et al., BMVC 2018).

    What is taken out is blurred away; ties fall in a fixed random order.
    """
    ties = np.random.default_rng(0).permutation(_GRID * _GRID)
    order = ties[np.argsort(-_cells(values).ravel()[ties], kind="stable")]
    ranks = np.empty(_GRID * _GRID)
    ranks[order] = np.arange(_GRID * _GRID)
    ranks = cv2.resize(ranks.reshape(_GRID, _GRID), image.shape[::-1], interpolation=cv2.INTER_NEAREST)
    blurred = cv2.GaussianBlur(image, (0, 0), image.shape[0] / 8)
    levels = np.linspace(0, _GRID * _GRID, _STEPS + 1)
    deleted = np.stack([np.where(ranks < level, blurred, image) for level in levels])
    inserted = np.stack([np.where(ranks < level, image, blurred) for level in levels])
    found = judge.ask(np.concatenate([deleted, inserted]))
    return tuple(float(np.trapezoid(part) / _STEPS) for part in np.split(found, 2))  # type: ignore[return-value]


def _road(judge: _Judge, image: np.ndarray, values: np.ndarray) -> float:
    """ROAD (Rong et al., ICML 2022) at a fifth of the image: probability without the coldest minus without the hottest.

    What is removed is imputed linearly from its neighbours.
    """
    order = np.argsort(-_cells(values).ravel(), kind="stable")
    fifth = len(order) // 5
    altered = []
    for cells in (order[-fifth:], order[:fifth]):
        mask = np.zeros(_GRID * _GRID, np.uint8)
        mask[cells] = 1
        whole = cv2.resize(mask.reshape(_GRID, _GRID), image.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
        altered.append(_imputed(image, whole))
    coldest, hottest = judge.ask(np.stack(altered))
    return float(coldest - hottest)


def _imputed(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Each pixel of the mask as the mean of its four neighbours: one sparse linear system."""
    numbers = np.full(image.shape, -1)
    numbers[mask] = np.arange(mask.sum())
    rows, columns = np.nonzero(mask)
    total = np.zeros(len(rows))
    degree = np.zeros(len(rows))
    entries = []
    for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        y, x = rows + down, columns + right
        inside = (y >= 0) & (y < image.shape[0]) & (x >= 0) & (x < image.shape[1])
        own = np.flatnonzero(inside)
        y, x = y[inside], x[inside]
        degree[own] += 1
        hidden = mask[y, x]
        np.add.at(total, own[~hidden], image[y, x][~hidden])
        entries.append((own[hidden], numbers[y, x][hidden]))
    own, others = (np.concatenate(part) for part in zip(*entries, strict=True))
    size = len(rows)
    matrix = coo_matrix((-np.ones(len(own)), (own, others)), (size, size)).tocsc()
    matrix += coo_matrix((degree, (np.arange(size), np.arange(size))), (size, size)).tocsc()
    result = image.copy()
    result[mask] = spsolve(matrix, total)
    return result


def _baseline(kind: str, judge: _Judge, cases: list[_Case], patients: np.ndarray) -> dict[str, Any]:
    from training.metrics import interval_of_mean

    gains = []
    for index, case in enumerate(cases):
        if kind == "random":
            values = np.random.default_rng(index).random((_GRID, _GRID))
        elif kind == "centre":
            away = np.linspace(-1, 1, _GRID)
            values = 2 - np.hypot(away[:, np.newaxis], away)
        else:
            values = _in_frame(judge.network, case.prepared, case.lungs.mask)
        deletion, insertion = _curves(judge, judge.inputs(case.prepared), values)
        gains.append(insertion - deletion)
    gain = np.array(gains)
    return {"gain": gain, "summary": interval_of_mean(gain, patients)}


def _in_frame(network: Network, prepared: Prepared, mask: np.ndarray) -> np.ndarray:
    return cut(mask.astype(np.uint8) * 255, prepared.box(network.framing), network.input_size).astype(np.float32)


def _measure(
    judge: _Judge,
    method: str,
    cases: list[_Case],
    patients: np.ndarray,
    others: list[keras.Model],
    baselines: dict[str, np.ndarray],
) -> dict[str, Any]:
    from training.metrics import interval_of_mean

    explainer = Explainer(judge.bundle, method)

    def explain(item: Prepared) -> np.ndarray:
        return explainer.evidence(judge.name, [item], TARGET)[0]

    explain(cases[0].prepared)
    lists: dict[str, list[float]] = {
        key: [] for key in ("share", "ratio", "peak", "insertion", "deletion", "drop", "road")
    }
    times, blank, maps = [], 0, []
    for case in cases:
        started = time.perf_counter()
        heatmap = explainer.explain(judge.name, case.prepared, TARGET)
        times.append(1000 * (time.perf_counter() - started))
        maps.append(heatmap.values)
        if heatmap.status is not HeatStatus.DRAWN:
            blank += 1
        evidence = evidence_of(heatmap, case.lungs)
        # An empty map points nowhere: no heat in the lungs, no order better than chance.
        lists["share"].append(evidence.share_in_lungs if evidence else 0.0)
        lists["ratio"].append(evidence.share_in_lungs / evidence.chance if evidence else 0.0)
        lists["peak"].append(float(bool(evidence and evidence.peak_zone)))
        image = judge.inputs(case.prepared)
        deletion, insertion = _curves(judge, image, heatmap.values)
        lists["deletion"].append(deletion)
        lists["insertion"].append(insertion)
        lists["drop"].append(_average_drop(judge, image, heatmap.values))
        lists["road"].append(_road(judge, image, heatmap.values))
    gain = np.array(lists["insertion"]) - np.array(lists["deletion"])
    row: dict[str, Any] = {key: interval_of_mean(np.array(values), patients) for key, values in lists.items()}
    row["gain"] = interval_of_mean(gain, patients)
    row["beyond"] = {kind: interval_of_mean(gain - other, patients) for kind, other in baselines.items()}
    few = cases[:: max(1, len(cases) // _SANITY_IMAGES)][:_SANITY_IMAGES]
    own = maps[:: max(1, len(cases) // _SANITY_IMAGES)][:_SANITY_IMAGES]
    spare = _Spare(judge, method)
    row["cascade"] = _cascade(judge, spare, few, own)
    row["noise"] = _similarity(own, [explain(_noisy(case.prepared)) for case in few])
    row["exposure"] = _similarity(own, [explain(_exposed(case.prepared)) for case in few])
    row["seeds"] = _mean([_similarity(own, spare.maps(model, few)) for model in others])
    return row | {"images": len(cases), "blank": blank / len(cases), "milliseconds": statistics.median(times)}


def _average_drop(judge: _Judge, image: np.ndarray, values: np.ndarray) -> float:
    """Share of the probability that is lost if the image is seen through the map alone (Chattopadhyay et al., 2018)."""
    mask = cv2.resize(np.asarray(values, np.float32), image.shape[::-1])
    before, after = judge.ask(np.stack([image, image * (mask / mask.max() if mask.max() > 0 else mask)]))
    return float(max(0.0, before - after) / before)


class _Spare:
    """A copy of a network that takes the weights of others, compiled once for all of them."""

    def __init__(self, judge: _Judge, method: str) -> None:
        self._method = method
        network = dataclasses.replace(judge.network, model=randomised(judge.network.model))
        self._bundle, self._name = dataclasses.replace(judge.bundle, networks={judge.name: network}), judge.name
        self._explainer: Explainer | None = None

    def maps(self, model: keras.Model, cases: list[_Case]) -> list[np.ndarray]:
        """The maps of another network of the same architecture."""
        self._bundle.networks[self._name].model.set_weights(model.get_weights())
        # tf-keras-vis copies the network that it is given, weights and all.
        if self._explainer is None or self._method == "gradcam":
            self._explainer = Explainer(self._bundle, self._method)
        return [self._explainer.evidence(self._name, [case.prepared], TARGET)[0] for case in cases]


def _cascade(judge: _Judge, spare: _Spare, cases: list[_Case], own: list[np.ndarray]) -> dict[str, float | None]:
    """Rank correlation with the maps of networks that forget from the top, layer by layer (Adebayo et al., 2018)."""
    trained = judge.network.model
    names = [layer.name for layer in reversed(trained.layers) if layer.weights]
    result: dict[str, float | None] = {}
    features = architecture(judge.network.name).features
    steps = ("probability", features[-1], features[len(features) // 2], names[-1])
    for step in steps:
        forgotten = names[: names.index(step) + 1]
        result[step] = _similarity(own, spare.maps(randomised(trained, forgotten), cases))
    return result


def _similarity(first: list[np.ndarray], second: list[np.ndarray]) -> float | None:
    return _mean([rank_correlation(one, other) for one, other in zip(first, second, strict=True)])


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


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
