"""The gate that ships: what it refuses, warns of and offers, on the page's networks and shipped images."""

from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pytest

from pneumo.backend import load_tensorflow
from pneumo.bundle import EMBEDDED, GATE
from pneumo.cli import main
from pneumo.errors import NotAChestRadiograph, UnknownNameError
from pneumo.gate import ODDITIES, Gate
from pneumo.radiograph import TURNS, corrected, read_radiograph, right
from pneumo.score import score_batch
from pneumo.supply import Item
from pneumo.ui import views

load_tensorflow()


@pytest.fixture(scope="module")
def radiographs(images):
    return [read_radiograph(path) for path in sorted(images.glob("test/*/*.jpeg"))[::2][:6]]


def picture(name: str) -> np.ndarray:
    from importlib.resources import files

    data = files("sklearn.datasets.images").joinpath(name).read_bytes()
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)


def written() -> np.ndarray:
    page = np.full((600, 450), 255, np.uint8)
    for line in range(20):
        cv2.putText(page, "the patient was seen on", (20, 30 + 28 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 0, 2)
    return page


OTHERS = {
    "photo": lambda: picture("china.jpg"),
    "flower": lambda: picture("flower.jpg"),
    "text": written,
    "noise": lambda: np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8),
    "blank": lambda: np.full((200, 200), 128, np.uint8),
    "gradient": lambda: np.tile(np.arange(256, dtype=np.uint8), (256, 1)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_radiograph_is_refused(examiner, name):
    radiograph = read_radiograph(OTHERS[name](), name)
    with pytest.raises(NotAChestRadiograph, match=rf"frontal one of the chest; {name} does not .* Choose a chest"):
        examiner.examine(radiograph)
    found = examiner.examine(radiograph, anyway=True)
    assert found.judgement.refused
    assert found.urgent_warnings[0] == found.refusal == found.warnings[0]


def test_radiographs_are_answered_without_a_warning(examiner, radiographs):
    judged = [found.judgement for found in examiner.examine_all(radiographs)]
    assert not any(item.refused or item.turn or item.invert for item in judged)
    assert sum(bool(item.oddities) for item in judged) <= 1


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("turn", TURNS)
def test_what_lies_wrong_is_offered_to_be_righted(examiner, radiographs, turn, invert):
    if not turn and not invert:
        return
    right_ones = 0
    for radiograph in radiographs:
        # What the offer undoes.
        wrong = read_radiograph(right(right(radiograph.pixels, -turn, False), 0, invert), "wrong")
        found = examiner.examine(wrong, anyway=True)
        if (found.judgement.turn, found.judgement.invert) != (turn, invert):
            continue
        right_ones += 1
        assert {"turned": bool(turn), "inverted": invert} == {
            name: name in found.judgement.oddities for name in ("turned", "inverted")
        }
        assert f'data-turn="{turn}" data-invert="{int(invert)}"' in views.examination_view(found).verdict
        again = examiner.examine(corrected(wrong, turn, invert))
        assert not again.judgement.correction
        assert again.together.probability == pytest.approx(examiner.examine(radiograph).together.probability)
    assert right_ones >= len(radiographs) - 1


def test_mirror_images_are_warned_of(examiner, radiographs):
    flipped = [read_radiograph(np.ascontiguousarray(item.pixels[:, ::-1])) for item in radiographs]
    found = [item.judgement.oddities for item in examiner.examine_all(flipped)]
    assert sum("mirrored" in oddities for oddities in found) >= len(found) - 1
    assert not any("mirrored" in item.judgement.oddities for item in examiner.examine_all(radiographs))


@pytest.mark.parametrize("side", range(4))
def test_what_is_cut_off_is_warned_of_rather_than_refused(examiner, radiographs, side):
    cut = []
    for item in radiographs:
        pixels = np.rot90(item.pixels, side)
        cut.append(read_radiograph(np.ascontiguousarray(np.rot90(pixels[pixels.shape[0] * 2 // 5 :], -side))))
    found = [examiner.examine(item, anyway=True) for item in cut]
    assert sum("cropped" in item.judgement.oddities for item in found) >= len(found) - 1
    assert all(ODDITIES["cropped"] in item.warnings for item in found if "cropped" in item.judgement.oddities)


@pytest.mark.parametrize(("gamma", "oddity"), [(4, "dark"), (0.2, "bright")])
def test_exposure_is_warned_of(examiner, radiographs, gamma, oddity):
    table = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    found = [examiner.examine(read_radiograph(cv2.LUT(item.pixels, table)), anyway=True) for item in radiographs]
    assert sum(oddity in item.judgement.oddities for item in found) >= 4
    assert all(ODDITIES[name] in item.warnings for item in found for name in item.judgement.oddities if ODDITIES[name])


def test_corrected():
    pixels = np.arange(64 * 80, dtype=np.uint16).reshape(64, 80).astype(np.uint8)
    radiograph = read_radiograph(pixels)
    turned = corrected(radiograph, 90, True)
    assert turned.pixels.shape == (80, 64)
    # The left lower corner comes to the left upper one.
    assert turned.pixels[0, 0] == 255 - pixels[-1, 0]
    assert turned.notes == ("It was turned by 90° clockwise and inverted before it was read.",)
    assert corrected(radiograph) is radiograph
    with pytest.raises(UnknownNameError, match="received 45"):
        corrected(radiograph, 45)


def test_all_say_the_same(examiner, radiographs, tmp_path, capsys):
    photo, sideways = tmp_path / "photo.png", tmp_path / "sideways.png"
    cv2.imwrite(str(photo), picture("china.jpg"))
    cv2.imwrite(str(sideways), right(radiographs[0].pixels, 270, False))
    rows = score_batch(
        examiner, [Item(path.name, lambda path=path: read_radiograph(path)) for path in (photo, sideways)]
    )
    with pytest.raises(NotAChestRadiograph) as refusal:
        examiner.examine(read_radiograph(photo))
    assert rows[0]["error"] == str(refusal.value)
    assert "cnn_probability" not in rows[0]
    assert "turn 90" in rows[1]["warnings"]
    assert main(["predict", str(photo), str(sideways), "--format", "json"]) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["error"].replace(str(photo), photo.name) == str(refusal.value)
    assert (second["gate"]["turn"], second["gate"]["invert"]) == (90, False)
    # Without heatmaps there are no warnings of them.
    assert rows[1]["warnings"].startswith(" ".join(second["warnings"]))
    assert main(["predict", str(sideways), "--turn", "90", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["gate"]["oddities"] == []


def test_a_gate_that_is_damaged():
    content = (EMBEDDED / GATE).read_bytes()
    for damaged in (b"", b"PK", content[:-200], _archive(weights=np.zeros((3, 3)), limits=np.zeros(7))):
        with pytest.raises(ValueError, match=r"gate|poses|pickled"):
            Gate(damaged)


def _archive(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()
