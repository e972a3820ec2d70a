"""What is said of the dependencies' advisories."""

import tomllib
from pathlib import Path

import audit
import pytest

KNOWN = tomllib.loads(audit.ADVISORIES.read_text(encoding="utf-8"))
PINS = audit.pinned((Path(__file__).parents[1] / "requirements.txt").read_text(encoding="utf-8"))


def test_nothing_could_be_asked():
    words, found = audit.summary([{"name": "a", "skip_reason": "Dependency not found on PyPI"}])
    assert words.splitlines()[0] == "1 dependencies, 0 of them asked about"
    assert "None could be checked" in words
    assert not found


def test_an_advisory_is_named():
    clean = {"name": "a", "version": "1.0", "vulns": []}
    known = {"name": "b", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
    assert audit.summary([clean]) == ("1 dependencies, 1 of them asked about", False)
    words, found = audit.summary([clean, known])
    assert words.splitlines()[1] == "  b 2.0: PYSEC-1, mended in 2.1"
    assert found


def test_the_pins_stand():
    words, failed = audit.by_hand(KNOWN, PINS)
    assert not failed, words
    assert set(KNOWN["sought"]) <= set(PINS)


@pytest.mark.parametrize(
    ("package", "old", "advisory"),
    [
        ("starlette", "1.0.0", "CVE-2026-48710"),
        ("python-multipart", "0.0.29", "CVE-2026-53538"),
        ("pydicom", "3.0.1", "CVE-2026-32711"),
        ("pillow", "12.2.0", "CVE-2026-59199"),
        ("mcp", "1.29.0", "CVE-2026-59951"),
    ],
)
def test_an_old_pin_is_caught(package, old, advisory):
    words, failed = audit.by_hand(KNOWN, PINS | {package: old})
    assert failed
    assert any(line.startswith(f"  {package} {old}: {advisory}") and "Pin it" in line for line in words.splitlines())


def test_a_reason_is_asked_for_and_must_be_needed():
    entry = {"package": "a", "ids": ["X-1"], "about": "a fault", "since": "1.5", "mended": "2.0"}
    known = {"compiled": "today", "advisory": [entry]}
    assert not audit.by_hand(known, {"a": "1.4"})[1]
    assert not audit.by_hand(known, {"a": "2.0"})[1]
    assert audit.by_hand(known, {"a": "1.9.9"})[1]
    entry["accepted"] = "It is not used."
    assert audit.by_hand(known, {"a": "1.9.9"}) == (
        "1 advisories about 1 packages, as of today, not complete: 1 stand with a reason, 0 to act on\n"
        "  a 1.9.9: X-1, a fault. Accepted: It is not used.",
        False,
    )
    assert "delete why" in audit.by_hand(known, {"a": "2.0"})[0]
    assert "Correct the name" in audit.by_hand(known, {"b": "2.0"})[0]
    del entry["accepted"], entry["mended"]
    assert "mended in no version" in audit.by_hand(known, {"a": "3"})[0]
