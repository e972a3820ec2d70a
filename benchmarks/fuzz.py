"""Coverage-guided fuzzing of what reads a visitor's file, by atheris."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.damage import load_seeds

MAX_MEMORY = 2048
"""Most memory that the fuzzed process may hold, in MiB: its corpus lies in it."""
MAX_SECONDS = 5
"""Longest time that one input may take, in seconds."""
_FOUND = Path("runs/fuzz")


def fuzz(seconds: int) -> None:
    """Fuzz in a process of its own; print what was reached, and end with status 1 if a fault was found.

    Parameters
    ----------
    seconds : int
        How long. What makes a fault is kept in runs/fuzz, what reaches new code in runs/fuzz/corpus.
    """
    corpus = _FOUND / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(load_seeds()):
            Path(folder, str(number)).write_bytes(seed.content)
        options = [f"-max_total_time={seconds}", f"-timeout={MAX_SECONDS}", f"-rss_limit_mb={MAX_MEMORY}"]
        options += [f"-artifact_prefix={_FOUND}/", "-seed=1", "-print_final_stats=1", str(corpus), folder]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.fuzz_target", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    said = done.stdout.decode(errors="replace")
    if done.returncode:
        print(said[-6000:], file=sys.stderr)
        sys.exit(f"A fault was found; the input that makes it lies in {_FOUND}.")
    reached = re.findall(r"cov: (\d+) ft: (\d+)", said)
    runs, peak = (re.search(rf"stat::{name}:\s+(\d+)", said) for name in ("number_of_executed_units", "peak_rss_mb"))
    assert runs
    assert peak
    print(f"{'inputs':>12}{'edges, first':>14}{'edges, last':>13}{'faults':>8}{'MiB':>7}")
    print(f"{int(runs[1]):>12,}{reached[0][0]:>14}{reached[-1][0]:>13}{0:>8}{peak[1]:>7}")
