"""What is read as a radiograph, and what is refused and in which words."""

import hashlib
import io
import random
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import SHARED
from dicom_files import dicom_file
from PIL import Image

from pneumo.bundle import OPERATING_POINTS
from pneumo.errors import PneumoError, RadiographSizeError, UnreadableRadiograph
from pneumo.framing import to_raster
from pneumo.radiograph import LEAST_REDUCED, MAX_BYTES, MAX_PIXELS, read_radiograph

TESTS = Path(__file__).parent
WIDTH, HEIGHT = 96, 80
BLACK_NOTE = "Transparent parts were taken as black."
TWELVE_BIT_NOTE = "Its 16-bit values are all below 4096 and were read as 12-bit."
LOSSY = 12
"""Gray levels by which a JPEG of quality 95 may differ from what was stored."""
ORIENTATION = 0x112


@pytest.fixture(scope="module")
def gray(images) -> np.ndarray:
    """A real radiograph, small and not square."""
    with Image.open(images / "test" / "NORMAL" / "IM-0005-0001.jpeg") as image:
        return np.asarray(image.convert("L").resize((WIDTH, HEIGHT)))


def encode(image: Image.Image | np.ndarray, form: str, **options) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def png(gray, mode="L", **options) -> bytes:
    return encode(Image.fromarray(gray).convert(mode), "PNG", **options)


def jpeg(gray, mode="L", **options) -> bytes:
    return encode(Image.fromarray(gray).convert(mode), "JPEG", **{"quality": 95, **options})


def mpo(gray) -> bytes:
    """A JPEG with a second one behind it."""
    image = Image.fromarray(gray).convert("RGB")
    return encode(image, "MPO", quality=95, save_all=True, append_images=[image.rotate(90)])


