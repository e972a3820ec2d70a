"""Uploads on the server's disk: each alone in a folder, under a name that says nothing, and gone once it is read.

Gradio names an upload's folder by its content and the file as the visitor did, so that two visitors with the same
file share one, and a patient's name may stand on the disk.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import HTTPException
from gradio import routes
from gradio.data_classes import FileData
from gradio.utils import get_upload_folder

MAX_TOTAL = 512 * 2**20
"""Largest sum of files that are uploaded at once, in bytes."""
NAME = "upload"
"""Name of every upload's file."""
ABANDONED = 10 * 60
"""Seconds after which an upload on the disk is one that a killed server left."""
_TOKEN = 16
_receive = routes.upload_fn


def keep_apart() -> None:
    """Let Gradio put every upload, from now on, into a folder of its own; delete those that a killed server left.

    Raises
    ------
    SystemExit
        If there is no place for them that can be written.
    """
    place = Path(get_upload_folder())
    probe = place / secrets.token_hex(_TOKEN)
    try:
        probe.mkdir(parents=True)
        probe.rmdir()
        _delete_abandoned(place)
    except OSError as error:
        sys.exit(
            f"The page needs a folder for uploads that it can write to; {place}: {error.strerror}. "
            "Name another: GRADIO_TEMP_DIR=/path make app"
        )
    routes.upload_fn = _receive_apart


def take(payload: FileData) -> tuple[str, bytes]:
    """The visitor's name for an upload, without a folder, and its content. It is then no more on the disk.

    Raises
    ------
    gradio.Error
        If it is there no more.
    """
    path = Path(payload.path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise gr.Error("The upload expired while it waited. Add it again.", print_exception=False) from error
    _remove(path)
    return Path(payload.orig_name or path.name).name, content


def take_all(payloads: Iterable[FileData]) -> list[tuple[str, bytes]]:
    """Several uploads, each as `take` gives it.

    Raises
    ------
    gradio.Error
        If one is there no more, or all of them are larger than `MAX_TOTAL`.
    """
    payloads = list(payloads)
    total = sum(Path(payload.path).stat().st_size for payload in payloads if Path(payload.path).exists())
    if total <= MAX_TOTAL:
        return [take(payload) for payload in payloads]
    for payload in payloads:
        _remove(Path(payload.path))
    raise gr.Error(
        f"Several files may have {MAX_TOTAL // 2**20} MiB together; these have {total // 2**20}. Add fewer at once.",
        print_exception=False,
    )


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()


async def _receive_apart(request: Any, upload_dir: str, *rest: Any, **options: Any) -> tuple[list, list, list]:
    # What arrives is written here; a broken connection or a full disk leaves nothing of it behind.
    arriving = Path(upload_dir) / secrets.token_hex(_TOKEN)
    apart: list[Path] = []
    reason = None
    try:
        files, left, places = await _receive(request, str(arriving), *rest, **options)
        for file in files:
            folder = Path(upload_dir) / secrets.token_hex(_TOKEN)
            folder.mkdir()
            apart.append(Path(file).rename(folder / NAME))
    except OSError as error:
        for path in apart:
            _remove(path)
        reason = error.strerror or str(error)
    finally:
        _discard(arriving)
    if reason is not None:
        raise HTTPException(
            507,
            f"An upload needs room on the server's disk; it could not be written ({reason}). "
            "Try again later, or tell who runs this page.",
        )
    return [str(path) for path in apart], left, places


def _discard(folder: Path) -> None:
    """Delete a folder, and give back the room of its files even while the thread that wrote one keeps it open."""
    for path in folder.glob("*"):
        with suppress(OSError):
            os.truncate(path, 0)
    shutil.rmtree(folder, ignore_errors=True)


def _delete_abandoned(place: Path) -> None:
    """Delete uploads that nobody will read any more; those of other servers with the same folder are younger."""
    for folder in place.iterdir():
        with suppress(OSError, ValueError):
            is_ours = len(bytes.fromhex(folder.name)) == _TOKEN
            if is_ours and time.time() - folder.stat().st_mtime > ABANDONED:
                shutil.rmtree(folder)
