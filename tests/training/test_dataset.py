"""Images are found, verified and split by patient; nothing leaks between the splits."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED

from pneumo.errors import PneumoError
from pneumo.framing import RASTER, to_raster
from pneumo.radiograph import read_radiograph
from training.dataset import (
    HELD_OUT,
    SPLITS,
    Dataset,
    build_dataset,
    load_rasters,
    open_dataset,
    patient_of,
    read_sizes,
)
from training.errors import DataError
from training.sources import open_source

SHIPPED = {
    "train": {"NORMAL": 14, "PNEUMONIA": 17},
    "val": {"NORMAL": 2, "PNEUMONIA": 2},
    "test": {"NORMAL": 7, "PNEUMONIA": 8},
}
SHIPPED_COPIES = {
    "train/NORMAL/NORMAL2-IM-0587-0001-0002.jpeg": "train/NORMAL/NORMAL2-IM-0587-0001-0001.jpeg",
    "train/PNEUMONIA/person1343_bacteria_3414.jpeg": "train/PNEUMONIA/person1343_bacteria_3413.jpeg",
}
A_TRAIN = "train/PNEUMONIA/person409_virus_818.jpeg"
"""One whose series is too small to be in the block: without it the block is the same."""
A_VAL = "val/NORMAL/NORMAL2-IM-1427-0001.jpeg"
A_TEST = "test/NORMAL/IM-0005-0001.jpeg"
FULL = Path(__file__).parents[1] / "data" / "full_resolution" / "IM-0081-0001.jpeg"


@pytest.fixture
def copy(images, tmp_path) -> Path:
    """A copy of the shipped images that a test may alter."""
    return Path(shutil.copytree(images, tmp_path / "chest_xray"))


def build(folder: Path, *arguments, **options) -> Dataset:
    return build_dataset(open_source(folder), *arguments, **options)


def split_of(dataset: Dataset) -> dict[str, str]:
    return {image.file: image.split for image in dataset.images}


def reasons(dataset: Dataset) -> dict[str, str]:
    """What is left out and why, but for the copies among the shipped images themselves."""
    return {item.file: item.reason for item in dataset.left_out if item.file not in SHIPPED_COPIES}


def assert_no_leak(dataset: Dataset) -> None:
    """No patient and no content is on two sides."""
    for key in ("patient", "sha256"):
        sides = defaultdict(set)
        for image in dataset.images:
            sides[getattr(image, key)].add(image.split)
        crossing = {value: found for value, found in sides.items() if len(found) > 1}
        assert not crossing, f"{key} on two sides"


def distinct(source: Path, target: Path, number: int) -> None:
    """Copy a JPEG as another file: bytes behind its end change the content, not the picture."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes() + b"%d" % number)


@pytest.fixture(scope="module")
def crowd(images, tmp_path_factory) -> Path:
    """Real images under the names of 40 to 60 training patients a series, with one to three images each."""
    folder = tmp_path_factory.mktemp("crowd")
    shutil.copytree(images / "test", folder / "test")
    names = {
        "NORMAL/IM-{:04}-000{}.jpeg": 40,
        "NORMAL/NORMAL2-IM-{:04}-000{}.jpeg": 50,
        "PNEUMONIA/person{}_bacteria_{}.jpeg": 60,
        "PNEUMONIA/person{}_virus_{}.jpeg": 40,
    }
    number = 0
    for pattern, patients in names.items():
        for patient in range(1001, 1001 + patients):
            for image in range(1 + patient % 3):
                number += 1
                distinct(images / A_TRAIN, folder / "train" / pattern.format(patient, image), number)
    return folder


