"""Many visitors at once, each with a radiograph of its own: is every answer right, and how long does it take?"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from benchmarks.startup import served
from pneumo import Examiner, load_bundle, read_radiograph
from pneumo.render import encode_png
from pneumo.ui.examples import load_examples
from pneumo.ui.running import BUSY

RIGHT, WRONG, TOLD_BUSY = "right", "wrong", "busy"
_READY = 600.0
_CODE = "from pneumo.ui import read; read.CONCURRENCY = {}; import app; app.launch()"


@dataclass(frozen=True, slots=True)
class Visit:
    """What came of one visitor's examination.

    Attributes
    ----------
    outcome : str
        "right", "wrong", "busy", or what else went wrong.
    seconds : float
        From the first byte sent to the answer.
    """

    outcome: str
    seconds: float


def load(visitors: int, rounds: int, concurrency: Sequence[int]) -> None:
    """Let visitors ask the page at once; print what came of it.

    Parameters
    ----------
    visitors : int
    rounds : int
        How often all of them ask.
    concurrency : sequence of int
        Numbers of requests that the page may answer at once, one measurement each; none: as it is.
    """
    pictures = radiographs(visitors)
    examiner = Examiner(load_bundle())
    expected = [examiner.examine(read_radiograph(data, "load.png")).record() for data in pictures]
    head = f"{'visitors x rounds':<20}{'at once':>8}{'right':>7}{'busy':>6}{'wrong':>7}{'other':>7}"
    print(f"{head}{'median s':>10}{'p95 s':>8}{'max s':>8}{'a second':>10}")
    for number in concurrency or [None]:
        with served(_CODE.format(number)) if number else served() as url:
            wait_until_ready(url)
            began = time.perf_counter()
            visits = [visit for _ in range(rounds) for visit in ask_at_once(url, pictures, expected)]
            took = time.perf_counter() - began
        _print(f"{visitors} x {rounds}", number, visits, took)


def radiographs(count: int) -> list[bytes]:
    """PNG files, no two alike: the page's examples, each time a little darker."""
    examples = [read_radiograph(example.path).pixels for example in load_examples()]
    return [
        encode_png(np.rint(examples[index % len(examples)] * (1 - 0.4 * index / count)).astype(np.uint8))
        for index in range(count)
    ]


def wait_until_ready(url: str) -> None:
    """Wait for the networks of a page."""
    deadline = time.monotonic() + _READY
    while time.monotonic() < deadline:
        if httpx.get(f"{url}/health", timeout=30).status_code == 200:
            return
        time.sleep(0.2)
    raise TimeoutError(f"The page was not ready after {_READY:.0f} s.")


def ask_at_once(url: str, pictures: Sequence[bytes], expected: Sequence[Any]) -> list[Visit]:
    """Ask of all radiographs at the same moment, and compare each answer with the one expected."""
    gate = threading.Barrier(len(pictures))

    def visit(picture: bytes, right: Any) -> Visit:
        gate.wait()
        began = time.perf_counter()
        outcome = _asked(url, picture, right)
        return Visit(outcome, time.perf_counter() - began)

    with ThreadPoolExecutor(len(pictures)) as visitors:
        return list(visitors.map(visit, pictures, expected))


def _asked(url: str, picture: bytes, right: Any) -> str:
    try:
        with httpx.Client(base_url=f"{url}/gradio_api", timeout=300) as client:
            path = client.post("/upload", files={"files": ("load.png", picture)}).json()[0]
            file = {"path": path, "orig_name": "load.png", "meta": {"_type": "gradio.FileData"}}
            call = client.post("/call/examine", json={"data": [file]})
            if call.status_code == 503 and call.json()["detail"] == BUSY:
                return TOLD_BUSY
            answer = client.get(f"/call/examine/{call.raise_for_status().json()['event_id']}").text
    except (httpx.HTTPError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    kind, _, data = answer.rstrip().rpartition("event: ")[2].partition("\ndata: ")
    if kind != "complete":
        return f"{kind}: {data}"
    return RIGHT if json.loads(data) == [right] else WRONG


def _print(title: str, concurrency: int | None, visits: list[Visit], took: float) -> None:
    counts = Counter(visit.outcome for visit in visits)
    seconds = sorted(visit.seconds for visit in visits if visit.outcome == RIGHT) or [float("nan")]
    other = {words: count for words, count in counts.items() if words not in (RIGHT, WRONG, TOLD_BUSY)}
    line = f"{title:<20}{concurrency or 'page':>8}{counts[RIGHT]:>7}{counts[TOLD_BUSY]:>6}{counts[WRONG]:>7}"
    line += (
        f"{sum(other.values()):>7}{statistics.median(seconds):>10.2f}{seconds[int(0.95 * (len(seconds) - 1))]:>8.2f}"
    )
    print(f"{line}{seconds[-1]:>8.2f}{counts[RIGHT] / took:>10.1f}", flush=True)
    for words, count in other.items():
        print(f"  {count} x {words}")
