"""Damaged files: the decoder reads or refuses each, and what looks for faults would find them."""

from __future__ import annotations

import os
import time
from collections import Counter

import numpy as np
import pytest

from benchmarks import mutations
from benchmarks.damage import KINDS, damaged, load_seeds
from pneumo.errors import UnreadableRadiograph
from pneumo.radiograph import Radiograph, read_radiograph

FILES = 450


@pytest.fixture(scope="module")
def seeds():
    return load_seeds()


def test_what_is_damaged_is_read_before(seeds):
    for seed in seeds:
        assert read_radiograph(seed.content).format == seed.kind, seed.name
        assert seed.lengths, seed.name
        assert seed.fields, seed.name
    syntaxes = {bytes(seed.content).split(b"1.2.840.10008.1.2")[1][:8] for seed in seeds if seed.kind == "DICOM"}
    assert len(syntaxes) >= 9


def test_a_number_is_always_the_same_file(seeds):
    again = load_seeds()
    for number in range(60):
        seed, content = damaged(seeds, number)
        assert seed.kind == KINDS[number % 3]
        assert damaged(again, number)[1] == content
    changed = sum(damaged(seeds, number)[1] != damaged(seeds, number)[0].content for number in range(60))
    assert changed > 50


def test_damaged_files_are_read_or_refused():
    # Not those of the first numbers, which the benchmark tries.
    answers = list(mutations.answers_to(1_000_000, FILES))
    assert [answer.number for answer in answers] == list(range(1_000_000, 1_000_000 + FILES))
    assert [answer for answer in answers if answer.outcome == "fault"] == []
    for kind in KINDS:
        outcomes = Counter(answer.outcome for answer in answers if answer.seed.startswith(kind))
        assert outcomes["read"] > 0
        assert outcomes["refused"] > FILES / 10


def ill_reader(content: bytes) -> Radiograph:
    """Goes wrong in all ways, in turn."""
    match len(ill_reader.calls):  # type: ignore[attr-defined]
        case 0:
            answer = UnreadableRadiograph("A file must be read; it is not. Choose another.")
        case 1:
            answer = KeyError("no word of ours")
        case 2:
            answer = None
        case 3:
            os.abort()
        case _:
            time.sleep(600)
    ill_reader.calls.append(content)  # type: ignore[attr-defined]
    if answer:
        raise answer
    return Radiograph(np.zeros((3, 3), np.uint8), "", "PNG", "")


ill_reader.calls = []  # type: ignore[attr-defined]


def test_faults_are_found():
    answers = list(mutations.answers_to(0, 4, ill_reader, patience=5))
    assert [answer.outcome for answer in answers] == ["refused", "fault", "fault", "fault"]
    assert "KeyError" in answers[1].words
    assert "AssertionError" in answers[2].words
    assert answers[3].words == "the process ended with status -6"


def sleepy(content: bytes) -> Radiograph:
    time.sleep(600)
    raise AssertionError


def test_hang_is_found():
    (answer,) = mutations.answers_to(7, 1, sleepy, patience=1)
    assert (answer.outcome, answer.words) == ("fault", "no answer in 1 s")


def test_slow_and_large_are_faults(monkeypatch, capsys, tmp_path):
    class Answers:
        def send(self, answer):
            found.append(answer)

    found = []
    # The process of the tests may be large already.
    monkeypatch.setattr(mutations, "MAX_MEMORY", 2**30)
    monkeypatch.setattr(mutations, "MAX_SECONDS", -1)
    mutations._read_all(Answers(), 0, 1, read_radiograph)
    monkeypatch.setattr(mutations, "MAX_MEMORY", 1)
    mutations._read_all(Answers(), 0, 1, read_radiograph)
    assert [answer.words.split()[-1] for answer in found if answer] == ["s", "MiB"]


def test_a_fault_is_kept_and_ends_with_status_1(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mutations, "MAX_MEMORY", 1)
    fault = mutations.Answer(5, "DICOM MR_small.dcm", "fault", "took 9.0 s", 9, 70)
    fine = [mutations.Answer(number, f"{kind} gray", "read", "", 0.1, 70) for number, kind in enumerate(KINDS)]
    monkeypatch.setattr(mutations, "answers_to", lambda first, files: iter([*fine, fault]))
    with pytest.raises(SystemExit) as ended:
        mutations.mutations(4, 0)
    assert ended.value.code == 1
    assert (tmp_path / "runs" / "mutations" / "5").read_bytes() == damaged(load_seeds(), 5)[1]
    out, err = capsys.readouterr()
    assert "took 9.0 s" in err
    assert out.splitlines()[-1].split()[:5] == ["all", "4", "3", "0", "1"]