# --- patients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "series", "patient"),
    [
        ("person123_bacteria_456.jpeg", "bacteria", "bacteria-123"),
        ("person123_virus_45.jpeg", "virus", "virus-123"),
        ("person123_virus_45_1.jpeg", "virus", "virus-123"),
        ("person1_bacteria_1.jpeg", "bacteria", "bacteria-1"),
        ("person0123_bacteria_9.png", "bacteria", "bacteria-123"),
        ("IM-0123-0001.jpeg", "IM", "IM-123"),
        ("IM-0123-0001-0002.jpeg", "IM", "IM-123"),
        ("IM-1123-0001.jpeg", "IM", "IM-1123"),
        ("NORMAL2-IM-0123-0001.jpeg", "NORMAL2-IM", "NORMAL2-IM-123"),
        ("NORMAL2-IM-0123-0001-0002.jpeg", "NORMAL2-IM", "NORMAL2-IM-123"),
        ("scan.jpeg", "", "unknown-scan.jpeg"),
        ("person_bacteria_1.jpeg", "", "unknown-person_bacteria_1.jpeg"),
        ("person12_fungus_3.jpeg", "", "unknown-person12_fungus_3.jpeg"),
        ("person12_bacteria.jpeg", "", "unknown-person12_bacteria.jpeg"),
        ("copy of person12_virus_3.jpeg", "", "unknown-copy of person12_virus_3.jpeg"),
        ("Person12_virus_3.jpeg", "", "unknown-Person12_virus_3.jpeg"),
        ("NORMAL-IM-0123-0001.jpeg", "", "unknown-NORMAL-IM-0123-0001.jpeg"),
        ("IM-12.jpeg", "", "unknown-IM-12.jpeg"),
        ("", "", "unknown-"),
    ],
)
def test_patient_of(name, series, patient):
    assert patient_of(name) == (series, patient)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("person123_bacteria_1.jpeg", "person123_bacteria_2.jpeg", True),
        ("IM-0123-0001.jpeg", "IM-0123-0001-0002.jpeg", True),
        ("person123_bacteria_1.jpeg", "person123_virus_1.jpeg", False),
        ("IM-0123-0001.jpeg", "NORMAL2-IM-0123-0001.jpeg", False),
        ("person12_virus_3.jpeg", "person123_virus_3.jpeg", False),
        ("a.jpeg", "b.jpeg", False),
    ],
)
def test_same_patient(one, other, same):
    assert (patient_of(one)[1] == patient_of(other)[1]) is same


# --- the shipped images -----------------------------------------------------------------------------------------


def test_shipped_images_are_all_used_but_the_copies(images):
    dataset = build(images)
    assert {item.file: item.reason for item in dataset.left_out} == {
        copied: f"a copy of {original}" for copied, original in SHIPPED_COPIES.items()
    }
    assert dataset.notes == ()
    counts = dataset.counts()
    assert counts["test"] == SHIPPED["test"]
    for label in ("NORMAL", "PNEUMONIA"):
        # One of each class is a copy.
        expected = SHIPPED["train"][label] + SHIPPED["val"][label] - 1
        assert sum(counts[split][label] for split in ("train", "validation", "block")) == expected
        assert counts["block"][label]
    assert_no_leak(dataset)


def test_every_field_is_that_of_the_file(images):
    for image in build(images).images:
        folder, label, name = image.file.split("/")
        content = (images / image.file).read_bytes()
        assert image.sha256 == hashlib.sha256(content).hexdigest()
        assert image.label == label
        assert image.patient == patient_of(name)[1]
        assert (image.width, image.height) == (224, 224)
        assert image.subtype == next((kind for kind in ("bacteria", "virus") if kind in name), "")
        # Only train is divided.
        assert image.aspect == 1, "the shipped images were squashed"
        assert image.split in {"train": ("train", *HELD_OUT), "val": ("validation",), "test": ("test",)}[folder]


def test_official_val_joins_validation(images):
    found = split_of(build(images))
    assert {split for file, split in found.items() if file.startswith("val/")} == {"validation"}
    assert any(file.startswith("train/") for file, split in found.items() if split == "validation")


def test_validation_folder_may_be_named_in_full(copy, images):
    (copy / "val").rename(copy / "validation")
    renamed = split_of(build(copy))
    assert {file.replace("validation/", "val/"): split for file, split in renamed.items()} == split_of(build(images))


# --- ill files --------------------------------------------------------------------------------------------------


def text(content: bytes) -> bytes:
    return b"Not an image, whatever its name says."


def empty(content: bytes) -> bytes:
    return b""


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def headless(content: bytes) -> bytes:
    return content[100:]


@pytest.mark.parametrize(
    ("damage", "words"),
    [(text, "text file"), (empty, "empty"), (truncated, "truncated or damaged"), (headless, "damaged")],
)
@pytest.mark.parametrize("file", [A_TRAIN, A_VAL, A_TEST])
def test_unreadable_image_is_left_out_with_its_reason(copy, images, damage, words, file):
    path = copy / file
    path.write_bytes(damage(path.read_bytes()))
    dataset = build(copy)
    assert list(reasons(dataset)) == [file]
    assert words in reasons(dataset)[file]
    assert "\n" not in reasons(dataset)[file]
    assert {image.file for image in dataset.images} == split_of(build(images)).keys() - {file}


