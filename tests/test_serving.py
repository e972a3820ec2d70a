"""How the server holds: limits, closed doors, health, logs, a graceful end, the MCP tool, and README's lines."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import logging
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import gradio as gr
import httpx
import pytest
from conftest import DATA, ROOT, started

from benchmarks.load import RIGHT, ask_at_once, radiographs, wait_until_ready
from pneumo import read_radiograph
from pneumo.errors import BundleError, ServerBusy
from pneumo.ui import guard, service
from pneumo.ui.guard import CLOSED, Guard, refuse_addresses
from pneumo.ui.running import BUSY, STOPPING
from pneumo.ui.service import EXAMINATIONS, ExaminationService
from pneumo.ui.tools import decoded

RADIOGRAPH = DATA / "full_resolution" / "person26_virus_60.jpeg"
NEVER_LOADED = """
from pneumo.ui import interface, service
interface.QUEUE_LENGTH = 1
service.ExaminationService.start = lambda self: None
import app; app.launch()
"""
SLOW = """
import time
from pneumo.examination import Examiner
examine = Examiner.examine
def slowly(self, radiograph, *rest, **options):
    time.sleep(3 if radiograph.name.endswith(".jpeg") else 0)
    return examine(self, radiograph, *rest, **options)
Examiner.examine = slowly
import app; app.launch()
"""


@pytest.fixture(scope="module")
def ready(server) -> str:
    wait_until_ready(server)
    return server


@pytest.fixture(scope="module")
def never_ready(bundle_folder, tmp_path_factory):
    """A page whose networks never come; behind the first examination one may wait."""
    with started(bundle_folder, tmp_path_factory.mktemp("never_ready"), code=NEVER_LOADED) as (url, process, _):
        yield url
        # Told to stop, it would wait for the examinations.
        process.kill()


@pytest.fixture
def loaded(bundle_folder, tiny_examiner):
    examinations = ExaminationService(str(bundle_folder))
    examinations._examiner.set_result(tiny_examiner)
    return examinations


def finish(coroutine):
    """Its result; in a thread of its own, because a browser of other tests may keep a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def ask(url: str, file: object) -> tuple[str, str]:
    """The kind of the last event of a call of /examine, and its data."""
    call = httpx.post(f"{url}/gradio_api/call/examine", json={"data": [file]})
    answer = httpx.get(f"{url}/gradio_api/call/examine/{call.json()['event_id']}", timeout=60).text
    kind, _, data = answer.rstrip().rpartition("event: ")[2].partition("\ndata: ")
    return kind, data


def upload(url: str) -> dict:
    path = httpx.post(f"{url}/gradio_api/upload", files={"files": RADIOGRAPH.read_bytes()}).json()[0]
    return {"path": path, "orig_name": RADIOGRAPH.name, "meta": {"_type": "gradio.FileData"}}


def test_health_names_the_networks(ready, bundle_folder):
    answer = httpx.get(f"{ready}/health")
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "networks": {name: entry["sha256"] for name, entry in manifest["networks"].items()},
    }


