"""Bundles on the Hub: loaded by the real client from a Hub on loopback, with every fault that can come between."""

from __future__ import annotations

import hashlib
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from conftest import DATA, serve
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import GatedRepoError
from loopback_hub import LFS_WARNING, LoopbackHub, client_environment, plain_client, redirect_client, skip_waits

from pneumo.bundle import Bundle, load_bundle, open_bundle, read_manifest
from pneumo.errors import PneumoError
from pneumo.examination import Examiner
from pneumo.hub import explain, open_hub
from pneumo.radiograph import read_radiograph
from training.publish import plan_networks, publish

pytestmark = pytest.mark.filterwarnings(LFS_WARNING)
REPO = "tester/pneumo"
BRANCH = f"hf://{REPO}@main"
RADIOGRAPHS = sorted((DATA / "full_resolution").glob("*.jpeg"))


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[LoopbackHub]:
    """An empty Hub that the client takes for the real one; its cache is in tmp_path."""
    tokens = {"hf_write": ("tester", True), "hf_read": ("reader", False)}
    with plain_client(monkeypatch, tmp_path), LoopbackHub(tokens) as hub:
        redirect_client(monkeypatch, hub.url)
        yield hub


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Pauses that the client skipped."""
    return skip_waits(monkeypatch)


@pytest.fixture(scope="module")
def files(bundle_folder) -> dict[str, bytes]:
    """What is published of the tiny networks."""
    return plan_networks(bundle_folder, REPO).files


@pytest.fixture
def commit(hub, files) -> str:
    """The tiny networks on the Hub, put there without HTTP."""
    return hub.put(REPO, "model", files)


def at(revision: str) -> str:
    return f"hf://{REPO}@{revision}"


def load(location: str) -> Bundle:
    """The smallest network alone: as much of a load as a fault needs."""
    return load_bundle(location, ("cnn",))


def failure(location: str, run: Callable = load) -> str:
    """The message of a load that fails: one paragraph that a visitor can be shown."""
    with pytest.raises(PneumoError) as caught:
        run(location)
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    assert message.endswith(".")
    assert " must " in message
    assert constants.HF_HUB_CACHE not in message
    assert "Request ID" not in message
    return message


def downloads(hub: LoopbackHub) -> list[str]:
    """Names of the files whose content was sent, in order."""
    return [path.rsplit("/", 1)[1] for method, path, _, _ in hub.answers if method == "GET" and "/resolve/" in path]


def damaged_blobs() -> list[str]:
    """Files of the cache that are not what their name says."""
    found = []
    for blob in Path(constants.HF_HUB_CACHE).glob("models--*/blobs/*"):
        content = blob.read_bytes()
        digests = hashlib.sha256(content), hashlib.sha1(b"blob %d\0" % len(content) + content)
        if blob.name not in {digest.hexdigest() for digest in digests}:
            found.append(blob.name)
    return found


def records(bundle: Bundle) -> list[dict]:
    """All that the networks say of two radiographs, heatmaps included."""
    examiner = Examiner(bundle)
    return [examiner.examine(read_radiograph(path, path.name)).record() for path in RADIOGRAPHS]


def probabilities(bundle: Bundle) -> dict[str, np.ndarray]:
    inputs = np.random.default_rng(0).random((4, 48, 48, 1), np.float32)
    return {name: network.model(inputs).numpy() for name, network in bundle.networks.items()}


# --- what was published is what answers -------------------------------------------------------------------------


def test_published_networks_answer_as_the_folder(hub, bundle_folder, tmp_path):
    published = publish(plan_networks(bundle_folder, REPO), token="hf_write")
    HfApi(token="hf_write").create_tag(REPO, tag="v1")
    bundle = load_bundle(at(published))
    local = load_bundle(bundle_folder)
    assert bundle.manifest == local.manifest
    assert (bundle.location, bundle.consensus, bundle.notices) == (at(published), local.consensus, ())
    assert records(bundle) == records(local)
    for revision in ("main", "v1"):
        other = load(at(revision))
        assert (other.location, other.notices) == (at(published), ())
        np.testing.assert_array_equal(probabilities(other)["cnn"], probabilities(local)["cnn"])


def test_second_load_of_a_commit_makes_no_request(hub, commit):
    load(at(commit))
    hub.requests.clear()
    load(at(commit))
    assert hub.requests == []


def test_only_what_is_loaded_is_downloaded(hub, commit):
    assert list(load_bundle(at(commit), ("cnn_rnn",)).networks) == ["cnn_rnn"]
    assert downloads(hub) == ["manifest.json", "cnn_rnn.keras", "segmenter.keras"]
    hub.answers.clear()
    with pytest.raises(PneumoError, match=r"A network must be one of cnn, cnn_lstm, cnn_rnn; received 'vit'\."):
        load_bundle(at(commit), ("vit",))
    assert downloads(hub) == []


def test_a_network_that_sees_the_whole_image_needs_no_segmenter(hub, files):
    commit = hub.put(REPO, "model", altered(files, entry(framing="whole")))
    bundle = load(at(commit))
    assert downloads(hub) == ["manifest.json", "cnn.keras"]
    assert bundle.segmenter is None
    assert bundle.prepare(read_radiograph(RADIOGRAPHS[0])).lungs is None


def test_a_commit_stays_and_a_branch_moves(hub, commit, files):
    assert load(BRANCH).location == at(commit)
    manifest = json.loads(files["manifest.json"])
    manifest["networks"]["cnn"]["operating_points"]["balanced"]["threshold"] = 0.25
    later = hub.put(REPO, "model", {"manifest.json": json.dumps(manifest).encode()})
    hub.answers.clear()
    moved = load(BRANCH)
    assert (moved.location, moved.networks["cnn"].thresholds["balanced"]) == (at(later), 0.25)
    assert downloads(hub) == ["manifest.json"], "the weights are the same file"
    assert load(at(commit)).networks["cnn"].thresholds["balanced"] != 0.25


def test_location_from_the_environment(hub, commit, monkeypatch):
    monkeypatch.setenv("PNEUMO_MODELS", BRANCH)
    assert open_bundle().location == at(commit)
    assert read_manifest(open_bundle())["networks"]


# --- the app ----------------------------------------------------------------------------------------------------


def test_app_from_the_hub_answers_as_the_folder(hub, commit, bundle_folder, tmp_path):
    environment = client_environment(hub.url, tmp_path / "home")
    with serve(BRANCH, tmp_path, **environment) as url:
        client = Client(url, verbose=False)
        answers = [client.predict(handle_file(path), api_name="/examine") for path in RADIOGRAPHS]
        sums = {entry["name"]: entry["sha256"] for entry in client.predict(api_name="/networks")}
        client.close()
    assert answers == records(load_bundle(bundle_folder))
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    assert sums == {name: entry["sha256"] for name, entry in manifest["networks"].items()}
    assert downloads(hub) == ["manifest.json", "cnn.keras", "cnn_lstm.keras", "cnn_rnn.keras", "segmenter.keras"]


def test_app_without_network_and_cache_says_so(hub, tmp_path):
    environment = client_environment(hub.url, tmp_path / "home")
    hub.stop()
    with serve(BRANCH, tmp_path, **environment) as url:
        client = Client(url, verbose=False)
        for arguments, name in [((handle_file(RADIOGRAPHS[0]),), "/examine"), ((), "/networks")]:
            with pytest.raises(AppError, match=f"^The Hub must be reachable, or the files be cached; {BRANCH} "):
                client.predict(*arguments, api_name=name)
        client.close()
        with urllib.request.urlopen(url) as page:
            assert page.status == 200
    assert list((tmp_path / "home").rglob("*.keras")) == []


# --- what is not there, or may not be read ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    [
        "hf://",
        "hf://tester",
        "hf://tester/pneumo",
        "hf://tester/pneumo@",
        "hf://tester@main",
        "hf://@main",
        "hf:///pneumo@main",
        "hf://tester/@main",
        "hf://tester/pneumo/cnn@main",
        "hf://tester/pneumo@main branch",
        "hf://tester/pneumo @main",
        "hf://tester/pneumo@main\n",
        "hf://datasets/tester/pneumo@main",
        "hf://tester/pneumo--x@main",
        "hf://tester/..@main",
        "hf://tester/-pneumo@" + 40 * "0",
    ],
)
def test_location_of_another_form(hub, location):
    assert "OWNER/NAME" in failure(location)
    assert hub.requests == []


@pytest.mark.parametrize("revision", ["main", 40 * "0"], ids=["branch", "commit"])
@pytest.mark.parametrize("token", ["", "hf_read"], ids=["no token", "token"])
def test_unknown_repository(hub, monkeypatch, revision, token):
    monkeypatch.setenv("HF_TOKEN", token)
    message = failure(at(revision))
    assert "A repository must exist and be readable" in message
    assert at(revision) in message
    assert "HF_TOKEN" in message


@pytest.mark.parametrize("by", ["branch", "commit"])
def test_private_repository(hub, files, monkeypatch, by):
    commit = hub.put(REPO, "model", files, private=True)
    location = BRANCH if by == "branch" else at(commit)
    assert "is private" in failure(location)
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    message = failure(location)
    assert "token" in message
    assert "hf_unknown" not in message
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    assert load(location).location == at(commit)


@pytest.mark.parametrize("revision", ["v9", 40 * "0", "main/x", "refs/pr/1"])
def test_unknown_revision(hub, commit, revision):
    message = failure(at(revision))
    assert f"A revision must exist; {at(revision)} does not" in message


@pytest.mark.parametrize("revision", ["main", "commit"])
@pytest.mark.parametrize("missing", ["manifest.json", "cnn.keras", "segmenter.keras"])
def test_missing_file(hub, files, missing, revision):
    commit = hub.put(REPO, "model", {name: data for name, data in files.items() if name != missing})
    message = failure(BRANCH if revision == "main" else at(commit))
    assert "must hold" in message
    assert missing in message
    assert REPO in message


# --- what is there, and is not a bundle of this program ---------------------------------------------------------


def test_other_weights_than_the_manifest_says(hub, files):
    commit = hub.put(REPO, "model", {**files, "cnn.keras": files["cnn_rnn.keras"]})
    message = failure(at(commit))
    assert "must have the SHA-256 of its manifest" in message
    assert f"cnn.keras of {at(commit)}" in message
    assert list(load_bundle(at(commit), ("cnn_lstm",)).networks) == ["cnn_lstm"]
    failure(at(commit), load_bundle)


def test_other_segmenter_than_the_manifest_says(hub, files, tmp_path):
    content = {**files, "segmenter.keras": files["cnn.keras"]}
    for name, data in content.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    for place in (at(hub.put(REPO, "model", content)), str(tmp_path)):
        assert "must have the SHA-256 of its manifest, " in failure(place)
        assert f"segmenter.keras of {place}" in failure(place)
    (tmp_path / "segmenter.keras").unlink()
    assert "must hold every file of its manifest; segmenter.keras of" in failure(str(tmp_path))


def altered(files: dict[str, bytes], alter: Callable[[dict], object]) -> dict[str, bytes]:
    manifest = json.loads(files["manifest.json"])
    alter(manifest)
    return {**files, "manifest.json": json.dumps(manifest).encode()}


def entry(**values) -> Callable[[dict], object]:
    return lambda manifest: manifest["networks"]["cnn"].update(values)


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
def test_weights_of_another_architecture(hub, files):
    digest = hashlib.sha256(files["cnn_rnn.keras"]).hexdigest()
    hub.put(REPO, "model", altered(files, entry(file="cnn_rnn.keras", sha256=digest)))
    assert "The weights must fit the architecture cnn" in failure(BRANCH)


def test_weights_that_are_no_keras_file(hub, files):
    digest = hashlib.sha256(b"text").hexdigest()
    hub.put(REPO, "model", {**altered(files, entry(sha256=digest)), "cnn.keras": b"text"})
    assert "The weights must fit the architecture cnn" in failure(BRANCH)


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
@pytest.mark.parametrize("filters", [[16, 32, 64, 96, 128], [4, 4, 4, 4, 4]])
def test_segmenter_of_another_architecture(hub, files, filters):
    """Another network's weights, or another width of its own."""
    name = "cnn.keras" if filters[0] == 16 else "segmenter.keras"
    digest = hashlib.sha256(files[name]).hexdigest()
    found = {"file": name, "sha256": digest, "filters": filters}
    hub.put(REPO, "model", altered(files, lambda manifest: manifest["lungs"].update(found)))
    assert "The weights must fit the architecture segmenter" in failure(BRANCH)


