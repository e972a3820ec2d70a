"""Very many radiographs to one Parquet file: constant memory, all cores, and it goes on where it was interrupted."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from pneumo.bundle import OPERATING_POINTS, Bundle, weights
from pneumo.errors import SourceError, first_line
from pneumo.examination import Examination, Examiner
from pneumo.framing import to_raster
from pneumo.lungs import ZONES
from pneumo.progress import Progress
from pneumo.radiograph import Radiograph
from pneumo.supply import Item, Supply, arrow, open_supply, read_item

BATCH = 16
"""Radiographs that the networks are asked of at once."""
PART = 512
"""Rows of one part: what an interruption can cost."""
_FORMAT = 1
_MERGED = 16
"""Parts of one row group of the result."""
_JOB = "job.json"
_KEY = b"pneumo.job"
_EVIDENCE = {
    "status": "string",
    "target": "string",
    "peak": "float64",
    "share_in_lungs": "float64",
    "chance": "float64",
    **dict.fromkeys(ZONES, "float64"),
    "peak_x": "float64",
    "peak_y": "float64",
    "peak_zone": "string",
}


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of a source.

    Attributes
    ----------
    rows, refused : int
        Radiographs in the result, and those of them that could not be read.
    asked : int
        Rows that this run added; the others were there already.
    seconds : float
        For those, the start of the program left out.
    """

    rows: int
    refused: int
    asked: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Job:
    """What another engine than this process is to do.

    Attributes
    ----------
    source : Path
    column : str or None
    load : callable
        Returns the `Examiner`.
    operating_point : str or float
    total : int
        Radiographs of the source.
    batch : int
        How many of them the networks are asked of at once.
    parts : list of tuple of int
        Number, first radiograph and the one after the last, of each part that is missing.
    """

    source: Path
    column: str | None
    load: Callable[[], Examiner]
    operating_point: str | float
    total: int
    batch: int
    parts: list[tuple[int, int, int]]


Engine = Callable[[Job], Iterator[tuple[int, list[dict[str, Any]]]]]
"""Gives the number and the rows of each part of a job, in any order."""


def columns(bundle: Bundle, explained: bool = True) -> dict[str, str]:
    """The columns of a result with their Arrow types.

    Parameters
    ----------
    bundle : Bundle
    explained : bool
        Whether there are heatmaps, whose evidence has columns of its own.
    """
    prediction = {"probability": "float64", "threshold": "float64", "decision": "string"}
    found = {"file": "string", "error": "string", "sha256": "string", "width": "int32", "height": "int32"}
    for name in bundle.networks:
        found |= {f"{name}_{key}": kind for key, kind in prediction.items()}
        found |= {f"{name}_heat_{key}": kind for key, kind in _EVIDENCE.items()} if explained else {}
    found |= {f"together_{key}": kind for key, kind in (prediction | {"uncertain": "bool"}).items()}
    found |= {"calling_pneumonia": "int32", "lungs_found": "bool", "lungs_reason": "string", "lungs_share": "float64"}
    return found | {"warnings": "string"}


def score_batch(
    examiner: Examiner, items: Sequence[Item], operating_point: str | float = OPERATING_POINTS[0]
) -> list[dict[str, Any]]:
    """The rows of some radiographs, examined together; keys are among those of `columns`.

    Parameters
    ----------
    examiner : Examiner
    items : sequence of Item
        One that is refused gives a row with its name and error.
    operating_point : str or float
        As `Examiner.examine` takes it.
    """
    rows: list[dict[str, Any]] = [{"file": item.name} for item in items]
    kept: list[tuple[int, Radiograph, float]] = []
    for number, item in enumerate(items):
        found = read_item(item)
        if not isinstance(found, Radiograph):
            rows[number]["error"] = str(found)
            continue
        rows[number] |= {"sha256": found.sha256, "width": found.width, "height": found.height}
        # Whole radiographs of a batch would be too much to hold.
        kept.append((number, replace(found, pixels=to_raster(found.pixels)), found.width / found.height))
    radiographs = [radiograph for _, radiograph, _ in kept]
    prepared = examiner.bundle.prepare_rasters([item.pixels for item in radiographs], [aspect for *_, aspect in kept])
    examinations = examiner.examine_prepared(radiographs, prepared, operating_point)
    for (number, *_), examination in zip(kept, examinations, strict=True):
        rows[number] |= {"error": examination.refusal} if examination.refusal else _row(examination)
    return rows


