"""What a JPEG or PNG says of itself, looked at before Pillow is: no part of it may cost more than its bytes."""

from __future__ import annotations

import struct

from pneumo import codecs

MAX_PARTS = 100_000
"""Most segments or chunks of a file; Pillow takes some microseconds for each."""
MAX_EXIF = 2**17
"""Largest EXIF that is read, in bytes: Pillow before 13 takes the square of its length (CVE-2026-96643)."""
EXIF_KEYS = ("exif", "Raw profile type exif")
"""Where Pillow keeps a PNG's EXIF among what it knows of an image."""
_APP1 = 0xE1
_EXIF = b"Exif\0\0"


def check_jpeg(data: bytes) -> tuple[int, int, int]:
    """Rows, columns and components of a JPEG.

    Raises
    ------
    ValueError or struct.error
        If its segments do not follow one another, are too many, hold too much EXIF, or have not one frame.
    """
    exif = 0
    for parts, (marker, place) in enumerate(codecs.markers(data)):
        if parts > MAX_PARTS:
            raise ValueError("too many segments")
        if marker == _APP1 and data.startswith(_EXIF, place + 4):
            exif += struct.unpack_from(">H", data, place + 2)[0]
            if exif > MAX_EXIF:
                raise ValueError("too much EXIF")
    return codecs.jpeg_size(data)


def check_png(data: bytes) -> None:
    """Raise ValueError if a PNG has too many chunks."""
    place = 8
    for _ in range(MAX_PARTS):
        if place + 12 > len(data):
            return
        place += 12 + struct.unpack_from(">I", data, place)[0]
    raise ValueError("too many chunks")
