"""What was computed of a radiograph is not computed again: graph runs are counted, and answers equal to the bit."""

from __future__ import annotations

import gc
import json
import weakref

import numpy as np
import pytest
from conftest import DATA, serve
from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function

from pneumo.bundle import EMBEDDED
from pneumo.covering import HOTTEST
from pneumo.evidence import evidence_of
from pneumo.examination import Examiner
from pneumo.methods import DEFAULT_METHOD
from pneumo.radiograph import read_radiograph
from pneumo.sheet import sheet_pdf

RADIOGRAPH = DATA / "full_resolution" / "person26_virus_60.jpeg"


@pytest.fixture(scope="module")
def radiograph():
    return read_radiograph(RADIOGRAPH)


@pytest.fixture
def runs(monkeypatch):
    """Every compiled graph that is run, in order."""
    found = []
    call = Function.__call__

    def counted(self, *arguments, **named):
        found.append(self)
        return call(self, *arguments, **named)

    monkeypatch.setattr(Function, "__call__", counted)
    return found


def assert_equal(found, expected) -> None:
    assert found.record() == expected.record()
    assert found.heatmaps.keys() == expected.heatmaps.keys()
    for name, heatmap in expected.heatmaps.items():
        np.testing.assert_array_equal(found.heatmaps[name].values, heatmap.values)
    for name, covering in expected.coverings.items():
        np.testing.assert_array_equal(found.coverings[name].mask, covering.mask)


def test_another_operating_point_is_arithmetic(examiner, radiograph, runs):
    first = examiner.examine(radiograph)
    assert len(runs) == 2
    del runs[:]
    # At the last, decisions are others, and so are the classes explained.
    again = [examiner.examine(first, point) for point in ("screening", 0.5, 0.9999)]
    assert {item.decision for item in again[-1].predictions.values()} == {"NORMAL"}
    assert [heatmap.target for heatmap in again[-1].heatmaps.values()] == ["NORMAL"] * 3
    assert runs == []
    for examination in again:
        assert_equal(examination, examiner.examine(radiograph, examination.operating_point))


def test_evidence_is_measured_once(examiner, radiograph, monkeypatch):
    measured = []

    def counted(heatmap, lungs):
        measured.append(heatmap)
        return evidence_of(heatmap, lungs)

    monkeypatch.setattr("pneumo.examination.evidence_of", counted)
    examination = examiner.examine(radiograph)
    examination.record()
    assert [id(heatmap) for heatmap in measured] == [id(heatmap) for heatmap in examination.heatmaps.values()]


def test_report_and_record_are_rendered_alone(examiner, radiograph, runs):
    examination = examiner.examine(radiograph, cover=HOTTEST)
    del runs[:]
    examination.record()
    sheet_pdf(examination, examiner.bundle)
    assert runs == []


@pytest.mark.parametrize("method", ["hirescam", "layercam-fused", "integrated-gradients-fast"])
def test_another_method_runs_its_maps_alone(examiner, radiograph, runs, method):
    first = examiner.examine(radiograph)
    del runs[:]
    other = examiner.examine(first, method=method)
    assert len(runs) == len(other.heatmaps) == 3
    assert examiner.graph()._compiled not in runs
    del runs[:]
    back = examiner.examine(examiner.examine(other), "screening", method=method)
    assert runs == []
    assert_equal(other, examiner.examine(radiograph, method=method))
    assert_equal(back, examiner.examine(radiograph, "screening", method=method))


def test_networks_are_asked_once_of_what_is_covered(examiner, radiograph, runs):
    first = examiner.examine(radiograph)
    del runs[:]
    covered = examiner.examine(first, cover=HOTTEST)
    assert runs == [examiner.graph()._compiled]
    again = examiner.examine(covered, "screening", cover=HOTTEST)
    assert len(runs) == 1
    assert examiner.examine(again).coverings == {}
    region = np.zeros((224, 224), bool)
    region[60:120, 60:100] = True
    painted = examiner.examine(again, cover=region)
    assert len(runs) == 2
    assert_equal(covered, examiner.examine(radiograph, cover=HOTTEST))
    assert_equal(again, examiner.examine(radiograph, "screening", cover=HOTTEST))
    assert_equal(painted, examiner.examine(radiograph, cover=region))
    # Of the same name, and another place.
    other = examiner.examine(painted, cover=region.T)
    assert_equal(other, examiner.examine(radiograph, cover=region.T))


