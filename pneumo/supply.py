"""Many radiographs, one after the other: from a folder, a ZIP archive or a Parquet file, never all in memory."""

from __future__ import annotations

import os
import zipfile
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from pneumo.errors import (
    UNREADABLE_ZIP,
    PneumoError,
    RadiographSizeError,
    SourceError,
    UnreadableRadiograph,
    first_line,
)
from pneumo.intake import is_radiograph_member
from pneumo.radiograph import KINDS, MAX_BYTES, Radiograph, is_radiograph_file, read_radiograph

read_reduced = partial(read_radiograph, reduced=True)
"""How radiographs are read here, where nobody is to see them."""
_PATH_COLUMNS = ("file", "path", "file_name", "filename", "image_path")
_BYTES_COLUMNS = ("image", "bytes", "data", "content")
_ROWS = 32


@dataclass(frozen=True, slots=True)
class Item:
    """One radiograph that is still to be read.

    Attributes
    ----------
    name : str
        Its path below the folder or in the archive, or what the table calls it.
    read : callable
        Returns the `Radiograph`; raises the errors of `pneumo.radiograph.read_radiograph`.
    """

    name: str
    read: Callable[[], Radiograph]


class Supply(Protocol):
    """Where many radiographs come from, always in the same order."""

    @property
    def stamp(self) -> list[int]:
        """What changes if a file is replaced by another: size and time; empty for a folder."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item]: ...

    def between(self, start: int, stop: int) -> Iterator[Item]:
        """Some of them, by number, without reading those before."""


def open_supply(source: Path, column: str | None = None) -> Supply:
    """The radiographs of a folder and all folders in it, of a ZIP archive, or of a Parquet file.

    Parameters
    ----------
    source : Path
    column : str, optional
        Column of a Parquet file that holds paths, beside the file or absolute, or the bytes of images. Default: the
        first of a usual name and type.

    Raises
    ------
    SourceError
        If it is none of these, cannot be read, or holds no radiograph.
    """
    try:
        supply: Supply
        if source.is_dir():
            supply = _Folder(source)
        elif source.suffix.lower() == ".parquet":
            supply = _Parquet(source, column)
        else:
            supply = _Archive(source)
        empty = next(iter(supply), None) is None
    except UNREADABLE_ZIP as error:
        raise SourceError(
            f"A source must be a folder, a ZIP archive or a Parquet file; {source} cannot be read "
            f"({first_line(error)}). Name another, or copy it again."
        ) from error
    if empty:
        raise SourceError(f"A source must hold {KINDS} files; {source} holds none. Name another.")
    return supply


def arrow() -> ModuleType:
    """PyArrow with its Parquet part, which the page does not need.

    Raises
    ------
    SourceError
        If it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SourceError(
            "Scoring needs the package pyarrow, which the page does not; it is not installed. Install it: "
            "make develop, or .venv/bin/python -m pip install pyarrow"
        ) from error
    return pyarrow


@dataclass(frozen=True)
class _Folder:
    root: Path

    @property
    def stamp(self) -> list[int]:
        return []

    def __len__(self) -> int:
        return sum(1 for _ in self._paths())

    def __iter__(self) -> Iterator[Item]:
        return map(self._item, self._paths())

    def between(self, start: int, stop: int) -> Iterator[Item]:
        return map(self._item, self._listed[start:stop])

    @cached_property
    def _listed(self) -> list[Path]:
        return list(self._paths())

    def _item(self, path: Path) -> Item:
        # A name that is not text is written with escapes.
        name = os.fsencode(path.relative_to(self.root)).decode(errors="backslashreplace")
        return Item(name, lambda: read_reduced(path, name))

    def _paths(self) -> Iterator[Path]:
        for folder, folders, files in os.walk(self.root, onerror=_unreadable):
            folders.sort()
            for name in sorted(files):
                path = Path(folder) / name
                if is_radiograph_file(path):
                    yield path


