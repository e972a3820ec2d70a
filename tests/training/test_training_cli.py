"""`python -m training`: from a folder of images to an evaluated bundle, and every mistake in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from training.cli import main
from training.dataset import SPLITS, Dataset, build_dataset
from training.matching import told_by_size
from training.recipes import DEFAULT, RECIPES, TEACHER, Robust, recipe
from training.sources import open_source

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--set", "input_size=32", "filters=(4,4,4,8,8)", "epochs=1"]
REFERENCE = ["--recipe", "reference", *TINY]
"""The recipe that needs no lungs."""
ORIGINALS = ROOT / "tests" / "data" / "full_resolution"
NETWORKS = ("cnn", "cnn_lstm", "cnn_rnn")
README = "# Title\n\n<!-- table:test -->\n<!-- /table:test -->\n\nEnd.\n"


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_whole_way(images, masks, segmenter, tmp_path, capsys):
    """The test images are away until the test split is opened."""
    folder = Path(shutil.copytree(images, tmp_path / "chest_xray"))
    data, runs, models, readme = (tmp_path / name for name in ("data", "runs", "models", "README.md"))
    manifest = data / "dataset.json"
    readme.write_text(README)

    assert run("data", folder, "--out", data) == 0
    out = capsys.readouterr().out
    dataset = Dataset.load(manifest)
    assert dataset == build_dataset(open_source(folder))
    assert tuple(dataset.counts()) == SPLITS
    assert names(data) == {"dataset.json", "class_distribution.png", "samples.png"}
    assert is_png(data / "samples.png")
    for item in dataset.left_out:
        assert f"left out: {item.file}: {item.reason}\n" in out
    for split, counts in dataset.counts().items():
        patients = len({image.patient for image in dataset.split(split)})
        assert [split, str(patients), *map(str, counts.values())] in [line.split() for line in out.splitlines()]
    assert f"{len(dataset.images)} images used, {len(dataset.left_out)} left out" in out
    assert dataset.fingerprint in out
    assert "size of the original" not in out, "the shipped images are all of one size"

    (folder / "test").rename(tmp_path / "away")
    lungs = ["--data", manifest, "--lungs", segmenter]
    taught = ["--recipe", "teaching", "--system", TEACHER, "--set", "input_size=32", "epochs=1"]
    assert run("train", *lungs, *taught, "--out", tmp_path / "teaching") == 0
    teacher = tmp_path / "teaching" / TEACHER / "seed-0"
    pupils = ["train", *lungs, "--teacher", teacher, "--seeds", "3", *TINY]
    assert run(*pupils, "--out", runs) == 1
    assert f"Train it by `python -m training train --recipe {recipe(DEFAULT).after}`" in capsys.readouterr().err
    first = tmp_path / "first"
    assert run(*pupils, "--recipe", recipe(DEFAULT).after, "--out", first) == 0
    capsys.readouterr()
    assert run(*pupils, "--before", first, "--out", runs) == 0
    out, err = capsys.readouterr()
    for network in NETWORKS:
        target = runs / network / "seed-3"
        assert f"{network}: trained; weights and history are in {target}." in out
        made = json.loads((target / "run.json").read_text())["recipe"]
        assert (made["input_size"], made["filters"], made["epochs"]) == (32, [4, 4, 4, 8, 8], 1)
        assert (made["name"], made["framing"], made["seed"]) == (DEFAULT, Robust().framing, 3)
        assert err.count(f"{network} epoch 1/1: loss ") == 1

    assert run("bundle", *lungs, "--runs", runs, "--models", models) == 0
    assert str(models) in capsys.readouterr().out
    bundled = {"manifest.json", "segmenter.keras", "segmenter.json", *(f"{network}.keras" for network in NETWORKS)}
    assert names(models) == bundled

    (tmp_path / "away").rename(folder / "test")
    battery = ["--masks", masks, "--originals", ORIGINALS]
    assert run("evaluate", "--data", manifest, "--runs", runs, "--models", models, *battery) == 0
    out = capsys.readouterr().out
    assert bundled | {"metrics.json", "predictions.csv"} < names(models)
    figures = names(models / "figures")
    assert {"class_distribution.png", "samples.png", "curves.png", "roc.png", "confusion.png"} <= figures
    assert all(is_png(models / "figures" / name) for name in figures)

    assert run("compare", "--models", models, "--readme", readme) == 0
    tables = capsys.readouterr().out
    table = out[: out.index("\nWrote metrics.json")].strip()
    assert table in tables
    assert "| mean of the networks |" in table
    assert readme.read_text() == README.replace("-->\n<!-- /", f"-->\n{table}\n<!-- /")


def test_set_may_be_given_several_times(manifest, tmp_path, capsys):
    fields = ["--set", "input_size=32", "--set", "filters=(2,2,2,2,2)", "epochs=1", "--set", "balance=none"]
    arguments = [
        "--network",
        "cnn",
        "--recipe",
        "reference",
        "--seeds",
        "4",
        "2",
        "--data",
        manifest,
        "--out",
        tmp_path,
    ]
    assert run("train", *arguments, *fields) == 0
    for seed in (2, 4):
        recipe = json.loads((tmp_path / "cnn" / f"seed-{seed}" / "run.json").read_text())["recipe"]
        assert (recipe["input_size"], recipe["filters"], recipe["epochs"]) == (32, [2] * 5, 1)
        assert (recipe["balance"], recipe["seed"]) == ("none", seed)
    assert {path.name for path in tmp_path.iterdir()} == {"cnn"}
    assert {path.name for path in (tmp_path / "cnn").iterdir()} == {"seed-2", "seed-4"}


def test_sizes_before_the_images_were_stored(images, tmp_path, capsys):
    (tmp_path / "sizes.csv").write_text("file,width,height\ntrain/NORMAL/IM-0125-0001.jpeg,1500,1000\n")
    assert run("data", images, "--sizes", tmp_path / "sizes.csv", "--out", tmp_path) == 0
    aspects = {image.file: image.aspect for image in Dataset.load(tmp_path / "dataset.json").images}
    assert set(aspects.values()) == {1.5}
    assert "size of the original" not in capsys.readouterr().out

    rows = [f"{file},{1500 + 9 * number},1000" for number, file in enumerate(sorted(aspects))]
    (tmp_path / "sizes.csv").write_text("\n".join(["file,width,height", *rows]))
    assert run("data", images, "--sizes", tmp_path / "sizes.csv", "--out", tmp_path) == 0
    told = told_by_size(Dataset.load(tmp_path / "dataset.json"))
    line = f"The size of the original alone tells the held-out classes apart with ROC AUC {told:.3f}."
    assert line in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("seed", [0, 5])
def test_seed_of_the_split(images, tmp_path, seed, capsys):
    assert run("data", images, "--seed", str(seed), "--out", tmp_path) == 0
    assert Dataset.load(tmp_path / "dataset.json") == build_dataset(open_source(images), seed)


def test_notes_are_shown(images, tmp_path, capsys):
    folder = Path(shutil.copytree(images, tmp_path / "chest_xray"))
    shutil.copyfile(folder / "test/NORMAL/IM-0005-0001.jpeg", folder / "test/NORMAL/IM-0001-0001.jpeg")
    assert run("data", folder, "--out", tmp_path / "data") == 0
    assert "note: test/NORMAL/IM-0005-0001.jpeg equals test/NORMAL/IM-0001-0001.jpeg" in capsys.readouterr().out


# --- mistakes ---------------------------------------------------------------------------------------------------


def assert_one_line(capsys, *words: str) -> None:
    """One line on standard error, nothing on standard output."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epochs=abc", ["field epochs", "whole number", "'abc'"]),
        ("epochs=0", ["field epochs", "at least 1", "received 0"]),
        ("epochs=-3", ["field epochs", "received -3"]),
        ("epochs=2.5", ["field epochs", "received 2.5"]),
        ("epochs=", ["field epochs", "received ''"]),
        ("epochs", ["field epochs", "received ''"]),
        ("epochs=True", ["field epochs", "received True"]),
        ("epochs={[]:1}", ["field epochs", "'{[]:1}'"]),
        ("epochs=__import__('os').getpid()", ["field epochs", "__import__"]),
        ("balance=foo", ["field balance", "none, class_weights, oversample, smote", "'foo'"]),
        ("learning_rate=-1", ["field learning_rate", "received -1"]),
        ("learning_rate=0", ["field learning_rate", "received 0"]),
        ("learning_rate=1e999", ["field learning_rate", "received inf"]),
        ("optimizer=foo", ["field optimizer", "rmsprop", "'foo'"]),
        ("filters=4", ["field filters", "5 whole numbers"]),
        ("filters=(4,4)", ["field filters", "(4, 4)"]),
        ("input_size=0", ["field input_size"]),
        ("batch_size=0", ["field batch_size"]),
        ("framing=foo", ["field framing", "squashed, whole, lungs, lungs_alone", "'foo'"]),
        ("scaling=foo", ["field scaling", "unit, standard"]),
        ("schedule=step", ["field schedule", "plateau, cosine"]),
        ("average=1", ["field average", "below 1", "received 1"]),
        ("weight_decay=-1", ["field weight_decay", "received -1"]),
        ("seed=3", ["Seeds are named by --seeds"]),
        ("augmentation=none", ["field augmentation"]),
        ("epoch=3", ["field of a recipe must be one of", "epochs", "'epoch'"]),
        ("=3", ["field of a recipe must be one of", "''"]),
        ("3", ["field of a recipe must be one of", "'3'"]),
    ],
)
def test_bad_setting(manifest, tmp_path, capsys, setting, words):
    assert run("train", "--data", manifest, "--out", tmp_path / "runs", "--set", setting) == 1
    assert_one_line(capsys, *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["data"],
        ["data", "here", "--from-hub"],
        ["data", "here", "--seed", "abc"],
        ["train", "--recipe", "foo"],
        ["train", "--network", "vgg"],
        ["train", "--set"],
        ["train", "--epochs", "3"],
        ["train", "--seeds"],
        ["train", "--seeds", "abc"],
        ["lungs"],
        ["ablation", "extra"],
        ["bundle", "extra"],
    ],
)
def test_wrong_usage(arguments, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where there is no data, should any of it be taken for right
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: python -m training" in err
    assert "error: " in err


@pytest.mark.parametrize("command", ["data", "lungs", "systems", "train", "ablation", "bundle", "evaluate", "compare"])
def test_help(command, capsys):
    for arguments in (["--help"], [command, "--help"]):
        with pytest.raises(SystemExit) as caught:
            run(*arguments)
        assert caught.value.code == 0
        assert f"python -m training{'' if len(arguments) == 1 else f' {command}'}" in capsys.readouterr().out


def test_unknown_recipe_names_those_that_there_are(capsys):
    with pytest.raises(SystemExit):
        run("train", "--recipe", "foo")
    err = capsys.readouterr().err
    assert "foo" in err.splitlines()[-1]
    assert all(name in err.splitlines()[-1] for name in RECIPES)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("absent", ["does not exist"]),
        ("text.zip", ["is neither"]),
        ("empty", ["must hold"]),
        ("one_class", ["no readable PNEUMONIA"]),
        ("damaged", ["no readable NORMAL"]),
    ],
)
def test_bad_data(images, tmp_path, capsys, location, words):
    (tmp_path / "text.zip").write_text("PK")
    (tmp_path / "empty").mkdir()
    shutil.copytree(images, tmp_path / "one_class", ignore=shutil.ignore_patterns("PNEUMONIA"))
    shutil.copytree(images, tmp_path / "damaged")
    for path in (tmp_path / "damaged" / "test" / "NORMAL").iterdir():
        path.write_bytes(path.read_bytes()[:500])
    assert run("data", tmp_path / location, "--out", tmp_path / "out") == 1
    assert_one_line(capsys, *words)
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_made(images, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("data", images, "--out", tmp_path / "file") == 1
    assert_one_line(capsys, "file")


@pytest.mark.parametrize("command", [["train"], ["bundle"], ["ablation"], ["lungs", "--masks", "masks"]])
def test_no_manifest(tmp_path, capsys, command):
    assert run(*command, "--data", tmp_path / "absent.json") == 1
    assert_one_line(capsys, "absent.json", "Run that command first")


@pytest.mark.parametrize("content", ["file,width\n", "file,width,height\na.jpeg,3,0\n", ""])
def test_bad_table_of_sizes(images, tmp_path, capsys, content):
    (tmp_path / "sizes.csv").write_text(content)
    assert run("data", images, "--sizes", tmp_path / "sizes.csv", "--out", tmp_path / "out") == 1
    assert_one_line(capsys, "sizes.csv", "columns file, width, height")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("masks_folder", "words"), [("absent", "none"), ("empty", "none"), ("small", "224 x 224"), ("text", "224 x 224")]
)
def test_bad_masks(manifest, masks, tmp_path, capsys, masks_folder, words):
    import cv2

    (tmp_path / "empty").mkdir()
    for name in ("small", "text"):
        shutil.copytree(masks, tmp_path / name)
    for path in (tmp_path / "small" / "train").rglob("*.png"):
        cv2.imwrite(str(path), cv2.imread(str(path))[::2, ::2])
    for path in (tmp_path / "text" / "train").rglob("*.png"):
        path.write_text("a mask")
    out = tmp_path / "lungs"
    assert run("lungs", "--masks", tmp_path / masks_folder, "--data", manifest, "--out", out) == 1
    assert_one_line(capsys, masks_folder, words)
    assert not out.exists()


