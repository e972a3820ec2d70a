"""What the real ``huggingface_hub`` client makes of `loopback_hub`, faults included."""

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    HfUriError,
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from loopback_hub import LFS_MIN_SIZE, LFS_WARNING, LoopbackHub, client_environment, plain_client, skip_waits

pytestmark = pytest.mark.filterwarnings(LFS_WARNING)
TOKENS = {"hf_write": ("tester", True), "hf_read": ("reader", False)}
REPO = "tester/zoo"
WEIGHTS = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the client to itself."""
    with plain_client(monkeypatch, tmp_path_factory.mktemp("home")):
        yield


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that the client skipped."""
    return skip_waits(monkeypatch)


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """Serve an empty hub."""
    with LoopbackHub(tokens=TOKENS) as hub:
        yield hub


@pytest.fixture
def api(hub: LoopbackHub) -> HfApi:
    """Client with write permission."""
    return HfApi(endpoint=hub.url, token="hf_write")


@pytest.fixture
def anonymous(hub: LoopbackHub) -> HfApi:
    """Client without a token."""
    return HfApi(endpoint=hub.url, token=False)


def own(files: dict[str, bytes]) -> dict[str, bytes]:
    """Leave out what the Hub itself put into the repository."""
    return {path: data for path, data in files.items() if path != ".gitattributes"}


def test_whoami(api: HfApi, anonymous: HfApi) -> None:
    assert api.whoami()["name"] == "tester"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        anonymous.whoami(token="hf_unknown")


@pytest.mark.parametrize("repo_type", ["model", "dataset", "space"])
def test_create_upload_list_download(
    hub: LoopbackHub, api: HfApi, anonymous: HfApi, tmp_path: Path, repo_type: str
) -> None:
    sdk = "gradio" if repo_type == "space" else None
    url = api.create_repo(REPO, repo_type=repo_type, space_sdk=sdk)
    assert (url.repo_id, url.repo_type) == (REPO, repo_type)
    first = api.upload_file(path_or_fileobj=b"# Zoo\n", path_in_repo="README.md", repo_id=REPO, repo_type=repo_type)
    (tmp_path / "cnn").mkdir()
    (tmp_path / "cnn" / "cnn.weights.h5").write_bytes(WEIGHTS)
    api.upload_folder(folder_path=tmp_path / "cnn", path_in_repo="cnn", repo_id=REPO, repo_type=repo_type)
    assert own(hub.files(REPO, repo_type)) == {"README.md": b"# Zoo\n", "cnn/cnn.weights.h5": WEIGHTS}

    info = anonymous.repo_info(REPO, repo_type=repo_type, files_metadata=True)
    assert info.sha == hub.sha(REPO, repo_type)
    weights = next(file for file in info.siblings if file.rfilename == "cnn/cnn.weights.h5")
    assert (weights.size, weights.lfs.sha256) == (len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())
    tree = {entry.path for entry in anonymous.list_repo_tree(REPO, repo_type=repo_type)}
    assert tree == {".gitattributes", "README.md", "cnn"}
    files = anonymous.list_repo_files(REPO, repo_type=repo_type)
    assert set(files) == {".gitattributes", "README.md", "cnn/cnn.weights.h5"}
    paths = anonymous.get_paths_info(REPO, ["cnn/cnn.weights.h5", "cnn", "none"], repo_type=repo_type)
    assert [path.path for path in paths] == ["cnn", "cnn/cnn.weights.h5"]

    cache = {"repo_type": repo_type, "cache_dir": tmp_path / "cache"}
    by_branch = anonymous.hf_hub_download(REPO, "cnn/cnn.weights.h5", **cache)
    by_sha = anonymous.hf_hub_download(REPO, "cnn/cnn.weights.h5", revision=info.sha, **cache)
    assert by_branch == by_sha
    assert Path(by_sha).read_bytes() == WEIGHTS
    folder = Path(anonymous.snapshot_download(REPO, **cache))
    assert folder.name == info.sha
    assert (folder / "README.md").read_bytes() == b"# Zoo\n"
    older = Path(anonymous.snapshot_download(REPO, revision=first.oid, **cache))
    assert sorted(path.name for path in older.iterdir()) == [".gitattributes", "README.md"]