def test_folder_named_like_an_image_is_left_out(copy):
    (copy / "train/NORMAL/IM-9999-0001.jpeg").mkdir()
    assert list(reasons(build(copy))) == ["train/NORMAL/IM-9999-0001.jpeg"]


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("NORMAL2-IM-0816-0001.jpeg", "train/PNEUMONIA"),
        ("NORMAL2-IM-0629-0001.jpeg", "val/PNEUMONIA"),
        ("person1005_bacteria_2936.jpeg", "test/NORMAL"),
        ("person409_virus_818.jpeg", "train/NORMAL"),
    ],
)
def test_image_in_the_folder_of_the_other_class_is_left_out(copy, file, folder):
    (path,) = copy.glob(f"train/*/{file}")
    path.rename(copy / folder / file)
    dataset = build(copy)
    assert list(reasons(dataset)) == [f"{folder}/{file}"]
    assert "wrong folder" in reasons(dataset)[f"{folder}/{file}"]


@pytest.mark.parametrize(
    "stray",
    [
        "train/NORMAL/.IM-0125-0001.jpeg",
        "train/NORMAL/._IM-0125-0001.jpeg",
        "train/NORMAL/.DS_Store",
        "train/NORMAL/Thumbs.db",
        "train/NORMAL/notes.txt",
        "train/IM-0125-0001.jpeg",
        "train/OTHER/IM-0125-0001.jpeg",
        "extra/NORMAL/IM-0125-0001.jpeg",
        "__MACOSX/train/NORMAL/IM-9999-0001.jpeg",
        "IM-0125-0001.jpeg",
    ],
)
def test_files_that_are_no_images_of_the_set_are_passed_over(copy, images, stray):
    distinct(images / A_TRAIN, copy / stray, 1)
    dataset = build(copy)
    assert reasons(dataset) == {}
    assert dataset.fingerprint == build(images).fingerprint


# --- copies -----------------------------------------------------------------------------------------------------

COPY = {"train": "train/NORMAL/IM-9001-0001.jpeg", "val": "val/NORMAL/IM-9002-0001.jpeg"}


@pytest.mark.parametrize(
    ("original", "copied", "left"),
    [
        (A_TRAIN, COPY["train"], A_TRAIN),  # of two in one split the first by name stays
        (A_VAL, COPY["val"], A_VAL),
        (A_VAL, COPY["train"], COPY["train"]),
        (A_TRAIN, COPY["val"], A_TRAIN),
        (A_TEST, COPY["train"], COPY["train"]),
        (A_TEST, COPY["val"], COPY["val"]),
        (A_TRAIN, "test/NORMAL/IM-0001-0009.jpeg", A_TRAIN),
    ],
)
def test_of_identical_images_one_stays(copy, original, copied, left):
    shutil.copyfile(copy / original, copy / copied)
    dataset = build(copy)
    assert list(reasons(dataset)) == [left]
    (stays,) = {original, copied} - {left}
    assert reasons(dataset)[left] == f"a copy of {stays}"
    assert stays in split_of(dataset)
    assert_no_leak(dataset)


def test_copy_inside_test_is_kept_with_a_note(copy):
    copied = "test/NORMAL/IM-0001-0009.jpeg"
    shutil.copyfile(copy / A_TEST, copy / copied)
    dataset = build(copy)
    assert reasons(dataset) == {}
    assert {A_TEST, copied} <= {image.file for image in dataset.split("test")}
    (note,) = dataset.notes
    assert A_TEST in note
    assert copied in note


def test_same_name_with_other_content_is_no_copy(copy, images):
    assert split_of(build(images))[A_TRAIN] != "validation"
    distinct(images / A_TRAIN, copy / A_TRAIN.replace("train/", "val/"), 7)
    dataset = build(copy)
    assert reasons(dataset) == {}
    # But it is the same patient, who therefore leaves train.
    assert split_of(dataset)[A_TRAIN] == "validation"


def test_training_images_of_a_test_patient_leave_train(copy, images):
    more = {
        "train/NORMAL/IM-0005-0002.jpeg",
        "val/NORMAL/IM-0005-0003.jpeg",
        "train/PNEUMONIA/person59_virus_9999.jpeg",
    }
    for number, file in enumerate(sorted(more)):
        distinct(images / A_TRAIN, copy / file, number)
    dataset = build(copy)
    assert reasons(dataset).keys() == more
    assert all("test" in reason for reason in reasons(dataset).values())
    assert dataset.fingerprint == build(images).fingerprint


