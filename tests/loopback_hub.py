"""A small Hugging Face Hub on 127.0.0.1 for tests, spoken to by the unmodified ``huggingface_hub`` client.

With ``hf_xet`` installed the client sends every LFS file through Xet, whatever the server offers, and this
server has no Xet: `plain_client` keeps the client of this process off it, and `client_environment` the client
of another process.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

if TYPE_CHECKING:
    import pytest

CLIENT_ENV = {
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # else the client asks huggingface.co for a list of agents
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "NO_PROXY": "127.0.0.1",
}
LFS_WARNING = "ignore:Use 'content=<...>' to upload raw bytes/text content:DeprecationWarning"
"""Filter for tests that upload LFS files: how the client does it to a plain-HTTP server is deprecated."""
_SUFFIXES = (
    ".7z .arrow .bin .bz2 .ckpt .gz .h5 .jpeg .jpg .joblib .keras .msgpack .npy .npz .onnx .parquet .pb"
    " .pickle .pkl .png .pt .pth .safetensors .tar .tflite .tgz .webp .xz .zip .zst"
)
LFS_SUFFIXES = tuple(_SUFFIXES.split())
LFS_MIN_SIZE = 10_000_000
_GITATTRIBUTES = "".join(f"*{suffix} filter=lfs -text\n" for suffix in LFS_SUFFIXES).encode()


def client_environment(url: str, home: Path) -> dict[str, str]:
    """Variables for a process whose client is to take the server at `url` for the Hub, with a cache of its own."""
    return {**CLIENT_ENV, "HF_ENDPOINT": url, "HF_HOME": str(home)}


@contextmanager
def plain_client(patch: pytest.MonkeyPatch, home: Path) -> Iterator[None]:
    """Keep this process's client off Xet, telemetry, stored tokens, proxies and every address but 127.0.0.1."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    for name in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        patch.setattr(constants, name, True)
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    patch.delenv("HF_TOKEN", raising=False)
    patch.setenv("NO_PROXY", "127.0.0.1")
    connect = socket.socket.connect

    def connect_to_loopback(self: socket.socket, address: Any) -> None:
        assert address[0] == "127.0.0.1", f"connection to {address}"
        connect(self, address)

    patch.setattr(socket.socket, "connect", connect_to_loopback)
    close_session()
    yield
    close_session()


def redirect_client(patch: pytest.MonkeyPatch, url: str) -> None:
    """Let the client of this process take the server at `url` for the Hub, as HF_ENDPOINT does before its import."""
    from huggingface_hub import constants

    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def skip_waits(patch: pytest.MonkeyPatch) -> list[float]:
    """Let the client skip its pauses between attempts, and list them."""
    seconds: list[float] = []
    clock = SimpleNamespace(sleep=seconds.append, time=time.time, monotonic=time.monotonic)
    patch.setattr("huggingface_hub.utils._http.time", clock)
    patch.setattr("huggingface_hub.file_download.time", clock)
    return seconds


