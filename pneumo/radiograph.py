"""From bytes, a file or an array to a `Radiograph`. Every refusal of an input is here."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import warnings
import zlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from pneumo import dicom_header, pictures
from pneumo.dicom_header import DicomFault, Header
from pneumo.errors import NotAChestRadiograph, PneumoError, RadiographSizeError, UnknownNameError, UnreadableRadiograph

KINDS = "JPEG, PNG or DICOM"
"""What is read, in words."""
MIN_SIDE = 64
"""Shortest accepted side, in pixels."""
MAX_PIXELS = 50_000_000
"""Largest accepted area, in pixels."""
MAX_BYTES = 64 * 2**20
"""Largest accepted file, in bytes."""
LEAST_REDUCED = 896
"""Shortest side, in pixels, of what is decoded at reduced scale: four times that of what the networks are shown."""
TURNS = (0, 90, 180, 270)
"""By how many degrees, clockwise, a radiograph can be turned before it is read."""
HEAD = dicom_header.START
"""Bytes from the start of a file by which `is_radiograph_file` knows DICOM."""
SUFFIXES = (".jpg", ".jpeg", ".png")
"""File name endings of radiographs that are pictures; for all that is read see `is_radiograph_file`."""

# What Pillow raises for data that is not what its header says.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)

# Of an EXIF orientation, where width and height are exchanged.
_SIDEWAYS = range(5, 9)
_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_SIGNATURES = (
    (b"GIF87a", "a GIF"),
    (b"GIF89a", "a GIF"),
    (b"%PDF", "a PDF"),
    (b"BM", "a BMP"),
    (b"II*\x00", "a TIFF"),
    (b"MM\x00*", "a TIFF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000"),
)


@dataclass(frozen=True, slots=True)
class Radiograph:
    """One radiograph, decoded.

    Attributes
    ----------
    pixels : numpy.ndarray of uint8, shape (height, width)
        Gray values, 0 (black) to 255 (white), upright: an EXIF rotation is already applied.
    name : str
        The file's name without its folder, or "array"; of a DICOM file, whose name may be the patient's, "DICOM" and
        the start of the SHA-256.
    format : str
        "JPEG", "PNG", "DICOM" or "array".
    sha256 : str
        SHA-256 of the bytes that came in, hexadecimal.
    notes : tuple of str
        What a reader should know about the conversion to 8-bit gray, one sentence each.
    header : Header or None
        What a DICOM header says of it; None for other files.
    size : tuple of int or None
        Width and height of the file's picture, upright, if it was decoded at reduced scale.
    """

    pixels: np.ndarray = field(repr=False)
    name: str
    format: str
    sha256: str
    notes: tuple[str, ...] = ()
    header: Header | None = None
    size: tuple[int, int] | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its DICOM header warns of, one sentence each."""
        return self.header.warnings if self.header else ()

    @property
    def height(self) -> int:
        """Height of the file's picture, in pixels."""
        return self.size[1] if self.size else int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Width of the file's picture, in pixels."""
        return self.size[0] if self.size else int(self.pixels.shape[1])


