"""The compressed pixels of a DICOM file: what they claim is checked before anything is decoded.

By imagecodecs, which brings libjpeg-turbo (JPEG, also lossless and of 12 bits), CharLS (JPEG-LS) and OpenJPEG
(JPEG 2000).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import imagecodecs
import numpy as np

_J2K = b"\xff\x4f\xff\x51"
_START, _SCAN, _END = 0xD8, 0xDA, 0xD9
# Markers that begin a frame: all of JPEG's but those of tables (C4, C8, CC), and JPEG-LS's.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_MAX_TILES = 4096
_RLE_HEADER = 64


class DamagedFrame(ValueError):
    """Raised when compressed pixels are not what the file's header says, or do not decode."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a DICOM header says of its pixels.

    Attributes
    ----------
    rows, columns : int
        Height and width in pixels.
    allocated : int
        Bits that a value takes, 8 or 16.
    """

    rows: int
    columns: int
    allocated: int


def can_decode(syntax: str) -> bool:
    """Whether a transfer syntax, by its UID, is one that `decode` takes."""
    return syntax in _DECODERS


def decode(syntax: str, frame: bytes, layout: Layout) -> np.ndarray:
    """Decode one gray frame.

    Parameters
    ----------
    syntax : str
        UID of its transfer syntax: see `can_decode`.
    frame : bytes
        All of its fragments.
    layout : Layout

    Returns
    -------
    numpy.ndarray of uint8 or uint16, shape (rows, columns)
        The values as they are stored; a sign is not yet looked at.

    Raises
    ------
    DamagedFrame
        If it is not gray, of another size than the layout, or damaged.
    """
    try:
        values = _DECODERS[syntax](frame, layout)
    except (RuntimeError, ValueError, TypeError, LookupError, struct.error) as error:
        raise DamagedFrame(str(error)) from error
    if values.shape != (layout.rows, layout.columns):
        raise DamagedFrame(f"decoded to {values.shape}")
    return values.view(f"u{values.dtype.itemsize}")


def _jpeg(frame: bytes, layout: Layout) -> np.ndarray:
    _check(layout, *jpeg_size(frame))
    return imagecodecs.jpeg8_decode(frame)


def _jpeg_ls(frame: bytes, layout: Layout) -> np.ndarray:
    _check(layout, *jpeg_size(frame))
    # CharLS counts to four thousand million where a stream is cut off; an end of the image stops it.
    return imagecodecs.jpegls_decode(frame + bytes((0xFF, _END)))


def _jpeg_2000(frame: bytes, layout: Layout) -> np.ndarray:
    # Some files hold a whole JP2 file, with boxes before the codestream.
    start = frame.find(_J2K, 0, 4096)
    if start < 0:
        raise DamagedFrame("no JPEG 2000 codestream")
    right, bottom, left, top, tile_width, tile_height, _, _, components = struct.unpack_from(">8IH", frame, start + 8)
    _check(layout, bottom - top, right - left, components)
    if not tile_width or not tile_height:
        raise DamagedFrame("tiles without a size")
    if -(-right // tile_width) * -(-bottom // tile_height) > _MAX_TILES:
        raise DamagedFrame("too many tiles")
    return imagecodecs.jpeg2k_decode(frame[start:], numthreads=1)


def _rle(frame: bytes, layout: Layout) -> np.ndarray:
    """Run lengths (PS3.5 annex G): one segment a byte of a value, the most significant first."""
    count, *offsets = struct.unpack_from("<16I", frame)
    if count != layout.allocated // 8:
        raise DamagedFrame(f"{count} segments")
    pixels = layout.rows * layout.columns
    values: np.ndarray = np.zeros(pixels, np.uint16)
    for start, end in zip(offsets[:count], [*offsets[1:count], len(frame)], strict=True):
        if not _RLE_HEADER <= start < end <= len(frame):
            raise DamagedFrame("segments out of order")
        plane = bytearray(pixels)
        # What is written is bounded by `out`; what comes after the last pixel is padding.
        written = imagecodecs.packbits_decode(frame[start:end], out=plane)
        if len(written) < pixels:
            raise DamagedFrame("a segment too short")
        values = (values << 8) | np.frombuffer(plane, np.uint8)
    return values.astype(f"u{count}").reshape(layout.rows, layout.columns)


def jpeg_size(frame: bytes) -> tuple[int, int, int]:
    """Rows, columns and components of the only frame of a JPEG or JPEG-LS."""
    found = [struct.unpack_from(">HHB", frame, place + 5) for marker, place in markers(frame) if marker in _FRAMES]
    if len(found) != 1:
        raise DamagedFrame(f"{len(found)} frames")
    return found[0]


def markers(frame: bytes) -> Iterator[tuple[int, int]]:
    """Each marker, and where it begins, up to the first scan."""
    if frame[:2] != bytes((0xFF, _START)):
        raise DamagedFrame("no start of an image")
    place = 2
    while place + 4 <= len(frame):
        if frame[place] != 0xFF:
            raise DamagedFrame("no marker where one must be")
        marker = frame[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        yield marker, place
        if marker in (_SCAN, _END):
            return
        place += 2 + struct.unpack_from(">H", frame, place + 2)[0]


def _check(layout: Layout, rows: int, columns: int, components: int) -> None:
    if (rows, columns, components) != (layout.rows, layout.columns, 1):
        raise DamagedFrame(f"{rows} x {columns} pixels of {components} values; the header says otherwise")


_DECODERS: dict[str, Callable[[bytes, Layout], np.ndarray]] = {
    "1.2.840.10008.1.2.4.50": _jpeg,  # baseline
    "1.2.840.10008.1.2.4.51": _jpeg,  # extended: 12 bits
    "1.2.840.10008.1.2.4.57": _jpeg,  # lossless
    "1.2.840.10008.1.2.4.70": _jpeg,  # lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": _jpeg_ls,
    "1.2.840.10008.1.2.4.81": _jpeg_ls,  # near-lossless
    "1.2.840.10008.1.2.4.90": _jpeg_2000,  # lossless
    "1.2.840.10008.1.2.4.91": _jpeg_2000,
    "1.2.840.10008.1.2.5": _rle,
}
