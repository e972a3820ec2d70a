"""Whether damaged files are read or refused in words: without a crash, a hang, or memory without bound."""

from __future__ import annotations

import multiprocessing
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.damage import KINDS, damaged, load_seeds
from pneumo.errors import PneumoError
from pneumo.radiograph import MAX_PIXELS, MIN_SIDE, Radiograph, read_radiograph

MAX_SECONDS = 5.0
"""Longest time that a file may take, in seconds of the processor."""
MAX_MEMORY = 1024
"""Most memory that the process which reads them may ever hold, in MiB."""
_FAULTS = Path("runs/mutations")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one damaged file.

    Attributes
    ----------
    number : int
        As `benchmarks.damage.damaged` takes it.
    seed : str
        What was damaged.
    outcome : str
        "read", "refused", or "fault".
    words : str
        Of a fault, what went wrong.
    seconds : float
        Of the processor.
    memory : float
        Most memory that the reading process has held so far, in MiB.
    """

    number: int
    seed: str
    outcome: str
    words: str
    seconds: float
    memory: float


def mutations(files: int, first: int) -> None:
    """Try damaged files in a process of its own; print a table, and end with status 1 if anything went wrong.

    Parameters
    ----------
    files : int
        How many.
    first : int
        Number of the first; the same number is always the same file.
    """
    answers = []
    for answer in answers_to(first, files):
        answers.append(answer)
        if answer.outcome == "fault":
            _FAULTS.mkdir(parents=True, exist_ok=True)
            path = _FAULTS / str(answer.number)
            path.write_bytes(damaged(load_seeds(), answer.number)[1])
            print(f"{path}, made of {answer.seed}: {answer.words}", file=sys.stderr)
    print(f"{'damaged files':<16}{'n':>8}{'read':>8}{'refused':>9}{'faults':>8}{'p99 ms':>8}{'max ms':>8}{'MiB':>7}")
    for kind in (*KINDS, ""):
        chosen = [answer for answer in answers if answer.seed.startswith(kind)]
        counts = Counter(answer.outcome for answer in chosen)
        times = 1000 * np.array([answer.seconds for answer in chosen])
        print(
            f"{kind or 'all':<16}{len(chosen):>8,}{counts['read']:>8,}{counts['refused']:>9,}{counts['fault']:>8}"
            f"{np.percentile(times, 99):>8.0f}{times.max():>8.0f}{max(answer.memory for answer in chosen):>7.0f}"
        )
    if any(answer.outcome == "fault" for answer in answers):
        sys.exit(1)


def answers_to(
    first: int, files: int, read: Callable[[bytes], Radiograph] = read_radiograph, patience: float = 60
) -> Iterator[Answer]:
    """What becomes of each damaged file, read in a process of its own, which is started again if it ends.

    Parameters
    ----------
    first, files : int
        Number of the first, and how many.
    read : callable
        What reads them; of a module that the other process can import.
    patience : float
        Seconds without an answer after which that process is ended.
    """
    seeds, context = load_seeds(), multiprocessing.get_context("spawn")
    number, last = first, first + files
    while number < last:
        here, there = context.Pipe()
        process = context.Process(target=_read_all, args=(there, number, last, read))
        process.start()
        there.close()
        words = ""
        try:
            # It is ready once it has loaded what it damages.
            here.recv()
            while number < last and not words:
                if here.poll(patience):
                    yield here.recv()
                    number += 1
                else:
                    words = f"no answer in {patience:.0f} s"
        except EOFError:
            process.join()
            words = f"the process ended with status {process.exitcode}"
        finally:
            process.kill()
            process.join()
            here.close()
        if words:
            yield Answer(number, damaged(seeds, number)[0].name, "fault", words, 0, 0)
            number += 1


def _read_all(answers: Connection, first: int, last: int, read: Callable[[bytes], Radiograph]) -> None:
    seeds = load_seeds()
    answers.send(None)
    for number in range(first, last):
        seed, content = damaged(seeds, number)
        words, started = "", time.process_time()
        try:
            check(read(content))
            outcome = "read"
        except PneumoError:
            outcome = "refused"
        except Exception:  # whatever it is, it is what is looked for
            outcome, words = "fault", traceback.format_exc()
        seconds = time.process_time() - started
        memory = int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024
        if seconds > MAX_SECONDS:
            outcome, words = "fault", f"took {seconds:.1f} s"
        if memory > MAX_MEMORY:
            outcome, words = "fault", f"took {memory:.0f} MiB"
        answers.send(Answer(number, seed.name, outcome, words, seconds, memory))


def check(radiograph: Radiograph) -> None:
    """Raise AssertionError if what was read is not what a radiograph promises to be."""
    pixels = radiograph.pixels
    assert pixels.dtype == np.uint8, pixels.dtype
    assert pixels.ndim == 2, pixels.shape
    assert min(pixels.shape) >= MIN_SIDE, pixels.shape
    assert pixels.size <= MAX_PIXELS, pixels.shape
    assert all(note.endswith(".") for note in (*radiograph.notes, *radiograph.warnings))
