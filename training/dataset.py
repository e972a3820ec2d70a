"""Find, verify and split the images by patient; the result is a manifest that everything else reads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo.errors import PneumoError
from pneumo.radiograph import read_radiograph, resize_gray
from pneumo.zoo import CLASS_NAMES
from training.errors import DataError
from training.sources import Source, open_source

SPLITS = ("train", "validation", "test")
"""Names of the splits. "validation" is carved out of the official train folder and joined by val."""

_PATIENT = (
    (re.compile(r"^person(\d+)_(bacteria|virus)_\d+"), 2, 1),
    (re.compile(r"^(NORMAL2-IM|IM)-(\d+)-"), 1, 2),
)
_CLASS_OF_SERIES = {"IM": "NORMAL", "NORMAL2-IM": "NORMAL", "bacteria": "PNEUMONIA", "virus": "PNEUMONIA"}


@dataclass(frozen=True, slots=True)
class Image:
    """One image of the data set.

    Attributes
    ----------
    file : str
        Path inside the source, such as "train/NORMAL/IM-0115-0001.jpeg".
    sha256 : str
        SHA-256 of the file's bytes, hexadecimal.
    split : str
        One of `SPLITS`.
    label : str
        One of `pneumo.zoo.CLASS_NAMES`.
    patient : str
        Series and number, such as "bacteria-123": the key by which images are kept together.
    subtype : str
        "bacteria" or "virus" for a pneumonia whose name says so, else "".
    width, height : int
        Size of the stored image, in pixels.
    """

    file: str
    sha256: str
    split: str
    label: str
    patient: str
    subtype: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that is not used, and why."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """The verified data set.

    Attributes
    ----------
    location : str
        Folder, archive or Hub repository that the files are read from.
    seed : int
        Seed of the split into train and validation.
    images : tuple of Image
    left_out : tuple of LeftOut
    notes : tuple of str
        What was noticed and kept.
    """

    location: str
    seed: int
    images: tuple[Image, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over file, content, class and split of every image: equal if and only if the data is."""
        lines = sorted(f"{image.sha256} {image.split} {image.label} {image.file}" for image in self.images)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def split(self, name: str) -> list[Image]:
        """The images of one split, in the order of the manifest."""
        return [image for image in self.images if image.split == name]

    def counts(self) -> dict[str, dict[str, int]]:
        """Images per split and class."""
        tally = Counter((image.split, image.label) for image in self.images)
        return {split: {label: tally[split, label] for label in CLASS_NAMES} for split in SPLITS}

    def save(self, path: Path) -> None:
        """Write the manifest as JSON."""
        content = {"fingerprint": self.fingerprint, **dataclasses.asdict(self)}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Dataset:
        """Read a manifest that `save` wrote.

        Raises
        ------
        DataError
            If it is missing, or is not such a manifest, or was altered.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            fingerprint = content.pop("fingerprint")
            dataset = cls(
                location=content["location"],
                seed=content["seed"],
                images=tuple(Image(**image) for image in content["images"]),
                left_out=tuple(LeftOut(**item) for item in content["left_out"]),
                notes=tuple(content["notes"]),
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(
                f"A data manifest must be a file that `python -m training data` wrote; {path} is not ({error}). "
                "Run that command first."
            ) from error
        if dataset.fingerprint != fingerprint:
            raise DataError(f"A data manifest must not be edited; {path} was. Run `python -m training data` again.")
        return dataset


def build_dataset(source: Source, seed: int = 0, validation_share: float = 0.1) -> Dataset:
    """Check every image of a source and split the good ones by patient.

    A file is left out if it cannot be read, if its name says another class than its folder, or if it
    equals, byte for byte, an image already in. The official test split is kept whole: a copy inside it
    stays, and a training image that equals a test image, or is of a patient in test, goes.

    Parameters
    ----------
    source : Source
        Of files SPLIT/CLASS/NAME, with SPLIT one of train, val and test.
    seed : int
        Seed of the choice of validation patients.
    validation_share : float
        Share of the training patients of each series that go to validation, 0 to 1. The images of val join them.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If train, validation or test has no readable image of a class.
    """
    left_out: list[LeftOut] = []
    found: list[Image] = []
    official = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
    for file in source.files():
        folder, label, name = file.rsplit("/", 2)
        series, patient = patient_of(name)
        if _CLASS_OF_SERIES.get(series, label) != label:
            left_out.append(LeftOut(file, f"in the wrong folder: its name is of series {series}"))
            continue
        try:
            content = source.read(file)
            radiograph = read_radiograph(content, name)
        except PneumoError as error:
            left_out.append(LeftOut(file, str(error)))
            continue
        if not series:
            patient = f"unknown-{file}"
        subtype = series if label == "PNEUMONIA" else ""
        size = (radiograph.width, radiograph.height)
        found.append(Image(file, radiograph.sha256, official[folder], label, patient, subtype, *size))

    persons = _merge_patients(found)
    kept, copies, notes = _without_copies(found)
    kept, tested = _without_test_patients(kept, persons)
    unknown = sum(image.patient.startswith("unknown-") for image in kept)
    if unknown:
        notes.append(f"{unknown} images have names without a patient; each was taken for a patient of its own.")
    images = _carve_validation(kept, persons, seed, validation_share)
    dataset = Dataset(source.location, seed, tuple(images), tuple(left_out + copies + tested), tuple(notes))
    for split in SPLITS:
        for label, count in dataset.counts()[split].items():
            if not count:
                raise DataError(
                    f"The data must have images of both classes in train, validation and test; {source.location} "
                    f"has no readable {label} in {split}. Expected folders: {{train,val,test}}/{{NORMAL,PNEUMONIA}}."
                )
    return dataset


def patient_of(name: str) -> tuple[str, str]:
    """Series and patient that a file name of the Kermany set states.

    Parameters
    ----------
    name : str
        Such as "person123_bacteria_456.jpeg".

    Returns
    -------
    series : str
        "bacteria", "virus", "IM" or "NORMAL2-IM", or "" if the name follows another pattern.
    patient : str
        Such as "bacteria-123". Person 123 of the bacterial series is not person 123 of the viral one.
    """
    for pattern, series_group, number_group in _PATIENT:
        if match := pattern.match(name):
            series = match[series_group]
            return series, f"{series}-{int(match[number_group])}"
    return "", f"unknown-{name}"


def load_pixels(source: Source, images: Iterable[Image], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Read images as a network sees them, before scaling.

    Returns
    -------
    pixels : numpy.ndarray of uint8, shape (n, size, size)
    labels : numpy.ndarray of uint8, shape (n,)
        0 normal, 1 pneumonia.

    Raises
    ------
    DataError
        If a file is not the one that the manifest describes.
    """
    images = list(images)
    pixels = np.empty((len(images), size, size), np.uint8)
    for index, image in enumerate(images):
        content = source.read(image.file)
        if hashlib.sha256(content).hexdigest() != image.sha256:
            raise DataError(
                f"The files must be those of the data manifest; {image.file} has changed since. "
                "Run `python -m training data` again."
            )
        pixels[index] = resize_gray(read_radiograph(content, image.file).pixels, size)
    labels = np.array([CLASS_NAMES.index(image.label) for image in images], np.uint8)
    return pixels, labels


