"""Many files at once: what of folders, ZIP archives and uploads is examined, and under which names."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pneumo.errors import UNREADABLE_ZIP, UnreadableRadiograph
from pneumo.radiograph import HEAD, KINDS, MAX_BYTES, SUFFIXES, Radiograph, is_radiograph_file, read_radiograph

MAX_FILES = 1000
"""Files that are looked at in one ZIP archive."""
_ENCRYPTED = 1
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class Source:
    """One file to be examined.

    Attributes
    ----------
    name : str
        What its user calls it; that of a DICOM file is told only if it is asked for.
    read : callable
        Reads it as a `Radiograph`, or raises what `read_radiograph` raises.
    """

    name: str
    read: Callable[[], Radiograph]


def sources_of_paths(paths: Iterable[Path]) -> Iterator[Source]:
    """The files named, those below the folders named and those in ZIP archives, in order.

    What holds no radiograph is a source too, which is refused when it is read. Each must be read before the next is
    taken.
    """
    for path in paths:
        found = [path]
        # A path that cannot be looked at is refused when it is read, so that the other inputs are still answered.
        with suppress(OSError):
            if path.is_dir():
                found = sorted(item for item in path.rglob("*") if item.is_file() and is_radiograph_file(item))
                if not found:
                    yield _refused(str(path), f"A folder must hold {KINDS} files; {path} holds none. Name another.")
        for file in found:
            if not _is_zip(file):
                yield _file(file)
                continue
            with file.open("rb") as stream:
                yield from _members(stream, str(file), f"{file}/")


def sources_of_uploads(uploads: Iterable[tuple[str, bytes]]) -> Iterator[Source]:
    """Uploaded files, by name and content, and those in ZIP archives among them; each as `sources_of_paths`."""
    for name, content in uploads:
        if content.startswith(_ZIP):
            # The name of an archive may be a patient's; those of files in it are told as those of any file.
            yield from _members(io.BytesIO(content), "The archive", "")
        else:
            yield _upload(name, content)


def is_batch(uploads: list[tuple[str, bytes]]) -> bool:
    """Whether uploads are to be answered in a table: several, or an archive."""
    return len(uploads) > 1 or any(content.startswith(_ZIP) for _, content in uploads)


def _is_zip(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP
    return False


def _file(path: Path) -> Source:
    return Source(str(path), lambda: read_radiograph(path, str(path)))


def _upload(name: str, content: bytes) -> Source:
    return Source(name, lambda: read_radiograph(content, name))


def _refused(name: str, words: str) -> Source:
    def read() -> Radiograph:
        raise UnreadableRadiograph(words)

    return Source(name, read)


def _members(stream: BinaryIO, name: str, before: str) -> Iterator[Source]:
    """The radiographs of an archive; `before` is put before their names in it."""
    damaged = f"A ZIP archive must be whole and not encrypted; {name} is damaged or encrypted. Make it again."
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_FILES:
                words = f"A ZIP archive may hold at most {MAX_FILES} files; {name} holds {len(entries)}. Divide it."
                yield _refused(name, words)
                return
            found = [entry for entry in entries if is_radiograph_member(archive, entry)]
            if not found:
                yield _refused(name, f"A ZIP archive must hold {KINDS} files; {name} holds none. Choose another.")
            for entry in found:
                yield _member(archive, entry, before + _printable(entry.filename))
    except UNREADABLE_ZIP:
        yield _refused(name, damaged)


def is_radiograph_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """Whether a file of an archive is taken for a radiograph, as `pneumo.radiograph.is_radiograph_file` takes one.

    Raises what `pneumo.errors.UNREADABLE_ZIP` lists, of a damaged archive.
    """
    path = PurePosixPath(entry.filename)
    # What macOS adds to every archive.
    if entry.is_dir() or "__MACOSX" in path.parts or path.name.startswith("."):
        return False
    if path.suffix.lower() in SUFFIXES and not entry.flag_bits & _ENCRYPTED:
        return True
    with archive.open(entry) as file:
        return is_radiograph_file(path, file.read(HEAD))


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> Source:
    def read() -> Radiograph:
        try:
            with archive.open(entry) as file:
                # One byte more than is accepted: a larger one is refused, however large it is.
                content = file.read(MAX_BYTES + 1)
        except UNREADABLE_ZIP as error:
            raise UnreadableRadiograph(
                f"A file in a ZIP archive must be whole and not encrypted; {name} is not. Make the archive again."
            ) from error
        return read_radiograph(content, name)

    return Source(name, read)


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name)