def test_create_existing_repo(hub: LoopbackHub, api: HfApi) -> None:
    api.create_repo(REPO)
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo(REPO)
    assert caught.value.response.status_code == 409
    assert api.create_repo(REPO, exist_ok=True) == f"{hub.url}/{REPO}"
    assert api.create_repo("zoo", exist_ok=True).repo_id == REPO


def test_commit_history_and_refs(hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    first = hub.put(REPO, "model", {"a.txt": b"1", "old/größe b.txt": b"2", "c.txt": b"3"})
    operations = [
        CommitOperationAdd("a.txt", b"changed"),
        CommitOperationAdd("new.npz", b"\0npz"),
        CommitOperationDelete("old/"),
        CommitOperationDelete("c.txt"),
    ]
    second = api.create_commit(REPO, operations, commit_message="rework", parent_commit=first).oid
    assert own(hub.files(REPO, "model")) == {"a.txt": b"changed", "new.npz": b"\0npz"}
    assert own(hub.files(REPO, "model", first)) == {"a.txt": b"1", "old/größe b.txt": b"2", "c.txt": b"3"}
    path = api.hf_hub_download(REPO, "old/größe b.txt", revision=first, cache_dir=tmp_path)
    assert Path(path).read_bytes() == b"2"
    api.create_tag(REPO, tag="v1", revision=first)
    refs = api.list_repo_refs(REPO)
    assert {ref.name: ref.target_commit for ref in refs.branches + refs.tags} == {"main": second, "v1": first}
    assert api.model_info(REPO, revision="v1").sha == first
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        api.create_commit(REPO, [CommitOperationDelete("a.txt")], commit_message="late", parent_commit=first)
    with pytest.raises(RemoteEntryNotFoundError):
        api.delete_file("größe b.txt", REPO)


def test_size_alone_makes_lfs(hub: LoopbackHub, api: HfApi) -> None:
    hub.put(REPO, "dataset", {})
    api.upload_file(
        path_or_fileobj=b"x" * (LFS_MIN_SIZE + 1), path_in_repo="big.txt", repo_id=REPO, repo_type="dataset"
    )
    assert [method for method, _ in hub.uploads] == ["PUT", "POST"]
    assert len(hub.files(REPO, "dataset")["big.txt"]) == LFS_MIN_SIZE + 1


def test_missing_things(hub: LoopbackHub, api: HfApi, anonymous: HfApi, tmp_path: Path) -> None:
    hub.put(REPO, "model", {"a.txt": b"1"})
    for client in (api, anonymous):
        with pytest.raises(RepositoryNotFoundError):
            client.hf_hub_download("tester/none", "a.txt", cache_dir=tmp_path)
        with pytest.raises(RepositoryNotFoundError):
            client.snapshot_download(REPO, repo_type="dataset", cache_dir=tmp_path)
        with pytest.raises(RevisionNotFoundError):
            client.hf_hub_download(REPO, "a.txt", revision="none", cache_dir=tmp_path)
        with pytest.raises(RevisionNotFoundError):
            client.snapshot_download(REPO, revision="0" * 40, cache_dir=tmp_path)
        with pytest.raises(RemoteEntryNotFoundError):
            client.hf_hub_download(REPO, "none.txt", cache_dir=tmp_path)


def test_write_needs_a_write_token(hub: LoopbackHub, anonymous: HfApi) -> None:
    hub.put(REPO, "model", {"a.txt": b"1"})
    for token, status in [(False, 401), ("hf_unknown", 401), ("hf_read", 403)]:
        with pytest.raises(HfHubHTTPError) as caught:
            anonymous.create_repo("tester/other", token=token)
        assert caught.value.response.status_code == status
        with pytest.raises(HfHubHTTPError) as caught:
            anonymous.upload_file(path_or_fileobj=b"2", path_in_repo="a.txt", repo_id=REPO, token=token)
        assert caught.value.response.status_code == status
        assert isinstance(caught.value, RepositoryNotFoundError) == (token is False)
    assert hub.uploads == []


def test_exist_ok_without_permission(hub: LoopbackHub, anonymous: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fine for the endpoint of HF_ENDPOINT; a bug of the client 2.4.0 for one given as an argument."""
    hub.put(REPO, "model", {})
    with pytest.raises(HfUriError):
        anonymous.create_repo(REPO, token="hf_read", exist_ok=True)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    assert anonymous.create_repo(REPO, token="hf_read", exist_ok=True).repo_id == REPO


def test_private_repo(hub: LoopbackHub, api: HfApi, anonymous: HfApi, tmp_path: Path) -> None:
    api.create_repo(REPO, private=True)
    api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="cnn.keras", repo_id=REPO)
    assert api.model_info(REPO).private
    path = anonymous.hf_hub_download(REPO, "cnn.keras", cache_dir=tmp_path / "own", token="hf_read")
    assert Path(path).read_bytes() == WEIGHTS
    assert not anonymous.repo_exists(REPO)
    with pytest.raises(RepositoryNotFoundError):
        anonymous.hf_hub_download(REPO, "cnn.keras", cache_dir=tmp_path / "other")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        anonymous.hf_hub_download(REPO, "cnn.keras", cache_dir=tmp_path / "other", token="hf_unknown")


def test_identical_upload_makes_no_commit(hub: LoopbackHub, api: HfApi) -> None:
    """The client still asks what is there, but sends no content and gets the present head as its commit."""
    hub.put(REPO, "model", {})

    def upload(readme: bytes) -> str:
        files = {"README.md": readme, "cnn.weights.h5": WEIGHTS}
        return api.create_commit(REPO, [CommitOperationAdd(*file) for file in files.items()], commit_message="v").oid

    first = upload(b"# Zoo\n")
    hub.requests.clear()
    assert upload(b"# Zoo\n") == first
    assert hub.uploads == []
    assert hub.requests == [
        ("POST", "/api/validate-yaml"),
        ("POST", f"/api/models/{REPO}/preupload/main"),
        ("POST", f"/{REPO}.git/info/lfs/objects/batch"),
        ("GET", f"/api/models/{REPO}/revision/main"),
    ]
    hub.requests.clear()
    assert upload(b"# New\n") != first
    assert hub.uploads == [("POST", f"/api/models/{REPO}/commit/main")]


def test_cache_serves_without_network(hub: LoopbackHub, anonymous: HfApi, tmp_path: Path, waits: list[float]) -> None:
    sha = hub.put(REPO, "model", {"a.txt": b"1", "cnn.keras": WEIGHTS})
    file = anonymous.hf_hub_download(REPO, "cnn.keras", cache_dir=tmp_path)
    hub.requests.clear()
    assert anonymous.hf_hub_download(REPO, "cnn.keras", revision=sha, cache_dir=tmp_path) == file
    assert hub.requests == [], "a file cached under a commit sha needs no request"
    folder = anonymous.snapshot_download(REPO, cache_dir=tmp_path)
    later = hub.put(REPO, "model", {"a.txt": b"2"})

    hub.stop()
    for revision in ("main", sha):
        assert anonymous.hf_hub_download(REPO, "cnn.keras", revision=revision, cache_dir=tmp_path) == file
        assert anonymous.snapshot_download(REPO, revision=revision, cache_dir=tmp_path) == folder
    assert waits == []
    with pytest.raises(LocalEntryNotFoundError):
        anonymous.snapshot_download(REPO, cache_dir=tmp_path / "empty")
    assert waits == []
    with pytest.raises(LocalEntryNotFoundError):
        anonymous.hf_hub_download(REPO, "cnn.keras", cache_dir=tmp_path / "empty")
    assert waits == [1, 2, 4, 8, 8], "a single file that is not cached is tried for 23 seconds"

    hub.start()
    assert Path(anonymous.snapshot_download(REPO, cache_dir=tmp_path)).name == later


def test_partial_snapshot_is_not_served_without_network(hub: LoopbackHub, anonymous: HfApi, tmp_path: Path) -> None:
    hub.put(REPO, "model", {"a.txt": b"1", "b.txt": b"2"})
    anonymous.snapshot_download(REPO, cache_dir=tmp_path, allow_patterns="a.txt")
    hub.stop()
    anonymous.snapshot_download(REPO, cache_dir=tmp_path, allow_patterns="a.txt")
    with pytest.raises(IncompleteSnapshotError):
        anonymous.snapshot_download(REPO, cache_dir=tmp_path)


def test_503_on_metadata(hub: LoopbackHub, anonymous: HfApi, tmp_path: Path, waits: list[float]) -> None:
    """Retried if nothing is cached; else the cached file is returned, even when the Hub has a newer one."""
    hub.put(REPO, "model", {"cnn.weights.h5": WEIGHTS})
    hub.faults.add("503", method="HEAD", path_contains="cnn.weights", times=3)
    path = anonymous.hf_hub_download(REPO, "cnn.weights.h5", cache_dir=tmp_path)
    assert Path(path).read_bytes() == WEIGHTS
    assert waits == [1, 2]
    hub.put(REPO, "model", {"cnn.weights.h5": b"newer"})
    hub.faults.add("503", method="HEAD", path_contains="cnn.weights")
    assert anonymous.hf_hub_download(REPO, "cnn.weights.h5", cache_dir=tmp_path) == path


def test_503_on_content_is_raised_at_once(
    hub: LoopbackHub, anonymous: HfApi, tmp_path: Path, waits: list[float]
) -> None:
    hub.put(REPO, "model", {"cnn.weights.h5": WEIGHTS})
    hub.faults.add("503", method="GET", path_contains="cnn.weights")
    with pytest.raises(HfHubHTTPError) as caught:
        anonymous.hf_hub_download(REPO, "cnn.weights.h5", cache_dir=tmp_path)
    assert caught.value.response.status_code == 503
    assert waits == []
    path = anonymous.hf_hub_download(REPO, "cnn.weights.h5", cache_dir=tmp_path)
    assert Path(path).read_bytes() == WEIGHTS


def test_503_on_upload(hub: LoopbackHub, api: HfApi, waits: list[float]) -> None:
    """Retried for the content, raised for the commit; a second run then sends only the commit."""
    hub.put(REPO, "model", {})
    hub.faults.add("503", method="PUT")
    hub.faults.add("503", method="POST", path_contains="/commit/")

    def upload() -> None:
        api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="cnn.keras", repo_id=REPO)

    with pytest.raises(HfHubHTTPError, match="503"):
        upload()
    assert waits == [1]
    assert [method for method, _ in hub.uploads] == ["PUT", "PUT", "POST"]
    hub.requests.clear()
    upload()
    assert [method for method, _ in hub.uploads] == ["POST"]
    assert hub.files(REPO, "model")["cnn.keras"] == WEIGHTS


def test_cut_download_is_resumed(
    hub: LoopbackHub,
    anonymous: HfApi,
    tmp_path: Path,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Resumed in whole chunks of 10 MiB, so that a smaller file is fetched anew."""
    hub.put(REPO, "model", {"cnn.weights.h5": WEIGHTS})

    def download(cache: str) -> list[tuple[int, int]]:
        hub.faults.add("cut", method="GET", path_contains="cnn.weights")
        hub.answers.clear()
        path = anonymous.hf_hub_download(REPO, "cnn.weights.h5", cache_dir=tmp_path / cache)
        assert Path(path).read_bytes() == WEIGHTS
        return [(status, size) for method, _, status, size in hub.answers if method == "GET"]

    size = len(WEIGHTS)
    assert download("small") == [(200, size), (200, size)]
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    resumed = size // 2 // 1024 * 1024
    assert download("large") == [(200, size), (206, size - resumed)]
    assert waits == [1, 1]


def test_broken_connections_surface_as_httpx2_errors(
    hub: LoopbackHub, anonymous: HfApi, tmp_path: Path, waits: list[float]
) -> None:
    """After six cuts, or one TCP reset: neither OSError nor HfHubHTTPError, and nothing left in the cache."""
    hub.put(REPO, "model", {"cnn.weights.h5": WEIGHTS})
    hub.faults.add("cut", method="GET", path_contains="cnn.weights", times=6)
    with pytest.raises(httpx2.RemoteProtocolError) as cut:
        anonymous.hf_hub_download(REPO, "cnn.weights.h5", cache_dir=tmp_path)
    assert waits == [1] * 5
    hub.faults.add("reset", method="GET", path_contains="cnn.weights")
    with pytest.raises(httpx2.ReadError) as reset:
        anonymous.hf_hub_download(REPO, "cnn.weights.h5", cache_dir=tmp_path)
    assert waits == [1] * 5
    assert not isinstance(cut.value, OSError)
    assert not isinstance(reset.value, OSError)
    assert list((tmp_path / "models--tester--zoo" / "blobs").iterdir()) == []


def test_cut_metadata_hides_the_cached_file(hub: LoopbackHub, anonymous: HfApi, tmp_path: Path) -> None:
    """Unlike a refused connection or a 503, a broken one is raised although the file is in the cache."""
    sha = hub.put(REPO, "model", {"cnn.weights.h5": WEIGHTS})
    path = anonymous.hf_hub_download(REPO, "cnn.weights.h5", cache_dir=tmp_path)
    hub.faults.add("cut", method="HEAD")
    with pytest.raises(httpx2.RemoteProtocolError):
        anonymous.hf_hub_download(REPO, "cnn.weights.h5", cache_dir=tmp_path)
    hub.faults.add("cut", method="HEAD")
    assert anonymous.hf_hub_download(REPO, "cnn.weights.h5", revision=sha, cache_dir=tmp_path) == path


def test_cut_answer_to_commit(hub: LoopbackHub, api: HfApi) -> None:
    """The commit is made though the client raises; the next identical upload finds nothing to do."""
    hub.put(REPO, "model", {})
    hub.faults.add("cut", path_contains="/commit/")
    with pytest.raises(httpx2.RemoteProtocolError):
        api.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=REPO)
    sha = hub.sha(REPO, "model")
    assert hub.files(REPO, "model")["a.txt"] == b"1"
    assert api.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=REPO).oid == sha


