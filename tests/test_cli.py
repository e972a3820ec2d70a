"""The command line: what it prints, what it writes, and how it refuses."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo.cli import main
from pneumo.examination import DISCLAIMER, Examiner
from pneumo.methods import DEFAULT_METHOD
from pneumo.radiograph import read_radiograph
from pneumo.render import overlay
from pneumo.saliency import HeatStatus
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES

ROOT = Path(__file__).parent.parent
NORMAL = "IM-0005-0001.jpeg"
PNEUMONIA = "person100_bacteria_482.jpeg"


@pytest.fixture
def scans(images, tmp_path) -> Path:
    """A folder with two radiographs, one of them further down, and files that are none."""
    folder = tmp_path / "scans"
    (folder / "more").mkdir(parents=True)
    shutil.copy(images / "test" / "NORMAL" / NORMAL, folder / "more" / NORMAL)
    shutil.copy(images / "test" / "PNEUMONIA" / PNEUMONIA, folder / "a.JPG")
    (folder / "notes.txt").write_text("not a radiograph")
    (folder / "more.png").mkdir()
    return folder


@pytest.fixture
def broken(tmp_path) -> Path:
    path = tmp_path / "broken.png"
    path.write_text("hello")
    return path


@pytest.fixture
def predict(bundle_folder, loaded_once, monkeypatch, capsys):
    """Run the command in this process: its exit status, its output, and its messages."""
    monkeypatch.setattr("pneumo.cli.load_bundle", loaded_once)

    def run(*arguments, bundle=bundle_folder, models="cnn") -> tuple[int, str, str]:
        location = ["--bundle", str(bundle)] if bundle else []
        names = ["--models", models] if models is not None else []
        status = main(["predict", *map(str, arguments), *location, *names])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def lines(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def rows(out: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(out, newline="")))


def test_json_is_the_examination(predict, tiny_examiner, scans):
    path = scans / "a.JPG"
    status, out, err = predict(path, "--format", "json", "--saliency", DEFAULT_METHOD, models=None)
    expected = tiny_examiner.examine(read_radiograph(path, str(path))).record()
    assert (status, lines(out), err) == (0, [expected], "")
    assert expected["file"] == str(path)
    assert set(expected["networks"]) == set(ARCHITECTURES)


def test_json_and_csv_agree(predict, scans, broken):
    arguments = (scans, broken, "--saliency", DEFAULT_METHOD)
    json_status, json_out, json_err = predict(*arguments, "--format", "json", models=None)
    csv_status, csv_out, csv_err = predict(*arguments, "--format", "csv", models=None)
    assert (json_status, json_err) == (csv_status, csv_err) == (1, "")
    answers, table = lines(json_out), rows(csv_out)
    assert len(answers) == len(table) == 3
    for answer, row in zip(answers, table, strict=True):
        assert row["file"] == answer["file"]
        assert row["error"] == answer.get("error", "")
        networks = {**answer.get("networks", {}), "together": answer.get("together")}
        for name in (*ARCHITECTURES, "together"):
            for field in ("probability", "threshold", "decision"):
                assert row[f"{name}.{field}"] == (str(networks[name][field]) if networks.get(name) else "")
        if "error" in answer:
            assert set(answer) == {"file", "error"}
            assert set(row.values()) == {str(broken), answer["error"], ""}
        else:
            assert row["operating_point"] == answer["operating_point"] == "balanced"
            assert row["together.uncertain"] == str(answer["together"]["uncertain"])
            assert row["calling_pneumonia"] == str(answer["agreement"]["calling_pneumonia"])
            assert row["warnings"] == " ".join(answer["warnings"])


def test_table(predict, scans, broken):
    _, out, _ = predict(scans / "a.JPG", "--format", "json", models=None)
    (answer,) = lines(out)
    status, out, err = predict(scans / "a.JPG", broken, "--format", "table", models=None)
    assert (status, err) == (1, "")
    header, good, bad, *rest = out.splitlines()
    assert header.split() == ["file", "CNN", "CNN-LSTM", "CNN-RNN", "together"]
    assert good.startswith(str(scans / "a.JPG"))
    for title, entry in zip(header.split()[1:], [*answer["networks"].values(), answer["together"]], strict=True):
        cell = good[header.index(f" {title}") + 1 :][:18].split()
        assert cell[0] == entry["decision"]
        assert float(cell[-2]) == pytest.approx(100 * entry["probability"], abs=0.1)
    assert good.endswith(" uncertain") == answer["together"]["uncertain"]
    assert bad.split() == [str(broken), "refused"]
    assert (
        f"A radiograph must be a JPEG, PNG or DICOM image; {broken} is a text file. Export it as one of these." in rest
    )
    assert rest[-1].startswith("Decided at the balanced operating point. ")
    assert rest[-1].endswith(DISCLAIMER)


def test_table_is_the_default(predict, scans):
    assert predict(scans / "a.JPG") == predict(scans / "a.JPG", "--format", "table")


def test_table_of_some_networks_has_no_mean(predict, scans):
    _, out, _ = predict(scans / "a.JPG", models="cnn,cnn_rnn")
    header, good = out.splitlines()[:2]
    assert header.split() == ["file", "CNN", "CNN-RNN", "together"]
    assert good.split()[-1] == "-"


def test_folder(predict, scans, monkeypatch):
    monkeypatch.chdir(scans.parent)
    status, out, err = predict("scans", "--format", "json")
    # In order, as they were typed, and without what has the name of an image and is a folder.
    assert [answer["file"] for answer in lines(out)] == ["scans/a.JPG", f"scans/more/{NORMAL}"]
    assert (status, err) == (0, "")


def test_saliency_is_for_who_asks(predict, scans, tmp_path):
    def saliency(*options):
        _, out, _ = predict(scans / "a.JPG", "--format", "json", *options)
        return lines(out)[0]["networks"]["cnn"]["saliency"]

    assert saliency() is None
    assert saliency("--saliency", "gradcam")["method"] == "gradcam"
    assert saliency("--out", tmp_path / "out")["method"] == DEFAULT_METHOD


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_refused_inputs_stop_no_other(predict, scans, tmp_path, broken, output):
    empty, small, missing = tmp_path / "empty.jpg", tmp_path / "small.png", tmp_path / "missing.png"
    empty.write_bytes(b"")
    Image.new("L", (32, 32)).save(small)
    good = scans / "a.JPG"
    refused = {
        empty: "is empty (0 bytes)",
        small: "is 32 x 32",
        missing: "No such file or directory",
        broken: "is a text file",
        tmp_path / ("x" * 300): "File name too long",
    }
    status, out, err = predict(*refused, good, "--format", output)
    assert (status, err) == (1, "")
    assert "Traceback" not in out
    if output == "table":
        sentences = [line for line in out.splitlines() if line.startswith("A ")]
        messages = {str(path): next(text for text in sentences if str(path) in text) for path in refused}
        assert good.name in out
    else:
        answers = lines(out) if output == "json" else rows(out)
        assert answers[-1]["file"] == str(good)
        assert not answers[-1].get("error")
        messages = {answer["file"]: answer["error"] for answer in answers[:-1]}
    assert messages.keys() == {str(path) for path in refused}
    for path, words in refused.items():
        assert words in messages[str(path)]
        # The path as it was typed.
        assert messages[str(path)].count(str(path)) == 1


def test_folder_without_images(predict, scans, tmp_path):
    folder = tmp_path / "nothing"
    folder.mkdir()
    (folder / "notes.txt").write_text("not a radiograph")
    status, out, err = predict(folder, scans / "a.JPG", "--format", "json")
    refusal, answer = lines(out)
    assert (status, err) == (1, "")
    assert refusal == {
        "file": str(folder),
        "error": f"A folder must hold JPEG, PNG or DICOM files; {folder} holds none. Name another.",
    }
    assert answer["file"] == str(scans / "a.JPG")


def test_file_name_that_is_not_text(predict, scans):
    path = Path(os.fsdecode(os.fsencode(scans) + b"/R\xf6ntgen.jpg"))
    shutil.copy(scans / "a.JPG", path)
    status, out, err = predict(path, "--format", "json")
    assert (status, err) == (0, "")
    assert lines(out)[0]["file"] == str(path)
    assert "R\\udcf6ntgen.jpg" in predict(path)[1]


def test_file_name_with_every_letter(predict, scans, capsys):
    path = scans / 'Röntgen, 胸 "1".jpg'
    shutil.copy(scans / "a.JPG", path)
    assert lines(predict(path, "--format", "json")[1])[0]["file"] == str(path)
    assert rows(predict(path, "--format", "csv")[1])[0]["file"] == str(path)


# The operating point


@pytest.mark.parametrize("point", ["screening", "0.3"])
def test_operating_point(predict, tiny_examiner, scans, point):
    path = scans / "a.JPG"
    arguments = (path, "--operating-point", point)
    (answer,) = lines(predict(*arguments, "--format", "json", models=None)[1])
    number = float(point) if point == "0.3" else point
    examiner = Examiner(tiny_examiner.bundle, None)
    assert answer == examiner.examine(read_radiograph(path, str(path)), number).record()
    bundle = examiner.bundle
    points = {name: network.thresholds for name, network in bundle.networks.items()}
    for name, thresholds in {**points, "together": bundle.consensus.thresholds}.items():
        entry = answer["networks"].get(name) or answer["together"]
        assert entry["threshold"] == round(thresholds.get(point, 0.3), 6)
        assert entry["decision"] == CLASS_NAMES[entry["probability"] >= entry["threshold"]]
    (row,) = rows(predict(*arguments, "--format", "csv", models=None)[1])
    assert row["operating_point"] == answer["operating_point"] == ("custom" if point == "0.3" else point)
    last = predict(*arguments)[1].splitlines()[-1]
    assert last.startswith(f"Decided at {'0.3' if point == '0.3' else f'the {point} operating point'}. Probabilities")


@pytest.mark.parametrize("point", ["strict", "Balanced", "", "0", "1", "1.5", "-0.1", "nan", "30 %"])
def test_operating_point_that_is_none(predict, scans, point):
    status, out, err = predict(scans, f"--operating-point={point}", bundle="/nowhere")
    assert (status, out) == (1, "")
    assert err == (
        "error: An operating point must be balanced or screening, or a number between 0 and 1; "
        f"received {point!r}. Correct it.\n"
    )


@pytest.mark.parametrize("uncertain", [True, False])
def test_uncertain_answer_is_said(predict, bundle_folder, scans, tmp_path, uncertain):
    folder = tmp_path / "models"
    shutil.copytree(bundle_folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["together"]["uncertain"] |= {"low": 0.0, "high": 1.0 if uncertain else 0.0}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    path = scans / "a.JPG"
    (answer,) = lines(predict(path, "--format", "json", bundle=folder, models=None)[1])
    (row,) = rows(predict(path, "--format", "csv", bundle=folder, models=None)[1])
    assert answer["together"]["uncertain"] is uncertain
    assert row["together.uncertain"] == str(uncertain)
    _, good, *notes = predict(path, bundle=folder, models=None)[1].splitlines()
    assert good.endswith(" uncertain") == uncertain
    assert any("Together the networks are uncertain" in note for note in notes) == uncertain


def test_radiograph_without_lungs_warns(predict, tmp_path):
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).normal(128, 12, (300, 400)).clip(0, 255).astype(np.uint8)).save(path)
    (answer,) = lines(predict(path, "--format", "json")[1])
    assert answer["lungs"] == {"found": False, "reason": "No lung was found.", "share": 0.0, "box": None}
    (warning,) = (text for text in answer["warnings"] if text.startswith("No lung was found."))
    assert warning in rows(predict(path, "--format", "csv")[1])[0]["warnings"]
    assert f"{path}: {warning}" in predict(path)[1].splitlines()


# Which networks


def test_models(predict, scans):
    _, out, _ = predict(scans / "a.JPG", "--format", "json", models="cnn_rnn,cnn,cnn")
    (answer,) = lines(out)
    assert list(answer["networks"]) == ["cnn", "cnn_rnn"]
    assert answer["together"] is None
    assert answer["agreement"]["networks"] == 2
    header = predict(scans / "a.JPG", "--format", "csv", models="cnn_rnn")[1].splitlines()[0]
    assert "cnn_rnn.probability" in header
    assert "cnn.probability" not in header


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ("resnet", "must be one of cnn, cnn_lstm, cnn_rnn; received 'resnet'. Correct the name."),
        ("cnn,CNN", "must be one of cnn, cnn_lstm, cnn_rnn; received 'CNN'. Correct the name."),
        (",", "takes names of networks; received ','. Name one, or leave it out."),
        ("models/cnn", "takes names of networks; received 'models/cnn'. Use --bundle for a location."),
    ],
)
def test_unknown_network(predict, scans, models, words):
    status, out, err = predict(scans, models=models)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert err.endswith(f"{words}\n")
    assert err.count("\n") == 1


def test_bundle_of_the_environment(predict, bundle_folder, scans, monkeypatch):
    expected = predict(scans, "--format", "csv")
    monkeypatch.setenv("PNEUMO_MODELS", str(bundle_folder))
    assert predict(scans, "--format", "csv", bundle=None) == expected
    monkeypatch.setenv("PNEUMO_MODELS", "/nowhere")
    assert predict(scans, "--format", "csv") == expected
    status, _, err = predict(scans, bundle=None)
    assert status == 1
    assert "/nowhere" in err


def no_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()


def manifest_not_json(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text()[:-100])


def manifest_of_nothing(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("[]")


def other_scaling(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"scaling": "', '"scaling": "cubic-'))


def other_format(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))


def no_scale(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"scale"', '"scales"'))


def no_weights(bundle: Path) -> None:
    (bundle / "cnn.keras").unlink()


def altered_weights(bundle: Path) -> None:
    data = bytearray((bundle / "cnn.keras").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "cnn.keras").write_bytes(data)


def truncated_weights(bundle: Path) -> None:
    (bundle / "cnn.keras").write_bytes((bundle / "cnn.keras").read_bytes()[:-1])


DAMAGE = {
    no_manifest: "has none that can be read (No such file or directory). Make one with `make models`, or name another.",
    manifest_not_json: "it is damaged. Make or copy it again.",
    manifest_of_nothing: "it is damaged. Make or copy it again.",
    other_format: "Use the release of pneumo that the bundle was made with, or make it again.",
    other_scaling: "it is damaged. Make or copy it again.",
    no_scale: "it lacks 'scale'. Make or copy it again.",
    no_weights: "cannot be read (No such file or directory). Copy the bundle again, or make it with `make models`.",
    altered_weights: "it was altered or copied incompletely. Copy the bundle again.",
    truncated_weights: "it was altered or copied incompletely. Copy the bundle again.",
}


@pytest.mark.parametrize(("damage", "words"), DAMAGE.items(), ids=lambda item: getattr(item, "__name__", ""))
def test_damaged_bundle(predict, bundle_folder, scans, tmp_path, damage, words):
    folder = tmp_path / "models"
    shutil.copytree(bundle_folder, folder)
    damage(folder)
    status, out, err = predict(scans, bundle=folder)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert err.endswith(f"{words}\n")
    assert str(folder) in err
    assert err.count("\n") == 1


def test_missing_bundle(predict, scans, tmp_path):
    status, out, err = predict(scans, bundle=tmp_path / "nowhere")
    assert (status, out) == (1, "")
    assert err.startswith(f"error: A bundle must be a folder with a manifest.json; {tmp_path / 'nowhere'} has none")


# The overlays


def test_out(predict, tiny_examiner, images, scans, tmp_path):
    full = images.parent / "full_resolution" / "IM-0081-0001.jpeg"
    out = tmp_path / "new" / "heat"
    status, printed, err = predict(scans, full, "--out", out, "--format", "json", models=None)
    assert (status, err) == (0, "")
    expected = {}
    for answer in lines(printed):
        examination = tiny_examiner.examine(read_radiograph(answer["file"]))
        for name, heatmap in examination.heatmaps.items():
            assert answer["networks"][name]["saliency"]["status"] == str(heatmap.status)
            if heatmap.status is HeatStatus.DRAWN:
                file = f"{Path(answer['file']).stem}.{name}.{DEFAULT_METHOD}.png"
                expected[file] = overlay(examination.radiograph, heatmap)
    assert {path.name for path in out.iterdir()} == expected.keys()
    for file, picture in expected.items():
        with Image.open(out / file) as written:
            assert np.array_equal(np.asarray(written), picture)
    sizes = {file.split(".")[0]: picture.shape for file, picture in expected.items()}
    assert sizes == {"a": (224, 224, 3), "IM-0005-0001": (224, 224, 3), "IM-0081-0001": (623, 1024, 3)}


def test_out_keeps_equal_names_apart(predict, images, tmp_path):
    source = images / "test" / "PNEUMONIA" / PNEUMONIA
    names = ["one/scan.jpeg", "two/scan.jpeg", "two/scan-2.jpeg", "three/scan.png"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(source.read_bytes())
    predict(*(tmp_path / name for name in names), "--out", tmp_path / "out")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"{stem}.cnn.{DEFAULT_METHOD}.png" for stem in ("scan", "scan-2", "scan-2-2", "scan-3")}


@pytest.mark.parametrize("place", ["file", "file/below", "x" * 300])
def test_out_that_cannot_be_made(predict, scans, tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    status, out, err = predict(scans, "--out", tmp_path / place)
    assert (status, out) == (1, "")
    assert err.startswith(f"error: --out must be a folder that can be made; {tmp_path / place}: ")
    assert err.endswith(". Name another.\n")
    assert err.count("\n") == 1


def test_out_that_cannot_be_written_to(predict, scans, tmp_path):
    out = tmp_path / "out"
    (out / f"a.cnn.{DEFAULT_METHOD}.png").mkdir(parents=True)
    status, printed, err = predict(scans, "--out", out, "--format", "json")
    assert (status, err) == (1, "")
    refused, answered = lines(printed)
    assert refused["error"].startswith("--out must be a folder that can be written to; ")
    assert answered["file"] == str(scans / "more" / NORMAL)


# The arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND"),
        (["predict"], "required: FILE|DIR"),
        (["diagnose", "x.png"], "invalid choice: 'diagnose'"),
        (["predict", "x.png", "--format", "xml"], "invalid choice: 'xml'"),
        (["predict", "x.png", "--saliency", "lime"], "invalid choice: 'lime'"),
        (["predict", "x.png", "--threshold", "0.5"], "unrecognized arguments: --threshold"),
        (["predict", "x.png", "--operating-point"], "expected one argument"),
    ],
)
def test_wrong_arguments(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err


def test_help(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["predict", "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert DISCLAIMER in " ".join(out.split())
    for option in ("--format", "--models", "--bundle", "--operating-point", "--saliency", "--out"):
        assert option in out


# As a process of its own


def start(*arguments, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "pneumo", "predict", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_process(bundle_folder, scans, tmp_path):
    process = start(scans, "--bundle", bundle_folder, "--out", tmp_path / "out", "--format", "json")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert [len(answer["networks"]) for answer in lines(out)] == [3, 3]


def test_process_that_refuses(bundle_folder, scans, broken):
    process = start(broken, scans, "--bundle", bundle_folder, "--models", "cnn")
    out, err = process.communicate()
    assert (process.returncode, err) == (1, "")
    assert f"A radiograph must be a JPEG, PNG or DICOM image; {broken} is" in out
    assert NORMAL in out
    assert "Traceback" not in out


def test_process_whose_reader_leaves(bundle_folder, scans):
    process = start(scans, "--bundle", bundle_folder, "--models", "cnn", "--format", "json")
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait() == 1
