"""A page that is killed, starved of its disk, or given damaged networks."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from conftest import DATA, PAGE, ROOT, free_port, on_disk, started

from pneumo.errors import BundleError
from pneumo.methods import DEFAULT_METHOD
from pneumo.radiograph import read_radiograph
from pneumo.ui import uploads as page_uploads
from pneumo.ui.service import ExaminationService

RADIOGRAPH = DATA / "full_resolution" / "person26_virus_60.jpeg"

# All that is mounted at / can only be read; uploads and temporary files have 8 MiB.
_SEALED = 'mount -o remount,ro,bind / && mount -t tmpfs -o size=8m none "$0" && exec "$@"'


@pytest.fixture(scope="module")
def expected(tiny_examiner):
    return tiny_examiner.examine(read_radiograph(RADIOGRAPH), method=DEFAULT_METHOD).record()


def send(url: str, content: bytes) -> httpx.Response:
    return httpx.post(f"{url}/gradio_api/upload", files={"files": ("scan.jpeg", content)}, timeout=60)


def ask(url: str) -> str:
    """Upload a radiograph and have it examined; the number of the event."""
    file = {"path": send(url, RADIOGRAPH.read_bytes()).json()[0], "orig_name": RADIOGRAPH.name}
    data = {"data": [file | {"meta": {"_type": "gradio.FileData"}}]}
    return httpx.post(f"{url}/gradio_api/call/examine", json=data, timeout=60).json()["event_id"]


def answer(url: str, event: str) -> dict:
    # While the networks load, heartbeats come first.
    said = httpx.get(f"{url}/gradio_api/call/examine/{event}", timeout=120).text.strip().split("\n\n")[-1]
    assert said.startswith("event: complete"), said
    return json.loads(said.split("data: ")[1])[0]


def break_off(url: str) -> None:
    """Begin to upload a file, and go away in the middle of it."""
    head = "POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n"
    head += "Content-Type: multipart/form-data; boundary=part\r\n\r\n--part\r\n"
    head += 'Content-Disposition: form-data; name="files"; filename="PLANTED.jpeg"\r\n\r\n'
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":")[-1]))) as connection:
        connection.sendall(head.encode() + bytes(200_000))
        time.sleep(0.5)


def soon(condition) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def test_killed_server_is_started_again(bundle_folder, tmp_path, expected):
    port, theirs = free_port(), tmp_path / "theirs" / "upload"
    theirs.parent.mkdir()
    theirs.write_text("not of this program")
    with started(bundle_folder, tmp_path, port, PAGE) as (url, process, _):
        break_off(url)
        assert soon(lambda: on_disk(tmp_path) == [theirs])
        send(url, RADIOGRAPH.read_bytes())
        first, *_ = [ask(url) for _ in range(6)]
        assert answer(url, first) == expected | {"file": RADIOGRAPH.name}
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = [path for path in on_disk(tmp_path) if path != theirs]
    assert left
    old = time.time() - page_uploads.ABANDONED - 1
    for path in (theirs, *left[1:]):
        os.utime(path.parent, (old, old))
    # Of another server, which may still be asked for it.
    with started(bundle_folder, tmp_path, port, PAGE) as (url, _, _):
        assert sorted(on_disk(tmp_path)) == sorted([theirs, left[0]])
        assert answer(url, ask(url)) == expected | {"file": RADIOGRAPH.name}


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0,
    reason="no mounts can be made here (unshare -m)",
)
def test_read_only_file_system_and_a_full_disk(bundle_folder, tmp_path, expected):
    before = ("unshare", "-m", "sh", "-c", _SEALED, str(tmp_path))
    with started(bundle_folder, tmp_path, free_port(), PAGE, before, TMPDIR=str(tmp_path)) as (url, process, _):
        seen = Path(f"/proc/{process.pid}/root{tmp_path}")
        assert not (seen / "server.log").exists()
        assert answer(url, ask(url)) == expected | {"file": RADIOGRAPH.name}
        before_it = sorted(on_disk(seen))
        for _ in range(3):
            refused = send(url, bytes(12 * 2**20))
            assert refused.status_code == 507
            assert refused.json()["detail"] == (
                "An upload needs room on the server's disk; it could not be written (No space left on device). "
                "Try again later, or tell who runs this page."
            )
        assert soon(lambda: sorted(on_disk(seen)) == before_it)
        assert answer(url, ask(url)) == expected | {"file": RADIOGRAPH.name}
    assert "Traceback" not in (tmp_path / "server.log").read_text()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            PAGE,
            "The page needs a folder for uploads that it can write to; {place}: Not a directory. "
            "Name another: GRADIO_TEMP_DIR=/path make app",
        ),
        # As where no folder at all can be written.
        (
            f"import tempfile; tempfile._candidate_tempdir_list = lambda: ['/nowhere']; {PAGE}",
            "The page needs a folder for temporary files that it can write to; No usable temporary directory found in "
            "['/nowhere']. Name one: TMPDIR=/path make app",
        ),
    ],
    ids=["uploads", "temporary files"],
)
def test_no_place_to_write(tmp_path, code, words):
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "uploads"
    environment = os.environ | {"GRADIO_TEMP_DIR": str(place), "GRADIO_SERVER_PORT": str(free_port())}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == words.format(place=place)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def missing(path: Path) -> None:
    path.unlink()


FILES = ("cnn.keras", "segmenter.keras", "cases.zip", "manifest.json")
# The manifest holds the checksums of the others; of it there is none.
DAMAGE = set(itertools.product(FILES, (truncated, altered, missing))) - {("manifest.json", altered)}


@pytest.mark.parametrize(("name", "damage"), sorted(DAMAGE, key=lambda case: (case[0], case[1].__name__)))
def test_damaged_networks_of_the_page(bundle_folder, tmp_path, name, damage):
    """Whoever asks is told of it; the page itself is up."""
    folder = tmp_path / "models"
    shutil.copytree(bundle_folder, folder)
    damage(folder / name)
    service = ExaminationService(str(folder))
    asked = service.library
    if name != "cases.zip":
        service.start()
        asked = service.examiner
    for _ in range(2):
        with pytest.raises(BundleError) as refused:
            asked()
        assert str(folder) in str(refused.value)
        assert str(refused.value).endswith(".")