@pytest.mark.parametrize(
    "alter",
    [
        lambda manifest: manifest.update(format=1),
        lambda manifest: manifest.update(class_names=["PNEUMONIA", "NORMAL"]),
    ],
    ids=["format", "classes"],
)
def test_manifest_of_another_program(hub, files, alter):
    commit = hub.put(REPO, "model", altered(files, alter))
    message = failure(at(commit))
    assert "A bundle must have format and classes" in message
    assert at(commit) in message
    assert downloads(hub) == ["manifest.json"]


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"null", b"[]", b"{}", b'{"format": 1}', b"\xff\xfe", b"<!doctype html>", b'"format"'],
)
def test_manifest_that_is_none(hub, files, content):
    commit = hub.put(REPO, "model", {**files, "manifest.json": content})
    message = failure(at(commit))
    assert "must be as `make models` wrote it" in message
    assert at(commit) in message


@pytest.mark.parametrize(
    "alter",
    [
        lambda manifest: manifest.pop("networks"),
        lambda manifest: manifest.update(networks=[]),
        lambda manifest: manifest.update(networks={}),
        lambda manifest: manifest.update(networks="cnn"),
        lambda manifest: manifest.update(networks={"cnn": None}),
        lambda manifest: manifest.pop("together"),
        lambda manifest: manifest.update(together={"test": {}}),
        lambda manifest: manifest.update(together=[1]),
        lambda manifest: manifest["networks"]["cnn"].pop("file"),
        lambda manifest: manifest["networks"]["cnn"].pop("sha256"),
        entry(file=None),
        entry(file=7),
        entry(sha256=None),
        entry(input_size="large"),
        entry(filters=[4]),
        entry(filters=None),
        entry(operating_points={}),
        entry(operating_points={"balanced": {"threshold": "half"}, "screening": {"threshold": 0.5}}),
        entry(operating_points={"balanced": {"threshold": None}, "screening": {"threshold": 0.5}}),
        entry(calibration=None),
        entry(calibration={"slope": 1.0}),
        entry(framing="squared"),
        entry(scaling=None),
        lambda manifest: manifest.pop("lungs"),
        lambda manifest: manifest["lungs"].update(sha256=None),
        lambda manifest: manifest["lungs"].update(input_size="large"),
        lambda manifest: manifest["together"].pop("uncertain"),
        entry(saliency={}),
    ],
)
def test_manifest_that_lacks_something(hub, files, alter):
    commit = hub.put(REPO, "model", altered(files, alter))
    message = failure(at(commit), load_bundle)
    assert f"manifest.json of {at(commit)} must be as `make models` wrote it; it " in message