@pytest.mark.parametrize("command", ["train", "ablation"])
def test_no_segmenter(manifest, tmp_path, capsys, command):
    out = tmp_path / "out"
    assert run(command, "--data", manifest, "--lungs", tmp_path / "absent", "--out", out) == 1
    assert_one_line(capsys, "absent", "python -m training lungs")
    assert not out.exists()


def test_damaged_segmenter(manifest, segmenter, tmp_path, capsys):
    """Cut off, as by a full disk: no ZIP archive any more."""
    for name in ("segmenter.keras", "segmenter.json"):
        shutil.copyfile(segmenter / name, tmp_path / name)
    path = tmp_path / "segmenter.keras"
    path.write_bytes(path.read_bytes()[:10_000])
    assert run("ablation", "--data", manifest, "--lungs", tmp_path, "--out", tmp_path / "out") == 1
    assert_one_line(capsys, str(tmp_path), "python -m training lungs")


def test_no_segmenter_for_the_bundle(manifest, runs, tmp_path, capsys):
    models = tmp_path / "models"
    assert run("bundle", "--data", manifest, "--runs", runs, "--lungs", tmp_path / "absent", "--models", models) == 1
    assert_one_line(capsys, "absent", "python -m training lungs")
    assert not models.exists()


def test_runs_on_other_data(images, runs, segmenter, tmp_path, capsys):
    assert run("data", images, "--seed", "1", "--out", tmp_path) == 0
    capsys.readouterr()
    arguments = ["--data", tmp_path / "dataset.json", "--lungs", segmenter, "--runs", runs]
    assert run("bundle", *arguments, "--models", tmp_path / "models") == 1
    assert_one_line(capsys, "trained on the data of its manifest")


