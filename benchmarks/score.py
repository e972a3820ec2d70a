"""How fast very many radiographs are scored, beside a loop that one would otherwise write."""

from __future__ import annotations

import json
import re
import statistics
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from benchmarks.latency import naive_way
from pneumo.bundle import load_bundle
from pneumo.examination import Examiner
from pneumo.radiograph import read_radiograph
from pneumo.score import score as score_source
from pneumo.supply import arrow, open_supply

_ROUNDS, _NAIVE, _OURS = 3, 8, 96


def score(data: Path, sizes: list[int], as_json: bool) -> None:
    """Score a folder, then the same repeated to each size; print a table or JSON.

    Parameters
    ----------
    data : Path
        Folder of radiographs.
    sizes : list of int
        How many images, each read and examined anew.
    as_json : bool
        Whether to print one JSON object instead.
    """
    began = time.perf_counter()
    examiner = Examiner(load_bundle())
    names = [str((data / item.name).resolve()) for item in open_supply(data)]
    found: dict = {"loaded_s": round(time.perf_counter() - began, 2)}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        # What the first batch alone pays for.
        _timed(folder, names[:16], examiner)
        found["jobs"] = [_timed(folder, names, examiner)]
        found |= _beside_naive(folder, names, examiner)
        for size in sizes:
            found["jobs"].append(_timed(folder, list(islice(cycle(names), size)), examiner))
            if not as_json:
                print(f"{size:,} images done", file=sys.stderr)
    print(json.dumps(found) if as_json else _table(found))


def _timed(folder: Path, names: list[str], examiner: Examiner) -> dict:
    source, out = folder / "source.parquet", folder / "results.parquet"
    pa = arrow()
    pa.parquet.write_table(pa.table({"path": names}), source)
    out.unlink(missing_ok=True)
    started, used = time.perf_counter(), time.process_time()
    done = score_source(source, out, lambda: examiner)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    resident = int(re.findall(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[0])
    return {
        "images": done.rows,
        "refused": done.refused,
        "seconds": round(seconds, 2),
        "images_a_second": round(done.rows / seconds, 1),
        "processor_ms_an_image": round(1000 * used / done.rows, 2),
        "resident_mib": round(resident / 1024),
    }


def _beside_naive(folder: Path, names: list[str], examiner: Examiner) -> dict:
    """A loop of `model.predict` and tf-keras-vis Grad-CAM for each network, in turn with ours."""
    naive = naive_way(examiner.bundle)
    rates: dict[str, list[float]] = {"naive": [], "ours": []}
    for number in range(_ROUNDS + 1):
        started = time.perf_counter()
        for name in names[number * _NAIVE : (number + 1) * _NAIVE]:
            naive(examiner.bundle.prepare(read_radiograph(name)))
        seconds = time.perf_counter() - started
        ours = _timed(folder, names[:_OURS], examiner)["images_a_second"]
        # The first round compiles.
        if number:
            rates["naive"].append(_NAIVE / seconds)
            rates["ours"].append(ours)
    naive_rate, our_rate = (statistics.median(values) for values in rates.values())
    return {"naive_images_a_second": round(naive_rate, 2), "ratio": round(our_rate / naive_rate, 1)}


def _table(found: dict) -> str:
    lines = [f"{'images':>10}{'seconds':>10}{'a second':>10}{'processor ms each':>20}{'resident MiB':>14}"]
    for job in found["jobs"]:
        lines.append(
            f"{job['images']:>10,}{job['seconds']:>10.1f}{job['images_a_second']:>10.1f}"
            f"{job['processor_ms_an_image']:>20.1f}{job['resident_mib']:>14,}"
        )
    lines.append(f"the loop that one would otherwise write: {found['naive_images_a_second']:.2f} a second")
    lines.append(f"{found['ratio']:.1f} times its rate; networks loaded in {found['loaded_s']:.1f} s")
    return "\n".join(lines)