def test_health_until_the_networks_are_ready(never_ready):
    answer = httpx.get(f"{never_ready}/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "loading"})
    assert httpx.get(never_ready).status_code == 200


def test_state_of_networks_that_fail(tmp_path):
    examinations = ExaminationService(str(tmp_path / "none"))
    examinations.start()
    with pytest.raises(BundleError):
        examinations.examiner()
    assert examinations.state() == "failed"


def test_examination_that_takes_too_long(loaded, monkeypatch, caplog):
    monkeypatch.setattr(service, "TIME_LIMIT", 0.1)
    monkeypatch.setattr(EXAMINATIONS, "propagate", True)
    caplog.set_level(logging.INFO, EXAMINATIONS.name)
    radiograph, go_on = read_radiograph(RADIOGRAPH), threading.Event()
    with pytest.raises(ServerBusy, match="may take at most"):
        loaded._in_turn(radiograph, go_on.wait)
    # One that waits behind it is told as much.
    with pytest.raises(ServerBusy, match="Try again"):
        loaded.examine(radiograph)
    assert loaded.state() == "stuck"
    go_on.set()
    monkeypatch.setattr(service, "TIME_LIMIT", 60)
    assert loaded.examine(radiograph).headline
    assert loaded.state() == "ready"
    assert [json.loads(entry.message)["outcome"] for entry in caplog.records] == ["busy", "busy", "answered"]


def test_log_tells_when_how_long_and_of_what_size(loaded, monkeypatch, caplog):
    monkeypatch.setattr(EXAMINATIONS, "propagate", True)
    caplog.set_level(logging.INFO, EXAMINATIONS.name)
    loaded.examine(read_radiograph(RADIOGRAPH.read_bytes(), "Jane Doe.jpeg"))
    entry = json.loads(caplog.records[0].message)
    assert entry.keys() == {"time", "outcome", "seconds", "waited", "format", "width", "height"}
    assert (entry["outcome"], entry["width"], entry["height"]) == ("answered", 1152, 720)
    assert 0 <= entry["waited"] <= entry["seconds"]
    assert "Jane" not in caplog.text


@pytest.mark.parametrize("path", CLOSED)
def test_closed_door(ready, path):
    answer = httpx.get(f"{ready}{path}/etc/passwd")
    assert (answer.status_code, answer.json()) == (404, {"error": "This page has nothing at that address."})


REVIEWED = {
    *("", "/assets/{}", "/config", "/favicon.ico", "/login", "/logout", "/manifest.json", "/pwa_icon", "/pwa_icon/{}"),
    *("/robots.txt", "/static/{}", "/svelte/{}", "/theme.css"),
    *("/gradio_api" + path for path in ("/api/{}", "/app_id", "/call/v2/{}", "/call/v2/{}/{}", "/call/{}")),
    *("/gradio_api" + path for path in ("/call/{}/{}", "/cancel", "/heartbeat/{}", "/info", "/login_check")),
    *("/gradio_api" + path for path in ("/openapi.json", "/queue/data", "/queue/join", "/queue/status", "/reset")),
    *("/gradio_api" + path for path in ("/run/{}", "/startup-events", "/theme.css", "/token", "/upload")),
    *("/gradio_api" + path for path in ("/upload_progress", "/user")),
    *("/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc"),
}
"""The paths of Gradio that stay open, looked through one by one: none fetches an address or gives a file of the disk
but Gradio's own. A later release that has others must be looked through again."""


# In a process of its own: the application makes event loops that it never closes.
LIST_PATHS = """
import json
from gradio.routes import App
from pneumo.ui.interface import build_interface
from pneumo.ui.service import ExaminationService
def paths(routes):
    for route in routes:
        inner = getattr(route, "original_router", None)
        yield from paths(inner.routes) if inner is not None else [route.path]
print(json.dumps(list(paths(App.create_app(build_interface(ExaminationService())).routes))))
"""


def test_no_door_of_gradio_is_open_that_was_not_looked_at():
    listed = subprocess.run([sys.executable, "-c", LIST_PATHS], cwd=ROOT, capture_output=True, text=True, check=True)
    found = {re.sub(r"\{[^}]*\}", "{}", path).rstrip("/") for path in json.loads(listed.stdout.splitlines()[-1])}
    assert {path for path in found if not f"{path}/".startswith(CLOSED)} - REVIEWED == set()
    assert "/gradio_api/queue/join" in found


def test_nothing_is_kept_in_the_browser(ready):
    assert httpx.get(f"{ready}/config").json()["run_history"] is False


def test_no_address_is_fetched(ready):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/radiograph.jpeg"
        for keys in ({"path": address}, {"path": "x", "url": address}, {"path": address.upper()}):
            kind, data = ask(ready, {**keys, "meta": {"_type": "gradio.FileData"}})
            assert kind == "error"
            assert "received an address" in data or keys["path"] == "x"
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize("path", ["/etc/passwd", str(ROOT / "app.py"), "../app.py", "app.py"])
def test_no_path_of_the_server_is_read(ready, path):
    kind, data = ask(ready, {"path": path, "meta": {"_type": "gradio.FileData"}})
    assert kind == "error"
    assert "root:" not in data
    assert "launch" not in data


def test_addresses_are_found_wherever_they_are():
    with pytest.raises(gr.Error, match="must be uploaded"):
        refuse_addresses(["", [{"path": "ftp://127.0.0.1/x"}]])
    refuse_addresses(["http://is.text", [{"path": "a/upload", "url": "http://127.0.0.1/file=a/upload"}], None])


def test_other_sites_are_not_answered(ready):
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for path in ("/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/mcp/"):
        answer = httpx.options(f"{ready}{path}", headers=headers)
        assert "access-control-allow-origin" not in answer.headers
    answer = httpx.get(f"{ready}/config", headers={"Origin": "null"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/gradio_api/call/examine", "/gradio_api/upload", "/gradio_api/mcp/"])
def test_too_large_a_request_is_refused_before_it_comes(ready, path):
    connection = http.client.HTTPConnection(urlsplit(ready).netloc, timeout=30)
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", str(2**31))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert "A request may have at most" in answer.read().decode()
    connection.close()


def test_too_large_a_request_that_hides_its_length(monkeypatch):
    monkeypatch.setattr(guard, "MAX_BODY", 10)
    sent, taken = [], []

    async def application(_scope, receive, _send):
        while True:
            taken.append(await receive())

    async def receive():
        return {"type": "http.request", "body": b"four", "more_body": True}

    async def send(message):
        sent.append(message)

    finish(Guard(application)({"type": "http", "path": "/x", "headers": []}, receive, send))
    assert len(taken) == 2
    assert sent[0]["status"] == 413


@pytest.mark.parametrize("text", ["http://127.0.0.1/x", "/etc/passwd", "no base64!"])
def test_base64_that_is_none(text):
    with pytest.raises(gr.Error, match="must be the base64 of a file"):
        decoded(text)
    assert decoded(" aGV\nsbG8=") == decoded("data:image/png;base64,aGVsbG8=") == b"hello"


def test_tool_by_a_real_client(ready, tiny_examiner):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    data = RADIOGRAPH.read_bytes()
    expected = tiny_examiner.examine(read_radiograph(data, "radiograph"), "screening").record()

    async def talk():
        async with (
            streamable_http_client(f"{ready}/gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            right = {"radiograph": base64.b64encode(data).decode(), "operating_point": "screening"}
            answers = [
                await session.call_tool("examine", arguments)
                for arguments in (right, {"radiograph": "http://127.0.0.1/x"}, {**right, "target": "COVID"})
            ]
            return tools, answers, await session.call_tool("examine_file", {"radiograph": "http://127.0.0.1:1/x"})

    for _ in range(300):
        if httpx.get(f"{ready}/gradio_api/mcp/").status_code == 200:
            break
        time.sleep(0.2)
    tools, (answer, address, unknown), other = finish(talk())
    assert [tool.name for tool in tools] == ["examine"]
    assert tools[0].inputSchema["required"] == ["radiograph"]
    assert "not for diagnosis" in tools[0].description
    assert not answer.isError
    assert json.loads(answer.content[0].text) == expected
    assert address.isError
    assert "must be the base64 of a file" in address.content[0].text
    assert unknown.isError
    assert "A class to explain must be one of" in unknown.content[0].text
    assert other.isError
    assert "Unknown tool" in other.content[0].text


def test_eight_visitors_at_once(ready, tiny_examiner):
    pictures = radiographs(8)
    expected = [tiny_examiner.examine(read_radiograph(data, "load.png")).record() for data in pictures]
    assert len({json.dumps(record) for record in expected}) == 8
    assert [visit.outcome for visit in ask_at_once(ready, pictures, expected)] == [RIGHT] * 8


def test_busy_page_says_so(never_ready):
    answers = []
    for _ in range(4):
        answers.append(httpx.post(f"{never_ready}/gradio_api/call/examine", json={"data": [upload(never_ready)]}))
        time.sleep(0.5)
    assert [answer.status_code for answer in answers] == [200, 200, 200, 503]
    assert answers[-1].json()["detail"] == BUSY


def test_graceful_end(bundle_folder, tmp_path):
    """Told to stop, the program answers what is being examined, refuses what comes, and ends well."""
    with started(bundle_folder, tmp_path, code=SLOW) as (url, process, log):
        wait_until_ready(url)
        answers = []
        asking = threading.Thread(target=lambda: answers.append(ask(url, upload(url))))
        asking.start()
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert httpx.get(f"{url}/health").json() == {"status": "stopping"}
        refused = httpx.post(f"{url}/gradio_api/call/examine", json={"data": [{"path": "x"}]})
        assert (refused.status_code, refused.json()["detail"]) == (503, STOPPING)
        asking.join(60)
        assert answers[0][0] == "complete"
        assert json.loads(answers[0][1])[0]["file"] == RADIOGRAPH.name
        assert process.wait(60) == 0
        assert "Traceback" not in log.read_text()
        with contextlib.suppress(json.JSONDecodeError):
            lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        assert [line["outcome"] for line in lines] == ["answered"]


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
def test_lines_of_the_manual(ready, tiny_examiner, tmp_path):
    """What README tells to type, typed as it stands there but for the port."""
    shutil.copyfile(RADIOGRAPH, tmp_path / "radiograph.jpeg")
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [block for block in blocks if "curl" in block]
    assert len(lines) == 2
    expected = tiny_examiner.examine(read_radiograph(tmp_path / "radiograph.jpeg"), "screening")
    for block, name in zip(lines, ("radiograph.jpeg", "radiograph"), strict=True):
        script = block.replace("http://127.0.0.1:7860", ready)
        done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout.rpartition("data: ")[2])[0]
        record = json.loads(answer) if isinstance(answer, str) else answer
        assert record == {**expected.record(), "file": name}