def test_manifest_of_an_unknown_network(hub, files):
    hub.put(REPO, "model", altered(files, lambda manifest: manifest["networks"].update(vit={})))
    failure(BRANCH, load_bundle)


@pytest.mark.parametrize(
    "name", ["../cnn.keras", "/etc/passwd", "sub/cnn.keras", "./cnn.keras", "cnn.keras/", "..", ".", "", "a\\b", "a\0b"]
)
@pytest.mark.parametrize("place", ["hub", "folder"])
def test_file_outside_the_bundle(hub, files, name, place, tmp_path):
    content = altered(files, entry(file=name))
    commit = hub.put(REPO, "model", content)
    location = at(commit)
    if place == "folder":
        location = str(tmp_path / "models")
        Path(location).mkdir()
        (Path(location) / "manifest.json").write_bytes(content["manifest.json"])
    assert "A file of a bundle must lie beside its manifest" in failure(location)
    assert "passwd" not in str(hub.requests)


# --- damaged on the way, or in the cache ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["manifest.json", "cnn.keras"])
def test_a_file_that_comes_damaged_once_is_fetched_again(hub, commit, name):
    hub.faults.add("corrupt", method="GET", path_contains=name)
    bundle = load(at(commit))
    assert downloads(hub).count(name) == 2
    assert bundle.notices == ()
    assert damaged_blobs() == []


