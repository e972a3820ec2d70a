"""Networks, card and Space to the Hugging Face Hub, each in one commit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id

from pneumo.bundle import (
    ABLATION,
    EMBEDDED,
    GATE_RECORD,
    MANIFEST,
    METRICS,
    PREDICTIONS,
    SEGMENTER_RECORD,
    SYSTEMS,
    FolderFiles,
    read_manifest,
    verified_path,
    weights,
)
from pneumo.cases import CASES
from pneumo.errors import first_line
from training.card import EVAL_RESULTS, REPOSITORY, card, eval_results, evaluated_manifest
from training.errors import PublishError

ROOT = EMBEDDED.parent
"""The checkout, from which the Space is published."""
_SPACE_FILES = ("app.py", "requirements.txt", "README.md", "model_card.md", "LICENSE")
_SPACE_FOLDERS = {
    "pneumo": (".py", ".css", ".js", ".json", ".jpeg", ".md"),
    "models": (".keras", ".npz", ".json", ".csv", ".zip"),
}
_PICTURE = re.compile(r"!\[[^\]]*\]\(([\w./-]+)\)")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a publication holds.

    Attributes
    ----------
    repository : str
        OWNER/NAME.
    kind : str
        "model" or "space".
    files : dict of str to bytes
        Content by path in the repository.

    Raises
    ------
    PublishError
        If the repository is not named in that form.
    """

    repository: str
    kind: str
    files: dict[str, bytes]

    def __post_init__(self) -> None:
        try:
            validate_repo_id(self.repository)
            valid = "/" in self.repository
        except HFValidationError:
            valid = False
        if not valid:
            raise PublishError(
                f"A repository must be named OWNER/NAME; received {self.repository!r}. Correct the name."
            )

    def write(self, folder: Path) -> None:
        """Lay the files out in a folder, as the repository will hold them.

        Raises
        ------
        PublishError
            If they cannot be written there.
        """
        try:
            for name, content in self.files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        except OSError as error:
            raise PublishError(
                f"Files must be laid out in a folder that can be written to; {folder}: {error.strerror or error}. "
                "Name another."
            ) from error


def plan_networks(folder: Path, repository: str, networks: list[str] | None = None) -> Plan:
    """What publishing the networks of a bundle would upload.

    Parameters
    ----------
    folder : Path
        Of an evaluated bundle.
    repository : str
        OWNER/NAME.
    networks : list of str, optional
        Which ones. Default: all. If some are left out, their mean is left out too; metrics, predictions and
        figures stay those of the whole evaluation.

    Raises
    ------
    BundleError
        If the folder holds no bundle, or weights that are not those of its manifest.
    PublishError
        If the bundle has not been evaluated, or a file is missing.
    UnknownNameError
        If the bundle has no network of a name.
    """
    manifest = evaluated_manifest(folder, networks)
    source = FolderFiles(str(folder))
    files = {entry["file"]: verified_path(source, entry).read_bytes() for entry in weights(manifest)}
    reports = [folder / name for name in (METRICS, PREDICTIONS)]
    others = (ABLATION, SEGMENTER_RECORD, GATE_RECORD, CASES, SYSTEMS)
    reports += [path for path in (folder / name for name in others) if path.exists()]
    for path in (*reports, *sorted((folder / "figures").glob("*.png"))):
        files[path.relative_to(folder).as_posix()] = _read(path)
    whole = manifest["together"] is not None
    files[MANIFEST] = _read(folder / MANIFEST) if whole else (json.dumps(manifest, indent=1) + "\n").encode()
    files["README.md"] = card(folder, repository, networks).encode()
    files[EVAL_RESULTS] = eval_results(folder, networks).encode()
    files["LICENSE"] = _read(ROOT / "LICENSE")
    return Plan(repository, "model", files)


