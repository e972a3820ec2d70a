"""A case library: its members, and what is said where there is none."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from pneumo.cases import CASES, INDEX, CaseLibrary
from pneumo.errors import BundleError

ADVICE = "`python -m training cases`"


@pytest.fixture
def path(tmp_path) -> Path:
    """A library of one case."""
    with zipfile.ZipFile(tmp_path / CASES, "w") as archive:
        for name, content in ((INDEX, b"{}"), ("one.json", b"[1]"), ("one.jpeg", b"\xff\xd8")):
            archive.writestr(name, content)
    return tmp_path / CASES


def test_members_are_those_of_the_file(path):
    library = CaseLibrary(path)
    assert (library.member(INDEX), library.member("one.json")) == (b"{}", b"[1]")
    assert library.member("one.jpeg") == b"\xff\xd8"


def test_members_are_read_once(path):
    library = CaseLibrary(path)
    path.unlink()
    assert library.member("one.json") == b"[1]"


@pytest.mark.parametrize("name", ["two.json", "one", "", "../one.json", "/one.json", "one.json/"])
def test_unknown_member_is_none(path, name):
    assert CaseLibrary(path).member(name) is None


def test_library_of_the_bundle(bundle_folder):
    library = CaseLibrary(bundle_folder / CASES)
    assert library.member("IM-0005-0001.jpeg").startswith(b"\xff\xd8")
    manifest = json.loads((bundle_folder / "manifest.json").read_text(encoding="utf-8"))
    assert library.networks == {name: entry["sha256"] for name, entry in manifest["networks"].items()}


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(BundleError, match=ADVICE) as caught:
        CaseLibrary(tmp_path / CASES)
    assert str(tmp_path / CASES) in str(caught.value)


def test_folder_is_refused(tmp_path):
    with pytest.raises(BundleError, match=ADVICE):
        CaseLibrary(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_what_is_no_zip_is_refused(tmp_path, content):
    (tmp_path / CASES).write_bytes(content)
    with pytest.raises(BundleError, match=ADVICE):
        CaseLibrary(tmp_path / CASES)


def test_file_cut_short_is_refused(path):
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BundleError, match=ADVICE):
        CaseLibrary(path)


def test_damaged_member_is_refused(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b"[1]", b"[2]"))
    with pytest.raises(BundleError, match=ADVICE):
        CaseLibrary(path)


def test_damaged_compression_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / CASES, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(INDEX, bytes(range(256)) * 40)
    content = bytearray((tmp_path / CASES).read_bytes())
    content[60:120] = bytes(60)
    (tmp_path / CASES).write_bytes(content)
    with pytest.raises(BundleError, match=ADVICE):
        CaseLibrary(tmp_path / CASES)


def test_encrypted_member_is_refused(path):
    content = bytearray(path.read_bytes())
    content[6] |= 1
    entry = content.index(b"PK\x01\x02")
    content[entry + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=ADVICE):
        CaseLibrary(path)


def test_zip_without_an_index_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / CASES, "w") as archive:
        archive.writestr("one.json", b"[1]")
    with pytest.raises(BundleError, match=rf"must hold {INDEX}.*{ADVICE}"):
        CaseLibrary(tmp_path / CASES)


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"networks": 3}', b"{"], ids=["empty", "list", "number", "cut"])
def test_damaged_index_in_an_intact_zip_is_refused(tmp_path, content):
    with zipfile.ZipFile(tmp_path / CASES, "w") as archive:
        archive.writestr(INDEX, content)
    with pytest.raises(BundleError, match=rf"must hold {INDEX}.*{ADVICE}"):
        CaseLibrary(tmp_path / CASES)