def test_no_teacher(manifest, segmenter, tmp_path, capsys):
    arguments = ["--recipe", "distilled", "--network", "cnn", "--teacher", tmp_path / "absent", *TINY]
    assert run("train", *arguments, "--data", manifest, "--lungs", segmenter, "--out", tmp_path / "out") == 1
    assert_one_line(capsys, "absent", "--recipe teaching")


def test_no_manifest_for_evaluate(bundle_folder, tmp_path, capsys):
    assert run("evaluate", "--models", bundle_folder, "--data", tmp_path / "absent.json") == 1
    assert_one_line(capsys, "absent.json")


def test_another_training_in_the_folder(runs, manifest, segmenter, tmp_path, capsys):
    folder = shutil.copytree(runs, tmp_path / "runs")
    setting = ["--set", "input_size=48", "filters=(4,4,8,8,8)", "epochs=3", "batch_size=8"]
    lungs = ["--data", manifest, "--lungs", segmenter]
    assert run("train", "--recipe", "robust", "--network", "cnn", *lungs, "--out", folder, *setting) == 1
    assert_one_line(capsys, "same network, recipe and data")


def test_too_few_images_for_smote(images, tmp_path, capsys):
    folder = Path(shutil.copytree(images, tmp_path / "chest_xray"))
    for path in sorted((folder / "train" / "NORMAL").glob("NORMAL2-*")):
        path.unlink()
    # Of seven patients one goes to the block and one to validation.
    assert len(list((folder / "train" / "NORMAL").iterdir())) == 7
    assert run("data", folder, "--out", tmp_path) == 0
    capsys.readouterr()
    manifest = tmp_path / "dataset.json"
    assert run("train", "--network", "cnn", "--data", manifest, "--out", tmp_path / "runs", *REFERENCE) == 1
    assert_one_line(capsys, "SMOTE needs at least 6")


