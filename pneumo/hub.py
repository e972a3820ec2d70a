"""A bundle's files on the Hugging Face Hub: pinned, cached, and told apart from damaged ones."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

# Set before huggingface_hub is imported, which reads it once: nothing is reported to anyone.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import httpx2
from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from pneumo.errors import BundleError

SCHEME = "hf://"
"""How the location of a bundle on the Hub begins."""
TIMEOUT = 10.0
"""Seconds to wait for the Hub's answer to which commit a revision is."""

_LOCATION = re.compile(r"hf://(?P<repository>[^/@\s]+/[^/@\s]+)@(?P<revision>\S+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class HubFiles:
    """The files of one commit of a repository on the Hub.

    Attributes
    ----------
    repository : str
        OWNER/NAME.
    commit : str
        The commit, 40 hexadecimal digits, that the revision was when it was resolved.
    notices : tuple of str
        What a user should know, such as that a cached copy is used because the Hub cannot be reached.
    """

    repository: str
    commit: str
    notices: tuple[str, ...] = ()

    @property
    def location(self) -> str:
        """The location, pinned to the commit."""
        return f"{SCHEME}{self.repository}@{self.commit}"

    def path(self, name: str) -> Path:
        """A file, from the cache or downloaded into it; one that is damaged there is downloaded once more.

        Raises
        ------
        BundleError
            If it cannot be had, or arrives damaged again.
        """
        for afresh in (False, True):
            path = Path(self._call(lambda: self._download(name, afresh)))  # noqa: B023 - called at once
            if _intact(path):
                return path
        path.resolve().unlink(missing_ok=True)
        raise BundleError(
            f"A file from the Hub must arrive as it was published; {name} of {self.location} came damaged twice. "
            "Try again later, or from another network."
        )

    def _download(self, name: str, afresh: bool) -> str:
        return hf_hub_download(self.repository, name, revision=self.commit, force_download=afresh)

    def _call(self, function: Callable[[], _Result]) -> _Result:
        return explain(function, self.location)


def open_hub(location: str) -> HubFiles:
    """Find the commit that a location names.

    Parameters
    ----------
    location : str
        "hf://OWNER/NAME@REVISION" with a commit, a tag or a branch.

    Raises
    ------
    BundleError
        If it is not of that form, is not there, or cannot be reached and is not cached.
    """
    match = _LOCATION.fullmatch(location)
    if match is None:
        raise BundleError(
            f"A bundle on the Hub must be named as {SCHEME}OWNER/NAME@REVISION, pinned to a commit, tag or branch; "
            f"received {location!r}. Add what is missing."
        )
    repository, revision = match["repository"], match["revision"]
    if _COMMIT.fullmatch(revision):
        return HubFiles(repository, revision)
    try:
        info = explain(lambda: HfApi().model_info(repository, revision=revision, timeout=TIMEOUT), location)
    except HubUnreachable as error:
        cached = try_to_load_from_cache(repository, "manifest.json", revision=revision)
        if not isinstance(cached, str):
            raise
        # The cache holds a commit's files in a folder of its name.
        commit = Path(cached).parent.name
        notice = f"The Hub cannot be reached; the networks are the cached copy of {SCHEME}{repository}@{commit}."
        del error
        return HubFiles(repository, commit, (notice,))
    return HubFiles(repository, info.sha or "")


class HubUnreachable(BundleError):
    """Raised when the Hub does not answer, or answers with a failure of its own."""


def explain(function: Callable[[], _Result], location: str) -> _Result:
    """Call a function of huggingface_hub, and put its errors into words.

    Raises
    ------
    HubUnreachable
        If the Hub cannot be reached or fails.
    BundleError
        If the Hub answers that there is no such repository, revision or file, or that it may not be read.
    """
    try:
        return function()
    except GatedRepoError as error:
        raise BundleError(f"{location} is gated: ask for access on its page, and set HF_TOKEN.") from error
    except RevisionNotFoundError as error:
        raise BundleError(
            f"A revision must exist; {location} does not. Look up the commit on the repository's page."
        ) from error
    except RepositoryNotFoundError as error:
        raise BundleError(
            f"A repository must exist and be readable; {location} does not, or is private. "
            "Check the name, or set HF_TOKEN to a token that may read it."
        ) from error
    except HFValidationError as error:
        raise BundleError(f"A repository must be named OWNER/NAME; {location} is not. Correct the name.") from error
    except LocalEntryNotFoundError as error:
        raise _unreachable(location, error) from error
    except EntryNotFoundError as error:
        raise BundleError(
            f"A bundle must hold every file of its manifest; one is missing: {_first_line(error)} "
            f"Publish {location} again, or use another revision."
        ) from error
    except (OSError, httpx2.HTTPError) as error:
        raise _unreachable(location, error) from error


def _unreachable(location: str, error: Exception) -> HubUnreachable:
    return HubUnreachable(
        f"The Hub must be reachable, or the files be cached; {location} could not be loaded ({_first_line(error)}) "
        "Check the network, or unset PNEUMO_MODELS to use the embedded networks."
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


def _intact(path: Path) -> bool:
    """Whether a cached file is what its name in the cache says: a SHA-256, or the SHA-1 of a Git blob."""
    blob = path.resolve()
    content = blob.read_bytes()
    if len(blob.name) == 64:
        return hashlib.sha256(content).hexdigest() == blob.name
    if _COMMIT.fullmatch(blob.name):
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == blob.name
    # A file system without links holds plain copies; the manifest's SHA-256 still guards the weights.
    return True
