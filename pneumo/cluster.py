"""Very many radiographs on many machines, by Ray Data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import islice
from types import ModuleType
from typing import Any

from pneumo.errors import PneumoError, SourceError, first_line
from pneumo.score import Job, score_batch
from pneumo.supply import open_supply

_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def on_cluster(job: Job) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Make the parts of a job on the cluster that RAY_ADDRESS names, else on all cores of this machine.

    Each core of the cluster has an actor that loads the bundle once. What a machine that is lost was at is made again
    by the others. Every machine must have this program, and the source, at the same path as this one.

    Parameters
    ----------
    job : Job

    Yields
    ------
    tuple of int and list of dict
        Number and rows of a part, in the order in which they are finished.

    Raises
    ------
    SourceError
        If Ray is not installed, the cluster cannot be reached, or no machine of it can do the job.
    """
    if not job.parts:
        return
    ray = _ray()
    try:
        _connect(ray)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        numbers = ("number", "start", "stop")
        items = [dict(zip(numbers, part, strict=True)) for part in job.parts]
        actors = max(1, min(int(ray.cluster_resources().get("CPU", 1)), len(job.parts)))
        # One part a block, made here: a task that made them would wait for a core, and the actors have them all.
        scored = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _Actor,
            fn_constructor_args=(job,),
            batch_size=1,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(
                min_size=1, initial_size=actors, max_size=actors, max_tasks_in_flight_per_actor=2
            ),
        )
        for found in scored.iter_rows():
            yield int(found["number"]), json.loads(found["rows"])
    except ray.exceptions.RayError as error:
        raise SourceError(
            f"A cluster must have machines that can read {job.source} and this program; it has failed "
            f"({_cause(error)}). Start again to go on with the parts that are there."
        ) from error


class _Actor:
    """Scores one part after the other, on one core."""

    def __init__(self, job: Job) -> None:
        # Of a machine's cores each has an actor.
        os.environ.update(dict.fromkeys(_THREADS, "1"))
        self._job = job
        self._supply = open_supply(job.source, job.column)
        if len(self._supply) != job.total:
            raise SourceError(
                f"Every machine must see the same source; {job.source} has {len(self._supply)} radiographs on one, and "
                f"{job.total} where the job was started. Name a place that all of them share."
            )
        self._examiner = job.load()

    def __call__(self, parts: dict[str, Any]) -> dict[str, list]:
        rows = [self._part(int(start), int(stop)) for start, stop in zip(parts["start"], parts["stop"], strict=True)]
        return {"number": list(parts["number"]), "rows": [json.dumps(part) for part in rows]}

    def _part(self, start: int, stop: int) -> list[dict[str, Any]]:
        items = self._supply.between(start, stop)
        rows: list[dict[str, Any]] = []
        while batch := list(islice(items, self._job.batch)):
            rows += score_batch(self._examiner, batch, self._job.operating_point)
        return rows


def _connect(ray: ModuleType) -> None:
    if ray.is_initialized():
        return
    try:
        ray.init(log_to_driver=False, logging_level="warning")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SourceError(
            f"RAY_ADDRESS must name a cluster that can be reached; {first_line(error)}. Correct it, or leave it out to "
            "use this machine alone."
        ) from error


def _ray() -> ModuleType:
    # Ray otherwise reports to its makers that it is used.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError as error:
        raise SourceError(
            "Scoring on a cluster needs the package ray, which the rest does without; it is not installed. Install it: "
            "make develop, or .venv/bin/python -m pip install 'ray[data]'"
        ) from error
    return ray


def _cause(error: BaseException) -> str:
    """What an actor said, where one did."""
    while not isinstance(error, PneumoError) and (inner := getattr(error, "cause", None) or error.__cause__):
        error = inner
    return first_line(error)
