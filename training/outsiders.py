"""What is no chest radiograph: pictures that installed packages carry, and pictures made by program."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pneumo.framing import to_raster
from training.augment import compress
from training.errors import TrainingError

FIT, HELD_OUT = "fit", "held out"
"""What a source is used for, never both."""
UNSEEN = ("chart", "leg", "ultrasound", "gradient")
"""Kinds of which nothing is fitted."""
_PHOTOS = {
    "skimage/data": "astronaut.png brick.png camera.png chelsea.png clock_motion.png coffee.png coins.png grass.png "
    "gravel.png hubble_deep_field.jpg moon.png motorcycle_left.png rocket.jpg",
    "sklearn/datasets/images": "china.jpg flower.jpg",
    "gradio/media_assets/images": "cheetah.jpg cheetah1.jpg groot.jpeg lion.jpg tower.jpg",
    "matplotlib/mpl-data/sample_data": "grace_hopper.jpg",
}
_DRAWINGS = {
    "skimage/data": "color.png horse.png logo.png phantom.png",
    "gradio/media_assets/images": "hf-logo_transpng.png",
    "matplotlib/mpl-data/sample_data": "logo2.png Minduka_Present_Blue_Pack.png",
}
_MICROGRAPHS = {"skimage/data": "cell.png ihc.png microaneurysms.png retina.jpg"}
_PAGES = {"skimage/data": "page.png text.png"}
# Without those that are other codings of the same picture.
_SCANS = {
    "leg": "RG3_UNCR.dcm",
    "CT": "693_UNCR.dcm CT_small.dcm eCT_Supplemental.dcm explicit_VR-UN.dcm",
    "MR": "MR2_UNCR.dcm MR_small.dcm MR-SIEMENS-DICOM-WithOverlays.dcm emri_small.dcm",
    "ultrasound": "US1_UNCR.dcm examples_rgb_color.dcm color-px.dcm ExplVR_BigEnd.dcm",
}
_SIDE = 320
_MADE = 60
_WORDS = [
    "the",
    "patient",
    "was",
    "seen",
    "lungs",
    "clear",
    "heart",
    "size",
    "normal",
    "report",
    "date",
    "account",
    "open",
    "file",
    "edit",
    "view",
    "help",
    "total",
]


@dataclass(frozen=True, slots=True)
class Outsider:
    """One picture that is no chest radiograph.

    Attributes
    ----------
    kind, source : str
        What it shows, and the file or the seed that it was made of.
    use : str
        `FIT` or `HELD_OUT`, the same for all pictures of a source.
    raster : numpy.ndarray of uint8, shape (224, 224)
    """

    kind: str
    source: str
    use: str
    raster: np.ndarray = field(repr=False)


def outsiders(variants: int = 16, made: int = _MADE) -> Iterator[Outsider]:
    """All of them, always the same.

    Parameters
    ----------
    variants : int
        Crops, turns and exposures of each picture that a package carries.
    made : int
        Pictures of each kind that is made by program.

    Raises
    ------
    TrainingError
        If a package that carries some is not installed.
    """
    for kind, files in (("photo", _PHOTOS), ("drawing", _DRAWINGS), ("micrograph", _MICROGRAPHS), ("page", _PAGES)):
        for number, path in enumerate(_packaged(files)):
            pixels = np.array(Image.open(path).convert("RGB").convert("L"))
            yield from _varied(kind, path.name, _use(kind, number), pixels, variants)
    for kind, names in _SCANS.items():
        for number, name in enumerate(names.split()):
            for place, pixels in enumerate(_slices(name)):
                yield from _varied(kind, f"{name}/{place}", _use(kind, number), pixels, variants)
    faces = np.load(next(_packaged({"skimage/data": "lfw_subset.npy"})))
    for number, face in enumerate(faces[: 2 * made]):
        enlarged = cv2.resize(_stretched(face), (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
        yield from _varied("face", f"face {number}", _use("face", number), enlarged, 2)
    for kind, make in MADE.items():
        for number in range(made):
            pixels = make(np.random.default_rng([zlib.crc32(kind.encode()), number]))
            yield Outsider(kind, f"{kind} {number}", _use(kind, number), to_raster(pixels))


def _use(kind: str, number: int) -> str:
    return HELD_OUT if kind in UNSEEN or number % 2 else FIT


def _packaged(files: dict[str, str]) -> Iterator[Path]:
    for place, names in files.items():
        package, _, folder = place.partition("/")
        found = find_spec(package)
        if found is None or found.origin is None:
            raise TrainingError(f"The gate needs pictures of the package {package}; it is not installed. make develop")
        for name in names.split():
            yield Path(found.origin).parent / folder / name


def _slices(name: str) -> list[np.ndarray]:
    """Frames of one of pydicom's files, as a viewer would show them."""
    import pydicom
    from pydicom.data import get_testdata_file

    path = get_testdata_file(name, download=False)
    if not path:
        raise TrainingError(f"The gate needs {name} of the package pydicom-data; it is not installed. make develop")
    dataset = pydicom.dcmread(str(path))
    values = dataset.pixel_array.astype(np.float32)
    if dataset.SamplesPerPixel > 1:
        values = values.mean(axis=-1)
    frames = values if values.ndim == 3 else values[np.newaxis]
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        frames = -frames
    return [_stretched(frame) for frame in frames[:: max(1, len(frames) // 4)]]


def _stretched(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, [1, 99.5])
    return np.clip((values - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)


def _varied(kind: str, source: str, use: str, pixels: np.ndarray, variants: int) -> Iterator[Outsider]:
    """The whole picture, then crops of it, turned, mirrored, at other exposures and aspect ratios."""
    yield Outsider(kind, source, use, to_raster(pixels))
    rng = np.random.default_rng(zlib.crc32(source.encode()))
    for _ in range(variants - 1):
        height, width = (max(48, round(side * rng.uniform(0.4, 1))) for side in pixels.shape)
        top, left = (
            int(rng.integers(0, max(1, side - part))) for side, part in zip(pixels.shape, (height, width), strict=True)
        )
        part = np.rot90(pixels[top : top + height, left : left + width], int(rng.choice([0, 0, 0, 1, 2, 3])))
        part = to_raster(np.ascontiguousarray(part[:, :: int(rng.choice([-1, 1]))]))
        part = (255 * (part / 255) ** rng.choice([1, rng.uniform(0.5, 2)])).astype(np.uint8)
        if rng.random() < 0.2:
            part = 255 - part
        if rng.random() < 0.3:
            part = compress(part, 40)
        yield Outsider(kind, source, use, part)


def _text(rng: np.random.Generator) -> np.ndarray:
    """A page or a screen of text."""
    dark = rng.random() < 0.3
    paper, ink = (int(rng.integers(0, 60)), 230) if dark else (int(rng.integers(200, 256)), int(rng.integers(0, 90)))
    image = Image.new("L", (_SIDE, int(_SIDE * rng.uniform(0.6, 1.4))), paper)
    draw = ImageDraw.Draw(image)
    size = int(rng.integers(7, 26))
    font = ImageFont.load_default(size)
    if rng.random() < 0.5:
        draw.rectangle((0, 0, image.width, 2 * size), fill=int(rng.integers(0, 256)))
    top, left = size, int(rng.integers(4, 60))
    while top < image.height * rng.uniform(0.5, 1.2):
        words = " ".join(rng.choice(_WORDS, int(rng.integers(1, 14))))
        draw.text((left, top), words, fill=ink, font=font)
        top += int(size * rng.uniform(1.2, 2.5))
    return np.array(image)


def _screen(rng: np.random.Generator) -> np.ndarray:
    """Windows, bars, buttons and words of a program."""
    image = Image.new("L", (_SIDE, int(_SIDE * rng.uniform(0.55, 0.8))), int(rng.integers(0, 256)))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 14))):
        left, top = int(rng.integers(0, image.width - 20)), int(rng.integers(0, image.height - 20))
        box = (left, top, left + int(rng.integers(20, 200)), top + int(rng.integers(10, 120)))
        draw.rectangle(box, fill=int(rng.integers(0, 256)), outline=int(rng.integers(0, 256)))
        words = " ".join(rng.choice(_WORDS, int(rng.integers(1, 5))))
        draw.text((left + 4, top + 4), words, fill=int(rng.integers(0, 256)), font=ImageFont.load_default(10))
    return np.array(image)


def _shapes(rng: np.random.Generator) -> np.ndarray:
    """A drawing of ellipses, polygons and lines."""
    image = np.full((_SIDE, _SIDE), int(rng.choice(np.array([255, 0, rng.integers(0, 256)]))), np.uint8)
    for _ in range(int(rng.integers(1, 12))):
        points = rng.integers(0, _SIDE, (int(rng.integers(3, 7)), 2)).astype(np.int32)
        gray, thickness = int(rng.integers(0, 256)), int(rng.choice([-1, 1, 2, 5]))
        match int(rng.integers(0, 3)):
            case 0:
                axes = (int(rng.integers(5, 150)), int(rng.integers(5, 150)))
                centre = (int(points[0, 0]), int(points[0, 1]))
                cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, gray, thickness)
            case 1:
                cv2.polylines(image, [points], True, gray, abs(thickness), cv2.LINE_AA)
            case _:
                cv2.fillPoly(image, [points], gray)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.1, 6)) if rng.random() < 0.4 else image