def test_no_runs(manifest, bundle_folder, tmp_path, capsys):
    assert run("bundle", "--data", manifest, "--runs", tmp_path / "absent", "--models", tmp_path / "models") == 1
    assert_one_line(capsys, "absent", "finished training")
    models = shutil.copytree(bundle_folder, tmp_path / "models")
    assert run("evaluate", "--data", manifest, "--runs", tmp_path / "absent", "--models", models) == 1
    assert_one_line(capsys, "absent", "finished training")


def test_no_bundle(manifest, tmp_path, capsys):
    (tmp_path / "README.md").write_text(README)
    for arguments in (["evaluate", "--data", manifest], ["compare", "--readme", tmp_path / "README.md"]):
        assert run(*arguments, "--models", tmp_path / "absent") == 1
        assert_one_line(capsys, "absent")
    assert (tmp_path / "README.md").read_text() == README


def test_no_place_for_the_table(bundle_folder, tmp_path, capsys):
    (tmp_path / "plain.md").write_text("# Title\n")
    for name, words in (("plain.md", "<!-- table:test -->"), ("absent.md", "absent.md")):
        assert run("compare", "--models", bundle_folder, "--readme", tmp_path / name) == 1
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert words in err
        assert err.count("\n") == 1
    assert (tmp_path / "plain.md").read_text() == "# Title\n"


