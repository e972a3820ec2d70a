"""Where images come from: a folder, the Kaggle archive as downloaded, or a data set on the Hugging Face Hub."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

from pneumo.errors import UNREADABLE_ZIP, first_line
from pneumo.radiograph import SUFFIXES
from pneumo.zoo import CLASS_NAMES
from training.errors import DataError

HUB_DATASET = "hf-vision/chest-xray-pneumonia"
"""Data set on the Hugging Face Hub that is used where none is named."""
_SPLIT_FOLDERS = ("train", "val", "validation", "test")


class Source(Protocol):
    """A set of files SPLIT/CLASS/NAME that can be read one at a time."""

    @property
    def location(self) -> str:
        """What `open_source` takes to open it again."""

    def files(self) -> list[str]:
        """All images, as sorted paths of the form SPLIT/CLASS/NAME."""

    def read(self, file: str) -> bytes:
        """Content of one of `files`.

        Raises
        ------
        DataError
            If it cannot be read.
        """


def open_source(location: str | Path) -> Source:
    """Open a source by its location.

    Parameters
    ----------
    location : str or Path
        A folder that holds {train,val,test}/{NORMAL,PNEUMONIA}, at its top or further down; a ZIP archive of
        such a folder; or "hub:OWNER/NAME@REVISION", a data set on the Hugging Face Hub.

    Raises
    ------
    DataError
        If nothing of the kind is there.
    """
    if str(location).startswith("hub:"):
        repository, _, revision = str(location).removeprefix("hub:").partition("@")
        return hub_source(repository, revision or None)
    path = Path(location)
    if path.is_dir():
        return FolderSource(path)
    if path.is_file() and zipfile.is_zipfile(path):
        return ZipSource(path)
    state = "is neither" if path.exists() else "does not exist"
    raise DataError(
        f"The data must be a folder of {{train,val,test}}/{{NORMAL,PNEUMONIA}} or a ZIP archive of one; "
        f"{path} {state}. Name the folder, or the archive.zip that Kaggle gives, or use --from-hub."
    )


class FolderSource:
    """Images in a folder."""

    def __init__(self, path: Path) -> None:
        members = (item.relative_to(path).as_posix() for item in path.rglob("*"))
        self._members = _choose_tree(members, str(path))
        self._path = path
        self.location = str(path)

    def files(self) -> list[str]:
        """All images, sorted."""
        return sorted(self._members)

    def read(self, file: str) -> bytes:
        """Content of one image."""
        try:
            return (self._path / self._members[file]).read_bytes()
        except (OSError, KeyError) as error:
            raise DataError(f"Every image of the manifest must be there; {self._path} has no {file}.") from error


class ZipSource:
    """Images in a ZIP archive, read without unpacking it."""

    def __init__(self, path: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise _damaged(path, error) from error
        self._members = _choose_tree(self._archive.namelist(), str(path))
        self.location = str(path)

    def files(self) -> list[str]:
        """All images, sorted."""
        return sorted(self._members)

    def read(self, file: str) -> bytes:
        """Content of one image."""
        try:
            return self._archive.read(self._members[file])
        except (KeyError, *UNREADABLE_ZIP) as error:
            raise DataError(f"Every image of the archive must be readable; {file} is not: {error}.") from error


class ParquetSource:
    """Images in Parquet files as the Hub holds them: columns `image` (bytes and path) and `label`."""

    def __init__(self, files: list[Path], location: str) -> None:
        import pyarrow.parquet

        self.location = location
        self._tables = {}
        for path in files:
            try:
                self._tables[path] = pyarrow.parquet.ParquetFile(path)
            except (OSError, ValueError) as error:
                raise _damaged(path, error) from error

    @cached_property
    def _index(self) -> dict[str, tuple[Path, int]]:
        index: dict[str, tuple[Path, int]] = {}
        for number, (path, table) in enumerate(self._tables.items()):
            split = path.name.split("-")[0].split(".")[0]
            if split not in _SPLIT_FOLDERS:
                raise DataError(
                    f"A Parquet file's name must begin with one of {', '.join(_SPLIT_FOLDERS)}; "
                    f"received {path.name}. Rename it."
                )
            leaves = {table.schema.column(leaf).path for leaf in range(len(table.schema))}
            if not {"image.bytes", "image.path", "label"} <= leaves:
                raise DataError(
                    "A Parquet file must have the columns `image` (bytes and path) and `label`; "
                    f"{path.name} has {', '.join(sorted(leaves))}."
                )
            try:
                columns = table.read(columns=["image.path", "label"]).to_pydict()
            except (OSError, ValueError) as error:
                raise _damaged(path, error) from error
            for row, (image, label) in enumerate(zip(columns["image"], columns["label"], strict=True)):
                name = PurePosixPath((image and image["path"]) or f"{split}.jpeg")
                folder = f"{split}/{_class_name(label, path)}"
                file = f"{folder}/{name.name}"
                if file in index or not (image and image["path"]):
                    # Without a name of its own an image is called by its place; a number at the end keeps the patient.
                    file = f"{folder}/{name.stem}-{number}-{row}{name.suffix}"
                index[file] = (path, row)
        return index

    def files(self) -> list[str]:
        """All images, sorted."""
        return sorted(self._index)

    def read(self, file: str) -> bytes:
        """Content of one image."""
        if file not in self._index:
            raise DataError(f"Every image of the manifest must be there; {self.location} has no {file}.")
        path, row = self._index[file]
        table = self._tables[path]
        group = 0
        while row >= (rows := table.metadata.row_group(group).num_rows):
            row -= rows
            group += 1
        try:
            content = self._column(path, group)[row].as_py()
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error
        if not isinstance(content, bytes):
            raise DataError(f"Every row of a Parquet file must hold the bytes of an image; that of {file} does not.")
        return content

    def _column(self, path: Path, group: int):
        # The last row group is kept, because files are read in nearly the order in which they lie.
        if getattr(self, "_last", None) != (path, group):
            table = self._tables[path].read_row_group(group, columns=["image.bytes"])
            self._values = table.column("image").combine_chunks().field("bytes")
            self._last = (path, group)
        return self._values


def hub_source(repository: str = HUB_DATASET, revision: str | None = None) -> Source:
    """Download a data set from the Hugging Face Hub, or find it in the cache, and open it.

    Parameters
    ----------
    repository : str
        OWNER/NAME of a data set of images in folders, of ZIP archives, or of Parquet files.
    revision : str, optional
        Branch, tag or commit. Default: the newest, which is then pinned in the location by its commit.

    Raises
    ------
    DataError
        If it cannot be downloaded, or holds neither images nor Parquet.
    """
    import httpx2
    from huggingface_hub import snapshot_download

    patterns = ["*.parquet", "*.zip", *(f"*{end}" for suffix in SUFFIXES for end in (suffix, suffix.upper()))]
    try:
        folder = Path(snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except (OSError, ValueError, httpx2.HTTPError) as error:
        raise DataError(
            f"A data set on the Hugging Face Hub must exist and be reachable; {repository} is not "
            f"({first_line(error)}). Check the name and the network, or name a folder or archive.zip."
        ) from error
    location = f"hub:{repository}@{folder.name}"
    if parquet := sorted(folder.rglob("*.parquet")):
        return ParquetSource(parquet, location)
    archives = sorted(folder.rglob("*.zip"))
    source: Source = ZipSource(archives[0]) if archives else FolderSource(folder)
    source.location = location  # type: ignore[misc]
    return source


def _class_name(label: object, path: Path) -> str:
    """Class of a label of a Parquet file, which is a class's number or name."""
    name = label.upper() if isinstance(label, str) else dict(enumerate(CLASS_NAMES)).get(label)  # type: ignore[call-overload]
    if name not in CLASS_NAMES:
        expected = ", ".join(f"{number} or {name}" for number, name in enumerate(CLASS_NAMES))
        raise DataError(f"A label must be one of {expected}; {path.name} has {label!r}.")
    return name


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"An archive or a Parquet file must be complete; {path} is not ({first_line(error)}). "
        "Download or copy it again."
    )


def _choose_tree(members: Iterable[str], location: str) -> dict[str, str]:
    """Map SPLIT/CLASS/NAME to the member that holds it, for the one tree of images nearest the top.

    The Kaggle archive holds the same tree twice, one inside the other, and a Mac's resource files beside.
    """
    trees: dict[str, dict[str, str]] = {}
    for member in members:
        path = PurePosixPath(member)
        if len(path.parts) < 3 or path.suffix.lower() not in SUFFIXES or "__MACOSX" in path.parts:
            continue
        split, label, name = path.parts[-3:]
        if split in _SPLIT_FOLDERS and label in CLASS_NAMES and not name.startswith("."):
            trees.setdefault("/".join(path.parts[:-3]), {})[f"{split}/{label}/{name}"] = member
    if not trees:
        raise DataError(
            f"The data must hold {{train,val,test}}/{{NORMAL,PNEUMONIA}} with JPEG or PNG images; {location} does not. "
            "Name the folder or archive that does."
        )
    depth = Counter({root: -root.count("/") - bool(root) for root in trees})
    return trees[max(sorted(trees), key=lambda root: depth[root])]