def apng(gray, frames: int = 3) -> bytes:
    image = Image.fromarray(gray)
    return encode(image, "PNG", save_all=True, append_images=[image.rotate(90 * turn) for turn in range(1, frames)])


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def alpha(gray) -> np.ndarray:
    """Opacity 0 in the left third, half in the middle, full on the right."""
    return np.repeat(np.repeat([0, 128, 255], WIDTH // 3)[np.newaxis], HEIGHT, axis=0).astype(np.uint8)


def on_black(gray) -> np.ndarray:
    return np.rint(gray * (alpha(gray) / 255)).astype(np.uint8)


def with_alpha(gray, mode) -> bytes:
    image = Image.fromarray(gray).convert(mode)
    image.putalpha(Image.fromarray(alpha(gray)))
    return encode(image, "PNG")


def two_tone(gray) -> np.ndarray:
    return np.where(gray > 127, 255, 0).astype(np.uint8)


def sixteen(gray) -> np.ndarray:
    return gray.astype(np.uint16) * 257


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def raw_png(width: int, height: int, depth: int, colour: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"".join((b"\x89PNG\r\n\x1a\n", header, *chunks, chunk(b"IEND", b"")))


def png_of_rows(width: int, height: int, depth: int, colour: int, rows: np.ndarray) -> bytes:
    """A PNG of rows that hold the bytes as they are stored."""
    unfiltered = np.concatenate([np.zeros((height, 1), np.uint8), rows.reshape(height, -1).view(np.uint8)], axis=1)
    return raw_png(width, height, depth, colour, chunk(b"IDAT", zlib.compress(unfiltered.tobytes())))


def gray_16_alpha(gray) -> bytes:
    rows = np.stack([sixteen(gray), sixteen(alpha(gray))], axis=-1).astype(">u2")
    return png_of_rows(WIDTH, HEIGHT, 16, 4, rows)


def gray_4_bit(gray) -> bytes:
    levels = gray // 16
    return png_of_rows(WIDTH, HEIGHT, 4, 0, levels[:, ::2] * 16 + levels[:, 1::2])


def zeros_deflated(size: int) -> bytes:
    """A zlib stream of `size` zeros, a multiple of 1 MiB, made from one compressed MiB again and again."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">I", size % 65521 << 16 | 1)
    return b"\x78\xda" + block * (size // 2**20) + deflate.flush() + checksum


def without_crc(data: bytes, kind: bytes) -> bytes:
    """The PNG with a checksum of one kind of chunk altered."""
    start = data.index(kind)
    (length,) = struct.unpack(">I", data[start - 4 : start])
    end = start + 4 + length
    return data[:end] + bytes([data[end] ^ 1]) + data[end + 1 :]


# What is accepted: how it is made, what it must decode to, how far it may be off, and the notes.
GOOD = {
    "JPEG gray": (jpeg, None, LOSSY, ()),
    "JPEG colour": (lambda gray: jpeg(gray, "RGB"), None, LOSSY, ()),
    "JPEG progressive": (lambda gray: jpeg(gray, "RGB", progressive=True), None, LOSSY, ()),
    "JPEG without subsampling": (lambda gray: jpeg(gray, "RGB", subsampling=0), None, LOSSY, ()),
    "JPEG stored as RGB": (lambda gray: jpeg(gray, "RGB", keep_rgb=True), None, LOSSY, ()),
    "JPEG CMYK": (lambda gray: jpeg(gray, "CMYK"), None, LOSSY, ()),
    "JPEG with a second image": (mpo, None, LOSSY, ()),
    "JPEG whose second image is gone": (lambda gray: mpo(gray)[: mpo(gray).rindex(b"\xff\xd8\xff")], None, LOSSY, ()),
    "JPEG whose list of images is damaged": (lambda gray: mpo(gray).replace(b"MPF\0II", b"MPF\0XX"), None, LOSSY, ()),
    "JPEG with bytes behind it": (lambda gray: jpeg(gray) + bytes(100), None, LOSSY, ()),
    "JPEG with damaged EXIF": (lambda gray: jpeg(gray, exif=exif(1).tobytes()[:-6]), None, LOSSY, ()),
    "JPEG with EXIF of nonsense": (lambda gray: jpeg(gray, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09"), None, LOSSY, ()),
    "PNG gray": (png, None, 0, ()),
    "PNG gray of 1 bit": (lambda gray: png(two_tone(gray), "1"), two_tone, 0, ()),
    "PNG gray of 4 bits": (gray_4_bit, lambda gray: gray // 16 * 17, 0, ()),
    "PNG gray of 16 bits": (lambda gray: encode(sixteen(gray), "PNG"), None, 0, ()),
    "PNG gray of 12 bits in 16": (
        lambda gray: encode(gray.astype(np.uint16) * 16 + 7, "PNG"),
        None,
        0,
        (TWELVE_BIT_NOTE,),
    ),
    "PNG gray of 16 bits, not 12": (lambda gray: encode(np.maximum(sixteen(gray), 4096), "PNG"), None, 16, ()),
    "PNG RGB": (lambda gray: png(gray, "RGB"), None, 0, ()),
    "PNG RGB of 16 bits": (lambda gray: cv2.imencode(".png", np.dstack([sixteen(gray)] * 3))[1].tobytes(), None, 1, ()),
    "PNG palette": (lambda gray: png(gray, "P"), None, 0, ()),
    "PNG palette of 1 bit": (
        lambda gray: encode(Image.fromarray(two_tone(gray)).quantize(2), "PNG"),
        two_tone,
        0,
        (),
    ),
    "PNG gray and alpha": (lambda gray: with_alpha(gray, "L"), on_black, 1, (BLACK_NOTE,)),
    "PNG gray and alpha of 16 bits": (gray_16_alpha, on_black, 1, (BLACK_NOTE,)),
    "PNG RGBA": (lambda gray: with_alpha(gray, "RGB"), on_black, 1, (BLACK_NOTE,)),
    "PNG RGBA of 16 bits": (
        lambda gray: cv2.imencode(".png", np.dstack([sixteen(gray)] * 3 + [sixteen(alpha(gray))]))[1].tobytes(),
        on_black,
        1,
        (BLACK_NOTE,),
    ),
    "PNG RGBA, opaque": (lambda gray: png(gray, "RGBA"), None, 0, ()),
    "PNG gray and alpha, opaque": (lambda gray: png(gray, "LA"), None, 0, ()),
    "PNG palette with a transparent colour": (
        lambda gray: png(gray, "P", transparency=int(gray.max())),
        lambda gray: np.where(gray == gray.max(), 0, gray),
        0,
        (BLACK_NOTE,),
    ),
    "PNG palette with opacities": (
        lambda gray: png(gray, "P", transparency=bytes([255] * 100 + [0] * 156)),
        lambda gray: np.where(gray < 100, gray, 0),
        0,
        (BLACK_NOTE,),
    ),
    "PNG gray with a transparent level": (
        lambda gray: png(gray, transparency=int(gray.max())),
        lambda gray: np.where(gray == gray.max(), 0, gray),
        0,
        (BLACK_NOTE,),
    ),
    "PNG RGB with a transparent colour": (
        lambda gray: png(gray, "RGB", transparency=(int(gray.max()),) * 3),
        lambda gray: np.where(gray == gray.max(), 0, gray),
        0,
        (BLACK_NOTE,),
    ),
    "PNG of one frame of an animation": (
        lambda gray: raw_png(WIDTH, HEIGHT, 8, 0, chunk(b"acTL", struct.pack(">II", 0, 0)), png(gray)[33:-12]),
        None,
        0,
        (),
    ),
}


@pytest.mark.parametrize(("make", "expected", "tolerance", "notes"), GOOD.values(), ids=GOOD)
def test_accepted(gray, make, expected, tolerance, notes):
    data = make(gray)
    radiograph = read_radiograph(data, "scan")
    wanted = (expected(gray) if expected else gray).astype(int)
    assert (radiograph.width, radiograph.height) == (WIDTH, HEIGHT)
    assert radiograph.pixels.dtype == np.uint8
    assert np.abs(radiograph.pixels - wanted).max() <= tolerance
    assert radiograph.notes == notes
    assert radiograph.name == "scan"
    assert radiograph.format == ("JPEG" if data.startswith(b"\xff\xd8") else "PNG")
    assert radiograph.sha256 == hashlib.sha256(data).hexdigest()


def test_16_bits_equal_8_bits(gray):
    # Values between those that 8 bits can hold.
    deep = sixteen(gray) + np.arange(gray.size, dtype=np.uint16).reshape(gray.shape) % 257 - 128 * (gray > 0)
    deep = np.where(gray == 255, 65535, deep).astype(np.uint16)
    shallow = read_radiograph(png(np.rint(deep / 65535 * 255).astype(np.uint8))).pixels.astype(int)
    for source in (encode(deep, "PNG"), cv2.imencode(".png", np.dstack([deep] * 3))[1].tobytes(), deep):
        assert np.abs(read_radiograph(source).pixels - shallow).max() <= 1


def test_colours_become_their_luminance():
    bands = np.zeros((64, 192, 3), np.uint8)
    for column, colour in enumerate(np.eye(3, dtype=np.uint8) * 255):
        bands[:, column * 64 : (column + 1) * 64] = colour
    assert read_radiograph(encode(bands, "PNG")).pixels[0, ::64].tolist() == [76, 150, 29]


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What is in the file, by the EXIF standard: the visual side that row 0 is, and the one that column 0 is."""
    return {
        1: upright,  # top, left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.T,  # left, top
        6: upright.T[::-1],  # right, top
        7: upright[::-1, ::-1].T,  # right, bottom
        8: upright[::-1].T,  # left, bottom
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(gray, orientation):
    image = Image.fromarray(np.ascontiguousarray(stored(gray, orientation)))
    from_png = read_radiograph(encode(image, "PNG", exif=exif(orientation)))
    from_jpeg = read_radiograph(encode(image, "JPEG", quality=95, exif=exif(orientation)))
    assert np.array_equal(from_png.pixels, gray)
    assert np.abs(from_jpeg.pixels - gray.astype(int)).max() <= LOSSY


LARGE = (2400, 1900)
"""Width and height of a picture that can be halved, and no more."""


@pytest.fixture(scope="module")
def large() -> np.ndarray:
    with Image.open(TESTS / "data" / "full_resolution" / "IM-0081-0001.jpeg") as image:
        return np.asarray(image.convert("L").resize(LARGE, Image.Resampling.BICUBIC))


@pytest.mark.parametrize("options", [{}, {"mode": "RGB"}, {"progressive": True}], ids=str)
def test_large_jpeg_at_reduced_scale(large, options):
    data = jpeg(large, **options)
    whole, reduced = read_radiograph(data, "a.jpeg"), read_radiograph(data, "a.jpeg", reduced=True)
    assert whole.pixels.shape == LARGE[::-1]
    assert reduced.pixels.shape == (950, 1200)
    assert (reduced.width, reduced.height) == (whole.width, whole.height) == LARGE
    assert (reduced.name, reduced.format, reduced.sha256) == (whole.name, whole.format, whole.sha256)
    # What the networks are shown: mostly the same gray values.
    apart = to_raster(whole.pixels).astype(int) - to_raster(reduced.pixels)
    assert np.abs(apart).mean() < 0.6
    assert np.abs(apart).max() <= 8


@pytest.mark.parametrize(
    ("size", "factor"),
    [((2 * LEAST_REDUCED, 2000), 2), ((2 * LEAST_REDUCED - 1, 2000), 1), ((4000, 4 * LEAST_REDUCED), 4)],
    ids=str,
)
def test_no_side_is_reduced_below_the_least(large, size, factor):
    data = jpeg(np.asarray(Image.fromarray(large).resize(size)))
    assert read_radiograph(data, reduced=True).pixels.shape == (size[1] // factor, size[0] // factor)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_size_of_a_rotated_jpeg_at_reduced_scale(large, orientation):
    found = read_radiograph(jpeg(large, exif=exif(orientation)), reduced=True)
    assert (found.width, found.height) == (LARGE if orientation < 5 else LARGE[::-1])
    assert found.pixels.shape == ((950, 1200) if orientation < 5 else (1200, 950))


def test_what_is_not_reduced(large, gray):
    for data in (png(large), jpeg(gray), dicom_file(large)):
        whole, same = read_radiograph(data), read_radiograph(data, reduced=True)
        assert np.array_equal(same.pixels, whole.pixels)
        assert (same.width, same.height) == (whole.width, whole.height)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
def test_damage_is_found_at_reduced_scale(large, options):
    data = jpeg(large, **options)
    with pytest.raises(UnreadableRadiograph, match="truncated or damaged"):
        read_radiograph(data[: len(data) // 2], reduced=True)


@pytest.mark.shared
def test_answers_at_reduced_scale(examiner):
    """Of published originals that are large enough: no decision is another, but of an answer at the very threshold."""
    paths = sorted((SHARED / "full_resolution").rglob("*.jpeg"))
    pairs = [(read_radiograph(path), read_radiograph(path, reduced=True)) for path in paths]
    pairs = [pair for pair in pairs if pair[1].size]
    assert len(pairs) == 10
    whole, reduced = (examiner.examine_all(radiographs) for radiographs in zip(*pairs, strict=True))
    change = [
        abs(one.predictions[name].probability - other.predictions[name].probability)
        for one, other in zip(whole, reduced, strict=True)
        for name in one.predictions
    ]
    assert np.mean(change) < 0.002
    assert np.max(change) < 0.02
    for point in OPERATING_POINTS:
        for one, other in zip(whole, reduced, strict=True):
            found, expected = (examiner.examine(item, point).record() for item in (other, one))
            for name, entry in expected["networks"].items():
                if abs(entry["probability"] - entry["threshold"]) > 0.02:
                    assert found["networks"][name]["decision"] == entry["decision"]
            assert found["gate"]["oddities"] == expected["gate"]["oddities"]


def test_exif_orientation_of_16_bits(gray):
    image = Image.fromarray(np.ascontiguousarray(sixteen(stored(gray, 6))))
    assert np.array_equal(read_radiograph(encode(image, "PNG", exif=exif(6))).pixels, gray)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_exif_orientation_that_does_not_exist(gray, orientation):
    assert np.array_equal(read_radiograph(png(gray, exif=exif(orientation))).pixels, gray)


# The sides of an image


def test_smallest_accepted():
    assert read_radiograph(png(np.zeros((64, 64), np.uint8))).pixels.shape == (64, 64)


@pytest.mark.parametrize(("width", "height"), [(63, 64), (64, 63), (63, 63), (1, 1), (2000, 1)])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "array"])
def test_too_small(width, height, form):
    pixels = np.zeros((height, width), np.uint8)
    with pytest.raises(RadiographSizeError, match=rf"at least 64 .* scan\.x is {width} x {height}.* Use the original"):
        read_radiograph(pixels if form == "array" else encode(pixels, form), "scan.x")


def test_largest_accepted():
    assert MAX_PIXELS == 10_000 * 5_000
    radiograph = read_radiograph(encode(np.zeros((5_000, 10_000), np.uint8), "PNG", compress_level=1))
    assert (radiograph.width, radiograph.height) == (10_000, 5_000)


@pytest.mark.parametrize(
    ("width", "height"), [(10_000, 5_001), (10_000, 10_000), (100_000, 100_000), (2**31 - 1, 2**31 - 1)]
)
def test_too_large_is_refused_by_its_header(width, height):
    # There are no pixels in the file: decoding it would be refused otherwise.
    data = raw_png(width, height, 8, 0, chunk(b"IDAT", b""))
    with pytest.raises(RadiographSizeError, match=rf"at most 50 .* scan\.png .*\({width} x {height}\)\. Export"):
        read_radiograph(data, "scan.png")


def test_too_large_jpeg_is_refused_by_its_header():
    data = bytearray(jpeg(np.zeros((64, 64), np.uint8)))
    size = data.index(b"\xff\xc0") + 5
    data[size : size + 4] = struct.pack(">HH", 65_535, 65_535)
    with pytest.raises(RadiographSizeError, match=r"at most 50 .* has 4,295 \(65535 x 65535\)"):
        read_radiograph(bytes(data))


def test_largest_array():
    with pytest.raises(RadiographSizeError, match=r"array has 50 \(10000 x 5001\)"):
        read_radiograph(np.zeros((5_001, 10_000), np.uint8))


GIGABYTE = 2**30
BOMBS = {
    "image": lambda: raw_png(2**15, 2**15, 8, 0, chunk(b"IDAT", zeros_deflated(GIGABYTE + 2**20))),
    "image data": lambda: raw_png(64, 64, 8, 0, chunk(b"IDAT", zeros_deflated(GIGABYTE))),
    "text": lambda: raw_png(64, 64, 8, 0, chunk(b"zTXt", b"note\0\0" + zeros_deflated(GIGABYTE)), TINY_IMAGE),
    "colour profile": lambda: raw_png(64, 64, 8, 0, chunk(b"iCCP", b"icc\0\0" + zeros_deflated(GIGABYTE)), TINY_IMAGE),
}
TINY_IMAGE = chunk(b"IDAT", zlib.compress(bytes(64 * 65)))
READ_IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from pneumo.errors import PneumoError
from pneumo.radiograph import read_radiograph

size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, size + 2**28))
for file in sys.argv[1:]:
    try:
        print(read_radiograph(file).pixels.shape)
    except PneumoError as error:
        print(type(error).__name__)
"""


def test_zeros_deflated():
    assert zlib.decompress(zeros_deflated(2**23)) == bytes(2**23)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
def test_bombs_take_little_memory(tmp_path):
    for name, make in BOMBS.items():
        (tmp_path / name).write_bytes(make())
    finished = subprocess.run(
        [sys.executable, "-c", READ_IN_LITTLE_MEMORY, *(str(tmp_path / name) for name in BOMBS)],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )
    assert finished.stderr == ""
    answers = dict(zip(BOMBS, finished.stdout.splitlines(), strict=True))
    assert answers["image"] == "RadiographSizeError"
    assert answers["image data"] in ("UnreadableRadiograph", "(64, 64)")
    assert answers["text"] == answers["colour profile"] == "UnreadableRadiograph"


# The size of a file


def test_largest_file(gray):
    data = jpeg(gray)
    data += bytes(MAX_BYTES - len(data))
    assert read_radiograph(data).width == WIDTH
    with pytest.raises(RadiographSizeError, match=r"at most 64 MiB; scan\.jpg has 65 MiB\. Export"):
        read_radiograph(data + b"\0", "scan.jpg")


def test_file_too_large_is_not_read(tmp_path):
    path = tmp_path / "scan.jpg"
    with path.open("wb") as file:
        # Longer than the memory of any machine; there are holes in place of the content.
        file.truncate(2**43)
    with pytest.raises(RadiographSizeError, match=r"at most 64 MiB; scan\.jpg has 8388608 MiB"):
        read_radiograph(path)


# What is refused


def zip_archive(gray) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("scan.jpg", jpeg(gray))
    return stream.getvalue()


def colour(gray) -> Image.Image:
    return Image.fromarray(gray).convert("RGB")


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="100" height="100"><rect width="9" height="9"/></svg>'
# What is refused: how it is made, and how the message calls it.
ILL = {
    "nothing": (lambda gray: b"", "is empty (0 bytes)"),
    "text": (lambda gray: "Röntgen: no finding\r\n".encode(), "is a text file"),
    "long text": (lambda gray: "é".encode() * 3000, "is a text file"),
    "HTML": (lambda gray: b"<!doctype html><title>Not found</title>", "is a text file"),
    "SVG": (lambda gray: SVG, "is an SVG drawing"),
    "SVG with a prologue": (lambda gray: b'\xef\xbb\xbf<?xml version="1.0"?>\n' + SVG * 100, "is an SVG drawing"),
    "GIF": (lambda gray: encode(gray, "GIF"), "is a GIF"),
    "GIF animated": (
        lambda gray: encode(gray, "GIF", save_all=True, append_images=[Image.fromarray(gray).rotate(90)]),
        "is a GIF",
    ),
    "APNG": (apng, "is an animation of 3 frames"),
    "WebP": (lambda gray: encode(colour(gray), "WEBP"), "is a WebP"),
    "TIFF": (lambda gray: encode(gray, "TIFF"), "is a TIFF"),
    "TIFF big-endian": (lambda gray: b"MM\0*" + encode(gray, "TIFF")[4:], "is a TIFF"),
    "BMP": (lambda gray: encode(gray, "BMP"), "is a BMP"),
    "PDF": (lambda gray: encode(colour(gray), "PDF"), "is a PDF"),
    "icon": (lambda gray: encode(colour(gray), "ICO"), "is an icon"),
    "JPEG 2000": (lambda gray: encode(gray, "JPEG2000"), "is a JPEG 2000"),
    "AVIF": (lambda gray: encode(colour(gray), "AVIF"), "is a HEIC, AVIF or video file"),
    "ZIP": (zip_archive, "is a ZIP archive"),
    "random bytes": (lambda gray: random.Random(0).randbytes(5000), "is of another kind, or damaged at its start"),
    "zeros": (lambda gray: bytes(5000), "is of another kind, or damaged at its start"),
    "PNG without its first byte": (lambda gray: png(gray)[1:], "is of another kind, or damaged at its start"),
    "PNG sent as text": (lambda gray: png(gray).replace(b"\r\n", b"\n"), "is of another kind, or damaged at its start"),
    "JPEG signature alone": (lambda gray: jpeg(gray)[:3], "is truncated or damaged"),
    "PNG signature alone": (lambda gray: png(gray)[:8], "is truncated or damaged"),
    "JPEG truncated": (lambda gray: jpeg(gray)[:-200], "is truncated or damaged"),
    "JPEG progressive truncated": (lambda gray: jpeg(gray, progressive=True)[:-200], "is truncated or damaged"),
    "PNG truncated": (lambda gray: png(gray)[:-200], "is truncated or damaged"),
    "PNG without image": (lambda gray: raw_png(WIDTH, HEIGHT, 8, 0), "is truncated or damaged"),
    "PNG with too few rows": (
        lambda gray: png_of_rows(WIDTH, HEIGHT, 8, 0, gray).replace(
            struct.pack(">II", WIDTH, HEIGHT), struct.pack(">II", WIDTH, HEIGHT + 1)
        ),
        "is truncated or damaged",
    ),
    "PNG header with a wrong checksum": (lambda gray: without_crc(png(gray), b"IHDR"), "is truncated or damaged"),
    "PNG image with a wrong checksum": (lambda gray: without_crc(png(gray), b"IDAT"), "is truncated or damaged"),
    "PNG of a colour type that does not exist": (
        lambda gray: raw_png(WIDTH, HEIGHT, 8, 5, png(gray)[33:-12]),
        "is truncated or damaged",
    ),
    "JPEG of frames that do not exist": (
        lambda gray: jpeg(gray).replace(b"\xff\xc0\x00\x0b\x08", b"\xff\xc0\x00\x0b\x0c"),
        "is truncated or damaged",
    ),
}


@pytest.mark.parametrize(("make", "came"), ILL.values(), ids=ILL)
def test_refused(gray, tmp_path, make, came):
    data = make(gray)
    path = tmp_path / "scan 1.png"
    path.write_bytes(data)
    messages = set()
    for source, name in ((data, path.name), (path, None), (str(path), None)):
        with pytest.raises(UnreadableRadiograph) as caught:
            read_radiograph(source, name)
        messages.add(str(caught.value))
    (message,) = messages
    rule, rest = message.split("; ")
    assert rule.startswith("A radiograph must ")
    assert rest.startswith(f"scan 1.png {came}. ")
    assert rest.split(". ")[-1].split()[0] in ("Export", "Copy")


def test_upload_without_a_name():
    with pytest.raises(UnreadableRadiograph, match=r"; upload is a text file\."):
        read_radiograph(b"hello")


PLACES = {
    "missing": ("missing.png", "No such file or directory. Check the path."),
    "folder": (".", "is a folder. Name a file in it."),
    "below a file": ("file/scan.png", "Not a directory. Check the path."),
    "name too long": ("x" * 300, "File name too long. Check the path."),
}


@pytest.mark.parametrize(("place", "words"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("name", [None, "the first"])
def test_refused_path(tmp_path, place, words, name):
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / place
    with pytest.raises(UnreadableRadiograph) as caught:
        read_radiograph(path, name)
    message = str(caught.value)
    assert message.startswith("A radiograph must be a ")
    assert (name or path.name) in message
    assert message.endswith(words)


def test_name_of_a_path(images):
    path = images / "test" / "NORMAL" / "IM-0005-0001.jpeg"
    assert read_radiograph(path).name == read_radiograph(str(path)).name == "IM-0005-0001.jpeg"
    assert read_radiograph(path, "the first").name == "the first"


@pytest.mark.parametrize(
    "make",
    [jpeg, lambda gray: jpeg(gray, "RGB", progressive=True), png, apng],
    ids=["JPEG", "progressive JPEG", "PNG", "APNG"],
)
def test_every_cut(gray, make):
    data = make(gray)
    try:
        whole = read_radiograph(data).pixels
    except UnreadableRadiograph:
        whole = None  # the animation is never accepted
    for end in range(len(data)):
        try:
            cut = read_radiograph(data[:end]).pixels
        except UnreadableRadiograph:
            continue
        assert np.array_equal(cut, whole), f"cut at {end} of {len(data)} bytes"


def test_damage_of_the_last_lines_of_a_png(gray):
    data = png(gray)
    # Behind them is the last chunk, of 12 bytes. Pillow alone reads some of these as other pixels.
    for place in range(len(data) - 312, len(data) - 12):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        with pytest.raises(UnreadableRadiograph):
            read_radiograph(bytes(damaged))


def test_jpeg_with_garbage_inside(gray):
    data = jpeg(gray)
    answers = set()
    for seed in range(50):
        generator = random.Random(seed)
        place = generator.randrange(data.index(b"\xff\xda"), len(data) - 64)
        damaged = data[:place] + generator.randbytes(64) + data[place + 64 :]
        try:
            answers.add(read_radiograph(damaged).pixels.shape)
        except UnreadableRadiograph:
            answers.add("refused")
    assert answers == {(HEIGHT, WIDTH), "refused"}


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Overwrite, drop or insert bytes, at the start more often than elsewhere."""
    mutated = bytearray(data)
    for _ in range(generator.choice([1, 1, 2, 8])):
        place = generator.randrange(len(mutated) if generator.random() < 0.6 else 400)
        match generator.randrange(3):
            case 0:
                mutated[place] = generator.randrange(256)
            case 1:
                del mutated[place : place + generator.randrange(1, 20)]
            case 2:
                mutated[place:place] = generator.randbytes(generator.randrange(1, 20))
    return bytes(mutated)


MUTATED = {
    "JPEG with EXIF": lambda gray: jpeg(gray, exif=exif(6)),
    "JPEG colour": lambda gray: jpeg(gray, "RGB", progressive=True, exif=exif(6)),
    "JPEG CMYK": lambda gray: jpeg(gray, "CMYK"),
    "JPEG with a second image": mpo,
    "PNG with EXIF": lambda gray: png(gray, exif=exif(6)),
    "PNG palette": lambda gray: png(gray, "P", transparency=3),
    "PNG RGBA": lambda gray: with_alpha(gray, "RGB"),
    "PNG of 16 bits": lambda gray: encode(sixteen(gray), "PNG"),
    "APNG": apng,
}


@pytest.mark.parametrize("make", MUTATED.values(), ids=MUTATED)
def test_mutations(gray, make):
    data = make(gray)
    generator = random.Random(7)
    whole = None if make is apng else read_radiograph(data).pixels
    for _ in range(40):
        mutated = mutate(data, generator)
        try:
            radiograph = read_radiograph(mutated)
        except PneumoError:
            continue
        assert radiograph.pixels.dtype == np.uint8
        assert radiograph.pixels.ndim == 2
        if radiograph.format == "PNG":
            # Its checksums show any damage.
            assert np.array_equal(radiograph.pixels, whole)


# Arrays


def test_array_of_8_bits(gray):
    source = gray.copy()
    radiograph = read_radiograph(source, "from NumPy")
    source[:] = 0
    assert np.array_equal(radiograph.pixels, gray)
    assert (radiograph.name, radiograph.format, radiograph.notes) == ("from NumPy", "array", ())
    assert radiograph.sha256 == hashlib.sha256(gray.tobytes()).hexdigest()


def test_array_that_is_not_contiguous(gray):
    flipped = read_radiograph(gray[:, ::-1])
    assert np.array_equal(flipped.pixels, gray[:, ::-1])
    assert flipped.sha256 == read_radiograph(gray[:, ::-1].copy()).sha256


@pytest.mark.parametrize(
    ("make", "notes"),
    [(sixteen, ()), (lambda gray: gray.astype(np.uint16) * 16 + 15, (TWELVE_BIT_NOTE,))],
    ids=["16 bits", "12 bits"],
)
def test_array_of_16_bits(gray, make, notes):
    radiograph = read_radiograph(make(gray))
    assert np.array_equal(radiograph.pixels, gray)
    assert radiograph.notes == notes


ILL_ARRAYS = {
    "float32": np.zeros((80, 96), np.float32),
    "float64": np.zeros((80, 96)),
    "int16": np.zeros((80, 96), np.int16),
    "int64": np.zeros((80, 96), np.int64),
    "bool": np.zeros((80, 96), bool),
    "object": np.zeros((80, 96), object),
    "text": np.zeros((80, 96), "U1"),
    "colour": np.zeros((80, 96, 3), np.uint8),
    "one channel": np.zeros((80, 96, 1), np.uint8),
    "batch": np.zeros((1, 80, 96), np.uint8),
    "row": np.zeros(96, np.uint8),
    "scalar": np.array(1, np.uint8),
}


@pytest.mark.parametrize("values", ILL_ARRAYS.values(), ids=ILL_ARRAYS)
def test_refused_array(values):
    with pytest.raises(UnreadableRadiograph) as caught:
        read_radiograph(values)
    message = str(caught.value)
    assert message.startswith("An array must have the shape (height, width) and the type uint8 or uint16; ")
    assert f"received {values.shape} of {values.dtype}. " in message
    assert message.endswith("Convert it to gray values first.")


@pytest.mark.parametrize("shape", [(0, 0), (0, 96), (80, 0)])
def test_empty_array(shape):
    with pytest.raises(RadiographSizeError, match=f"array is {shape[1]} x {shape[0]}"):
        read_radiograph(np.zeros(shape, np.uint8))


# What costs more than its bytes


def behind_header(data: bytes, parts: bytes) -> bytes:
    """A PNG with chunks before its first one of the image, or a JPEG with segments after its start."""
    place = 33 if data.startswith(b"\x89PNG") else 2
    return data[:place] + parts + data[place:]


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(content)) + content


HEADS = b"Exif\0\0" * 10_000
COSTLY = {
    "JPEG of a million segments": (lambda gray: behind_header(jpeg(gray), segment(0xFE, b"") * 1_000_000), False),
    "JPEG of much EXIF": (lambda gray: behind_header(jpeg(gray), segment(0xE1, HEADS) * 100), False),
    "JPEG of many EXIF": (lambda gray: behind_header(jpeg(gray), segment(0xE1, HEADS[:12]) * 90_000), False),
    "JPEG of two frames": (
        lambda gray: behind_header(jpeg(gray), segment(0xC0, struct.pack(">BHHBBBB", 8, 80, 4000, 1, 1, 17, 0))),
        False,
    ),
    "PNG of a million chunks": (lambda gray: behind_header(png(gray), chunk(b"abCd", b"") * 1_000_000), False),
    "PNG of much EXIF": (lambda gray: behind_header(png(gray), chunk(b"eXIf", HEADS * 50)), True),
    "PNG of much EXIF as text": (
        lambda gray: behind_header(
            png(gray),
            chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\n\n\n" + (HEADS * 8).hex().encode())),
        ),
        True,
    ),
}


@pytest.mark.parametrize(("make", "is_read"), COSTLY.values(), ids=COSTLY)
def test_costly(gray, make, is_read):
    data = make(gray)
    started = time.process_time()
    if is_read:
        assert np.array_equal(read_radiograph(data).pixels, gray)
    else:
        with pytest.raises(UnreadableRadiograph, match="is truncated or damaged"):
            read_radiograph(data)
    assert time.process_time() - started < 2
