"""The gate: refuses what is no frontal chest radiograph, and says what is odd about one. Needs no TensorFlow."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pneumo.framing import Prepared
from pneumo.lungs import Lungs
from pneumo.radiograph import TURNS

if TYPE_CHECKING:
    from pneumo.graph import Answers

POSES = {
    **{f"turned {turn}{' inverted' * invert}": (turn, bool(invert)) for invert in (0, 1) for turn in TURNS},
    "mirrored": (0, False),
    "cropped": (0, False),
}
"""How a radiograph can be shown, each with the turn that rights it, clockwise in degrees, and whether to invert it."""
UPRIGHT = "turned 0"
"""The pose of the training images."""
OTHER = "other"
"""Beside `POSES`: no chest radiograph."""
ODDITIES = {
    "turned": "",
    "inverted": "",
    "mirrored": "It seems to be mirrored: the heart lies on the patient's right. If it was not made so, right and left "
    "are exchanged in what is said of the lungs.",
    "cropped": "A lung seems to be cut off at the edge of the picture: what lies beyond was not seen.",
    "dark": "It is darker than nearly all training images, as if underexposed: what is black shows nothing.",
    "bright": "It is brighter than nearly all training images, as if overexposed: what is white shows nothing.",
    "unlike": "It is unlike nearly all training images: what the networks' answers are worth on such a radiograph is "
    "not known.",
}
"""What may be odd about a radiograph, in words; those of a turn and of an inversion name the correction."""
FACTS = ("black", "white", "entropy", "found", "lungs", "gray")
"""What `facts` measures, in order."""
LIMITS = ("far", "other", "unlike", "mirrored", "cropped", "dark", "bright")
"""Thresholds of a gate, in order: of the distance, of how likely another thing is, ..."""
_JUDGED = FACTS.index("gray")
# Keeps the logarithm of an image without any difference finite.
_LEAST = 1e-9
# Of `outlines`: fields on a side, directions, and the side of the raster in pixels that is looked at.
_FIELDS, _DIRECTIONS, _SIDE = 8, 8, 56
_ROWS = np.arange(_SIDE) * _FIELDS // _SIDE
_FIELD = (_ROWS[:, np.newaxis] * _FIELDS + _ROWS).ravel()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gate says of one radiograph.

    Attributes
    ----------
    other : float
        How likely it is no chest radiograph, 0 to 1, by the images that the gate was fitted on.
    refused : bool
        Whether that is more than is accepted.
    oddities : tuple of str
        Keys of `ODDITIES`; none if it is refused.
    turn : int
        One of `TURNS`: by how many degrees, clockwise, it is to be turned to stand upright.
    invert : bool
        Whether black and white are to be exchanged.
    """

    other: float
    refused: bool
    oddities: tuple[str, ...] = ()
    turn: int = 0
    invert: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know of it before believing an answer, one sentence or two each."""
        return tuple(self._words(oddity) for oddity in self.oddities)

    @property
    def correction(self) -> str:
        """What would right it, such as "Turn it by 90° and invert it"; "" if nothing is to be."""
        parts = [f"turn it by {self.turn}°"] * bool(self.turn) + ["invert it"] * self.invert
        return " and ".join(parts).capitalize()

    def _words(self, oddity: str) -> str:
        rest = "The networks saw no such radiographs: do not rely on this answer, but correct it"
        if oddity == "turned":
            return f"It does not seem to stand upright. {rest} (turn {self.turn}, degrees clockwise)."
        if oddity == "inverted":
            return f"Black and white seem to be exchanged. {rest} (invert)."
        return ODDITIES[oddity]


def refusal_words(name: str, other: float) -> str:
    """Why a file is refused: the rule, what came, and what to do."""
    return (
        f"A radiograph must be a frontal one of the chest; {name} does not look like one: it is more like photos, "
        f"pages, drawings or scans of other kinds (score {other:.2f} of 1). Choose a chest radiograph."
    )


def facts(raster: np.ndarray, lungs: Lungs) -> np.ndarray:
    """Plain facts of a radiograph.

    Parameters
    ----------
    raster : numpy.ndarray of uint8, shape (224, 224)
    lungs : Lungs

    Returns
    -------
    numpy.ndarray of float64, shape (6,)
        Shares of black (below 8) and of white (above 247) and entropy in bits, of the gray values; whether lungs were
        found; their share of the area; and the median gray value of the box of the lungs, or of all where there are
        none, 0 to 1.
    """
    counts = np.bincount(raster.ravel(), minlength=256) / raster.size
    filled = counts[counts > 0]
    box = raster[lungs.box.clipped(raster.shape[1], raster.shape[0])] if lungs.found else raster
    return np.array(
        [
            counts[:8].sum(),
            counts[248:].sum(),
            -(filled * np.log2(filled)).sum(),
            lungs.found,
            lungs.share,
            np.searchsorted(np.cumsum(np.bincount(box.ravel(), minlength=256)), (box.size + 1) // 2) / 255,
        ]
    )


def outlines(raster: np.ndarray) -> np.ndarray:
    """Where edges run in a radiograph, and which way: histograms of oriented gradients (Dalal and Triggs, CVPR 2005).

    Each field is scaled by the strength of the edges in and around it, so that exposure matters little.

    Parameters
    ----------
    raster : numpy.ndarray of uint8, shape (224, 224)

    Returns
    -------
    numpy.ndarray of float32, shape (512,)
        8 x 8 fields of 8 directions each.
    """
    small = cv2.resize(raster.astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    down, across = np.gradient(small)
    strength = np.hypot(down, across).ravel()
    direction = np.arctan2(down, across).ravel() * (_DIRECTIONS / (2 * np.pi)) % _DIRECTIONS
    lower = direction.astype(np.intp)
    share = direction - lower
    histogram = np.zeros(_FIELDS * _FIELDS * _DIRECTIONS)
    for bin_, weight in ((lower, 1 - share), (lower + 1, share)):
        histogram += np.bincount(_FIELD * _DIRECTIONS + bin_ % _DIRECTIONS, strength * weight, len(histogram))
    fields = np.sqrt(histogram).reshape(_FIELDS, _FIELDS, _DIRECTIONS)
    energy = np.pad(np.sum(fields**2, axis=2), 1, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(energy, (3, 3)).mean(axis=(2, 3))
    return (fields / np.sqrt(around + 1e-3 * around.mean() + _LEAST)[..., np.newaxis]).astype(np.float32).ravel()


def mirror_outlines(values: np.ndarray) -> np.ndarray:
    """`outlines` of the mirror images, shape (..., 512), without looking at them."""
    fields = values.reshape(*values.shape[:-1], _FIELDS, _FIELDS, _DIRECTIONS)[..., ::-1, :]
    return fields[..., (_DIRECTIONS // 2 - np.arange(_DIRECTIONS)) % _DIRECTIONS].reshape(values.shape)


def leanings(parts: Mapping[str, np.ndarray], values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much radiographs look mirrored, and how much cut off at a side, by `outlines` of shape (..., 512).

    Parameters
    ----------
    parts : mapping of str to numpy.ndarray
        Of a gate: weights of mirrored against not; and of whole, then of cut off at each side, with their offsets.
    values : numpy.ndarray

    Returns
    -------
    mirrored, cropped : numpy.ndarray, shape (...)
        0 where as likely as not; of the mirror image the first is the negative.
    """
    sides = values @ parts["sides"] + parts["sides_bias"]
    return (values - mirror_outlines(values)) @ parts["mirrored"], sides[..., 1:].max(axis=-1) - sides[..., 0]