def test_patient_who_shares_an_image_with_a_test_patient_leaves_train(copy, images):
    """The copy goes as a copy; the patient's other images are of a person who is in test."""
    shutil.copyfile(copy / A_TEST, copy / "train/NORMAL/IM-9001-0001.jpeg")
    distinct(images / A_TRAIN, copy / "train/NORMAL/IM-9001-0002.jpeg", 1)
    dataset = build(copy)
    assert reasons(dataset).keys() == {"train/NORMAL/IM-9001-0001.jpeg", "train/NORMAL/IM-9001-0002.jpeg"}
    assert dataset.fingerprint == build(images).fingerprint


# --- a class or a split is missing ------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["NORMAL", "PNEUMONIA"])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("how", ["no folder", "empty folder", "nothing readable"])
def test_missing_class_is_refused(copy, split, label, how):
    folder = copy / split / label
    if how == "nothing readable":
        for path in folder.iterdir():
            path.write_bytes(b"")
    else:
        shutil.rmtree(folder)
        if how == "empty folder":
            folder.mkdir()
    with pytest.raises(DataError, match=rf"{label} in {split}\b") as caught:
        build(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_split_is_refused(copy, split):
    shutil.rmtree(copy / split)
    with pytest.raises(DataError, match=rf"in {split}\b"):
        build(copy)


def test_val_may_be_missing(copy):
    shutil.rmtree(copy / "val")
    dataset = build(copy)
    assert all(dataset.counts()["validation"].values())


def test_too_few_patients_for_a_validation_part_are_refused(images, tmp_path):
    """Without one, nothing could be chosen: not an epoch, not a threshold."""
    shutil.copytree(images / "test", tmp_path / "test")
    for file in ("NORMAL/IM-0125-0001.jpeg", "PNEUMONIA/person409_virus_818.jpeg"):
        (tmp_path / "train" / file).parent.mkdir(parents=True)
        shutil.copyfile(images / "train" / file, tmp_path / "train" / file)
    with pytest.raises(DataError, match=r"in (validation|block)\b"):
        build(tmp_path)


# --- the split --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2, 12345])
def test_nothing_crosses_the_splits(crowd, seed):
    dataset = build(crowd, seed)
    assert reasons(dataset) == {}
    assert_no_leak(dataset)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_share_of_the_patients_of_each_series_goes_to_validation(crowd, share):
    dataset = build(crowd, 0, share)
    block_share = 0.08
    patients = {split: {image.patient for image in dataset.split(split)} for split in SPLITS}
    for series, count in {"IM": 40, "NORMAL2-IM": 50, "bacteria": 60, "virus": 40}.items():
        for split, part in (("validation", share), ("block", block_share)):
            chosen = [patient for patient in patients[split] if patient.rsplit("-", 1)[0] == series]
            assert len(chosen) == round(count * part)
    assert len(patients["train"] | patients["validation"] | patients["block"]) == 190


@pytest.mark.parametrize("share", [0.08, 0.3])
@pytest.mark.parametrize("seed", [0, 7])
def test_block_is_the_patients_of_each_series_with_the_lowest_numbers(crowd, share, seed):
    """Those of train: the patients of val, whatever their numbers, are no part of it."""
    dataset = build(crowd, seed, block_share=share)
    numbers = defaultdict(lambda: defaultdict(set))
    for image in dataset.images:
        if image.split != "test":
            series, number = image.patient.rsplit("-", 1)
            numbers[series][image.split].add(int(number))
    for found in numbers.values():
        count = sum(map(len, found.values()))
        assert found["block"] == set(range(1001, 1001 + round(count * share)))
        assert min(found["train"] | found["validation"]) == 1001 + round(count * share)


def test_numbers_are_ordered_as_numbers(crowd, images, tmp_path):
    """99 comes before 1001, which as a text it does not."""
    folder = Path(shutil.copytree(crowd, tmp_path / "more"))
    for number, patient in enumerate((99, 100, 20)):
        distinct(images / A_TRAIN, folder / f"train/PNEUMONIA/person{patient}_virus_{number}.jpeg", 9000 + number)
    found = split_of(build(folder))
    assert {found[f"train/PNEUMONIA/person{patient}_virus_{n}.jpeg"] for n, patient in enumerate((99, 100, 20))} == {
        "block"
    }
    assert sum(split == "block" and "_virus_" in file for file, split in found.items()) == 3


def test_block_does_not_depend_on_the_seed(crowd):
    blocks = [{image.file for image in build(crowd, seed).split("block")} for seed in (0, 1, 2)]
    assert blocks[0]
    assert blocks[0] == blocks[1] == blocks[2]


def test_patient_of_val_is_in_validation_even_with_the_lowest_number(copy, images):
    distinct(images / A_TRAIN, copy / "val/PNEUMONIA/person1_virus_1.jpeg", 1)
    distinct(images / A_TRAIN, copy / "train/PNEUMONIA/person1_virus_2.jpeg", 2)
    for share in (0.08, 0.5):
        dataset = build(copy, block_share=share)
        assert split_of(dataset)["train/PNEUMONIA/person1_virus_2.jpeg"] == "validation"
        assert_no_leak(dataset)


def test_choices_are_made_on_validation_and_block_together(crowd):
    dataset = build(crowd)
    held_out = dataset.held_out()
    assert {image.split for image in held_out} == set(HELD_OUT) == {"validation", "block"}
    assert held_out == [image for image in dataset.images if image.split in HELD_OUT]
    assert len(held_out) == len(dataset.split("validation")) + len(dataset.split("block"))


def test_no_block_is_refused(images):
    with pytest.raises(DataError, match=r"in block\b"):
        build(images, block_share=0.0)


def test_images_without_a_patient_in_their_names_are_split_too(crowd, tmp_path):
    """Even where the part of the name before its last hyphen differs from file to file."""
    folder = Path(shutil.copytree(crowd, tmp_path / "anonymous"))
    for number, path in enumerate(sorted(folder.glob("train/*/*.jpeg"))):
        path.rename(path.with_name(f"{number:04}-scan-{number}-a.jpeg"))
    dataset = build(folder)
    used = 0
    for label in ("NORMAL", "PNEUMONIA"):
        train, validation, block = (dataset.counts()[split][label] for split in ("train", "validation", "block"))
        assert validation == round((train + validation + block) * 0.1)
        assert block == round((train + validation + block) * 0.08)
        used += train + validation + block
    assert f"{used} images have names without a patient" in dataset.notes[-1]


def test_one_name_in_several_folders_is_of_several_patients(copy, images):
    """Where names are mere numbers, the first image of test is not of the patient of the first of train."""
    for folder in copy.glob("*/*"):
        for number, path in enumerate(sorted(folder.iterdir())):
            path.rename(path.with_name(f"{number}.jpeg"))
    dataset = build(copy, 0, 0.2)
    assert len(dataset.left_out) == len(SHIPPED_COPIES)
    assert len({image.patient for image in dataset.images}) == len(dataset.images)
    assert all(dataset.counts()["validation"].values())


def test_seed_alone_decides(crowd):
    splits = [split_of(build(crowd, seed)) for seed in (0, 1, 2)]
    assert splits == [split_of(build(crowd, seed)) for seed in (0, 1, 2)]
    assert splits[0] != splits[1] != splits[2] != splits[0]
    random.seed(99)
    assert split_of(build(crowd, 0)) == splits[0], "the state of the global generator must not matter"


def test_patients_who_share_an_image_stay_together(copy, images):
    """Chained: 1 shares an image with 2, who shares another with 3."""
    folder = copy / "train/PNEUMONIA"
    for number, patient in enumerate((7001, 7002, 7003)):
        distinct(images / A_TRAIN, folder / f"person{patient}_virus_{number}.jpeg", number)
    shutil.copyfile(folder / "person7001_virus_0.jpeg", folder / "person7002_virus_10.jpeg")
    shutil.copyfile(folder / "person7002_virus_1.jpeg", folder / "person7003_virus_11.jpeg")
    sides = []
    for seed in range(8):
        dataset = build(copy, seed, 0.5)
        assert reasons(dataset).keys() == {
            f"train/PNEUMONIA/person{name}.jpeg" for name in ("7002_virus_10", "7003_virus_11")
        }
        found = split_of(dataset)
        sides.append({found[f"train/PNEUMONIA/person{7001 + n}_virus_{n}.jpeg"] for n in range(3)})
        assert len(sides[-1]) == 1
    assert {"train"} in sides
    assert {"validation"} in sides


def test_patient_who_shares_an_image_with_val_goes_to_validation(copy, images):
    shutil.copyfile(copy / A_VAL, copy / "train/NORMAL/IM-9001-0001.jpeg")
    distinct(images / A_TRAIN, copy / "train/NORMAL/IM-9001-0002.jpeg", 1)
    for seed in range(4):
        assert split_of(build(copy, seed))["train/NORMAL/IM-9001-0002.jpeg"] == "validation"


# --- the manifest -----------------------------------------------------------------------------------------------


@pytest.fixture
def ill(copy) -> Dataset:
    """A data set with something in every field."""
    (copy / A_TRAIN).write_bytes(b"")
    shutil.copyfile(copy / A_TEST, copy / "test/NORMAL/IM-0001-0009.jpeg")
    return build(copy, 5)


def test_manifest_round_trip(ill, tmp_path):
    assert ill.left_out
    assert ill.notes
    path = tmp_path / "deep" / "down" / "dataset.json"
    ill.save(path)
    assert Dataset.load(path) == ill
    again = tmp_path / "again.json"
    Dataset.load(path).save(again)
    assert again.read_bytes() == path.read_bytes()
    dataset, source = open_dataset(path)
    assert dataset == ill
    assert source.read(A_TEST) == (Path(ill.location) / A_TEST).read_bytes()


def drop_image(content):
    content["images"].pop()


def add_image(content):
    content["images"].append({**content["images"][0], "file": "train/NORMAL/new.jpeg"})


def edit(field, value):
    def change(content):
        content["images"][0][field] = value

    change.__name__ = f"edit {field}"
    return change


def edit_fingerprint(content):
    content["fingerprint"] = "0" * 64


@pytest.mark.parametrize(
    "change",
    [
        edit("file", "train/NORMAL/other.jpeg"),
        edit("sha256", "0" * 64),
        edit("split", "validation"),
        edit("label", "PNEUMONIA"),
        drop_image,
        add_image,
        edit_fingerprint,
    ],
    ids=lambda change: change.__name__,
)
def test_edited_manifest_is_refused(manifest, tmp_path, change):
    content = json.loads(manifest.read_text())
    assert content["images"][0]["split"] == "test"
    assert content["images"][0]["label"] == "NORMAL"
    change(content)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="must not be edited"):
        Dataset.load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"{}",
        b"\xff\xfe\x00",
        b'{"fingerprint": ""}',
        b'{"fingerprint": "", "location": "", "seed": 0, "images": [{}], "left_out": [], "notes": []}',
        b'{"fingerprint": "", "location": "", "seed": 0, "images": null, "left_out": [], "notes": []}',
        b'{"fingerprint": "", "location": "", "seed": 0, "images": [1], "left_out": [], "notes": []}',
    ],
)
def test_other_files_are_no_manifests(tmp_path, content):
    path = tmp_path / "dataset.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="python -m training data") as caught:
        Dataset.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["absent.json", "."])