def plan_space(repository: str, networks: str = REPOSITORY, root: Path = ROOT) -> Plan:
    """What publishing the app as a Space would upload: the program, its pins, the embedded bundle and the README.

    Parameters
    ----------
    repository : str
        OWNER/NAME of the Space.
    networks : str
        OWNER/NAME of the repository of the networks, which README and card then name.
    root : Path
        Of the checkout.

    Raises
    ------
    BundleError
        If the embedded bundle is missing, or has weights that are not those of its manifest.
    PublishError
        If another file is missing.
    """
    bundle = FolderFiles(str(root / "models"))
    for entry in weights(read_manifest(bundle)):
        verified_path(bundle, entry)
    paths = [root / name for name in _SPACE_FILES]
    for name, suffixes in _SPACE_FOLDERS.items():
        paths += sorted(path for path in (root / name).rglob("*") if path.suffix in suffixes)
    files = {path.relative_to(root).as_posix(): _read(path) for path in paths}
    for name in ("README.md", "model_card.md"):
        files[name] = files[name].replace(REPOSITORY.encode(), networks.encode())
    # The pictures that they show; what they only link to stays behind.
    for page in ("README.md", "model_card.md"):
        for name in _PICTURE.findall(files[page].decode()):
            files.setdefault(name, _read(root / name))
    return Plan(repository, "space", files)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PublishError(
            f"Everything that is published must be there; {path} cannot be read ({error.strerror or error}). "
            "Make it with `make models`, or restore it."
        ) from error


def publish(plan: Plan, private: bool = False, token: str | None = None) -> str:
    """Upload what changed, in one commit, to a repository that is created if it is not there.

    Parameters
    ----------
    plan : Plan
    private : bool
        Whether a repository that is created is private.
    token : str, optional
        Default: HF_TOKEN of the environment, or what `hf auth login` has stored.

    Returns
    -------
    str
        The commit that now holds the files: the one before, if nothing had changed.

    Raises
    ------
    PublishError
        If the token is missing or lacks rights, or the Hub cannot be reached or refuses.
    """
    api = HfApi(token=token)
    _call(api.whoami, plan)
    sdk = "gradio" if plan.kind == "space" else None
    _call(
        lambda: api.create_repo(plan.repository, repo_type=plan.kind, private=private, exist_ok=True, space_sdk=sdk),
        plan,
    )
    operations = [CommitOperationAdd(name, content) for name, content in plan.files.items()]
    commit = _call(
        lambda: api.create_commit(
            plan.repository, operations, commit_message="Publish by `python -m training publish`", repo_type=plan.kind
        ),
        plan,
    )
    return commit.oid


def _call(function: Callable[[], _Result], plan: Plan) -> _Result:
    """Call the Hub, and put its errors into words."""
    place = f"{plan.kind} {plan.repository}"
    try:
        return function()
    except LocalTokenNotFoundError as error:
        raise PublishError(
            "A token of the Hugging Face Hub must be set to publish; none is. Set HF_TOKEN, or run `hf auth login`."
        ) from error
    except HfHubHTTPError as error:
        raise _refused(error, place) from error
    except (OSError, RuntimeError, httpx2.HTTPError) as error:
        reasons = [_reason(reason) for reason in (error, error.__cause__) if reason]
        raise PublishError(
            f"The Hub must be reachable; {place} could not be published ({': '.join(dict.fromkeys(reasons))}). "
            "Run the command again: what has arrived is not sent twice."
        ) from error
    except ValueError as error:
        # The Hub's judgement of a README.md, or an answer that is not the Hub's at all.
        raise PublishError(
            f"The Hub must accept what is published; {place} could not be published: {' '.join(str(error).split())}. "
            "Correct the card, or check that it is the Hub that answers."
        ) from error


def _refused(error: HfHubHTTPError, place: str) -> PublishError:
    status = error.response.status_code if error.response is not None else None
    if status == 401:
        return PublishError(
            f"The token must be valid to publish {place}; the Hub does not know it. Make a new one, and set HF_TOKEN."
        )
    if status in (402, 403):
        return PublishError(
            f"The token must be allowed to write to {place}; the Hub refused: {_reason(error)}. "
            "Use a token with write access to that owner."
        )
    return PublishError(f"The Hub must accept {place}; it answered {status}: {_reason(error)}. Run the command again.")


def _reason(error: BaseException) -> str:
    """What the Hub says in one line, without the request's number."""
    text = re.sub(r"\s*\(Request ID[^)]*\)", "", str(error)).strip().replace(":\n", ": ")
    return first_line(RuntimeError(text)) if text else first_line(error)