@pytest.mark.parametrize("name", ["manifest.json", "cnn.keras"])
def test_a_file_that_always_comes_damaged_is_refused_and_not_kept(hub, commit, name):
    hub.faults.add("corrupt", method="GET", path_contains=name, times=2)
    message = failure(at(commit))
    assert f"{name} of {at(commit)} came damaged twice" in message
    assert hub.faults.pending == []
    assert damaged_blobs() == []
    load(at(commit))


def spoil(commit: str, name: str) -> Path:
    """Flip a byte of a cached file."""
    path = Path(constants.HF_HUB_CACHE) / "models--tester--pneumo" / "snapshots" / commit / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["manifest.json", "cnn.keras"])
@pytest.mark.parametrize("by", ["branch", "commit"])
def test_a_file_that_was_damaged_in_the_cache(hub, commit, name, by, waits):
    location = BRANCH if by == "branch" else at(commit)
    load(location)
    spoil(commit, name)
    hub.stop()
    assert "The Hub must be reachable" in failure(location)
    hub.start()
    assert load(location).location == at(commit)
    assert damaged_blobs() == []


def test_files_in_the_store_that_repositories_share(hub, commit):
    """As the client lays files out that come by Xet: a repository's blob is a link into a store by another hash."""
    load(at(commit))
    cache = Path(constants.HF_HUB_CACHE)
    blob = (cache / "models--tester--pneumo" / "snapshots" / commit / "cnn.keras").resolve()
    shared = cache / "blobs" / "ab" / (32 * "ab")
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(shared)
    hub.requests.clear()
    load(at(commit))
    assert hub.requests == []
    spoil(commit, "cnn.keras")
    load(at(commit))
    assert downloads(hub)[-1] == "cnn.keras"
    assert damaged_blobs() == []