def test_manifest_that_cannot_be_opened(tmp_path, path):
    with pytest.raises(DataError, match="Run that command first"):
        Dataset.load(tmp_path / path)


def test_manifest_whose_images_are_gone(copy, tmp_path):
    build(copy).save(tmp_path / "dataset.json")
    shutil.rmtree(copy)
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(tmp_path / "dataset.json")


# --- the fingerprint --------------------------------------------------------------------------------------------


def test_fingerprint_is_of_content_not_of_place(images, copy, tmp_path):
    expected = build(images).fingerprint
    os.utime(copy / A_TRAIN, (0, 0))
    (copy / A_TRAIN).chmod(0o600)
    (copy / "notes.txt").write_text("unrelated")
    assert build(copy).fingerprint == expected
    # Made anew in the opposite order, so that the file system lists it in another.
    again = tmp_path / "elsewhere" / "again"
    for path in sorted(copy.rglob("*.jpeg"), reverse=True):
        target = again / path.relative_to(copy)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    assert build(again).fingerprint == expected


def change_a_byte(folder):
    path = folder / A_TEST
    path.write_bytes(path.read_bytes() + b" ")


def rename(folder):
    (folder / A_TEST).rename(folder / "test/NORMAL/IM-0005-0002.jpeg")


def remove(folder):
    (folder / A_TEST).unlink()