@dataclass(frozen=True, slots=True)
class Look:
    """What the gate needs to know of one picture.

    Attributes
    ----------
    sight : numpy.ndarray of float32, shape (d,)
        As `pneumo.lungs.Segmenter.look` gives it.
    features : dict of str to numpy.ndarray of float32, shape (d,)
        What the last layer of each network takes: see `pneumo.graph.Answers`.
    plain : numpy.ndarray of float64, shape (6,)
        As `facts` gives them.
    outlines : numpy.ndarray of float32, shape (512,)
        As `outlines` gives them.
    """

    sight: np.ndarray
    features: dict[str, np.ndarray]
    plain: np.ndarray
    outlines: np.ndarray


def look_at(prepared: Prepared, answers: Answers) -> Look:
    """A look at a radiograph that a bundle with a segmenter has prepared, with its networks' answers to it alone."""
    if prepared.sight is None or prepared.lungs is None:
        raise ValueError("The gate needs a bundle that finds lungs.")
    features = {name: values[0] for name, values in answers.features.items()}
    return Look(prepared.sight, features, facts(prepared.raster, prepared.lungs), outlines(prepared.raster))


def traits(parts: Mapping[str, np.ndarray], look: Look) -> np.ndarray:
    """What a radiograph is judged by.

    Parameters
    ----------
    parts : mapping of str to numpy.ndarray
        Of a gate: principal components of the training images, for the segmenter ("sight") and each network.
    look : Look

    Returns
    -------
    numpy.ndarray of float64, shape (n,)
        How far from the training images it is: altogether; for the networks, on the mean, inside the space of the
        components (Mahalanobis distance) and beside it; for the segmenter likewise. Then facts, then components.
        Distances are logarithms, 0 on the mean over training images, and 1 a standard deviation more.
    """
    seen, *away = distances(parts, "sight", look.sight)
    networks = np.mean([distances(parts, name, values)[1:] for name, values in look.features.items()], axis=0)
    distance = (networks.mean() + np.mean(away)) / 2
    return np.concatenate([[distance], networks, away, look.plain[:_JUDGED], seen])