# --- as a process -----------------------------------------------------------------------------------------------


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "training", *map(str, arguments)]


def test_process_says_a_mistake_in_one_line(manifest, tmp_path):
    """Neither a traceback nor a word of TensorFlow's."""
    folder = tmp_path / "runs"
    arguments = ["train", "--network", "cnn", "--data", manifest, "--out", folder]
    for more, words in ((["--set", "epochs=abc"], "epochs"), (["--data", tmp_path / "absent.json"], "absent.json")):
        done = subprocess.run(command(*arguments, *more), cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_interrupted_process_says_how_to_go_on(manifest, tmp_path, capsys):
    """Ctrl+C after the second epoch; the same command then begins with the next one."""
    arguments = ["train", "--network", "cnn", "--data", manifest, "--out", tmp_path, *REFERENCE]
    with subprocess.Popen(
        command(*arguments[:-1], "epochs=1000"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
        # A test run in the background of a shell ignores Ctrl+C, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("cnn epoch 2/1000: "):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert said[-1] == "Interrupted. The same command goes on: a training from its last finished epoch.\n"
    assert not [line for line in said if "Traceback" in line]

    done = json.loads((tmp_path / "cnn" / "seed-0" / "history.json").read_text())
    assert len(done) >= 2
    assert not (tmp_path / "cnn" / "seed-0" / "run.json").exists()
    assert run(*arguments[:-1], f"epochs={len(done) + 1}") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if " epoch " in line]
    assert [line.split(":")[0] for line in lines] == [f"cnn epoch {len(done) + 1}/{len(done) + 1}"]
    assert json.loads((tmp_path / "cnn" / "seed-0" / "history.json").read_text())[: len(done)] == done