def add(folder):
    distinct(folder / A_TEST, folder / "test/NORMAL/IM-0005-0002.jpeg", 1)


def move_to_train(folder):
    (folder / A_TEST).rename(folder / A_TEST.replace("test", "train"))


def move_to_the_other_class(folder):
    (folder / A_TEST).rename(folder / "test/PNEUMONIA/anonymous.jpeg")


def swap_two_contents(folder):
    one, other = folder / A_TEST, folder / "test/NORMAL/IM-0069-0001.jpeg"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


@pytest.mark.parametrize(
    "change",
    [change_a_byte, rename, remove, add, move_to_train, move_to_the_other_class, swap_two_contents],
)
def test_fingerprint_changes_with_the_data(images, copy, change):
    change(copy)
    assert build(copy).fingerprint != build(images).fingerprint


def test_fingerprint_changes_with_the_split_and_only_then(images):
    """Few patients, so that some seeds give the same split."""
    by_seed = [build(images, seed) for seed in range(24)]
    pairs = [
        (split_of(one) == split_of(other), one.fingerprint == other.fingerprint)
        for index, one in enumerate(by_seed)
        for other in by_seed[:index]
    ]
    assert set(pairs) == {(True, True), (False, False)}


# --- pixels -----------------------------------------------------------------------------------------------------