def distances(parts: Mapping[str, np.ndarray], name: str, values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The components of some values, each of variance 1 over training images, and the distances inside and beside."""
    apart = values - parts[f"{name}_mean"]
    seen = apart @ parts[f"{name}_basis"]
    along = seen * parts[f"{name}_scale"]
    inside = np.log(np.mean(seen**2) + _LEAST)
    beside = np.log(max(float(apart @ apart - along @ along), 0) + _LEAST)
    (usual_inside, spread_inside), (usual_beside, spread_beside) = parts[f"{name}_usual"]
    return seen, (inside - usual_inside) / spread_inside, (beside - usual_beside) / spread_beside


def probabilities(parts: Mapping[str, np.ndarray], values: np.ndarray) -> np.ndarray:
    """How likely each of `POSES`, and last another thing, is by `traits`, float64, shape (11,)."""
    scores = (values - parts["centre"]) / parts["spread"] @ parts["weights"] + parts["bias"]
    chances = np.exp(scores - scores.max())
    return chances / chances.sum()


class Gate:
    """What `python -m training gate` fitted.

    Parameters
    ----------
    content : bytes
        Of gate.npz.

    Raises
    ------
    ValueError
        If it is no such file, or lacks a part.
    """

    def __init__(self, content: bytes) -> None:
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                self._parts = {name: arrays[name] for name in arrays.files}
            self._limits = dict(zip(LIMITS, self._parts["limits"].tolist(), strict=True))
            if self._parts["weights"].shape[1] != len(POSES) + 1:
                raise ValueError("other poses")
            leanings(self._parts, np.zeros(_FIELDS * _FIELDS * _DIRECTIONS))
        except (OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"no gate ({error})") from error

    def judge(self, look: Look, righted: Callable[[int, bool], Look]) -> Judgement:
        """Judge one radiograph.

        Parameters
        ----------
        look : Look
        righted : callable
            Takes a turn and an inversion, and returns the look at the radiograph once it is corrected so. Asked only
            of one that is far from the training images.
        """
        values = traits(self._parts, look)
        chances = probabilities(self._parts, values)
        other, far = float(chances[-1]), values[0] > self._limits["far"]
        turn, invert = 0, False
        if far:
            turn, invert = POSES[list(POSES)[int(chances[:-1].argmax())]]
            if turn or invert:
                again = righted(turn, invert)
                revised = traits(self._parts, again)
                far = revised[0] > self._limits["far"]
                if not far:
                    look, values = again, revised
        if far:
            turn, invert = 0, False
            if other >= self._limits["other"]:
                return Judgement(other, True)
        gray = look.plain[FACTS.index("gray")]
        mirrored, cropped = leanings(self._parts, look.outlines)
        is_cropped = bool(cropped > self._limits["cropped"])
        found = {
            "turned": turn > 0,
            "inverted": invert,
            # Of what is cut off at a side, the heart tells nothing.
            "mirrored": not far and not is_cropped and mirrored > self._limits["mirrored"],
            "cropped": is_cropped,
            "dark": gray < self._limits["dark"],
            "bright": gray > self._limits["bright"],
            "unlike": values[0] > self._limits["unlike"],
        }
        return Judgement(other, False, tuple(name for name, odd in found.items() if odd), turn, invert)
