"""Very many radiographs to one Parquet file: constant memory, all cores, and it goes on where it was interrupted."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from pneumo.bundle import OPERATING_POINTS, Bundle, weights
from pneumo.errors import SourceError, first_line
from pneumo.examination import Examination, Examiner
from pneumo.framing import to_raster
from pneumo.lungs import ZONES
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
_WATCHED, _EVERY = 0.5, 10.0
"""Seconds between two words of progress on a terminal, and elsewhere."""
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
            # Made here, and not by the first threads that need it.
            examiner.graph(explained=examiner.method is not None)
            done = _Progress(len(supply), progress)
            _make_parts(supply, parts, schema, examiner, operating_point, done)
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
    supply: Supply, parts: Path, schema: Any, examiner: Examiner, operating_point: str | float, done: _Progress
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


def _write_part(pa: Any, path: Path, rows: list[dict[str, Any]], schema: Any) -> None:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.Table.from_pylist(rows, schema), sink)
    _write(path, sink.getvalue())


def _rows(
    supply: Supply, parts: Path, examiner: Examiner, operating_point: str | float, done: _Progress
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


def _batches(supply: Supply, parts: Path, done: _Progress) -> Iterator[list[Item] | None]:
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


def _check_names(path: Path, items: list[Item], done: _Progress) -> None:
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


@dataclass
class _Progress:
    """How many rows there are, and how long the rest will take."""

    total: int
    stream: TextIO | None
    rows: int = 0
    refused: int = 0
    asked: int = 0
    started: float = field(default_factory=time.perf_counter)
    said: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def skip(self, rows: int, refused: int) -> None:
        self.rows, self.refused = self.rows + rows, self.refused + refused

    def add(self, rows: list[dict[str, Any]]) -> None:
        self.skip(len(rows), sum("error" in row for row in rows))
        self.asked += len(rows)
        now = time.perf_counter()
        watched = self.stream is not None and self.stream.isatty()
        if self.stream is not None and now - self.said >= (_WATCHED if watched else _EVERY):
            self.said = now
            line, end = (f"\r{self.words:<78}", "") if watched else (self.words, "\n")
            print(line, end=end, file=self.stream, flush=True)

    def end(self) -> None:
        if self.stream is not None and self.stream.isatty():
            print(f"\r{'':<78}\r", end="", file=self.stream, flush=True)

    @property
    def words(self) -> str:
        rate = self.asked / max(self.seconds, 1e-3)
        left = (self.total - self.rows) / max(rate, 1e-3)
        refused = f", {self.refused:,} refused" if self.refused else ""
        return (
            f"{self.rows:,} of {self.total:,} ({self.rows / max(self.total, 1):.0%}){refused}, "
            f"{rate:.1f} a second, {duration(left)} left"
        )


def duration(seconds: float) -> str:
    """A time as a person says it, such as "3 min" or "2 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