def read_radiograph(
    source: bytes | str | Path | np.ndarray, name: str | None = None, reduced: bool = False
) -> Radiograph:
    """Decode one radiograph.

    Parameters
    ----------
    source : bytes, str, Path or numpy.ndarray
        The content of a JPEG, PNG or DICOM file, the path of one, or gray values as an array of shape
        (height, width), uint8 or uint16.
    name : str, optional
        What to call the image in messages, unless it is a DICOM file. Default: the file's name.
    reduced : bool
        Whether a large JPEG, which nobody is to see, is decoded at 1/2, 1/4 or 1/8 of its scale, no side shorter than
        `LEAST_REDUCED`: less than half the time. Probabilities change in the fourth digit.

    Returns
    -------
    Radiograph

    Raises
    ------
    UnreadableRadiograph
        If it is not one still JPEG, PNG or DICOM image that decodes completely, or the file cannot be opened.
    NotAChestRadiograph
        If its DICOM header says that it is something else.
    RadiographSizeError
        If a side is shorter than 64 pixels, the area exceeds 50 megapixels, or the file 64 MiB.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, name or "array")
    if isinstance(source, (str, Path)):
        path = Path(source)
        name = name or path.name
        try:
            if path.is_dir():
                raise UnreadableRadiograph(
                    f"A radiograph must be a {KINDS} file; {name} is a folder. Name a file in it."
                )
            # The size first, so that a file too large is never read.
            size = path.stat().st_size
            _check_bytes(size, "this DICOM file" if size > MAX_BYTES and _is_dicom_file(path) else name)
            source = path.read_bytes()
        except OSError as error:
            raise UnreadableRadiograph(
                f"A radiograph must be a file that can be opened; {name}: {error.strerror or error}. Check the path."
            ) from error
    name = name or "upload"
    if dicom_header.is_dicom(source):
        return _from_dicom(source)
    if name.lower().endswith(dicom_header.SUFFIXES):
        # Damaged, or older than the format; its name may still be the patient's.
        name = _dicom_name(source)
    _check_bytes(len(source), name)
    _check_signature(source, name)
    # Pillow warns of damaged metadata, which changes nothing here; damaged pixels are refused.
    with warnings.catch_warnings(action="ignore"):
        return _decode(source, name, reduced)


def corrected(radiograph: Radiograph, turn: int = 0, invert: bool = False) -> Radiograph:
    """A radiograph turned by 0, 90, 180 or 270 degrees, clockwise, and with black and white exchanged if asked for.

    Raises
    ------
    UnknownNameError
        If it cannot be turned by so much.
    """
    if turn not in TURNS:
        raise UnknownNameError(
            f"A radiograph can be turned by {', '.join(map(str, TURNS))} degrees; received {turn!r}. Choose one."
        )
    if not turn and not invert:
        return radiograph
    done = [f"turned by {turn}° clockwise"] * bool(turn) + ["inverted"] * invert
    note = f"It was {' and '.join(done)} before it was read."
    return replace(radiograph, pixels=right(radiograph.pixels, turn, invert), notes=(*radiograph.notes, note))


def right(pixels: np.ndarray, turn: int, invert: bool) -> np.ndarray:
    """Gray values turned clockwise, by a multiple of 90 degrees, and with black and white exchanged if asked for."""
    turned = np.rot90(pixels, -turn // 90)
    return np.ascontiguousarray(255 - turned if invert else turned)


def is_radiograph_file(path: PurePath, head: bytes | None = None) -> bool:
    """Whether a file of a folder is taken for a radiograph: by its ending, or because it is DICOM, of any ending.

    Parameters
    ----------
    path : PurePath
        A `Path`, if its head is not given.
    head : bytes, optional
        Its first `HEAD` bytes. Default: they are read; what cannot be opened is none.
    """
    # A DICOMDIR is the table of contents beside the images.
    return path.suffix.lower() in SUFFIXES or (path.name.upper() != "DICOMDIR" and _is_dicom_file(path, head))


def _is_dicom_file(path: PurePath, head: bytes | None = None) -> bool:
    if head is None:
        with suppress(OSError), Path(path).open("rb") as file:
            head = file.read(HEAD)
    return path.suffix.lower() in dicom_header.SUFFIXES or dicom_header.is_dicom(head or b"")


def _from_dicom(data: bytes) -> Radiograph:
    # Imported only now: most radiographs are no DICOM files, and pydicom takes long.
    from pneumo import dicom

    name = _dicom_name(data)
    try:
        _check_bytes(len(data), name)
        image = dicom.open_dicom(data)
        if image.header.refusal:
            raise NotAChestRadiograph(
                f"A radiograph must be a frontal one of the chest; by its header {name} is {image.header.refusal}. "
                "Choose a chest radiograph."
            )
        _check_size(image.width, image.height, name)
        pixels, notes = image.pixels()
        _check_size(pixels.shape[1], pixels.shape[0], name)
    except DicomFault as error:
        fault = UnreadableRadiograph(f"A radiograph must be one gray image that decodes completely; {name} {error}")
        fault.file = name
        raise fault from None
    except PneumoError as error:
        error.file = name
        raise
    return Radiograph(pixels, name, "DICOM", hashlib.sha256(data).hexdigest(), notes, image.header)


def _dicom_name(data: bytes) -> str:
    return f"DICOM {hashlib.sha256(data).hexdigest()[:8]}"


def _check_bytes(size: int, name: str) -> None:
    if size == 0:
        raise UnreadableRadiograph(
            f"A radiograph must be a {KINDS} file; {name} is empty (0 bytes). Export or copy it again."
        )
    if size > MAX_BYTES:
        raise RadiographSizeError(
            f"A file may have at most {MAX_BYTES // 2**20} MiB; {name} has {math.ceil(size / 2**20)} MiB. "
            "Export it as JPEG or at a lower resolution."
        )


def _check_size(width: int, height: int, name: str) -> None:
    if min(width, height) < MIN_SIDE:
        raise RadiographSizeError(
            f"A radiograph must be at least {MIN_SIDE} pixels on each side; {name} is {width} x {height}. "
            "Use the original, not a thumbnail."
        )
    if width * height > MAX_PIXELS:
        raise RadiographSizeError(
            f"A radiograph may have at most {MAX_PIXELS // 10**6} megapixels; {name} has "
            f"{width * height / 1e6:,.0f} ({width} x {height}). Export it at a lower resolution."
        )


def _check_signature(data: bytes, name: str) -> None:
    if data.startswith((_JPEG, _PNG)):
        return
    raise UnreadableRadiograph(
        f"A radiograph must be a {KINDS} image; {name} is {_kind_of(data)}. Export it as one of these."
    )


def _kind_of(data: bytes) -> str:
    """Name what a file is that is neither JPEG nor PNG, with its article."""
    for signature, kind in _SIGNATURES:
        if data.startswith(signature):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "a WebP"
    if data[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file"
    try:
        text = data[:4096].decode("utf-8", errors="strict" if len(data) <= 4096 else "ignore")
    except UnicodeDecodeError:
        return "of another kind, or damaged at its start"
    if "<svg" in text.lower():
        return "an SVG drawing"
    if not any(character < " " and character not in "\t\r\n\f" for character in text):
        return "a text file"
    return "of another kind, or damaged at its start"


def _decode(data: bytes, name: str, reduced: bool) -> Radiograph:
    # Not Image.open: it has another limit of pixels, and takes a JPEG with a second image behind it, as telephones
    # write it, for another format.
    plugin = PngImageFile if data.startswith(_PNG) else JpegImageFile
    try:
        if plugin is PngImageFile:
            pictures.check_png(data)
        else:
            claimed = pictures.check_jpeg(data)
        image = plugin(io.BytesIO(data))
    except _DECODING_ERRORS as error:
        raise _damaged(name) from error
    with image:
        _check_size(*image.size, name)
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise UnreadableRadiograph(
                f"A radiograph must be a still image; {name} is an animation of {frames} frames. "
                "Export the one frame to be read."
            )
        try:
            if plugin is PngImageFile:
                # The decoder alone lets some damage in the last lines pass; the checksums do not.
                PngImageFile(io.BytesIO(data)).verify()
            elif isinstance(image, JpegImageFile) and claimed != (image.height, image.width, len(image.layer)):
                # Where its header is read otherwise by libjpeg, Pillow before 13 writes beyond its lines
                # (CVE-2026-112403).
                raise _damaged(name)
            full = image.size
            # A colour JPEG of a gray image needs only its luminance decoded.
            image.draft("L", (LEAST_REDUCED, LEAST_REDUCED) if reduced else full)
            image.load()
            for key in pictures.EXIF_KEYS:
                if len(image.info.get(key, "")) > pictures.MAX_EXIF:
                    del image.info[key]
            turned = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
            upright = ImageOps.exif_transpose(image)
            pixels, notes = _to_gray(upright)
        except _DECODING_ERRORS as error:
            raise _damaged(name) from error
    size = None if image.size == full else full[::-1] if turned else full
    return Radiograph(pixels, name, plugin.format, hashlib.sha256(data).hexdigest(), notes, size=size)


def _damaged(name: str) -> UnreadableRadiograph:
    return UnreadableRadiograph(
        f"A radiograph must decode completely; {name} is truncated or damaged. Copy or export it again."
    )


def _to_gray(image: Image.Image) -> tuple[np.ndarray, tuple[str, ...]]:
    if image.mode.startswith("I"):
        return _to_8_bit(np.asarray(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
            return np.array(image.convert("L")), ("Transparent parts were taken as black.",)
    return np.array(image.convert("L")), ()


def _to_8_bit(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """16-bit gray values to 8 bits, by a fixed rule, so that exposure is not altered image by image."""
    values = np.clip(values, 0, 65535)
    if values.max(initial=0) < 4096:
        return (values / 16).astype(np.uint8), ("Its 16-bit values are all below 4096 and were read as 12-bit.",)
    return (values / 257).round().astype(np.uint8), ()


def _from_array(values: np.ndarray, name: str) -> Radiograph:
    if values.ndim != 2 or values.dtype not in (np.uint8, np.uint16):
        raise UnreadableRadiograph(
            "An array must have the shape (height, width) and the type uint8 or uint16; received "
            f"{values.shape} of {values.dtype}. Convert it to gray values first."
        )
    _check_size(values.shape[1], values.shape[0], name)
    digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
    pixels, notes = _to_8_bit(values) if values.dtype == np.uint16 else (values.copy(), ())
    return Radiograph(pixels, name, "array", digest, notes)