def test_sanity_check_takes_what_is_known(examiner, radiograph, runs):
    expected = examiner.sanity(radiograph)
    first = examiner.examine(radiograph)
    del runs[:]
    found = examiner.sanity(first)
    assert len(runs) == 3
    assert examiner.graph()._compiled not in runs
    for one, other in zip(found, expected, strict=True):
        assert (one.network, one.correlation) == (other.network, other.correlation)
        np.testing.assert_array_equal(one.heatmap.values, other.heatmap.values)


def test_what_others_computed_is_not_taken(examiner, radiograph):
    """Of another examiner, or by a graph that gives no maps."""
    plain = Examiner(examiner.bundle, None)
    without = plain.examine(radiograph)
    assert not without.heatmaps
    assert_equal(plain.examine(without, method=DEFAULT_METHOD), examiner.examine(radiograph))
    assert_equal(examiner.examine(without), examiner.examine(radiograph))


def test_refused_picture_stays_refused(examiner, runs):
    picture = read_radiograph(np.random.default_rng(1).integers(0, 256, (300, 300), np.uint8))
    first = examiner.examine(picture, anyway=True)
    assert first.refusal
    del runs[:]
    assert examiner.examine(first, "screening", anyway=True).refusal == first.refusal
    with pytest.raises(ValueError, match="chest"):
        examiner.examine(first)
    assert runs == []


def test_nothing_stays_when_the_examination_is_gone(examiner, radiograph):
    examination = examiner.examine(radiograph, method="layercam", cover=HOTTEST)
    examiner.sanity(examination)
    left = weakref.ref(examination.reading)
    examination = examiner.examine(examination, "screening")
    assert left() is examination.reading
    del examination
    gc.collect()
    assert left() is None


COUNTED = """
import sys
from pneumo.backend import load_tensorflow
load_tensorflow()
from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function
call = Function.__call__
def counted(self, *arguments, **named):
    print("A graph was run.", file=sys.stderr, flush=True)
    return call(self, *arguments, **named)
Function.__call__ = counted
import app
app.launch()
"""


@pytest.mark.browser
def test_page_computes_nothing_twice(browser, tmp_path):
    def counted() -> int:
        return (tmp_path / "server.log").read_text().count("A graph was run.")

    def opened(url: str):
        page = browser.new_page()
        page.goto(url)
        page.set_input_files("#upload input[type=file]", RADIOGRAPH)
        page.locator("#verdict", has_text=RADIOGRAPH.name).wait_for(timeout=120_000)
        return page

    def taken(page, kind: str) -> bytes:
        with page.expect_download(timeout=120_000) as waiting:
            page.locator(f"#download-{kind}").click()
        return waiting.value.path().read_bytes()

    with serve(EMBEDDED, tmp_path, COUNTED) as url:
        opened(url).close()
        before = counted()
        page = opened(url)
        # What another visitor's page computed of the same file is not known to this one.
        assert counted() - before == 2
        page.locator("#point input[value=screening]").check()
        page.locator("#verdict", has_text="at the screening operating point").wait_for(timeout=120_000)
        record = json.loads(taken(page, "json"))
        assert record["operating_point"] == "screening"
        assert taken(page, "pdf").startswith(b"%PDF")
        taken(page, "png")
        assert counted() - before == 2
        page.get_by_label("Saliency method").click()
        page.get_by_role("option", name="LayerCAM", exact=True).click()
        page.locator("#cards", has_text="LayerCAM for").wait_for(timeout=120_000)
        saliency = json.loads(taken(page, "json"))["networks"]["cnn"]["saliency"]
        assert saliency["method"] == "layercam"
        assert counted() - before == 2 + 3
        page.close()
