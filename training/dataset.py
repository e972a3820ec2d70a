"""Find, verify and split the images by patient; the result is a manifest that everything else reads."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
import random
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo.errors import PneumoError
from pneumo.framing import RASTER, to_raster
from pneumo.radiograph import read_radiograph
from pneumo.zoo import CLASS_NAMES
from training.errors import DataError
from training.sources import Source, open_source

SPLITS = ("train", "validation", "block", "test")
"""Names of the splits. "validation" (patients at random, joined by val) and "block" (consecutive patients, those whose
numbers come next to the test split's) are carved out of the official train folder; choices are made on both."""
HELD_OUT = ("validation", "block")
"""The splits on which choices are made."""

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
    aspect : float
        Width divided by height before the image was stored, as far as it is known.
    megapixels : float
        Millions of pixels that it had before it was stored, as far as it is known; 0 if a manifest does not tell.
    """

    file: str
    sha256: str
    split: str
    label: str
    patient: str
    subtype: str
    width: int
    height: int
    aspect: float = 1.0
    megapixels: float = 0.0


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
        """SHA-256 over file, content, class and split of every image; the original's size is not in it."""
        lines = sorted(f"{image.sha256} {image.split} {image.label} {image.file}" for image in self.images)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def split(self, name: str) -> list[Image]:
        """The images of one split, in the order of the manifest."""
        return [image for image in self.images if image.split == name]

    def held_out(self) -> list[Image]:
        """The images on which choices are made, in the order of the manifest."""
        return [image for image in self.images if image.split in HELD_OUT]

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


def build_dataset(
    source: Source,
    seed: int = 0,
    validation_share: float = 0.1,
    block_share: float = 0.08,
    sizes: dict[str, tuple[int, int]] | None = None,
) -> Dataset:
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
    block_share : float
        Share of the training patients of each series, those with the lowest numbers, that make the block, 0 to 1.
    sizes : dict of str to (int, int), optional
        Width and height, in pixels, that files had before they were stored. Default: those of the files. A file that
        the table lacks gets the table's median aspect ratio and median area.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If a split has no readable image of a class.
    """
    left_out: list[LeftOut] = []
    found: list[Image] = []
    if sizes:
        aspect = statistics.median(width / height for width, height in sizes.values())
        area = statistics.median(width * height for width, height in sizes.values())
        usual = math.sqrt(area * aspect), math.sqrt(area / aspect)
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
        width, height = sizes.get(file, usual) if sizes else size
        known = round(width / height, 4), round(width * height / 1e6, 4)
        found.append(Image(file, radiograph.sha256, official[folder], label, patient, subtype, *size, *known))

    persons = _merge_patients(found)
    kept, copies, notes = _without_copies(found)
    kept, tested = _without_test_patients(kept, persons)
    unknown = sum(image.patient.startswith("unknown-") for image in kept)
    if unknown:
        notes.append(f"{unknown} images have names without a patient; each was taken for a patient of its own.")
    images = _carve(kept, persons, seed, validation_share, block_share)
    dataset = Dataset(source.location, seed, tuple(images), tuple(left_out + copies + tested), tuple(notes))
    for split in SPLITS:
        for label, count in dataset.counts()[split].items():
            if not count:
                raise DataError(
                    f"The data must have images of both classes in {', '.join(SPLITS[:-1])} and {SPLITS[-1]}; "
                    f"{source.location} has no readable {label} in {split}, which a few patients more may change. "
                    "Expected folders: {train,val,test}/{NORMAL,PNEUMONIA}."
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


def load_rasters(source: Source, images: Iterable[Image]) -> tuple[np.ndarray, np.ndarray]:
    """Read images as `pneumo.framing.to_raster` brings every radiograph.

    Returns
    -------
    rasters : numpy.ndarray of uint8, shape (n, 224, 224)
    labels : numpy.ndarray of uint8, shape (n,)
        0 normal, 1 pneumonia.

    Raises
    ------
    DataError
        If a file is not the one that the manifest describes.
    """
    images = list(images)
    rasters = np.empty((len(images), RASTER, RASTER), np.uint8)
    for index, image in enumerate(images):
        content = source.read(image.file)
        if hashlib.sha256(content).hexdigest() != image.sha256:
            raise DataError(
                f"The files must be those of the data manifest; {image.file} has changed since. "
                "Run `python -m training data` again."
            )
        rasters[index] = to_raster(read_radiograph(content, image.file).pixels)
    labels = np.array([CLASS_NAMES.index(image.label) for image in images], np.uint8)
    return rasters, labels


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


def _carve(
    images: list[Image], persons: dict[str, str], seed: int, validation_share: float, block_share: float
) -> list[Image]:
    """Move shares of the training patients of each series to validation and to the block.

    Whoever is also in val goes to validation.
    """
    by_series: dict[str, dict[str, int]] = defaultdict(dict)
    for image in images:
        if image.split == "train":
            series, _ = patient_of(image.file.rsplit("/", 1)[1])
            number = image.patient.rsplit("-", 1)[1]
            by_series[series or image.label][persons[image.patient]] = int(number) if number.isdecimal() else 0
    split_of = {persons[image.patient]: "validation" for image in images if image.split == "validation"}
    for series in sorted(by_series):
        numbers = by_series[series]
        consecutive = sorted(numbers, key=lambda person: (numbers[person], person))
        for person in consecutive[: round(len(numbers) * block_share)]:
            split_of.setdefault(person, "block")
        candidates = sorted(person for person in numbers if split_of.get(person) != "block")
        random.Random(f"{seed}-{series}").shuffle(candidates)
        for person in candidates[: round(len(numbers) * validation_share)]:
            split_of.setdefault(person, "validation")
    return [
        dataclasses.replace(image, split=split_of[persons[image.patient]])
        if image.split == "train" and persons[image.patient] in split_of
        else image
        for image in images
    ]


def read_sizes(path: Path) -> dict[str, tuple[int, int]]:
    """Read a table of the sizes that files had before they were stored: columns file, width, height.

    Raises
    ------
    DataError
        If it is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            sizes = {row["file"]: (int(row["width"]), int(row["height"])) for row in csv.DictReader(file)}
        if not sizes or min(map(min, sizes.values())) < 1:
            raise ValueError("no size, or one below 1 pixel")
        return sizes
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(
            f"A table of sizes must be a CSV file with the columns file, width, height; {path} is not ({error!r})."
        ) from error