@dataclass(frozen=True)
class Blob:
    """One version of one file, stored in git or, if `lfs`, as an LFS object."""

    data: bytes
    lfs: bool

    @classmethod
    def of(cls, path: str, data: bytes) -> Self:
        """Choose the storage by the rules of the Hub."""
        return cls(data, wants_lfs(path, len(data), data[:512]))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def in_git(self) -> bytes:
        """What git stores: the content itself or, for LFS, the pointer file."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}"
        return f"{pointer}\n".encode() if self.lfs else self.data

    @cached_property
    def git_oid(self) -> str:
        """Git blob id."""
        return hashlib.sha1(b"blob %d\0" % len(self.in_git) + self.in_git).hexdigest()

    @property
    def etag(self) -> str:
        """SHA-256 of an LFS file, git blob id of a regular one."""
        return self.sha256 if self.lfs else self.git_oid

    def lfs_info(self, sha256_key: str) -> dict[str, Any]:
        """LFS part of the answers about a file; nothing for a regular one."""
        info = {sha256_key: self.sha256, "size": len(self.data), "pointerSize": len(self.in_git)}
        return {"lfs": info} if self.lfs else {}


@dataclass(frozen=True)
class Commit:
    """A snapshot of the files of a repository."""

    sha: str
    files: Mapping[str, Blob]
    title: str

    def tree(self) -> list[dict[str, Any]]:
        """List files and folders in the form of the tree and paths-info answers."""
        entries: dict[str, dict[str, Any]] = {}
        for path, blob in sorted(self.files.items()):
            for end in (match.start() for match in re.finditer("/", path)):
                oid = hashlib.sha1(f"{self.sha}/{path[:end]}".encode()).hexdigest()
                entries[path[:end]] = {"type": "directory", "path": path[:end], "oid": oid, "size": 0}
            entries[path] = {"type": "file", "path": path, "oid": blob.git_oid, "size": len(blob.data)}
            entries[path] |= blob.lfs_info("oid")
        return list(entries.values())


@dataclass
class Repo:
    """A repository with the single branch main."""

    web_path: str
    private: bool = False
    sdk: str | None = None
    history: list[Commit] = field(default_factory=list)
    tags: dict[str, Commit] = field(default_factory=dict)
    lfs_objects: dict[str, bytes] = field(default_factory=dict)

    def add_commit(self, files: Mapping[str, Blob], title: str) -> Commit:
        """Make a commit with exactly `files` the head of main."""
        self.lfs_objects.update({blob.sha256: blob.data for blob in files.values() if blob.lfs})
        self.history.append(Commit(secrets.token_hex(20), dict(files), title))
        return self.history[-1]

    def commit_at(self, revision: str) -> Commit:
        """Find a commit by branch, tag or full sha."""
        if revision == "main":
            return self.history[-1]
        for name, commit in [*self.tags.items(), *((commit.sha, commit) for commit in self.history)]:
            if name == revision:
                return commit
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


class HubError(Exception):
    """An error answer; the client picks its exception class by `code`."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        ascii_message = message.encode("ascii", "replace").decode()
        self.headers = {"X-Error-Message": ascii_message, "X-Error-Code": code or "", **headers}


