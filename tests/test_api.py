"""The API over HTTP with Gradio's own client, and its agreement with the command line and the page."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
from html import escape

import httpx
import pytest
from conftest import DATA, started
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from pydantic import TypeAdapter

from pneumo.bundle import OPERATING_POINTS
from pneumo.cli import main
from pneumo.methods import DEFAULT_METHOD
from pneumo.radiograph import read_radiograph
from pneumo.records import ExaminationRecord
from pneumo.report import percent, probability
from pneumo.ui.views import examination_view

RADIOGRAPHS = sorted((DATA / "full_resolution").glob("*.jpeg"))


@pytest.fixture(scope="module")
def client(server):
    return Client(server, verbose=False)


def test_endpoints_are_named_and_typed(client):
    endpoints = client.view_api(print_info=False, return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/examine", "/examine_base64", "/networks"}
    assert {item["parameter_name"] for item in endpoints["/examine_base64"]["parameters"]} == {
        item["parameter_name"] for item in endpoints["/examine"]["parameters"]
    }
    schema = endpoints["/examine"]["returns"][0]["type"]
    assert schema == TypeAdapter(ExaminationRecord).json_schema()
    radiograph, *others = endpoints["/examine"]["parameters"]
    assert (radiograph["parameter_name"], radiograph["parameter_has_default"]) == ("radiograph", False)
    assert {item["parameter_name"]: item["parameter_default"] for item in others} == {
        "operating_point": "balanced",
        "method": DEFAULT_METHOD,
        "target": "decided",
        "cover": "",
        "turn": 0,
        "invert": False,
    }


@pytest.mark.parametrize("path", RADIOGRAPHS, ids=lambda path: path.stem)
def test_api_and_command_line_answer_alike(client, path, bundle_folder, loaded_once, monkeypatch, capsys):
    monkeypatch.setattr("pneumo.cli.load_bundle", loaded_once)
    answer = client.predict(handle_file(path), api_name="/examine")
    TypeAdapter(ExaminationRecord).validate_python(answer)
    options = ["--format", "json", "--saliency", DEFAULT_METHOD, "--bundle", str(bundle_folder)]
    assert main(["predict", str(path), *options]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line.pop("file") == str(path)
    assert answer.pop("file") == path.name
    assert line == answer


@pytest.mark.parametrize(
    "choices",
    [
        {"method": "layercam-fused"},
        {"target": "NORMAL"},
        {"cover": "hottest"},
        {"method": "integrated-gradients", "target": "PNEUMONIA", "cover": "left_lower"},
    ],
    ids=str,
)
def test_explanation_is_chosen_as_on_the_command_line(client, bundle_folder, loaded_once, monkeypatch, capsys, choices):
    monkeypatch.setattr("pneumo.cli.load_bundle", loaded_once)
    path = RADIOGRAPHS[0]
    answer = client.predict(handle_file(path), api_name="/examine", **choices)
    names = {"method": "--saliency", "target": "--target", "cover": "--cover"}
    options = [word for name, value in choices.items() for word in (names[name], value)]
    if "method" not in choices:
        options += ["--saliency", DEFAULT_METHOD]
    assert main(["predict", str(path), "--format", "json", "--bundle", str(bundle_folder), *options]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line | {"file": path.name} == answer


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"method": "lime"}, "A saliency method must be one of"),
        ({"target": "COVID"}, "A class to explain must be one of"),
        ({"cover": "heart"}, "A region to cover must be one of"),
    ],
)
def test_unknown_choice(client, choice, words):
    with pytest.raises(AppError, match=words):
        client.predict(handle_file(RADIOGRAPHS[0]), api_name="/examine", **choice)


@pytest.mark.parametrize("point", ["balanced", "screening", "0.3", 0.3])
def test_operating_point(client, point, tiny_examiner):
    path = RADIOGRAPHS[0]
    number = float(point) if "3" in str(point) else point
    expected = tiny_examiner.examine(read_radiograph(path, path.name), number).record()
    assert client.predict(handle_file(path), point, api_name="/examine") == expected
    assert client.predict(handle_file(path), operating_point=point, api_name="/examine") == expected


@pytest.mark.parametrize("point", ["strict", "1", None])
def test_operating_point_that_is_none(client, point):
    with pytest.raises(AppError, match="An operating point must be balanced or screening, or a number between 0 and 1"):
        client.predict(handle_file(RADIOGRAPHS[0]), point, api_name="/examine")


def test_call_without_operating_point_over_plain_http(client, server):
    """As programs called it before there was a choice."""
    uploaded = httpx.post(f"{server}/gradio_api/upload", files={"files": RADIOGRAPHS[0].read_bytes()}).json()[0]
    file = {"path": uploaded, "orig_name": RADIOGRAPHS[0].name, "meta": {"_type": "gradio.FileData"}}
    event = httpx.post(f"{server}/gradio_api/call/examine", json={"data": [file]}).json()["event_id"]
    answer = httpx.get(f"{server}/gradio_api/call/examine/{event}", timeout=60).text
    assert answer.startswith("event: complete")
    expected = client.predict(handle_file(RADIOGRAPHS[0]), api_name="/examine")
    assert json.loads(answer.split("data: ")[1]) == [expected]


@pytest.mark.browser
@pytest.mark.parametrize("path", RADIOGRAPHS, ids=lambda path: path.stem)
@pytest.mark.parametrize("point", ["balanced", "screening"])
def test_page_and_api_answer_alike(client, path, point, browser, server):
    answer = client.predict(handle_file(path), point, api_name="/examine")
    page = browser.new_page()
    page.goto(server)
    page.locator(f"#point input[value={point}]").check()
    page.set_input_files("#upload input[type=file]", path)
    page.locator("#verdict", has_text=path.name).wait_for(timeout=60_000)
    words = page.inner_text("#verdict").replace("\xa0", " ").replace("\n\n", " ")
    headline, _, meaning = answer["summary"].partition(". ")
    assert headline in words
    assert meaning in words
    assert f"at the {point} operating point" in words
    assert page.locator("#verdict .uncertain").count() == answer["together"]["uncertain"]
    assert page.locator("#verdict .warning").count() == (not answer["lungs"]["found"])
    for name, network in answer["networks"].items():
        card = page.locator(f'#cards [data-network="{name}"]')
        assert card.locator(".decision").inner_text() == network["decision"]
        assert card.locator(".probability strong").inner_text() == probability(network["probability"])
        assert f"operating point {percent(network['threshold'])}:" in card.inner_text().replace("\xa0", " ")
    page.close()


@pytest.mark.parametrize("path", RADIOGRAPHS, ids=lambda path: path.stem)
def test_html_of_the_page_says_what_the_record_says(path, tiny_examiner):
    examination = tiny_examiner.examine(read_radiograph(path))
    record, view = examination.record(), examination_view(examination)
    assert escape(examination.headline) in view.verdict
    for name, network in record["networks"].items():
        card = view.cards.split(f'data-network="{name}"')[1].split("</figure>")[0]
        assert f">{network['decision']}</span>" in card
        assert f"<strong>{escape(probability(network['probability']))}</strong>" in card
        assert ('class="heat"' in card) == (network["saliency"]["status"] == "drawn")
        assert ('class="outline"' in card) == record["lungs"]["found"]


def test_refusal_is_the_same_sentence(client, bundle_folder, tmp_path, capsys):
    path = tmp_path / "text.png"
    path.write_text("hello")
    with pytest.raises(AppError) as caught:
        client.predict(handle_file(path), api_name="/examine")
    assert main(["predict", str(path), "--format", "json", "--bundle", str(bundle_folder)]) == 1
    line = json.loads(capsys.readouterr().out)
    assert line["error"].replace(str(path), path.name) == str(caught.value)


def test_nothing_given_is_refused(client):
    with pytest.raises(AppError, match="A radiograph must be given"):
        client.predict(None, api_name="/examine")


def test_networks_are_those_of_the_manifest(client, bundle_folder):
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    answer = {entry["name"]: entry for entry in client.predict(api_name="/networks")}
    assert {name: entry["sha256"] for name, entry in answer.items()} == {
        name: entry["sha256"] for name, entry in manifest["networks"].items()
    }
    for name, entry in answer.items():
        points = manifest["networks"][name]["operating_points"]
        assert entry["operating_points"] == {point: points[point]["threshold"] for point in OPERATING_POINTS}
        assert "threshold" not in entry


def test_files_of_the_server_cannot_be_examined(client, server, tmp_path):
    import urllib.error
    import urllib.request

    secret = tmp_path / RADIOGRAPHS[0].name
    shutil.copyfile(RADIOGRAPHS[0], secret)
    data = {"data": [{"path": str(secret), "meta": {"_type": "gradio.FileData"}}]}
    call = urllib.request.Request(
        f"{server}/gradio_api/call/examine", json.dumps(data).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(call) as response:
        event = json.load(response)["event_id"]
    with urllib.request.urlopen(f"{server}/gradio_api/call/examine/{event}") as response:
        assert response.read().decode().startswith("event: error")


def test_queue_is_bounded_and_says_so(bundle_folder, tmp_path):
    """With networks that never come, one examination runs, one waits, and the next is refused at once."""
    code = (
        "from pneumo.ui import interface, service\n"
        "interface.QUEUE_LENGTH = 1\n"
        "service.ExaminationService.start = lambda self: None\n"
        "interface.launch()"
    )
    with started(bundle_folder, tmp_path, code=code) as (url, process, _):
        client = Client(url, verbose=False)
        jobs = [client.submit(handle_file(RADIOGRAPHS[0]), api_name="/examine") for _ in range(4)]
        done, _ = concurrent.futures.wait(
            [job.future for job in jobs], timeout=30, return_when=concurrent.futures.FIRST_EXCEPTION
        )
        assert any("full" in str(future.exception()) for future in done)
        # Told to stop, it would wait for those that never end.
        process.kill()
