"""Very many radiographs to one Parquet file: from every source alike, and through every interruption."""

import dataclasses
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from PIL import Image

from pneumo import progress
from pneumo import score as scoring
from pneumo.cli import main
from pneumo.errors import SourceError
from pneumo.methods import DEFAULT_METHOD
from pneumo.progress import Progress, duration
from pneumo.radiograph import read_radiograph
from pneumo.score import columns, score, score_batch
from pneumo.supply import open_supply

BAD = {"NORMAL/cut.jpeg": "truncated or damaged", "NORMAL/empty.png": "is empty", "words.jpg": "a text file"}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts and batches as small as the source."""
    monkeypatch.setattr(scoring, "PART", 4)
    monkeypatch.setattr(scoring, "BATCH", 2)


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory) -> Path:
    """Nine radiographs in two folders, one of them large, with three files that are none, and one of another kind."""
    root = tmp_path_factory.mktemp("many")
    for label in ("NORMAL", "PNEUMONIA"):
        (root / label).mkdir()
        for path in sorted((images / "test" / label).iterdir())[:4]:
            shutil.copy(path, root / label)
    shutil.copy(ROOT / "tests" / "data" / "full_resolution" / "IM-0081-0001.jpeg", root / "full.JPEG")
    whole = next((root / "NORMAL").iterdir()).read_bytes()
    (root / "NORMAL" / "cut.jpeg").write_bytes(whole[: len(whole) // 2])
    (root / "NORMAL" / "empty.png").touch()
    (root / "words.jpg").write_text("not a radiograph")
    (root / "notes.txt").write_text("left out")
    return root


@pytest.fixture(scope="module")
def sources(folder, tmp_path_factory) -> dict[str, Path]:
    """The same radiographs in every way that they can be given, in the same order."""
    place = tmp_path_factory.mktemp("sources")
    names = [item.name for item in open_supply(folder)]
    content = [(folder / name).read_bytes() for name in names]
    with zipfile.ZipFile(place / "all.zip", "w") as archive:
        for name, data in zip(names, content, strict=True):
            archive.writestr(name, data)
        archive.writestr("__MACOSX/NORMAL/._IM.jpeg", b"of a Mac")
    pq.write_table(pa.table({"path": names, "label": ["?"] * len(names)}), folder / "paths.parquet")
    pq.write_table(pa.table({"file": names, "content": content}), place / "bytes.parquet")
    images = [{"bytes": data, "path": name} for name, data in zip(names, content, strict=True)]
    pq.write_table(pa.table({"label": [0] * len(names), "image": images}), place / "dataset.parquet")
    return {
        "folder": folder,
        "zip": place / "all.zip",
        "paths": folder / "paths.parquet",
        "bytes": place / "bytes.parquet",
        "dataset": place / "dataset.parquet",
    }


@pytest.fixture(scope="module")
def expected(folder, examiner, tmp_path_factory) -> pa.Table:
    """What comes of the folder without any interruption."""
    out = tmp_path_factory.mktemp("expected") / "results.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "PART", 4)
        patch.setattr(scoring, "BATCH", 2)
        score(folder, out, lambda: examiner)
    return pq.read_table(out)


def test_rows_are_those_of_an_examination(folder, examiner, expected):
    assert dict(zip(expected.column_names, map(str, expected.schema.types), strict=True)) == {
        name: {"float64": "double"}.get(kind, kind) for name, kind in columns(examiner.bundle).items()
    }
    rows = {row["file"]: row for row in expected.to_pylist()}
    assert len(rows) == expected.num_rows == 12
    for name, row in rows.items():
        if name in BAD:
            assert BAD[name] in row["error"]
            assert name in row["error"]
            assert row["cnn_probability"] is None
            continue
        radiograph = read_radiograph(folder / name, name)
        record = examiner.examine(radiograph).record()
        assert row["error"] is None
        assert (row["sha256"], row["width"]) == (radiograph.sha256, radiograph.width)
        assert row["calling_pneumonia"] == record["agreement"]["calling_pneumonia"]
        assert row["warnings"] == " ".join(record["warnings"])
        assert row["together_uncertain"] == record["together"]["uncertain"]
        assert row["lungs_share"] == pytest.approx(record["lungs"]["share"], abs=1e-3)
        for network, entry in record["networks"].items():
            heat = entry["saliency"]
            assert row[f"{network}_probability"] == pytest.approx(entry["probability"], abs=1e-3)
            assert row[f"{network}_decision"] == entry["decision"]
            assert row[f"{network}_heat_share_in_lungs"] == pytest.approx(heat["share_in_lungs"], abs=1e-3)
            assert row[f"{network}_heat_left_lower"] == pytest.approx(heat["zones"]["left_lower"], abs=1e-3)
            assert row[f"{network}_heat_peak_zone"] == heat["peak_zone"]


def test_large_jpegs_are_decoded_at_reduced_scale(examiner, tmp_path):
    """From every source; the row has the size of the file, and the answer that the whole picture gets."""
    with Image.open(ROOT / "tests" / "data" / "full_resolution" / "IM-0081-0001.jpeg") as image:
        image.resize((3200, 1948), Image.Resampling.BICUBIC).save(tmp_path / "a.jpeg", quality=90)
    content = (tmp_path / "a.jpeg").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.jpeg", "a.jpeg")
    pq.write_table(pa.table({"path": ["a.jpeg"]}), tmp_path / "paths.parquet")
    pq.write_table(pa.table({"file": ["a.jpeg"], "content": [content]}), tmp_path / "bytes.parquet")
    items = [item for name in ("", "a.zip", "paths.parquet", "bytes.parquet") for item in open_supply(tmp_path / name)]
    assert [item.read().pixels.shape for item in items] == [(974, 1600)] * 4
    whole = examiner.examine(read_radiograph(content)).record()
    for row in score_batch(examiner, items):
        assert (row["width"], row["height"]) == (3200, 1948)
        for name, entry in whole["networks"].items():
            assert row[f"{name}_decision"] == entry["decision"]
            assert row[f"{name}_probability"] == pytest.approx(entry["probability"], abs=5e-3)


@pytest.mark.parametrize("kind", ["zip", "paths", "bytes", "dataset"])
def test_every_source_gives_the_same(sources, examiner, expected, tmp_path, kind):
    done = score(sources[kind], tmp_path / "results.parquet", lambda: examiner)
    assert (done.rows, done.refused, done.asked) == (12, 3, 12)
    assert_same(pq.read_table(tmp_path / "results.parquet"), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["results.parquet"]


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    """The same rows in the same order, but for rounding."""
    assert found.schema.equals(expected.schema)
    for name in expected.column_names:
        values, wanted = found[name].to_pylist(), expected[name].to_pylist()
        if pa.types.is_floating(expected.schema.field(name).type):
            values, wanted = (np.array(part, float) for part in (values, wanted))
            np.testing.assert_allclose(values, wanted, atol=1e-4, err_msg=name)
        elif name == "error":
            assert [bool(value) for value in values] == [bool(value) for value in wanted]
        else:
            assert values == wanted, name


KILLED = """
import sys
from pneumo import cli, score
score.PART, score.BATCH = 4, 2
cli.main(sys.argv[1:])
"""


def test_killed_and_started_again_it_goes_on(folder, examiner, expected, tmp_path):
    """Twelve times the folder; killed without warning after some parts are there, then started again."""
    names = [item.name for item in open_supply(folder)] * 12
    source, out = folder / "many.parquet", tmp_path / "results.parquet"
    pq.write_table(pa.table({"path": names}), source)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, "score", source, "--out", out], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    while len(parts_of(out)) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = parts_of(out)
    assert 3 <= len(kept) < 36
    assert not out.exists()
    done = score(source, out, lambda: examiner)
    assert (done.rows, done.refused, done.asked) == (144, 36, 144 - 4 * len(kept))
    assert_same(pq.read_table(out), pa.concat_tables([expected] * 12))
    # All of it is there.
    assert score(source, out, lambda: examiner) == scoring.Scored(144, 36, 0, 0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["results.parquet"]


def parts_of(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.with_name(f"{out.name}.parts").glob("*.parquet")}


@pytest.fixture
def interrupted(folder, examiner, tmp_path, monkeypatch) -> tuple[Path, Path]:
    """A copy of the folder, and a result of which two parts were made before its reader failed."""
    copy, out = tmp_path / "copy", tmp_path / "results.parquet"
    shutil.copytree(folder, copy)

    class Interrupted(Exception):
        pass

    class Stream:
        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            if len(parts_of(out)) == 2:
                raise Interrupted
            return len(text)

        def flush(self) -> None:
            pass

    monkeypatch.setattr(progress, "_WATCHED", 0.0)
    with pytest.raises(Interrupted):
        score(copy, out, lambda: examiner, progress=Stream())
    assert len(parts_of(out)) == 2
    return copy, out


def test_source_that_changed_is_refused(interrupted, examiner):
    copy, out = interrupted
    (copy / "NORMAL" / "aaa.jpeg").write_bytes((copy / "full.JPEG").read_bytes())
    with pytest.raises(SourceError, match="must stay as it was"):
        score(copy, out, lambda: examiner)
    (copy / "NORMAL" / "aaa.jpeg").unlink()
    assert score(copy, out, lambda: examiner).rows == 12


def test_parts_of_another_job_are_refused(interrupted, examiner):
    copy, out = interrupted
    with pytest.raises(SourceError, match="are of another job"):
        score(copy, out, lambda: examiner, "screening")
    assert len(parts_of(out)) == 2


def test_result_of_another_job_is_not_overwritten(folder, examiner, tmp_path):
    for content in (b"a letter", b""):
        out = tmp_path / "results.parquet"
        out.write_bytes(content)
        with pytest.raises(SourceError, match="is another"):
            score(folder, out, lambda: examiner)
        assert out.read_bytes() == content
        assert [path.name for path in tmp_path.iterdir()] == ["results.parquet"]


def test_two_processes_do_not_write_one_result(folder, examiner, tmp_path):
    parts = tmp_path / "results.parquet.parts"
    parts.mkdir()
    held = os.open(parts, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(SourceError, match="One process may write"):
        score(folder, tmp_path / "results.parquet", lambda: examiner)
    os.close(held)


def test_predictions_without_heatmaps(sources, expected, tmp_path, capsys):
    out = tmp_path / "results.parquet"
    options = ["--saliency", "none", "--models", "cnn", "--operating-point", "0.5"]
    assert main(["score", str(sources["zip"]), "--out", str(out), *options]) == 0
    assert f"{out}: 12 rows, 3 of them refused, 12 of them now, " in capsys.readouterr().out
    table = pq.read_table(out)
    assert not [name for name in table.column_names if "heat" in name or "lstm" in name]
    assert set(table["cnn_threshold"].to_pylist()) == {0.5, None}
    np.testing.assert_allclose(
        np.array(table["cnn_probability"].to_pylist(), float),
        np.array(expected["cnn_probability"].to_pylist(), float),
        atol=1e-5,
    )


# What is no source, or no result, and what is said of it.
REFUSED = {
    "missing": ("absent", [], "must be a folder, a ZIP archive or a Parquet file"),
    "no radiograph": ("empty", [], "must hold JPEG, PNG or DICOM files"),
    "no archive": ("text.zip", [], "cannot be read"),
    "no Parquet": ("text.parquet", [], "cannot be read"),
    "damaged Parquet": ("damaged.parquet", [], "is damaged"),
    "no column": ("numbers.parquet", [], "must have a column of paths or of the bytes of images"),
    "no such column": ("paths.parquet", ["--column", "label"], "no such 'label'"),
    "result in a file": ("paths.parquet", ["--out", "text.zip/results.parquet"], "a file that can be written"),
}


@pytest.mark.parametrize(("source", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, monkeypatch, capsys, source, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("text.zip", "text.parquet"):
        (tmp_path / name).write_text("nothing of the kind")
    pq.write_table(pa.table({"path": [f"{number}.png" for number in range(999)]}), tmp_path / "damaged.parquet")
    content = bytearray((tmp_path / "damaged.parquet").read_bytes())
    content[4:400] = b"?" * 396
    (tmp_path / "damaged.parquet").write_bytes(content)
    pq.write_table(pa.table({"number": [1, 2]}), tmp_path / "numbers.parquet")
    pq.write_table(pa.table({"path": ["a.png"]}), tmp_path / "paths.parquet")
    assert main(["score", source, *([] if "--out" in options else ["--out", "results.parquet"]), *options]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert not (tmp_path / "results.parquet.parts").exists()


def test_without_pyarrow_it_is_said(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["score", str(folder), "--out", str(tmp_path / "results.parquet")]) == 1
    assert "needs the package pyarrow" in capsys.readouterr().err


def test_names_that_are_not_text(images, examiner, tmp_path):
    image = next((images / "test" / "NORMAL").iterdir())
    (tmp_path / "some").mkdir()
    shutil.copy(os.fsencode(image), os.fsencode(tmp_path / "some") + b"/\xff.jpeg")
    score(tmp_path / "some", tmp_path / "results.parquet", lambda: examiner)
    (row,) = pq.read_table(tmp_path / "results.parquet").to_pylist()
    assert (row["file"], row["error"]) == ("\\xff.jpeg", None)


def test_row_without_an_image(examiner, tmp_path):
    pq.write_table(pa.table({"image": pa.array([None, b""], pa.binary())}), tmp_path / "some.parquet")
    score(tmp_path / "some.parquet", tmp_path / "results.parquet", lambda: examiner)
    rows = pq.read_table(tmp_path / "results.parquet").to_pylist()
    assert [row["file"] for row in rows] == ["row 0", "row 1"]
    assert "row 0 holds none" in rows[0]["error"]
    assert "row 1 is empty" in rows[1]["error"]


def test_job_is_kept_with_the_result(expected, folder):
    job = json.loads(expected.schema.metadata[b"pneumo.job"])
    assert job["source"] == str(folder)
    assert job["heatmaps"] == DEFAULT_METHOD


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "3 s"), (89, "89 s"), (95, "2 min"), (3540, "59 min"), (7500, "2 h 05 min")]
)
def test_duration(seconds, words):
    assert duration(seconds) == words


def test_progress_says_how_far_it_is(capsys):
    done = Progress(100, sys.stderr)
    done = dataclasses.replace(done, started=done.started - 10, said=done.said - 60)
    done.skip(30, 0)
    done.add([{"file": "a"}] * 19 + [{"file": "b", "error": "no"}])
    assert capsys.readouterr().err == "50 of 100 (50%), 1 refused, 2.0 a second, 25 s left\n"
