"""Every figure is drawn, of whatever the tiny networks leave, and without a warning."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumo.backend import load_tensorflow
from training import figures
from training.errors import TrainingError

load_tensorflow()

from training.draw import draw  # noqa: E402
from training.evaluate import Evaluation  # noqa: E402

NAMES = ("cnn", "cnn_lstm", "cnn_rnn", "together")
FIGURES = ["balance", "class_distribution", "confusion", "curves", "reliability", "roc", "samples", "worst_lungs"]


@pytest.fixture
def case() -> tuple:
    """A radiograph whose lungs were drawn and not found."""
    drawn = np.zeros((224, 224), bool)
    drawn[60:160, 40:90] = True
    return "test/NORMAL/a.jpeg", np.full((224, 224), 90, np.uint8), np.zeros_like(drawn), drawn, 0.0


@pytest.fixture
def evaluation(case) -> Evaluation:
    """One network is right, one wrong, one always says the same; with fewer worst cases than places."""
    labels = np.array([0, 1] * 10, np.uint8)
    answers = {"cnn": labels * 0.9, "cnn_lstm": 1.0 - labels, "cnn_rnn": np.full(20, 0.5)}
    answers["together"] = np.mean(list(answers.values()), axis=0)
    return Evaluation([], labels, answers, dict.fromkeys(NAMES, 0.5), [case] * 5)


@pytest.fixture
def models(bundle_folder, tmp_path) -> Path:
    """A folder with as much of the bundle as the figures need."""
    (tmp_path / "manifest.json").write_bytes((bundle_folder / "manifest.json").read_bytes())
    return tmp_path


def test_every_figure_is_drawn(runs, manifest, models, evaluation):
    draw(runs, manifest, models, evaluation)
    files = sorted((models / "figures").iterdir())
    assert [path.stem for path in files] == FIGURES
    for path in files:
        pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert min(pixels.shape) > 300
        assert 0.01 < (pixels < 250).mean() < 0.9, "neither blank nor filled"
    before = [path.read_bytes() for path in files]
    draw(runs, manifest, models, evaluation)
    assert [path.read_bytes() for path in files] == before


def test_without_masks_there_are_no_worst_cases(runs, manifest, models, evaluation):
    evaluation.worst_lungs.clear()
    draw(runs, manifest, models, evaluation)
    assert not (models / "figures" / "worst_lungs.png").exists()


def test_run_of_another_seed_than_the_bundle_holds(runs, manifest, models, evaluation):
    content = json.loads((models / "manifest.json").read_text())
    content["networks"]["cnn_rnn"]["recipe"]["seed"] = 9
    (models / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(TrainingError, match=r"cnn_rnn/seed-9 has none\. Name it by --runs"):
        draw(runs, manifest, models, evaluation)


@pytest.mark.parametrize("first", [0.7, 5.0])
def test_curves_of_small_and_of_large_losses(tmp_path, first):
    rows = [
        {"epoch": epoch, "accuracy": 0.8, "val_accuracy": 0.9, "loss": 0.6, "val_loss": first / epoch}
        for epoch in (1, 2, 3)
    ]
    figures.curves({"cnn": (rows, 3)}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


@pytest.mark.parametrize("found", [False, True])
def test_lungs_that_were_not_found_have_no_outline(tmp_path, case, found):
    file, raster, nothing, drawn, _ = case
    figures.worst_lungs([(file, raster, drawn[::-1] if found else nothing, drawn, 0.5)], tmp_path / "worst.png")
    blue, green, red = np.moveaxis(cv2.imread(str(tmp_path / "worst.png")).astype(int), 2, 0)
    assert ((green > 140) & (red < 40) & (blue > 90)).sum() > 50, "drawn by a person"
    assert (((red > 190) & (green < 120) & (blue < 40)).sum() > 50) == found
