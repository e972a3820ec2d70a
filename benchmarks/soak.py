"""Whether the running page stays as it is over very many examinations: its memory, its files, its answers."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from benchmarks.damage import load_seeds
from benchmarks.startup import resident, running
from pneumo.methods import DEFAULT_METHOD
from pneumo.ui.examples import load_examples

MAX_GROWTH = 5.0
"""Most that the memory may still grow by in the second half, in percent of what is held at its start."""
_VISIT = 50
_METHODS = (DEFAULT_METHOD, "gradcam", "layercam-fused")


def soak(examinations: int) -> None:
    """Ask the page over loopback; print its memory along the way, and end with status 1 if it does not stay flat.

    Files of each kind take turns, and one in ten is damaged. Each answer must be that which the same file had at first.

    Parameters
    ----------
    examinations : int
        How many, one after the other; a new visitor comes after every 50.
    """
    with tempfile.TemporaryDirectory() as folder:
        uploads = Path(folder, "uploads")
        uploads.mkdir()
        files = _files(Path(folder))
        rows: list[tuple[float, float]] = []
        answers: dict[tuple[Path, str], str] = {}
        others, tenth = 0, max(1, examinations // 10)
        print(f"{'examinations':>14}{'resident MiB':>14}{'median ms':>11}")
        with running(GRADIO_TEMP_DIR=str(uploads)) as (url, process):
            for number in range(examinations):
                if number % _VISIT == 0:
                    client = Client(url, verbose=False)
                path, method = files[number % len(files)], _METHODS[number % len(_METHODS)]
                started = time.perf_counter()
                answer = _answer(client, path, method)
                rows.append((resident(process), time.perf_counter() - started))
                others += answer != answers.setdefault((path, method), answer)
                if len(rows) % tenth == 0:
                    memory, seconds = (statistics.median(column) for column in zip(*rows[-tenth:], strict=True))
                    print(f"{len(rows):>14,}{memory:>14,.1f}{1000 * seconds:>11.0f}", flush=True)
            opened, threads = (len(list(Path(f"/proc/{process}/{what}").iterdir())) for what in ("fd", "task"))
            left = sum(item.is_file() for item in uploads.rglob("*"))
    # Medians, so that no single moment decides.
    middle, end = (
        statistics.median(memory for memory, _ in part) for part in (rows[len(rows) // 2 :][:tenth], rows[-tenth:])
    )
    growth = 100 * (end / middle - 1)
    print(
        f"second half: {growth:+.1f} % of memory; other answers than at first: {others}; "
        f"open files: {opened}; threads: {threads}; uploads left: {left}"
    )
    if growth > MAX_GROWTH or others or left:
        sys.exit(1)


def _files(folder: Path) -> list[Path]:
    seeds = {seed.name: seed for seed in load_seeds()}
    contents = {
        "a.jpeg": load_examples()[0].path.read_bytes(),
        "b.jpeg": load_examples()[1].path.read_bytes(),
        "c.png": seeds["PNG of 16 bits"].content,
        "d.dcm": seeds["DICOM JPEG Lossless, Non-Hierarchical (Process 14)"].content,
        "e.png": seeds["PNG transparent"].content,
        "f.jpeg": load_examples()[2].path.read_bytes(),
        "g.jpeg": seeds["JPEG turned"].content,
        "h.dcm": seeds["DICOM JPEG Baseline (Process 1)"].content,
        "i.jpeg": load_examples()[3].path.read_bytes(),
        "cut.jpeg": load_examples()[0].path.read_bytes()[:-2000],
    }
    paths = [folder / name for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_bytes(content)
    return paths


def _answer(client: Client, path: Path, method: str) -> str:
    try:
        return json.dumps(client.predict(handle_file(path), method=method, api_name="/examine"), sort_keys=True)
    except AppError as error:
        return str(error)
