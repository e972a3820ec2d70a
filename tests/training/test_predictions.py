"""predictions.csv: what is written is read, and what was damaged is refused in words."""

import numpy as np
import pytest

from training.dataset import open_dataset
from training.errors import TrainingError
from training.predictions import read_predictions, write_predictions

NAMES = ("cnn", "together")


@pytest.fixture
def tested(manifest):
    return open_dataset(manifest)[0].split("test")


@pytest.fixture
def folder(tested, tmp_path):
    answers = {name: np.linspace(0, 1, len(tested)) for name in NAMES}
    write_predictions(tmp_path, tested, answers, dict.fromkeys(NAMES, 0.5))
    return tmp_path


def test_what_is_written_is_read(folder, tested):
    shuffled = tested[::-1]
    for name, values in read_predictions(folder, shuffled, NAMES).items():
        np.testing.assert_allclose(values, np.linspace(1, 0, len(tested)), atol=1e-6, err_msg=name)


def test_decisions_are_pneumonia_from_the_threshold_on(folder, tested):
    lines = (folder / "predictions.csv").read_text().splitlines()
    calls = [line.split(",")[-2:] for line in lines[1:]]
    expected = ["PNEUMONIA" if value >= 0.5 else "NORMAL" for value in np.linspace(0, 1, len(tested))]
    assert calls == [[call, call] for call in expected]


def alter(folder, change):
    path = folder / "predictions.csv"
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace(b",together,", b",joint,", 1), "must have a column for each network; "),
        (lambda text: text.replace(b",0.000000,", b",low,", 1), "must be numbers; "),
        (lambda text: text[: text.rindex(b"/")], "lacks "),
        (lambda text: text.replace(b"sha256", b"digest", 1), "lacks "),
        (lambda text: text.replace(b"NORMAL", b"\xff", 1), "must be a readable CSV file; "),
        (lambda text: text.replace(b"file", b"f" * 200_000, 1), "must be a readable CSV file; "),
        (lambda _: b"", "lacks "),
    ],
)
def test_damaged_file_is_refused(folder, tested, change, words):
    alter(folder, change)
    with pytest.raises(TrainingError, match=r"Run `python -m training evaluate` again\.$") as caught:
        read_predictions(folder, tested, NAMES)
    assert words in str(caught.value)


def test_file_that_is_not_there_is_refused(tmp_path, tested):
    with pytest.raises(TrainingError, match=r"has no predictions\.csv\. Run `python -m training evaluate`\.$"):
        read_predictions(tmp_path, tested, NAMES)