@dataclass
class Reply:
    """An answer ready to send."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Faults:
    """Faults planned for coming requests."""

    pending: list[tuple[str, str | None, str]] = field(default_factory=list)

    def add(self, kind: str, method: str | None = None, path_contains: str = "", times: int = 1) -> None:
        """Plan a fault for the next matching requests.

        Parameters
        ----------
        kind
            A status such as ``"503"``: answered without handling the request. ``"cut"``: the request is
            handled, half of the answer's body is sent, then the connection is closed (at once if there is no
            body). ``"reset"``: as ``"cut"``, but by a TCP reset. ``"corrupt"``: one byte of the answer's body
            is flipped or, for PUT, one byte of the uploaded content.
        method
            ``"GET"``, ``"HEAD"``, ``"POST"`` or ``"PUT"``; any method when None.
        path_contains
            Text to find in the decoded path of the URL.
        times
            How many requests are hit.
        """
        if not (kind.isdigit() or kind in ("cut", "reset", "corrupt")):
            raise ValueError(f"unknown kind of fault: {kind!r}")
        self.pending += [(kind, method, path_contains)] * times

    def take(self, method: str, path: str) -> str | None:
        """Use up the first fault that matches and return its kind."""
        for index, (kind, wanted_method, wanted_text) in enumerate(self.pending):
            if wanted_method in (None, method) and wanted_text in path:
                del self.pending[index]
                return kind
        return None


class LoopbackHub:
    """In-memory Hub on a free port of 127.0.0.1, listening inside a ``with`` block.

    Parameters
    ----------
    tokens
        Access token -> (user name, may write). Every known token may see private repositories.

    Attributes
    ----------
    url
        Endpoint for the client.
    faults
        Faults to inject, see `Faults.add`.
    requests
        ``(method, decoded path)`` of every request so far; may be cleared.
    answers
        ``(method, decoded path, status, length of the body)`` of every answer so far; may be cleared.
    """

    def __init__(self, tokens: Mapping[str, tuple[str, bool]] | None = None) -> None:
        self.tokens = dict(tokens or {})
        self.faults = Faults()
        self.requests: list[tuple[str, str]] = []
        self.answers: list[tuple[str, str, int, int]] = []
        self.url = ""
        self.repos: dict[tuple[str, str], Repo] = {}
        self.tickets: dict[str, tuple[Repo, str, int]] = {}
        self.lock = threading.RLock()
        self._server: _Server | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; after `stop`, on the same port and with the same data."""
        self._server = _Server(self, self._port)
        self._port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self._port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Drop all connections and refuse new ones, as without a network."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.drop_connections()
            self._server = None

    @property
    def uploads(self) -> list[tuple[str, str]]:
        """Those of `requests` that sent file content or made a commit."""
        return [(method, path) for method, path in self.requests if method == "PUT" or "/commit/" in path]

    def create(self, repo_id: str, repo_type: str, *, private: bool = False, sdk: str | None = None) -> Repo:
        """Create a repository with the `.gitattributes` file that the Hub puts into each."""
        prefix = "" if repo_type == "model" else f"{repo_type}s/"
        repo = self.repos[repo_type, repo_id] = Repo(prefix + repo_id, private, sdk)
        repo.add_commit({".gitattributes": Blob(_GITATTRIBUTES, lfs=False)}, "initial commit")
        return repo

    def put(self, repo_id: str, repo_type: str, files: Mapping[str, bytes], *, private: bool = False) -> str:
        """Commit files to main without HTTP, creating the repository if it is missing.

        Parameters
        ----------
        repo_id, repo_type
            For instance ``"tester/zoo"`` and ``"model"``, ``"dataset"`` or ``"space"``.
        files
            Path -> content; other files of the repository stay.
        private
            Visibility of a repository created here.

        Returns
        -------
        str
            The sha of the commit.
        """
        with self.lock:
            repo = self.repos.get((repo_type, repo_id)) or self.create(repo_id, repo_type, private=private)
            blobs = {path: Blob.of(path, data) for path, data in files.items()}
            return repo.add_commit({**repo.history[-1].files, **blobs}, "put").sha

    def files(self, repo_id: str, repo_type: str, revision: str = "main") -> dict[str, bytes]:
        """Return the content of all files of a revision, `.gitattributes` included."""
        with self.lock:
            commit = self.repos[repo_type, repo_id].commit_at(revision)
            return {path: blob.data for path, blob in commit.files.items()}

    def sha(self, repo_id: str, repo_type: str, revision: str = "main") -> str:
        """Return the commit sha of a branch or tag."""
        with self.lock:
            return self.repos[repo_type, repo_id].commit_at(revision).sha


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: LoopbackHub, port: int) -> None:
        self.hub = hub
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        """End the kept-alive connections, which outlive the listening socket."""
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection; the routes return a `Reply` or something to send as JSON."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def serve(self) -> None:
        self.hub = self.server.hub
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.query = parse_qs(url.query)
        with self.hub.lock:
            fault = self.hub.faults.take(self.command, path)
            self.hub.requests.append((self.command, path))
        if fault == "corrupt" and self.command == "PUT":
            self.body = _flip_byte(self.body)
        reply = Reply(b"{}", int(fault)) if fault and fault.isdigit() else self.answer(url.path)
        if fault == "corrupt" and self.command != "PUT":
            reply.body = _flip_byte(reply.body)
        self.hub.answers.append((self.command, path, reply.status, len(reply.body)))
        self.send(reply, broken=fault in ("cut", "reset"))
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    do_GET = do_HEAD = do_POST = do_PUT = serve

    def send(self, reply: Reply, broken: bool) -> None:
        body = b"" if self.command == "HEAD" else reply.body
        self.close_connection |= broken
        if body or not broken:
            self.send_response(reply.status)
            for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if broken else body)

    def answer(self, path: str) -> Reply:
        try:
            for method, pattern, route in _ROUTES:
                match = pattern.fullmatch(path)
                if match and method == self.command.replace("HEAD", "GET"):
                    # A revision may contain a quoted slash (refs%2Fpr%2F1), so unquote only after the match.
                    groups = {key: value and unquote(value) for key, value in match.groupdict().items()}
                    with self.hub.lock:
                        result = route(self, **groups)
                    return result if isinstance(result, Reply) else Reply(json.dumps(result).encode())
            raise HubError(404, f"the loopback hub has no {self.command} {path}")
        except HubError as error:
            return Reply(json.dumps({"error": str(error)}).encode(), error.status, error.headers)
        except Exception as error:
            traceback.print_exc()
            return Reply(json.dumps({"error": repr(error)}).encode(), 500)

    def user(self, write: bool = False) -> str | None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return None
        if token not in self.hub.tokens:
            raise HubError(401, "Invalid credentials in Authorization header")
        name, may_write = self.hub.tokens[token]
        if write and not may_write:
            raise HubError(403, "your token has no write permission")
        return name

    def repo(self, kind: str | None, repo_id: str, write: bool = False) -> Repo:
        user = self.user()
        repo = self.hub.repos.get(((kind or "models").removesuffix("s"), repo_id))
        if user is None and (write or repo is None or repo.private):
            # The client takes a 401 on a repository for "not found" over https; over http it needs the code.
            raise HubError(401, "Invalid username or password.", "RepoNotFound")
        if repo is None:
            raise HubError(404, "Repository not found", "RepoNotFound")
        self.user(write)
        return repo

    def whoami(self) -> Any:
        name = self.user()
        if name is None:
            raise HubError(401, "Invalid username or password.")
        token = self.headers["Authorization"].removeprefix("Bearer ")
        access = {"displayName": "loopback", "role": "write" if self.hub.tokens[token][1] else "read"}
        auth = {"type": "access_token", "accessToken": access}
        return {"type": "user", "name": name, "orgs": [], "auth": auth}

    def validate_yaml(self) -> Any:
        wanted = json.loads(self.body)
        errors = [{"message": message} for message in card_errors(wanted["content"], wanted["repoType"])]
        answer = {"errors": errors, "warnings": []}
        return Reply(json.dumps(answer).encode(), 400 if errors else 200)

    def create_repo(self) -> Any:
        user = self.user(write=True)
        if user is None:
            raise HubError(401, "Invalid username or password.")
        wanted = json.loads(self.body)
        repo_type = wanted.get("type") or "model"
        repo_id = f"{wanted.get('organization') or user}/{wanted['name']}"
        if repo_type == "space" and not wanted.get("sdk"):
            raise HubError(400, "sdk is required for a Space")
        if old := self.hub.repos.get((repo_type, repo_id)):
            answer = {"error": "You already created this repo", "url": f"{self.hub.url}/{old.web_path}"}
            return Reply(json.dumps(answer).encode(), 409)
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        repo = self.hub.create(repo_id, repo_type, private=private, sdk=wanted.get("sdk"))
        return {"url": f"{self.hub.url}/{repo.web_path}", "name": repo_id}

    def info(self, kind: str, repo_id: str, revision: str | None) -> Any:
        repo = self.repo(kind, repo_id)
        commit = repo.commit_at(revision or "main")
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in commit.files]
        if self.query.get("blobs") == ["true"]:
            for sibling, blob in zip(siblings, commit.files.values(), strict=True):
                sibling |= {"size": len(blob.data), "blobId": blob.git_oid, **blob.lfs_info("sha256")}
        info = {"id": repo_id, "author": repo_id.split("/")[0], "sha": commit.sha, "siblings": siblings}
        return {**info, "private": repo.private, "gated": False, **({"sdk": repo.sdk} if repo.sdk else {})}

    def tree(self, kind: str, repo_id: str, revision: str, folder: str | None) -> Any:
        entries = self.repo(kind, repo_id).commit_at(revision).tree()
        prefix = f"{folder}/" if folder else ""
        entries = [entry for entry in entries if entry["path"].startswith(prefix)]
        if not entries:
            raise HubError(404, f"{folder} does not exist", "EntryNotFound")
        if self.query.get("recursive") == ["true"]:
            return entries
        return [entry for entry in entries if "/" not in entry["path"].removeprefix(prefix)]

    def paths_info(self, kind: str, repo_id: str, revision: str) -> Any:
        wanted = {path.strip("/") for path in parse_qs(self.body.decode())["paths"]}
        tree = self.repo(kind, repo_id).commit_at(revision).tree()
        return [entry for entry in tree if entry["path"] in wanted]

    def refs(self, kind: str, repo_id: str) -> Any:
        repo = self.repo(kind, repo_id)
        refs = [
            ("refs/heads/main", repo.history[-1]),
            *((f"refs/tags/{tag}", at) for tag, at in repo.tags.items()),
        ]
        items = [{"name": ref.split("/", 2)[2], "ref": ref, "targetCommit": commit.sha} for ref, commit in refs]
        return {"branches": items[:1], "tags": items[1:], "converts": [], "pullRequests": []}

    def tag(self, kind: str, repo_id: str, revision: str) -> Any:
        repo = self.repo(kind, repo_id, write=True)
        name = json.loads(self.body)["tag"]
        if name in repo.tags:
            raise HubError(409, f"Tag {name} already exists")
        repo.tags[name] = repo.commit_at(revision)
        return {}

    def no_xet(self, kind: str, repo_id: str) -> Any:
        raise HubError(404, "the loopback hub has no Xet storage: run the client with HF_HUB_DISABLE_XET=1")

    def preupload(self, kind: str, repo_id: str, revision: str) -> Any:
        present = self.repo(kind, repo_id, write=True).commit_at(revision).files
        answers = []
        for file in json.loads(self.body)["files"]:
            lfs = wants_lfs(file["path"], file["size"], base64.b64decode(file["sample"]))
            answer = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            known = present.get(file["path"])
            answers.append(answer | ({"oid": known.etag} if known else {}))
        return {"files": answers}

    def lfs_batch(self, kind: str | None, repo_id: str) -> Any:
        repo = self.repo(kind, repo_id, write=True)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in repo.lfs_objects:
                # The client sends no token to the storage: the upload URL itself is the permission.
                ticket = secrets.token_hex(16)
                self.hub.tickets[ticket] = (repo, wanted["oid"], wanted["size"])
                verify = f"{self.hub.url}/{repo.web_path}.git/info/lfs/objects/verify"
                upload = f"{self.hub.url}/lfs-storage/{ticket}"
                answer["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    def lfs_store(self, ticket: str) -> Any:
        if ticket not in self.hub.tickets:
            raise HubError(403, "unknown upload URL")
        repo, oid, size = self.hub.tickets[ticket]
        if (hashlib.sha256(self.body).hexdigest(), len(self.body)) != (oid, size):
            raise HubError(400, "BadDigest: the content does not have the announced SHA-256")
        repo.lfs_objects[oid] = self.body
        return {}

    def lfs_verify(self, kind: str | None, repo_id: str) -> Any:
        repo = self.repo(kind, repo_id, write=True)
        wanted = json.loads(self.body)
        if len(repo.lfs_objects.get(wanted["oid"], b"")) != wanted["size"]:
            raise HubError(404, "LFS object not found")
        return {}

    def commit(self, kind: str, repo_id: str, revision: str) -> Any:
        repo = self.repo(kind, repo_id, write=True)
        if revision != "main" or "create_pr" in self.query:
            raise HubError(400, "the loopback hub takes commits only on main")
        head = repo.history[-1]
        header, *operations = [json.loads(line) for line in self.body.splitlines()]
        if header["value"].get("parentCommit", head.sha) != head.sha:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for operation in operations:
            self.apply(operation["key"], operation["value"], files, repo)
        sha = repo.add_commit(files, header["value"]["summary"]).sha
        return {"commitOid": sha, "commitUrl": f"{self.hub.url}/{repo.web_path}/commit/{sha}"}

    def apply(self, key: str, value: dict[str, Any], files: dict[str, Blob], repo: Repo) -> None:
        """Apply one operation of a commit to `files`."""
        path = value["path"]
        match key:
            case "file":
                files[path] = Blob(base64.b64decode(value["content"]), lfs=False)
            case "lfsFile":
                if value["oid"] not in repo.lfs_objects:
                    raise HubError(400, f"the LFS object of {path} was not uploaded")
                files[path] = Blob(repo.lfs_objects[value["oid"]], lfs=True)
            case "deletedFile" | "deletedFolder":
                folder = f"{path.strip('/')}/"
                gone = [old for old in files if (old == path if key == "deletedFile" else old.startswith(folder))]
                if not gone:
                    raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
                for old in gone:
                    del files[old]
            case _:
                raise HubError(400, f"unknown commit operation: {key}")

    def resolve(self, kind: str | None, repo_id: str, revision: str, path: str) -> Reply:
        commit = self.repo(kind, repo_id).commit_at(revision)
        headers = {"X-Repo-Commit": commit.sha}
        if path not in commit.files:
            raise HubError(404, "Entry not found", "EntryNotFound", **headers)
        blob = commit.files[path]
        size = len(blob.data)
        headers |= {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
        if blob.lfs:
            headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(size)}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)|bytes=-(\d+)", self.headers.get("Range", ""))
        if wanted is None:
            return Reply(blob.data, 200, headers)
        first, last, suffix = wanted.groups()
        start = max(size - int(suffix), 0) if suffix else int(first)
        stop = min(int(last) + 1, size) if last else size
        if start >= stop:
            raise HubError(416, "Range not satisfiable", **{"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return Reply(blob.data[start:stop], 206, headers)


_API = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo_id>[^/]+/[^/]+)"
_WEB = r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo_id>[^/]+/[^/]+)"
_REVISION = r"(?P<revision>[^/]+)"
_ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = [
    ("GET", re.compile(r"/api/whoami-v2"), _Handler.whoami),
    ("POST", re.compile(r"/api/validate-yaml"), _Handler.validate_yaml),
    ("POST", re.compile(r"/api/repos/create"), _Handler.create_repo),
    ("GET", re.compile(rf"{_API}(?:/revision/{_REVISION})?"), _Handler.info),
    ("GET", re.compile(rf"{_API}/tree/{_REVISION}(?:/(?P<folder>.+))?"), _Handler.tree),
    ("POST", re.compile(rf"{_API}/paths-info/{_REVISION}"), _Handler.paths_info),
    ("GET", re.compile(rf"{_API}/refs"), _Handler.refs),
    ("POST", re.compile(rf"{_API}/tag/{_REVISION}"), _Handler.tag),
    ("GET", re.compile(rf"{_API}/xet-(?:read|write)-token/.+"), _Handler.no_xet),
    ("POST", re.compile(rf"{_API}/preupload/{_REVISION}"), _Handler.preupload),
    ("POST", re.compile(rf"{_API}/commit/{_REVISION}"), _Handler.commit),
    ("POST", re.compile(rf"{_WEB}\.git/info/lfs/objects/batch"), _Handler.lfs_batch),
    ("POST", re.compile(rf"{_WEB}\.git/info/lfs/objects/verify"), _Handler.lfs_verify),
    ("PUT", re.compile(r"/lfs-storage/(?P<ticket>\w+)"), _Handler.lfs_store),
    ("GET", re.compile(rf"{_WEB}/resolve/{_REVISION}/(?P<path>.+)"), _Handler.resolve),
]


