"""A bundle's files on the Hugging Face Hub: pinned, cached, and told apart from damaged ones."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from pneumo.errors import BundleError, HubUnreachable, first_line

SCHEME = "hf://"
"""How the location of a bundle on the Hub begins."""
TIMEOUT = 10.0
"""Seconds to wait for the Hub's answer to which commit a revision is."""

_MANIFEST = "manifest.json"
_LOCATION = re.compile(r"hf://(?P<repository>[^/@\s]+/[^/@\s]+)@(?P<revision>\S+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LOCAL_FAULTS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
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
        for _ in range(2):
            path = explain(lambda: _download(self.repository, name, self.commit), self.location, name)
            if _intact(path):
                return path
            # What is not in the cache is downloaded; forced, the client would not try again where the Hub fails.
            explain(path.resolve().unlink, self.location, name)
        raise BundleError(
            f"A file from the Hub must arrive as it was published; {name} of {self.location} came damaged twice. "
            "Try again later, or from another network."
        )


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
            f"received {location!r}. Correct the form."
        )
    repository, revision = match["repository"], match["revision"]
    if _COMMIT.fullmatch(revision):
        return HubFiles(repository, revision)

    def resolve() -> Path:
        # Asked first, because a download quietly falls back on the cache if the Hub fails.
        HfApi().model_info(repository, revision=revision, timeout=TIMEOUT)
        # By the revision's name, because only then the cache keeps which commit it is.
        return _download(repository, _MANIFEST, revision)

    try:
        return HubFiles(repository, _commit_of(explain(resolve, location)))
    except HubUnreachable:
        cached = try_to_load_from_cache(repository, _MANIFEST, revision=revision)
        if not isinstance(cached, str):
            raise
        commit = _commit_of(Path(cached))
        notice = f"The Hub cannot be reached; the networks are the cached copy of {SCHEME}{repository}@{commit}."
        return HubFiles(repository, commit, (notice,))


def explain(function: Callable[[], _Result], location: str, name: str = _MANIFEST) -> _Result:
    """Call a function of huggingface_hub, and put its errors into words.

    Parameters
    ----------
    function : callable
        Takes nothing.
    location : str
        What is asked for, as the user named it.
    name : str
        The file of it that is asked for.

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
        raise BundleError(
            f"A gated repository must be opened to the token first; {location} is gated. "
            "Ask for access on its page, and set HF_TOKEN."
        ) from error
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
        # It says only that the file is not cached; its cause says what the Hub did.
        raise _unreachable(location, error.__cause__ or error) from error
    except EntryNotFoundError as error:
        raise BundleError(
            f"A bundle must hold its {_MANIFEST} and every file that is named there; {location} lacks {name}. "
            "Publish it again, or use another revision."
        ) from error
    except (OSError, RuntimeError, ValueError, httpx2.HTTPError) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise BundleError(
                f"A token must be valid and allowed to read the repository; HF_TOKEN is refused for {location}. "
                "Correct it, or unset it if the repository is public."
            ) from error
        if isinstance(error, OSError) and error.errno in _LOCAL_FAULTS:
            raise BundleError(
                f"The cache of the Hub must be writable and have space; {location} could not be kept there: "
                f"{first_line(error)}. Set HF_HOME to another folder."
            ) from error
        raise _unreachable(location, error) from error


def _download(repository: str, name: str, revision: str) -> Path:
    return Path(hf_hub_download(repository, name, revision=revision))


def _commit_of(path: Path) -> str:
    """The commit of a cached file: the cache holds a commit's files in a folder of its name."""
    return path.parent.name


def _unreachable(location: str, error: BaseException) -> HubUnreachable:
    reason = first_line(error)
    return HubUnreachable(
        f"The Hub must be reachable, or the files be cached; {location} could not be loaded: {reason}. "
        "Check the network, or unset PNEUMO_MODELS to use the embedded networks."
    )


def _intact(path: Path) -> bool:
    """Whether a cached file is what its name in the cache says: a SHA-256, or the SHA-1 of a Git blob."""
    # One step alone: the next link, if there is one, leads into a store by another hash.
    name = path.readlink().name if path.is_symlink() else ""
    content = path.read_bytes()
    if len(name) == 64:
        return hashlib.sha256(content).hexdigest() == name
    if _COMMIT.fullmatch(name):
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == name
    # A file system without links holds plain copies; the manifest's SHA-256 still guards the weights.
    return True
