"""How long one radiograph takes, beside what one would otherwise write."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from benchmarks.startup import measure
from pneumo.bundle import Bundle, load_bundle
from pneumo.examination import Examination, Examiner
from pneumo.framing import Prepared
from pneumo.graph import NetworkGraph
from pneumo.radiograph import read_radiograph
from pneumo.render import encode_jpeg
from pneumo.ui.examples import load_examples
from pneumo.zoo import architecture

_WARM_UP = 5
_TWO_MEGAPIXELS = (1600, 1250)


def latency(repeats: int, starts: int, as_json: bool) -> None:
    """Measure everything a visitor waits for, the ways to the same result in turn; print a table or JSON.

    Parameters
    ----------
    repeats : int
        How often each task is measured.
    starts : int
        How often the page is started; 0 leaves it out.
    as_json : bool
        Whether to print one JSON object instead.
    """
    bundle = load_bundle()
    examiner = Examiner(bundle)
    data = [_two_megapixels(example.path) for example in load_examples()]
    radiographs = [read_radiograph(item) for item in data]
    prepared = [bundle.prepare(item) for item in radiographs]
    answered = [examiner.examine(item) for item in radiographs]
    naive, forward = naive_way(bundle), NetworkGraph(bundle)
    graph = NetworkGraph(bundle, explained=True)
    tasks: dict[str, Callable[[int], object]] = {
        "naive": lambda n: naive(prepared[n]),
        "ours": lambda n: examiner.examine_prepared([radiographs[n]], [prepared[n]]),
        "forward": lambda n: forward.ask([prepared[n]]),
        "examination": lambda n: examiner.examine(read_radiograph(data[n], "radiograph.jpeg")).record(),
        "read": lambda n: read_radiograph(data[n], "radiograph.jpeg"),
        "lungs": lambda n: bundle.prepare(radiographs[n]),
        "networks": lambda n: graph.ask([prepared[n]]),
        "evidence": lambda n: _again(answered[n]).record(),
    }
    times = _interleaved(tasks, repeats, len(data))
    found: dict = {f"{name}_ms": round(statistics.median(values), 2) for name, values in times.items()}
    found |= {f"{name}_p95_ms": round(_percentile(times[name], 95), 2) for name in ("naive", "ours", "examination")}
    ratios = [slow / fast for slow, fast in zip(times["naive"], times["ours"], strict=True)]
    found["ratio"] = round(found["naive_ms"] / found["ours_ms"], 2)
    found["ratio_spread"] = [round(_percentile(ratios, share), 2) for share in (5, 95)]
    found["shares"] = {
        name: round(found[f"{name}_ms"] / found["examination_ms"], 3)
        for name in ("read", "lungs", "networks", "evidence")
    }
    found |= {"repeats": repeats, "megapixels": round(np.prod(_TWO_MEGAPIXELS) / 1e6, 1)}
    if starts:
        found |= _page(data[0], starts)
    print(json.dumps(found) if as_json else _table(found))


def _two_megapixels(path: Path) -> bytes:
    """An example of the page as a JPEG of 2 megapixels."""
    return encode_jpeg(cv2.resize(read_radiograph(path).pixels, _TWO_MEGAPIXELS, interpolation=cv2.INTER_CUBIC), 90)


def naive_way(bundle: Bundle) -> Callable[[Prepared], None]:
    """`model.predict` and tf-keras-vis Grad-CAM, one network after the other, on inputs that are ready."""
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear

    explainers = {
        name: Gradcam(network.model, model_modifier=ReplaceToLinear(), clone=True)
        for name, network in bundle.networks.items()
    }

    def run(item: Prepared) -> None:
        for name, network in bundle.networks.items():
            inputs = item.inputs(network.framing, network.scaling, network.input_size)
            network.model.predict(inputs, verbose=0)
            explainers[name](lambda output: output[:, 0], inputs, penultimate_layer=architecture(name).last_map)

    return run


def _again(examination: Examination) -> Examination:
    """The same, without what it remembers of its evidence."""
    return dataclasses.replace(examination, lungs=examination.lungs and dataclasses.replace(examination.lungs))


def _interleaved(tasks: dict[str, Callable[[int], object]], repeats: int, images: int) -> dict[str, list[float]]:
    """Milliseconds of each task, round after round, so that what else the machine does hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(-_WARM_UP, repeats):
        for name, task in tasks.items():
            started = time.perf_counter()
            task(number % images)
            if number >= 0:
                times[name].append(1000 * (time.perf_counter() - started))
    return times


def _percentile(values: list[float], share: float) -> float:
    return float(np.percentile(values, share))


def _page(radiograph: bytes, starts: int) -> dict:
    """Start the page some times, as `benchmarks startup`, and ask it: seconds, milliseconds, MiB."""
    rows = [measure(radiograph) for _ in range(starts)]
    page, answer, later, resident = (statistics.median(values) for values in zip(*rows, strict=True))
    return {
        "page_s": round(page, 2),
        "first_answer_s": round(answer, 2),
        "http_ms": round(1000 * later, 1),
        "resident_mib": round(resident),
        "starts": starts,
    }


def _table(found: dict) -> str:
    rows = [
        ("model.predict and tf-keras-vis Grad-CAM, each network", "naive"),
        ("the same here: predictions, decisions, maps", "ours"),
        ("forward passes alone, in one graph", "forward"),
        (f"a JPEG of {found['megapixels']} megapixels, from bytes to the record", "examination"),
        ("    reading it", "read"),
        ("    its lungs", "lungs"),
        ("    networks and what the maps are made of", "networks"),
        ("    evidence, words and the record", "evidence"),
    ]
    lines = [f"{'milliseconds an image, over ' + str(found['repeats']):<60}{'median':>8}{'p95':>8}{'share':>8}"]
    for title, name in rows:
        p95, share = found.get(f"{name}_p95_ms"), found["shares"].get(name)
        line = f"{title:<60}{found[f'{name}_ms']:>8.1f}{'' if p95 is None else format(p95, '.1f'):>8}"
        lines.append(f"{line}{'' if share is None else format(share, '.0%'):>8}".rstrip())
    low, high = found["ratio_spread"]
    lines.append(f"{'times faster (5 % to 95 % of the rounds)':<60}{found['ratio']:>8.1f}  [{low:.1f}, {high:.1f}]")
    if "starts" in found:
        lines += [
            f"{'start to the served page, s':<60}{found['page_s']:>8.2f}",
            f"{'start to the first answer, s':<60}{found['first_answer_s']:>8.2f}",
            f"{'a later answer over HTTP (gradio_client)':<60}{found['http_ms']:>8.1f}",
            f"{'resident memory of the page, MiB':<60}{found['resident_mib']:>8}",
        ]
    return "\n".join(lines)
