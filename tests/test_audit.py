"""What is said of the dependencies' advisories."""

import audit


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