class _Archive:
    def __init__(self, path: Path) -> None:
        self.stamp = _stamp(path)
        self._zip = zipfile.ZipFile(path)
        self._entries = [entry for entry in self._zip.infolist() if is_radiograph_member(self._zip, entry)]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Item]:
        return map(self._item, self._entries)

    def between(self, start: int, stop: int) -> Iterator[Item]:
        return map(self._item, self._entries[start:stop])

    def _item(self, entry: zipfile.ZipInfo) -> Item:
        return Item(entry.filename, lambda: self._read(entry))

    def _read(self, entry: zipfile.ZipInfo) -> Radiograph:
        if entry.file_size > MAX_BYTES:
            raise RadiographSizeError(
                f"A file may have at most {MAX_BYTES // 2**20} MiB; {entry.filename} has "
                f"{entry.file_size // 2**20} MiB. Export it as JPEG or at a lower resolution."
            )
        try:
            data = self._zip.read(entry)
        except UNREADABLE_ZIP as error:
            raise UnreadableRadiograph(
                f"An archive must decompress completely; {entry.filename}: {first_line(error)}. Make it again."
            ) from error
        return read_reduced(data, entry.filename)


class _Parquet:
    def __init__(self, path: Path, column: str | None) -> None:
        self._path = path
        self.stamp = _stamp(path)
        self._file = self._open()
        self._column, self._name = self._columns(column)

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    def __iter__(self) -> Iterator[Item]:
        return self.between(0, len(self))

    def between(self, start: int, stop: int) -> Iterator[Item]:
        metadata = self._file.metadata
        ends = list(accumulate(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)))
        groups = range(bisect_right(ends, start), min(bisect_left(ends, stop) + 1, len(ends)))
        number = ends[groups[0] - 1] if groups and groups[0] else 0
        wanted = [self._column, *([self._name] if self._name else [])]
        batches = self._open().iter_batches(_ROWS, row_groups=list(groups), columns=wanted)
        while (batch := self._next(batches)) is not None:
            for row in batch.to_pylist():
                if start <= number < stop:
                    yield self._item(row, number)
                number += 1

    def _next(self, batches: Iterator[Any]) -> Any:
        try:
            return next(batches, None)
        except (arrow().ArrowException, OSError) as error:
            raise SourceError(
                f"A Parquet file must be complete; {self._path} is damaged ({first_line(error)}). Copy it again."
            ) from error

    def _open(self) -> Any:
        pa = arrow()
        try:
            return pa.parquet.ParquetFile(self._path)
        except pa.ArrowException as error:
            raise OSError(first_line(error)) from error

    def _columns(self, column: str | None) -> tuple[str, str | None]:
        """The column of images, and that of their names if it is another."""
        types = arrow().types
        schema = self._file.schema_arrow
        kinds = {field.name: field.type for field in schema}

        def is_bytes(name: str) -> bool:
            kind = kinds[name]
            inside = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
            return inside or types.is_binary(kind) or types.is_large_binary(kind)

        def is_path(name: str) -> bool:
            return types.is_string(kinds[name]) or types.is_large_string(kinds[name])

        named = next((name for name in _PATH_COLUMNS if name in kinds and is_path(name)), None)
        usual = [name for name in _BYTES_COLUMNS if name in kinds and is_bytes(name)]
        chosen = column or next(iter([*usual, *([named] if named else [])]), None)
        if chosen is None or chosen not in kinds or not (is_bytes(chosen) or is_path(chosen)):
            raise SourceError(
                "A Parquet file must have a column of paths or of the bytes of images; "
                f"{self._path} has {', '.join(kinds) or 'none'}"
                f"{f', and no such {column!r}' if column else ''}. Name it with --column."
            )
        return chosen, named if named != chosen else None

    def _item(self, row: dict[str, Any], number: int) -> Item:
        value = row[self._column]
        found = row[self._name] if self._name else None
        if isinstance(value, dict):
            found, value = found or value.get("path"), value["bytes"]
        if isinstance(value, str):
            path = self._path.parent / value
            return Item(found or value, lambda: read_reduced(path, found or value))
        name = found or f"row {number}"

        def read() -> Radiograph:
            if value is None:
                raise UnreadableRadiograph(f"A row must hold an image; {name} holds none. Fill it, or leave it out.")
            return read_reduced(value, name)

        return Item(name, read)


def _unreadable(error: OSError) -> None:
    raise SourceError(
        f"A source must be readable; {error.filename}: {error.strerror or error}. Allow it, or leave it out."
    ) from error


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def read_item(item: Item) -> Radiograph | PneumoError:
    """An item's radiograph, or why it was refused."""
    try:
        return item.read()
    except PneumoError as error:
        return error