def test_cache_without_links(hub, commit, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    load(at(commit))
    spoil(commit, "cnn.keras")
    assert "must have the SHA-256 of its manifest" in failure(at(commit))


@pytest.mark.filterwarnings("ignore:`huggingface_hub` cache-system uses symlinks:UserWarning")
def test_gated_repository(hub):
    response = httpx2.Response(403, request=httpx2.Request("GET", hub.url))

    def refuse() -> None:
        raise GatedRepoError("gated", response=response)

    assert "is gated" in failure(BRANCH, lambda location: explain(refuse, location))


# --- a Hub that fails, or cannot be reached ---------------------------------------------------------------------

FAULTS = {
    "503 on the revision": dict(kind="503", path_contains="/api/models/"),
    "503 on every HEAD": dict(kind="503", method="HEAD", times=20),
    "503 on the manifest": dict(kind="503", method="GET", path_contains="manifest.json"),
    "503 on the weights": dict(kind="503", method="GET", path_contains="cnn.keras"),
    "500 on the weights": dict(kind="500", method="GET", path_contains="cnn.keras"),
    "429 on the weights": dict(kind="429", method="GET", path_contains="cnn.keras", times=20),
    "cut revision": dict(kind="cut", path_contains="/api/models/"),
    "damaged revision": dict(kind="corrupt", path_contains="/api/models/"),
    "cut HEAD": dict(kind="cut", method="HEAD", path_contains="cnn.keras", times=20),
    "cut weights": dict(kind="cut", method="GET", path_contains="cnn.keras", times=20),
    "reset weights": dict(kind="reset", method="GET", path_contains="cnn.keras", times=20),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_failing_hub(hub, commit, waits, fault):
    hub.faults.add(**FAULTS[fault])
    message = failure(BRANCH)
    assert "The Hub must be reachable" in message
    assert damaged_blobs() == []
    hub.faults.pending.clear()
    assert load(BRANCH).notices == ()


@pytest.mark.parametrize(
    "fault",
    [
        dict(kind="503", method="HEAD", times=3),
        dict(kind="cut", method="GET", path_contains="cnn.keras", times=2),
        dict(kind="cut", method="GET", path_contains="manifest.json"),
    ],
)
def test_short_faults_are_outlasted(hub, commit, waits, fault):
    hub.faults.add(**fault)
    assert load(at(commit)).notices == ()
    assert hub.faults.pending == []
    assert waits


@pytest.mark.parametrize("revision", ["main", "v1"])
@pytest.mark.parametrize("fault", ["stopped", "503", "cut", "corrupt"])
def test_cached_branch_is_used_with_a_notice(hub, commit, waits, revision, fault):
    HfApi(token="hf_write").create_tag(REPO, tag="v1")
    load(at(revision))
    if fault == "stopped":
        hub.stop()
    else:
        hub.faults.add(fault, path_contains="/api/models/")
    hub.answers.clear()
    bundle = load(at(revision))
    assert bundle.location == at(commit)
    assert bundle.notices == (f"The Hub cannot be reached; the networks are the cached copy of {at(commit)}.",)
    assert downloads(hub) == []
    assert waits == []


def test_cached_branch_without_a_network_that_is_asked_for(hub, commit, waits):
    load(BRANCH)
    hub.stop()
    assert "The Hub must be reachable" in failure(BRANCH, load_bundle)


def test_cached_commit_is_used_silently(hub, commit, waits):
    load(at(commit))
    hub.stop()
    assert load(at(commit)).notices == ()
    assert waits == []


def test_offline_mode(hub, commit, monkeypatch):
    load(BRANCH)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert len(load(BRANCH).notices) == 1
    assert load(at(commit)).notices == ()
    assert "The Hub must be reachable" in failure(at("v9"))
    assert hub.requests == []


@pytest.mark.parametrize("revision", ["main", 40 * "0"], ids=["branch", "commit"])
def test_no_network_and_no_cached_copy(hub, commit, waits, revision):
    hub.stop()
    message = failure(at(revision))
    assert re.match(r"The Hub must be reachable, or the files be cached; hf://tester/pneumo@\S+ could not", message)
    assert "PNEUMO_MODELS" in message


def test_open_hub_says_what_it_pins(hub, commit):
    assert open_hub(BRANCH).location == at(commit)