def wants_lfs(path: str, size: int, sample: bytes) -> bool:
    """Tell whether the Hub stores a file as LFS: by suffix, size or a NUL byte in its first 512 bytes."""
    return size > LFS_MIN_SIZE or (size > 0 and (b"\0" in sample or path.endswith(LFS_SUFFIXES)))


def card_errors(content: str, repo_type: str) -> list[str]:
    """What is wrong with the front matter of a README.md.

    These are not the Hub's own rules, which are not published. They are a reading of its public documentation:
    the required fields and the types of `model-index`, and the form that identifiers have in the examples
    (hub-docs, modelcard.md); for a Space a known `sdk`, known colours and a short description of at most 60
    characters (hub-docs, spaces-config-reference.md). Whether a licence, data set or metric of that name exists
    is not looked up, and a README.md without front matter passes.
    """
    match = re.match(r"\s*---\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", content, re.DOTALL)
    try:
        data = yaml.safe_load(match[1]) if match else {}
    except yaml.YAMLError as error:
        return [f"The front matter is not YAML: {error}"]
    if not isinstance(data, dict):
        return ["The front matter must be a mapping"]
    errors = []
    for key, form in _IDENTIFIERS.items():
        values = data.get(key, [])
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str) or not re.fullmatch(form, value):
                errors.append(f'"{key}" with value {json.dumps(value)} is not valid')
    if "model-index" in data:
        errors += _shape_errors(data["model-index"], _MODEL_INDEX, "model-index")
    if repo_type == "space":
        for key, choices in _SPACE_CHOICES.items():
            if key in data and data[key] not in choices:
                errors.append(f'"{key}" must be one of [{", ".join(choices)}]')
        if len(data.get("short_description", "")) > 60:
            errors.append('"short_description" length must be less than or equal to 60 characters long')
    return errors