def _row(examination: Examination) -> dict[str, Any]:
    record = examination.record()
    row: dict[str, Any] = {"warnings": " ".join(record["warnings"])}
    for name, entry in record["networks"].items():
        row |= {f"{name}_{key}": entry[key] for key in ("probability", "threshold", "decision")}
        if heat := entry["saliency"]:
            peak_x, peak_y = heat["peak_at"] or (None, None)
            values = {**heat, **(heat["zones"] or {}), "peak_x": peak_x, "peak_y": peak_y}
            row |= {f"{name}_heat_{key}": values.get(key) for key in _EVIDENCE}
    row |= {f"together_{key}": value for key, value in (record["together"] or {}).items()}
    row["calling_pneumonia"] = record["agreement"]["calling_pneumonia"]
    lungs = record["lungs"]
    return row | ({f"lungs_{key}": lungs[key] for key in ("found", "reason", "share")} if lungs else {})


def score(
    source: Path,
    out: Path,
    load: Callable[[], Examiner],
    operating_point: str | float = OPERATING_POINTS[0],
    column: str | None = None,
    progress: TextIO | None = None,
    engine: Engine | None = None,
) -> Scored:
    """Examine every radiograph of a source and write one row each.

    Rows are written in parts beside the result, each at once or not at all. Started again after an interruption,
    whatever it was, only parts that are missing are made; then they are joined.

    Parameters
    ----------
    source : Path
        As `pneumo.supply.open_supply` takes it, with `column`.
    out : Path
        The result, a Parquet file; its columns are `columns`.
    load : callable
        Returns the `Examiner`; called once the source and the result are known to be in order.
    operating_point : str or float
        As `Examiner.examine` takes it.
    column : str, optional
    progress : text stream, optional
        Where to say how far it is.
    engine : callable, optional
        Who makes the parts, such as `pneumo.cluster.on_cluster`. Default: this process.

    Raises
    ------
    SourceError
        If the source cannot be read, or has changed since an interruption; if the result is that of another job, or
        cannot be written, or another process is at it.
    """
    pa = arrow()
    supply = open_supply(source, column)
    parts = out.with_name(f"{out.name}.parts")
    try:
        with _alone(parts):
            examiner = load()
            schema = pa.schema(list(columns(examiner.bundle, examiner.method is not None).items()))
            job = json.dumps(_job(source, supply, examiner, operating_point), sort_keys=True)
            schema = schema.with_metadata({_KEY: job})
            if out.exists():
                return _finished(out, parts, job)
            _check_job(parts, job)
            done = Progress(len(supply), progress)
            if engine is None:
                # Made here, and not by the first threads that need it.
                examiner.graph(explained=examiner.method is not None)
                _make_parts(supply, parts, schema, examiner, operating_point, done)
            else:
                missing = _missing(supply, parts, done)
                for number, rows in engine(Job(source, column, load, operating_point, done.total, BATCH, missing)):
                    _write_part(pa, _part(parts, number), rows, schema)
                    done.add(rows)
            done.end()
            _join(parts, out, schema)
            shutil.rmtree(parts)
            return Scored(done.rows, done.refused, done.asked, done.seconds)
    except OSError as error:
        raise SourceError(
            f"The result must be a file that can be written; {out}: {error.strerror or error}. Name another."
        ) from error


def _job(source: Path, supply: Supply, examiner: Examiner, operating_point: str | float) -> dict[str, Any]:
    """What must be the same for a run to go on with another's parts."""
    return {
        "format": _FORMAT,
        "source": str(source.resolve()),
        "stamp": supply.stamp,
        "weights": [entry["sha256"] for entry in weights(examiner.bundle.manifest)],
        "networks": list(examiner.bundle.networks),
        "heatmaps": examiner.method,
        "operating_point": operating_point,
        "part": PART,
    }


