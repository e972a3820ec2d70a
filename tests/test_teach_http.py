"""What the teaching room fetches, over HTTP."""

from __future__ import annotations

import json
import shutil
import zipfile

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pneumo.cases import CASES
from pneumo.report import DETAILS, METRICS, SCORES
from pneumo.ui.service import ExaminationService
from pneumo.ui.teach import STATIC, teaching_routes


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server) as client:
        yield client


@pytest.fixture(scope="module")
def members(bundle_folder) -> dict[str, bytes]:
    with zipfile.ZipFile(bundle_folder / CASES) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def bare(bundle_folder, tmp_path):
    """The same of a copy of the bundle that a test may alter."""
    folder = shutil.copytree(bundle_folder, tmp_path / "models")
    with TestClient(Starlette(routes=teaching_routes(ExaminationService(str(folder))))) as client:
        yield folder, client


def test_every_member_is_served(client, members):
    for name, content in members.items():
        answer = client.get(f"/teaching/cases/{name}")
        assert (answer.status_code, answer.content) == (200, content)
        kind = "application/json" if name.endswith(".json") else "image/jpeg"
        assert answer.headers["content-type"] == kind


def test_browser_keeps_what_no_bundle_changes(client, members):
    """A radiograph of the data set; never an answer, a heatmap or a module of another release."""
    kept = [name for name in members if name.endswith(".jpeg") and not name.startswith("tour-")]
    assert len(kept) == 15
    for name in members:
        expected = "private, max-age=86400" if name in kept else "no-cache"
        assert client.get(f"/teaching/cases/{name}").headers["cache-control"] == expected
    for address in ("metrics.json", "static/main.js"):
        assert client.get(f"/teaching/{address}").headers["cache-control"] == "no-cache"


def test_module_that_has_not_changed_is_not_sent_again(client):
    tag = client.get("/teaching/static/main.js").headers["etag"]
    answer = client.get("/teaching/static/main.js", headers={"if-none-match": tag})
    assert (answer.status_code, answer.content) == (304, b"")


def test_metrics_are_those_of_the_bundle_with_titles(client, bundle_folder):
    answer = client.get("/teaching/metrics.json")
    assert answer.status_code == 200
    measured = json.loads((bundle_folder / "metrics.json").read_text(encoding="utf-8"))
    assert answer.json() == {**measured, "titles": METRICS | DETAILS, "scores": sorted(SCORES)}


@pytest.mark.parametrize("name", ["nobody.json", "nobody.jpeg", "index", "manifest.json", "..", "%2e%2e"])
def test_unknown_case_is_refused_in_words(client, name):
    answer = client.get(f"/teaching/cases/{name}")
    assert answer.status_code == 404
    if name.startswith("nobody"):
        assert answer.json() == {
            "error": f"A case must be one of the library; it has no {name!r}. Choose one in the library."
        }


@pytest.mark.parametrize("folder", ["cases", "static"])
@pytest.mark.parametrize("step", ["../", "..%2f", "%2e%2e%2f", "..%5c", "..%252f", "%2f", "/"])
def test_nothing_beside_the_library_and_the_modules_is_served(client, folder, step):
    for target in ("predictions.csv", "models/predictions.csv", "teach.py", "etc/passwd"):
        for steps in (1, 3, 8):
            assert client.get(f"/teaching/{folder}/{step * steps}{target}").status_code in (403, 404)


def test_modules_are_served_as_scripts(client):
    modules = sorted(STATIC.glob("*.js"))
    assert len(modules) == 10
    for path in modules:
        answer = client.get(f"/teaching/static/{path.name}")
        assert (answer.status_code, answer.content) == (200, path.read_bytes())
        assert "javascript" in answer.headers["content-type"]


@pytest.mark.parametrize("address", ["cases/index.json", "cases/IM-0005-0001.json", "metrics.json"])
def test_nothing_can_be_sent(client, address):
    for method in ("POST", "PUT", "DELETE"):
        assert client.request(method, f"/teaching/{address}").status_code == 405


def test_bundle_without_a_library(bare):
    folder, client = bare
    (folder / CASES).unlink()
    for name in ("index.json", "IM-0005-0001.json", "IM-0005-0001.jpeg"):
        answer = client.get(f"/teaching/cases/{name}")
        assert answer.status_code == 503
        assert "Make it with `python -m training cases`." in answer.json()["error"]
    assert client.get("/teaching/metrics.json").status_code == 200


def test_library_of_other_networks_is_refused(bare):
    folder, client = bare
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["networks"]["cnn"]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    answer = client.get("/teaching/cases/index.json")
    assert answer.status_code == 503
    assert "was made with others. Make it again with `python -m training cases`." in answer.json()["error"]


def test_library_that_is_made_meanwhile_is_found(bare):
    folder, client = bare
    (folder / CASES).rename(folder / "away.zip")
    assert client.get("/teaching/cases/index.json").status_code == 503
    (folder / "away.zip").rename(folder / CASES)
    assert client.get("/teaching/cases/index.json").status_code == 200


@pytest.mark.parametrize("content", [None, "{"])
def test_bundle_without_metrics(bare, content):
    folder, client = bare
    (folder / "metrics.json").unlink()
    if content:
        (folder / "metrics.json").write_text(content)
    answer = client.get("/teaching/metrics.json")
    assert answer.status_code == 503
    assert "Run `python -m training evaluate`." in answer.json()["error"]
    assert client.get("/teaching/cases/index.json").status_code == 200


def test_no_bundle(tmp_path):
    with TestClient(Starlette(routes=teaching_routes(ExaminationService(str(tmp_path / "nothing"))))) as client:
        for address in ("cases/index.json", "metrics.json"):
            answer = client.get(f"/teaching/{address}")
            assert answer.status_code == 503
            assert answer.json()["error"]
