"""Files to try the decoder with: radiographs in each form that is read, and damage to them that a number decides."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate

from pneumo.ui.examples import load_examples

KINDS = ("JPEG", "PNG", "DICOM")
"""What is damaged, in equal parts."""
_SIDE = 160
_MAX_GROWTH = 2**20
_ORIENTATION = 0x0112
# pydicom's own files that are read once their header says that they show a chest: uncompressed in each way, and
# compressed in each of most others.
_FILES = (
    "MR_small.dcm",
    "CT_small.dcm",
    "MR_small_padded.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_expb.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "JPEG2000.dcm",
    "JPEG-lossy.dcm",
    "JPGExtended.dcm",
    "image_dfl.dcm",
    "J2K_pixelrep_mismatch.dcm",
)
# Compressed in the ways that none of those is.
_ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "1.2.840.10008.1.2.4.50": lambda gray: imagecodecs.jpeg8_encode(gray, 95),
    "1.2.840.10008.1.2.4.57": lambda gray: imagecodecs.jpeg8_encode(gray, lossless=True, predictor=6),
    "1.2.840.10008.1.2.4.70": lambda gray: imagecodecs.jpeg8_encode(gray, lossless=True, predictor=1),
    "1.2.840.10008.1.2.4.81": lambda gray: imagecodecs.jpegls_encode(gray, 2),
}
# The values at which programs that count go wrong, as bits of any width.
_EDGES = (0, 1, 2, 63, 64, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Seed:
    """A file that is read, before it is damaged.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    name : str
    content : bytes
    lengths, fields : tuple of (int, str)
        Where the lengths of its parts stand, and the other numbers of its header: place and `struct` format.
    """

    kind: str
    name: str
    content: bytes
    lengths: tuple[tuple[int, str], ...]
    fields: tuple[tuple[int, str], ...]


def load_seeds() -> list[Seed]:
    """Radiographs as JPEG and PNG of each mode, and the DICOM files of pydicom, relabelled to be of a chest."""
    with Image.open(load_examples()[0].path) as opened:
        gray = opened.convert("L").resize((_SIDE, _SIDE))
    turned = Image.Exif()
    turned[_ORIENTATION] = 6
    colour, deep = Image.merge("RGB", [gray] * 3), Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    seeds = [
        _jpeg("gray", gray),
        _jpeg("turned", gray, exif=turned),
        _jpeg("colour", colour, progressive=True, icc_profile=bytes(3000)),
        _jpeg("of four inks", colour.convert("CMYK")),
        _png("gray", gray),
        _png("turned", gray, exif=turned),
        _png("of 16 bits", deep),
        _png("of one bit", gray.convert("1")),
        _png("palette", colour.quantize(16), transparency=3),
        _png("transparent", gray.convert("LA")),
        _png("colour", colour.convert("RGBA")),
    ]
    return seeds + [_dicom(name, content) for name, content in _dicom_files(np.asarray(gray))]


def damaged(seeds: list[Seed], number: int) -> tuple[Seed, bytes]:
    """The damaged file of a number: which one, how, and where follow from it alone.

    Parameters
    ----------
    seeds : list of Seed
        As `load_seeds` gives them.
    number : int
        From 0; the kinds take turns.

    Returns
    -------
    Seed, bytes
        What was damaged, and what became of it.
    """
    generator = random.Random(number)
    alike = [seed for seed in seeds if seed.kind == KINDS[number % len(KINDS)]]
    seed = generator.choice(alike)
    data = bytearray(seed.content)
    if seed.kind == "PNG" and generator.random() < 0.3:
        data = _repacked(data, generator)
    if generator.random() < 0.6:
        for _ in range(generator.choice((1, 1, 2, 4))):
            _overwrite(data, generator.choice(generator.choice((seed.lengths, seed.fields))), generator)
    else:
        other = generator.choice(alike).content
        for _ in range(generator.choice((1, 1, 2, 8))):
            data = generator.choice(_ANYWHERE)(data, generator, other)
    # A wrong checksum is refused before any of the rest is looked at.
    return seed, _with_checksums(data) if seed.kind == "PNG" and generator.random() < 0.8 else bytes(data)


# --- seeds ------------------------------------------------------------------------------------------------------


def _encoded(image: Image.Image, form: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _jpeg(name: str, image: Image.Image, **options) -> Seed:
    content = _encoded(image, "JPEG", **options)
    lengths, fields, place = [], [], 2
    while content[place + 1] != 0xDA:
        lengths.append((place + 2, ">H"))
        size = struct.unpack_from(">H", content, place + 2)[0]
        # Of a frame: precision, height, width, components; of a table: its kind.
        if content[place + 1] in (0xC0, 0xC2):
            fields += [(place + 4, "B"), (place + 5, ">H"), (place + 7, ">H"), (place + 9, "B")]
        fields += [(place + 1, "B"), (place + 4, "B"), (place + 2 + size // 2, "B")]
        place += 2 + size
    return Seed("JPEG", f"JPEG {name}", content, (*lengths, (place + 2, ">H")), tuple(fields))


def _png(name: str, image: Image.Image, **options) -> Seed:
    content = _encoded(image, "PNG", **options)
    lengths, fields = [], [(16, ">I"), (20, ">I"), *((24 + place, "B") for place in range(5))]
    for place, _kind, data in _chunks(content):
        lengths.append((place, ">I"))
        fields += [(place + 4 + step, "B") for step in range(4)]
        fields.append((place + 8 + len(data) // 2, "B"))
    return Seed("PNG", f"PNG {name}", content, tuple(lengths), tuple(fields))


def _dicom(name: str, content: bytes) -> Seed:
    file = pydicom.dcmread(io.BytesIO(content))
    order = "<" if file.original_encoding[1] else ">"
    lengths, fields = [], [(place, "B") for place in range(128, 160)]
    elements = [element for part in (file.file_meta, file) for element in part.values()]
    for element in elements:
        if not isinstance(element, RawDataElement):
            continue
        # PS3.5 7.1.2: the length of some representations takes two bytes.
        short = not element.is_implicit_VR and element.VR not in ("OB", "OW", "SQ", "UN", "UT", "OF", "OD", "OL", "UC")
        lengths.append((element.value_tell - 2, f"{order}H") if short else (element.value_tell - 4, f"{order}I"))
        fields.append((element.value_tell, f"{order}H"))
        fields.append((element.value_tell + min(len(element.value or b""), 64) // 2, "B"))
    # In a deflated file, elements lie at other places than where they are read.
    inside = [(place, form) for place, form in fields if place + struct.calcsize(form) <= len(content)]
    starts = [(place, form) for place, form in lengths if place + struct.calcsize(form) <= len(content)]
    return Seed("DICOM", f"DICOM {name}", content, tuple(starts), tuple(inside))


def _dicom_files(gray: np.ndarray) -> Iterator[tuple[str, bytes]]:
    """Those of pydicom, their header saying that they show a chest, and one more for each other way to compress."""
    for name in _FILES:
        yield name, _bytes_of(_relabelled(name))
    file = _relabelled(_FILES[0])
    file.Rows, file.Columns = gray.shape
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 8, 8, 7, 0
    for syntax, encode in _ENCODERS.items():
        file.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        file.PixelData = encapsulate([encode(gray)])
        file["PixelData"].VR = "OB"
        yield file.file_meta.TransferSyntaxUID.name, _bytes_of(file)


def _relabelled(name: str) -> pydicom.FileDataset:
    file = pydicom.dcmread(Path(pydicom.__file__).parent / "data" / "test_files" / name)
    file.Modality, file.BodyPartExamined = "CR", "CHEST"
    return file


def _bytes_of(file: pydicom.FileDataset) -> bytes:
    stream = io.BytesIO()
    file.save_as(stream)
    return stream.getvalue()


# --- damage -----------------------------------------------------------------------------------------------------


def _overwrite(data: bytearray, where: tuple[int, str], generator: random.Random) -> None:
    """Another number in a place of the header: an edge, a neighbour, or any."""
    place, form = where
    if place + struct.calcsize(form) > len(data):
        return
    (old,) = struct.unpack_from(form, data, place)
    limit = 256 ** struct.calcsize(form)
    number = generator.choice((generator.choice(_EDGES), old + generator.choice((-2, -1, 1, 2)), old * 2, old // 2))
    struct.pack_into(form, data, place, generator.choice((number, generator.randrange(limit))) % limit)


def _place(data: bytearray, generator: random.Random) -> int:
    """Anywhere; in half of the cases near the start, where the header is."""
    return generator.randrange(min(len(data), generator.choice((2048, len(data)))) or 1)


def _flip(data: bytearray, generator: random.Random, _other: bytes) -> bytearray:
    for _ in range(generator.choice((1, 2, 8, 64))):
        place = _place(data, generator)
        data[place : place + 1] = bytes(byte ^ 1 << generator.randrange(8) for byte in data[place : place + 1])
    return data


def _set(data: bytearray, generator: random.Random, _other: bytes) -> bytearray:
    place, size = _place(data, generator), generator.choice((1, 2, 4, 16, 256))
    value = generator.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"0", b"9"))
    data[place : place + size] = generator.choice((value * size, generator.randbytes(size)))
    return data


def _cut(data: bytearray, generator: random.Random, _other: bytes) -> bytearray:
    return data[: _place(data, generator)]


def _drop(data: bytearray, generator: random.Random, _other: bytes) -> bytearray:
    place = _place(data, generator)
    del data[place : place + generator.choice((1, 2, 4, 64, 4096))]
    return data


def _repeat(data: bytearray, generator: random.Random, _other: bytes) -> bytearray:
    place = _place(data, generator)
    part = data[place : place + generator.choice((1, 2, 8, 64, 1024))]
    times = min(generator.choice((1, 2, 16, 4096)), _MAX_GROWTH // max(len(part), 1))
    data[place:place] = part * times
    return data


def _splice(data: bytearray, generator: random.Random, other: bytes) -> bytearray:
    """Its beginning, and the end of another."""
    place = _place(data, generator)
    return data[:place] + other[generator.choice((place, generator.randrange(len(other)))) :]


_ANYWHERE = (_flip, _set, _cut, _drop, _repeat, _splice)


def _chunks(data: bytes | bytearray) -> Iterator[tuple[int, bytes, bytes]]:
    """Where each chunk of a PNG starts, its kind and its content, as far as they can be followed."""
    place = 8
    while place + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        yield place, bytes(data[place + 4 : place + 8]), bytes(data[place + 8 : place + 8 + size])
        place += 12 + size


def _with_checksums(data: bytearray) -> bytes:
    """The same PNG with the checksums that its chunks would have."""
    mended = bytearray(data)
    for place, kind, content in _chunks(data):
        end = place + 8 + len(content)
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(kind + content))
    return bytes(mended)


def _repacked(data: bytearray, generator: random.Random) -> bytearray:
    """The same PNG with damage in its rows before they are compressed."""
    rows = bytearray(zlib.decompress(b"".join(content for _, kind, content in _chunks(data) if kind == b"IDAT")))
    for _ in range(generator.choice((1, 16))):
        rows = generator.choice((_flip, _set, _cut, _repeat))(rows, generator, b"")
    head = [part for part in _chunks(data) if part[1] not in (b"IDAT", b"IEND")]
    parts = [(kind, content) for _, kind, content in head]
    parts += [(b"IDAT", zlib.compress(bytes(rows), 1)), (b"IEND", b"")]
    whole = b"".join(struct.pack(">I", len(content)) + kind + content + bytes(4) for kind, content in parts)
    return bytearray(_with_checksums(bytearray(data[:8] + whole)))