def test_corrupt_download_is_not_noticed(
    hub: LoopbackHub, anonymous: HfApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The client compares only the length: the wrong bytes are cached for good under the right SHA-256."""
    hub.put(REPO, "model", {"config.json": b'{"a": 1}', "cnn.weights.h5": WEIGHTS})
    hub.faults.add("corrupt", method="GET", path_contains="cnn.weights")
    hub.faults.add("corrupt", method="GET", path_contains="config")
    with caplog.at_level(logging.WARNING):
        folder = Path(anonymous.snapshot_download(REPO, cache_dir=tmp_path))
    assert caplog.records == []
    weights = folder / "cnn.weights.h5"
    assert weights.read_bytes() != WEIGHTS
    assert weights.resolve().name == hashlib.sha256(WEIGHTS).hexdigest()
    assert anonymous.hf_hub_download(REPO, "cnn.weights.h5", cache_dir=tmp_path) == str(weights)
    assert weights.read_bytes() != WEIGHTS

    report = anonymous.verify_repo_checksums(REPO, cache_dir=tmp_path)
    assert [mismatch["path"] for mismatch in report.mismatches] == ["cnn.weights.h5", "config.json"]
    anonymous.hf_hub_download(REPO, "cnn.weights.h5", cache_dir=tmp_path, force_download=True)
    assert weights.read_bytes() == WEIGHTS


def test_corrupt_upload_is_refused(hub: LoopbackHub, api: HfApi) -> None:
    hub.put(REPO, "model", {})
    hub.faults.add("corrupt", method="PUT")
    with pytest.raises(RuntimeError, match=r"Error while uploading 'cnn\.keras'") as caught:
        api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="cnn.keras", repo_id=REPO)
    assert isinstance(caught.value.__cause__, BadRequestError)
    assert own(hub.files(REPO, "model")) == {}


def test_xet_is_refused_with_a_reason(hub: LoopbackHub, api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Xet is the choice of the client alone; its failures are built-in ConnectionErrors."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.put(REPO, "model", {})
    with pytest.raises(ConnectionError, match="xet-write-token"):
        api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="cnn.keras", repo_id=REPO)
    assert hub.uploads == []


def test_client_configured_by_environment(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.put(REPO, "model", {})
    script = (
        "from huggingface_hub import hf_hub_download, upload_file\n"
        f"upload_file(path_or_fileobj=b'npz', path_in_repo='a.npz', repo_id={REPO!r})\n"
        f"print(open(hf_hub_download({REPO!r}, 'a.npz')).read())\n"
    )
    env = {**os.environ, **client_environment(hub.url, tmp_path), "HF_TOKEN": "hf_write"}
    run = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert run.stdout == "npz\n"
    assert hub.files(REPO, "model")["a.npz"] == b"npz"


def test_unknown_fault() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        LoopbackHub().faults.add("slow")
