"""How long a visitor waits after the program starts."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from gradio_client import Client, handle_file

from pneumo.ui.examples import load_examples

_ROOT = Path(__file__).resolve().parent.parent
_PAGE = "import app; app.launch()"
_WARM_ANSWERS = 10


def startup(repeats: int) -> None:
    """Start the page some times; print the seconds until it is served, until its first answer, and of later answers.

    Parameters
    ----------
    repeats : int
        How often the program is started.
    """
    radiograph = load_examples()[0].path.read_bytes()
    rows = [measure(radiograph)[:3] for _ in range(repeats)]
    print(f"{'seconds, over ' + str(repeats) + ' starts':<44}{'median':>8}{'min':>8}{'max':>8}")
    titles = ("start to served page", "start to first answer", "a later answer over HTTP (gradio_client)")
    for title, values in zip(titles, zip(*rows, strict=True), strict=True):
        print(f"{title:<44}{statistics.median(values):>8.2f}{min(values):>8.2f}{max(values):>8.2f}")


@contextlib.contextmanager
def served(code: str = _PAGE) -> Iterator[str]:
    """Start the page in a process of its own, by some code; give its address once it answers."""
    with running(code) as (url, _):
        yield url


@contextlib.contextmanager
def running(code: str = _PAGE, **environment: str) -> Iterator[tuple[str, int]]:
    """The same, with the number of its process; the environment is added to this one's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=_ROOT,
        env=os.environ | {"GRADIO_SERVER_PORT": str(port)} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _serves(url):
            time.sleep(0.02)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def measure(radiograph: bytes) -> tuple[float, float, float, float]:
    """Start the page and ask it of a JPEG.

    Returns
    -------
    tuple of float
        Seconds to the page, to the first answer, and of a later answer; then the resident memory in MiB.
    """
    with tempfile.NamedTemporaryFile(suffix=".jpeg") as file:
        file.write(radiograph)
        file.flush()
        return _measure(file.name)


def _measure(radiograph: str) -> tuple[float, float, float, float]:
    began = time.perf_counter()
    with running() as (url, process):
        until_served = time.perf_counter() - began
        client = Client(url, verbose=False)
        client.predict(handle_file(radiograph), api_name="/examine")
        first = time.perf_counter() - began
        later = []
        for _ in range(_WARM_ANSWERS):
            start = time.perf_counter()
            client.predict(handle_file(radiograph), api_name="/examine")
            later.append(time.perf_counter() - start)
        return until_served, first, statistics.median(later), resident(process)


def resident(process: int) -> float:
    """The memory that a process holds, in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def _serves(url: str) -> bool:
    with contextlib.suppress(OSError):
        urllib.request.urlopen(url, timeout=5).close()
        return True
    return False