def test_rasters_are_what_a_network_is_served(manifest):
    """Training and serving share the preprocessing."""
    dataset, source = open_dataset(manifest)
    chosen = dataset.split("test")
    rasters, labels = load_rasters(source, chosen)
    assert rasters.dtype == labels.dtype == np.uint8
    assert rasters.shape == (len(chosen), RASTER, RASTER)
    assert labels.tolist() == [int("PNEUMONIA" in image.file) for image in chosen]
    assert set(labels.tolist()) == {0, 1}
    for image, raster in zip(chosen, rasters, strict=True):
        np.testing.assert_array_equal(raster, to_raster(read_radiograph(source.read(image.file)).pixels))


def test_image_of_any_size_becomes_a_raster(copy):
    shutil.copyfile(FULL, copy / "test/NORMAL/IM-0081-0001.jpeg")
    dataset = build(copy)
    image = next(image for image in dataset.images if "IM-0081" in image.file)
    pixels = read_radiograph(FULL.read_bytes()).pixels
    assert (image.height, image.width) == pixels.shape
    np.testing.assert_array_equal(load_rasters(open_source(copy), [image])[0][0], to_raster(pixels))


def test_no_images_give_empty_arrays(manifest):
    rasters, labels = load_rasters(open_dataset(manifest)[1], [])
    assert rasters.shape == (0, RASTER, RASTER)
    assert labels.shape == (0,)


@pytest.mark.parametrize(
    "damage", [lambda content: content + b" ", empty, truncated, text], ids=["one byte more", "empty", "half", "text"]
)
def test_changed_file_is_refused(copy, damage):
    dataset = build(copy)
    source = open_source(copy)
    image = next(image for image in dataset.images if image.file == A_TEST)
    assert load_rasters(source, [image])[1].tolist() == [0]
    (copy / A_TEST).write_bytes(damage((copy / A_TEST).read_bytes()))
    with pytest.raises(DataError, match="has changed since"):
        load_rasters(source, [image])


def test_removed_file_is_refused(copy):
    dataset = build(copy)
    source = open_source(copy)
    (copy / A_TEST).unlink()
    with pytest.raises(DataError, match=A_TEST):
        load_rasters(source, dataset.images)


# --- sizes before the images were stored ------------------------------------------------------------------------


def test_size_is_that_of_the_file_where_nothing_else_is_known(copy):
    shutil.copyfile(FULL, copy / "test/NORMAL/IM-0081-0001.jpeg")
    for image in build(copy).images:
        assert image.aspect == pytest.approx(image.width / image.height, abs=1e-4)
        assert (image.aspect == 1) is ("IM-0081" not in image.file)
        assert image.megapixels == pytest.approx(image.width * image.height / 1e6, abs=1e-4)


def test_size_is_that_of_the_table(images):
    dataset = build(images, sizes={A_TRAIN: (1500, 1000), A_TEST: (900, 1200), "train/NORMAL/other.jpeg": (3, 1)})
    aspects = {image.file: image.aspect for image in dataset.images}
    assert (aspects.pop(A_TRAIN), aspects.pop(A_TEST)) == (1.5, 0.75)
    assert set(aspects.values()) == {1.5}, "the others get the table's median"
    areas = {image.file: image.megapixels for image in dataset.images}
    assert (areas.pop(A_TRAIN), areas.pop(A_TEST)) == (1.5, 1.08)
    assert set(areas.values()) == {1.08}
    assert all((image.width, image.height) == (224, 224) for image in dataset.images), "what is stored is as it was"