def open_dataset(manifest: Path) -> tuple[Dataset, Source]:
    """Read a manifest and open the source that it names.

    Raises
    ------
    DataError
        If either cannot be read.
    """
    dataset = Dataset.load(manifest)
    return dataset, open_source(dataset.location)


def _merge_patients(images: list[Image]) -> dict[str, str]:
    """Patients under two keys who share an identical image count as one: map each key to one of its group."""
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while leader.setdefault(key, key) != key:
            key = leader[key]
        return key

    first: dict[str, str] = {}
    for image in images:
        leader[find(image.patient)] = find(first.setdefault(image.sha256, image.patient))
    return {image.patient: find(image.patient) for image in images}


def _without_copies(images: list[Image]) -> tuple[list[Image], list[LeftOut], list[str]]:
    order = {"test": 0, "validation": 1, "train": 2}
    first: dict[str, Image] = {}
    dropped: list[LeftOut] = []
    notes: list[str] = []
    for image in sorted(images, key=lambda image: order[image.split]):
        original = first.setdefault(image.sha256, image)
        if original is image:
            continue
        if image.split == "test":
            notes.append(f"{image.file} equals {original.file}; kept, the official test split is reported whole.")
            continue
        dropped.append(LeftOut(image.file, f"a copy of {original.file}"))
    gone = {item.file for item in dropped}
    return [image for image in images if image.file not in gone], dropped, notes


def _without_test_patients(images: list[Image], persons: dict[str, str]) -> tuple[list[Image], list[LeftOut]]:
    tested = {persons[image.patient] for image in images if image.split == "test"}
    dropped = [image for image in images if image.split != "test" and persons[image.patient] in tested]
    gone = {image.file for image in dropped}
    reasons = [LeftOut(image.file, f"its patient, {image.patient}, is in test") for image in dropped]
    return [image for image in images if image.file not in gone], reasons


def _carve_validation(images: list[Image], persons: dict[str, str], seed: int, share: float) -> list[Image]:
    """Move a share of the training patients of each series, and whoever else is also in val, to validation."""
    by_series: dict[str, set[str]] = defaultdict(set)
    for image in images:
        if image.split == "train":
            series, _ = patient_of(image.file.rsplit("/", 1)[1])
            by_series[series or image.label].add(persons[image.patient])
    chosen = {persons[image.patient] for image in images if image.split == "validation"}
    for series in sorted(by_series):
        candidates = sorted(by_series[series])
        random.Random(f"{seed}-{series}").shuffle(candidates)
        chosen.update(candidates[: round(len(candidates) * share)])
    return [
        dataclasses.replace(image, split="validation")
        if image.split == "train" and persons[image.patient] in chosen
        else image
        for image in images
    ]