@contextmanager
def _alone(parts: Path) -> Iterator[None]:
    """Hold the folder of the parts for this process, and leave no empty one."""
    parts.mkdir(parents=True, exist_ok=True)
    folder = os.open(parts, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SourceError(
                f"One process may write a result at a time; another is at {parts}. Wait for it, or name another --out."
            ) from error
        yield
    finally:
        os.close(folder)
        with suppress(OSError):
            parts.rmdir()


def _finished(out: Path, parts: Path, job: str) -> Scored:
    pq = arrow().parquet
    try:
        found = (pq.read_schema(out).metadata or {}).get(_KEY, b"").decode()
    except arrow().ArrowException as error:
        found = first_line(error)
    if found != job:
        raise SourceError(
            f"The result must be a new file, or one of the same job; {out} is another. Remove it, or name another."
        )
    shutil.rmtree(parts)
    table = pq.read_table(out, columns=["error"])
    return Scored(len(table), len(table) - table["error"].null_count, 0, 0.0)


def _check_job(parts: Path, job: str) -> None:
    path = parts / _JOB
    if not path.exists():
        _write(path, job.encode())
    elif path.read_text(encoding="utf-8") != job:
        raise SourceError(
            f"Parts must be of the same source, networks and choices; those in {parts} are of another job. "
            "Remove them, or name another --out."
        )


def _write(path: Path, content: bytes) -> None:
    """Write a file at once or not at all."""
    passing = path.with_suffix(".new")
    with passing.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(passing, path)


def _part(parts: Path, number: int) -> Path:
    return parts / f"{number:08d}.parquet"


def _make_parts(
    supply: Supply, parts: Path, schema: Any, examiner: Examiner, operating_point: str | float, done: Progress
) -> None:
    """Make the parts that are missing. Several batches are on their way at once, each read, decoded or asked."""
    pa = arrow()
    made: list[dict[str, Any]] = []
    number = 0
    for rows in _rows(supply, parts, examiner, operating_point, done):
        if rows is None:
            number += 1
            continue
        made += rows
        done.add(rows)
        if len(made) >= PART:
            _write_part(pa, _part(parts, number), made, schema)
            made, number = [], number + 1
    if made:
        _write_part(pa, _part(parts, number), made, schema)


def _missing(supply: Supply, parts: Path, done: Progress) -> list[tuple[int, int, int]]:
    """The parts that are not there yet; those that are must be of the same source."""
    spans = [(number, start, min(start + PART, done.total)) for number, start in enumerate(range(0, done.total, PART))]
    missing = []
    for number, start, stop in spans:
        path = _part(parts, number)
        if path.exists():
            _check_names(path, list(supply.between(start, stop)), done)
        else:
            missing.append((number, start, stop))
    return missing


def _write_part(pa: Any, path: Path, rows: list[dict[str, Any]], schema: Any) -> None:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.Table.from_pylist(rows, schema), sink)
    _write(path, sink.getvalue())


def _rows(
    supply: Supply, parts: Path, examiner: Examiner, operating_point: str | float, done: Progress
) -> Iterator[list[dict[str, Any]] | None]:
    """The rows of one batch after the other, in order; None for a part that is there already."""
    workers = 1 + (os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future | None] = deque()
        try:
            for batch in _batches(supply, parts, done):
                waiting.append(pool.submit(score_batch, examiner, batch, operating_point) if batch else None)
                if len(waiting) > 2 * workers:
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _result(future: Future | None) -> list[dict[str, Any]] | None:
    return future.result() if future else None


def _batches(supply: Supply, parts: Path, done: Progress) -> Iterator[list[Item] | None]:
    """Items to be asked, some at a time; None for a part that is there already."""
    items = iter(supply)
    number = 0
    while part := list(islice(items, PART)):
        path = _part(parts, number)
        if path.exists():
            _check_names(path, part, done)
            yield None
        else:
            for start in range(0, len(part), BATCH):
                yield part[start : start + BATCH]
        number += 1


def _check_names(path: Path, items: list[Item], done: Progress) -> None:
    table = arrow().parquet.read_table(path, columns=["file", "error"])
    if table["file"].to_pylist() != [item.name for item in items]:
        raise SourceError(
            f"A source must stay as it was until all of it is scored; it is not what {path} was made of. Bring it back "
            f"as it was, or remove {path.parent} to start anew."
        )
    done.skip(len(table), len(table) - table["error"].null_count)


def _join(parts: Path, out: Path, schema: Any) -> None:
    """One file of all parts, in order, some at a time."""
    pa = arrow()
    paths = sorted(parts.glob("*.parquet"))
    passing = parts / "joined.new"
    with pa.parquet.ParquetWriter(passing, schema, compression="zstd") as writer:
        for start in range(0, len(paths), _MERGED):
            tables = [pa.parquet.read_table(path) for path in paths[start : start + _MERGED]]
            writer.write_table(pa.concat_tables(tables), row_group_size=_MERGED * PART)
    os.replace(passing, out)