def test_size_comes_with_the_manifest(images, tmp_path):
    dataset = build(images, sizes={A_TRAIN: (1857, 1317)})
    dataset.save(tmp_path / "dataset.json")
    assert Dataset.load(tmp_path / "dataset.json") == dataset
    known = next(image for image in dataset.images if image.file == A_TRAIN)
    assert (known.aspect, known.megapixels) == (1.41, 2.4457)


def test_sizes_are_read_from_a_table(tmp_path):
    path = tmp_path / "sizes.csv"
    path.write_text(f"height,file,width\n1000,{A_TRAIN},1500\n1200,{A_TEST},900\n")
    assert read_sizes(path) == {A_TRAIN: (1500, 1000), A_TEST: (900, 1200)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"file,width,height\n",
        b"file,width\na.jpeg,3\n",
        b"name,width,height\na.jpeg,3,4\n",
        b"file,width,height\na.jpeg,3\n",
        b"file,width,height\na.jpeg,,4\n",
        b"file,width,height\na.jpeg,wide,4\n",
        b"file,width,height\na.jpeg,3.5,4\n",
        b"file,width,height\na.jpeg,3,0\n",
        b"file,width,height\na.jpeg,-3,4\n",
        b"file;width;height\na.jpeg;3;4\n",
        b"\xff\xfe\x00\x01",
        b"\x89PNG\r\n\x1a\n\x00",
    ],
)
def test_table_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "sizes.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match="columns file, width, height") as caught:
        read_sizes(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["absent.csv", "."])
def test_table_that_cannot_be_opened_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="A table of sizes must be"):
        read_sizes(tmp_path / name)


# --- the whole set ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole() -> Dataset:
    return build(SHARED / "chest_xray")


@pytest.mark.shared
def test_whole_set_has_the_official_counts(whole):
    files = open_source(SHARED / "chest_xray").files()
    found = {split: sum(file.startswith(f"{split}/") for file in files) for split in ("train", "val", "test")}
    assert found == {"train": 5216, "val": 16, "test": 624}
    assert whole.counts()["test"] == {"NORMAL": 234, "PNEUMONIA": 390}
    assert len(whole.images) + len(whole.left_out) == len(files)
    assert len(whole.left_out) == 26
    assert all(item.reason.startswith("a copy of train/") for item in whole.left_out)
    assert not any(image.patient.startswith("unknown") for image in whole.images)


@pytest.mark.shared
def test_whole_set_is_split_by_patient(whole):
    crossing = defaultdict(set)
    for image in whole.images:
        crossing[image.patient].add(image.split)
    assert all(len(splits) == 1 for splits in crossing.values())
    for image in whole.held_out():
        assert image.file.startswith(("train/", "val/"))
    content = {split: {image.sha256 for image in whole.split(split)} for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert not content[one] & content[other]


@pytest.mark.shared
def test_held_out_images_are_of_their_shares_of_the_whole_sets_patients(whole):
    patients = defaultdict(lambda: defaultdict(set))
    for image in whole.images:
        if image.file.startswith("train/"):
            patients[image.patient.rsplit("-", 1)[0]][image.split].add(image.patient)
    assert patients.keys() == {"IM", "NORMAL2-IM", "bacteria", "virus"}
    for series in patients.values():
        total = sum(map(len, series.values()))
        assert len(series["validation"]) / total == pytest.approx(0.1, abs=0.01)
        assert len(series["block"]) / total == pytest.approx(0.08, abs=0.01)


@pytest.mark.shared
def test_almost_every_image_of_the_whole_set_has_its_original_size(whole):
    sizes = read_sizes(SHARED / "original_sizes.csv")
    known = {image.file for image in whole.images} & sizes.keys()
    assert len(known) > 0.97 * len(whole.images)
    assert all(0.5 < sizes[file][0] / sizes[file][1] < 4 for file in known)


@pytest.mark.shared
def test_whole_set_is_found_from_above(whole):
    assert {image.file for image in whole.images} < set(open_source(SHARED).files())


def test_data_error_is_a_pneumo_error_and_a_value_error():
    assert issubclass(DataError, PneumoError)
    assert issubclass(DataError, ValueError)