def _shape_errors(value: Any, shape: Any, place: str) -> list[str]:
    """Where a value differs from a shape: a type, a list of one shape, or a mapping of shapes ("?": optional)."""
    if isinstance(shape, list):
        if not isinstance(value, list) or not value:
            return [f'"{place}" must be an array']
        return [
            error for index, item in enumerate(value) for error in _shape_errors(item, shape[0], f"{place}[{index}]")
        ]
    if not isinstance(shape, dict):
        # NaN, the one value that differs from itself, is no number of JSON.
        if isinstance(value, shape) and value == value:
            return []
        return [f'"{place}" must be a {"string" if shape is str else "number or string"}']
    if not isinstance(value, dict):
        return [f'"{place}" must be of type object']
    errors = []
    for key, part in shape.items():
        name = key.rstrip("?")
        if name in value:
            errors += _shape_errors(value[name], part, f"{place}.{name}")
        elif not key.endswith("?"):
            errors.append(f'"{place}.{name}" is required')
    return errors


_IDENTIFIERS = {
    "license": r"[a-z0-9.-]+",
    "language": r"[a-z]{2,3}|code|multilingual",
    "datasets": r"[\w.-]+(/[\w.-]+)?",
    "metrics": r"[\w./-]+",
    "tags": r".+",
    "library_name": r"[\w.-]+",
    "pipeline_tag": r"[a-z0-9-]+",
}
_MODEL_INDEX = [
    {
        "name": str,
        "results": [
            {
                "task": {"type": str, "name?": str},
                "dataset": {"type": str, "name": str, "config?": str, "split?": str, "revision?": str},
                "metrics": [{"type": str, "value": (int, float, str), "name?": str, "config?": str}],
            }
        ],
    }
]
_COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
_SPACE_CHOICES = {"sdk": ("gradio", "docker", "static"), "colorFrom": _COLOURS, "colorTo": _COLOURS}


def _flip_byte(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :] if data else data