def _sketch(rng: np.random.Generator) -> np.ndarray:
    """A sketch of a chest: an outline, two lungs, ribs; what a child or a textbook would draw."""
    paper, ink = (255, 0) if rng.random() < 0.5 else (0, 255)
    image = np.full((_SIDE, _SIDE), paper, np.uint8)
    line = int(rng.integers(1, 5))
    for side in (-1, 1):
        centre = (int(_SIDE * (0.5 + side * rng.uniform(0.16, 0.22))), int(_SIDE * rng.uniform(0.45, 0.55)))
        axes = (int(_SIDE * rng.uniform(0.09, 0.15)), int(_SIDE * rng.uniform(0.2, 0.32)))
        cv2.ellipse(image, centre, axes, side * rng.uniform(0, 12), 0, 360, ink, line, cv2.LINE_AA)
        for rib in range(int(rng.integers(0, 7))):
            place = (centre[0], int(_SIDE * (0.25 + 0.08 * rib)))
            cv2.ellipse(image, place, (axes[0], axes[0] // 3), 0, 180, 360, ink, 1, cv2.LINE_AA)
    cv2.rectangle(image, (int(_SIDE * 0.12), int(_SIDE * 0.1)), (int(_SIDE * 0.88), int(_SIDE * 0.95)), ink, line)
    return image


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Noise, from grains to clouds."""
    size = int(rng.choice([_SIDE, 100, 40, 12, 6, 4]))
    grain = rng.normal(0, 1, (size, size)) if rng.random() < 0.5 else rng.random((size, size))
    return _stretched(cv2.resize(grain, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC))


def _stripes(rng: np.random.Generator) -> np.ndarray:
    """Stripes, checks and rings."""
    y, x = np.mgrid[:_SIDE, :_SIDE] / _SIDE
    turn = rng.uniform(0, np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    waves = rng.uniform(1, 30)
    match int(rng.integers(0, 3)):
        case 0:
            values = np.sin(2 * np.pi * waves * along)
        case 1:
            values = np.sign(np.sin(2 * np.pi * waves * along) * np.sin(2 * np.pi * waves * across))
        case _:
            values = np.sin(2 * np.pi * waves * np.hypot(x - rng.random(), y - rng.random()))
    return _stretched(values)


def _blank(rng: np.random.Generator) -> np.ndarray:
    """One gray, with hardly any grain."""
    gray = rng.choice([0.0, 255.0, rng.uniform(0, 255)])
    grain = rng.normal(0, rng.choice([0.0, 0.6, 2.0, 5.0]), (_SIDE, _SIDE))
    return np.clip(gray + grain, 0, 255).astype(np.uint8)


def _gradient(rng: np.random.Generator) -> np.ndarray:
    """From dark to bright, along a line or from a point."""
    y, x = np.mgrid[:_SIDE, :_SIDE] / _SIDE
    turn = rng.uniform(0, 2 * np.pi)
    values = x * np.cos(turn) + y * np.sin(turn)
    if rng.random() < 0.5:
        values = np.hypot(x - rng.random(), y - rng.random()) * rng.choice([-1, 1])
    return _stretched(values ** int(rng.choice([1, 3])))


def _chart(rng: np.random.Generator) -> np.ndarray:
    """A chart as matplotlib draws it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, float(rng.uniform(2.5, 4))), dpi=80)
    axes = figure.add_subplot()
    values = rng.normal(0, 1, (3, 30)).cumsum(axis=1)
    match int(rng.integers(0, 5)):
        case 0:
            axes.plot(values.T)
        case 1:
            axes.bar(range(8), np.abs(values[0, :8]))
        case 2:
            axes.scatter(values[0], values[1])
        case 3:
            axes.imshow(rng.random((8, 8)))
        case _:
            axes.pie(np.abs(values[0, :5]) + 0.1)
    axes.set_title(" ".join(rng.choice(_WORDS, 3)))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return cv2.cvtColor(np.asarray(canvas.buffer_rgba()), cv2.COLOR_RGBA2GRAY)


def _collage(rng: np.random.Generator) -> np.ndarray:
    """Two to six of the others side by side, as on a sheet."""
    makers = [_text, _shapes, _noise, _stripes, _screen]
    rows, columns = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    parts = [cv2.resize(makers[int(rng.integers(len(makers)))](rng), (160, 160)) for _ in range(rows * columns)]
    return np.vstack([np.hstack(parts[row * columns : (row + 1) * columns]) for row in range(rows)])


MADE: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "text": _text,
    "screen": _screen,
    "shapes": _shapes,
    "sketch of a chest": _sketch,
    "noise": _noise,
    "stripes": _stripes,
    "blank": _blank,
    "gradient": _gradient,
    "chart": _chart,
    "collage": _collage,
}
"""Kinds that are made by program: each takes a random generator and returns gray values."""
