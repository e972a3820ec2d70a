"""Trained networks with their metadata, from a bundle folder such as models/."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from pneumo.backend import load_tensorflow
from pneumo.errors import BundleError, PneumoError, UnknownNameError
from pneumo.framing import FRAMINGS, SCALINGS, Prepared, needs_lungs, to_raster
from pneumo.gate import Gate
from pneumo.lungs import Lungs, Segmenter, lungs_in
from pneumo.radiograph import Radiograph
from pneumo.weights import load_weights
from pneumo.zoo import CLASS_NAMES, build, build_segmenter

if TYPE_CHECKING:
    import keras

FORMAT = 2
"""Version of the layout of manifest.json."""
MANIFEST = "manifest.json"
"""What the bundle holds, and with what metadata."""
METRICS = "metrics.json"
"""All measures on the test split."""
PREDICTIONS = "predictions.csv"
"""Every test image with what each network said of it."""
ABLATION = "ablation.json"
"""What the recipe was chosen by."""
SALIENCY = "saliency.json"
"""What the default saliency method was chosen by."""
SYSTEMS = "systems.json"
"""What other systems reach on the same test split."""
SEGMENTER = "segmenter.keras"
"""The network that finds the lungs."""
SEGMENTER_RECORD = "segmenter.json"
"""How it was trained, and what it reached on held-out masks."""
EMBEDDED = Path(__file__).resolve().parent.parent / "models"
"""The bundle that ships with the program."""
LOCATION_VARIABLE = "PNEUMO_MODELS"
"""Environment variable that names another bundle."""
GATE = "gate.npz"
"""What tells chest radiographs from other pictures; a bundle need not have one."""
GATE_RECORD = "gate.json"
"""What it refuses and warns of, as measured."""
OPERATING_POINTS = ("balanced", "screening")
"""Operating points that every network has, by name; the first is the default."""
_FILE_NAME = re.compile(r"\w[\w.-]*")
_Function = TypeVar("_Function")


@dataclass(frozen=True, slots=True)
class Network:
    """One trained network.

    Attributes
    ----------
    name : str
        Its architecture in `pneumo.zoo`.
    model : keras.Model
        Built by the zoo, with the weights of the bundle; its output is the probability of pneumonia.
    input_size : int
        Side of the square input, in pixels.
    framing, scaling : str
        What it sees of a radiograph, and how its gray values are scaled: see `pneumo.framing`.
    slope, offset : float
        Platt scaling: the calibrated logit is slope x logit + offset.
    thresholds : dict of str to float
        By `OPERATING_POINTS`: from this calibrated probability on, the decision is pneumonia.
    heat_scale : dict of str to dict of str to float
        By method of `pneumo.methods` and by class, the value that is drawn at full strength; what
        `pneumo.methods.Method.scale` makes of both is drawn.
    """

    name: str
    model: keras.Model = field(repr=False)
    input_size: int
    framing: str
    scaling: str
    slope: float
    offset: float
    thresholds: dict[str, float]
    heat_scale: dict[str, dict[str, float]]
    _compiled: dict[tuple, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def compiled(self, make: Callable[..., _Function], *arguments: str) -> _Function:
        """What `make(model, *arguments)` gives, made once for all that ask for the same."""
        key = (make, *arguments)
        if key not in self._compiled:
            self._compiled[key] = make(self.model, *arguments)
        return self._compiled[key]

    @property
    def view(self) -> tuple[str, str, int, int]:
        """What it takes of a radiograph, as `Prepared.inputs` is asked for it."""
        return self.framing, self.scaling, self.input_size, self.channels

    @property
    def channels(self) -> int:
        """Channels of its input: how often it takes the gray values."""
        return self.model.inputs[0].shape[-1]


@dataclass(frozen=True, slots=True)
class Consensus:
    """How the mean of all networks is read.

    Attributes
    ----------
    thresholds : dict of str to float
        By `OPERATING_POINTS`, of the mean of the calibrated probabilities.
    low, high : float
        The mean is uncertain from `low` on and below `high`.
    """

    thresholds: dict[str, float]
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bundle:
    """Trained networks that belong together.

    Attributes
    ----------
    location : str
        Where they came from; on the Hub, pinned to a commit.
    networks : dict of str to Network
        By name, in the order of the manifest.
    consensus : Consensus or None
        How the mean of all networks is read; None if only some were published.
    segmenter : Segmenter or None
        Finds the lungs; None if no network asks for them.
    manifest : dict
        The whole of manifest.json.
    notices : tuple of str
        What a user should know of how they were loaded.
    gate : Gate or None
        Refuses what is no chest radiograph; None if the bundle has none, or no segmenter.
    """

    location: str
    networks: dict[str, Network]
    consensus: Consensus | None
    segmenter: Segmenter | None
    manifest: dict[str, Any] = field(repr=False)
    notices: tuple[str, ...] = ()
    gate: Gate | None = field(default=None, repr=False)

    def prepare(self, radiograph: Radiograph) -> Prepared:
        """Bring a radiograph to what the networks need, once for all of them."""
        return self.prepare_all([radiograph])[0]

    def prepare_all(self, radiographs: Sequence[Radiograph]) -> list[Prepared]:
        """The same for several at once."""
        rasters = [to_raster(radiograph.pixels) for radiograph in radiographs]
        return self.prepare_rasters(rasters, [radiograph.width / radiograph.height for radiograph in radiographs])

    def prepare_rasters(self, rasters: Sequence[np.ndarray], aspects: Sequence[float]) -> list[Prepared]:
        """The same of what `pneumo.framing.to_raster` gave, and of each width divided by height."""
        lungs: Sequence[Lungs | None] = [None] * len(rasters)
        sights: Sequence[np.ndarray | None] = [None] * len(rasters)
        if self.segmenter and rasters:
            masks, seen = self.segmenter.look(np.stack(rasters))
            sights = list(seen)
            lungs = [lungs_in(mask) for mask in masks]
        return [Prepared(*parts) for parts in zip(rasters, aspects, lungs, sights, strict=True)]


class BundleFiles(Protocol):
    """Where the files of a bundle are."""

    @property
    def location(self) -> str:
        """What names the place in messages."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know of how the files were found."""

    def path(self, name: str) -> Path:
        """A file of the bundle on this machine. It need not exist."""


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """The files of a bundle in a folder."""

    location: str
    notices: tuple[str, ...] = ()

    def path(self, name: str) -> Path:
        """A file of the folder."""
        return Path(self.location) / name


def bundle_location(location: str | Path | None = None) -> str:
    """The location named, else the one that PNEUMO_MODELS names, else the embedded bundle's."""
    return str(location or os.environ.get(LOCATION_VARIABLE) or EMBEDDED)


def is_on_hub(location: str) -> bool:
    """Whether a location is one of the Hugging Face Hub."""
    return location.startswith("hf://")


def open_bundle(location: str | Path | None = None) -> BundleFiles:
    """The files of the bundle named, else of the one that PNEUMO_MODELS names, else of the embedded one.

    Raises
    ------
    BundleError
        If it is on the Hub and cannot be found there.
    """
    chosen = bundle_location(location)
    if not is_on_hub(chosen):
        return FolderFiles(chosen)
    # Imported only now: the embedded bundle needs no client of the Hub.
    from pneumo.hub import open_hub

    return open_hub(chosen)


def read_manifest(files: BundleFiles) -> dict[str, Any]:
    """Read and check manifest.json. Needs no TensorFlow.

    Raises
    ------
    BundleError
        If it is missing, is not JSON, or is of another format than this program's.
    """
    path = files.path(MANIFEST)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found = manifest["format"], tuple(manifest["class_names"])
        if not manifest["networks"]:
            raise KeyError("networks")
    except OSError as error:
        raise BundleError(
            f"A bundle must be a folder with a {MANIFEST}; {files.location} has none that can be read "
            f"({error.strerror or error}). Make one with `make models`, or name another."
        ) from error
    except (ValueError, LookupError, TypeError) as error:
        raise _damaged(files, error) from error
    expected = FORMAT, CLASS_NAMES
    if found != expected:
        raise BundleError(
            f"A bundle must have format and classes {expected}; {files.location} has {found}. "
            "Use the release of pneumo that the bundle was made with, or make it again."
        )
    return manifest


def load_bundle(
    location: str | Path | None = None, names: tuple[str, ...] | None = None, *, gated: bool = True
) -> Bundle:
    """Load trained networks: verify each file, build the architecture from the zoo, load only weights.

    Parameters
    ----------
    location : str or Path, optional
        Folder of a bundle, or "hf://OWNER/NAME@REVISION" on the Hugging Face Hub. Default: what PNEUMO_MODELS
        of the environment names, else the embedded bundle.
    names : tuple of str, optional
        Networks to load. Default: all.
    gated : bool
        Whether the gate is loaded, if there is one: one that an earlier release fitted has to be fitted anew.

    Returns
    -------
    Bundle

    Raises
    ------
    BundleError
        If a file is missing, altered, or not of the architecture that the manifest says.
    UnknownNameError
        If the bundle has no network of a name.
    """
    files = open_bundle(location)
    manifest = read_manifest(files)
    try:
        for name in names or ():
            if name not in manifest["networks"]:
                raise UnknownNameError(
                    f"A network must be one of {', '.join(manifest['networks'])}; received {name!r}. Correct the name."
                )
        networks = {
            name: _load_network(files, name, entry)
            for name, entry in manifest["networks"].items()
            if names is None or name in names
        }
        segmenter, gate = None, None
        if any(needs_lungs(network.framing) for network in networks.values()):
            segmenter = _load_segmenter(files, manifest["lungs"])
            if gated and "gate" in manifest:
                gate = Gate(verified_path(files, manifest["gate"]).read_bytes())
        consensus = _consensus(manifest["together"]) if manifest["together"] else None
        return Bundle(files.location, networks, consensus, segmenter, manifest, files.notices, gate)
    except PneumoError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(files, error) from error


def weights(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of a manifest that name a file of weights: the networks, and segmenter and gate if there are any."""
    return [*manifest["networks"].values(), *(manifest[name] for name in ("lungs", "gate") if name in manifest)]


def verified_path(files: BundleFiles, entry: dict[str, Any]) -> Path:
    """Where the weights of a network are, once their SHA-256 is that of the network's entry in the manifest.

    Raises
    ------
    BundleError
        If they are missing, altered, or not beside the manifest.
    """
    name = entry["file"]
    if not _FILE_NAME.fullmatch(name):
        raise BundleError(
            f"A file of a bundle must lie beside its manifest; {name!r} of {files.location} does not. "
            "Use another bundle: this one was not made by `make models`."
        )
    path = files.path(name)
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(
            f"A bundle must hold every file of its manifest; {name} of {files.location} cannot be read "
            f"({error.strerror or error}). Copy the bundle again, or make it with `make models`."
        ) from error
    if digest != entry["sha256"]:
        raise BundleError(
            f"A file of a bundle must have the SHA-256 of its manifest, {entry['sha256'][:12]}...; {name} of "
            f"{files.location} has {digest[:12]}...: it was altered or copied incompletely. Copy the bundle again."
        )
    return path


def _damaged(files: BundleFiles, error: Exception) -> BundleError:
    fault = f"lacks {error}" if isinstance(error, KeyError) else "is damaged"
    return BundleError(
        f"{MANIFEST} of {files.location} must be as `make models` wrote it; it {fault}. Make or copy it again."
    )


def _load_weights(files: BundleFiles, entry: dict[str, Any], model: keras.Model) -> None:
    try:
        load_weights(model, verified_path(files, entry))
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"The weights must fit the architecture {model.name}; {entry['file']} of {files.location} does not. "
            "Make the bundle again."
        ) from error


def _load_network(files: BundleFiles, name: str, entry: dict[str, Any]) -> Network:
    verified_path(files, entry)
    load_tensorflow()
    model = build(name, entry["input_size"], tuple(entry["filters"]))
    _load_weights(files, entry, model)
    if not entry["saliency"]:
        raise ValueError("no scale of a heatmap")
    for kind, known in (("framing", FRAMINGS), ("scaling", SCALINGS)):
        if entry[kind] not in known:
            raise ValueError(f"{kind} {entry[kind]!r}")
    return Network(
        name=name,
        model=model,
        input_size=entry["input_size"],
        framing=entry["framing"],
        scaling=entry["scaling"],
        slope=float(entry["calibration"]["slope"]),
        offset=float(entry["calibration"]["offset"]),
        thresholds=_thresholds(entry),
        heat_scale={
            method: {label: float(found["scale"][label]) for label in CLASS_NAMES}
            for method, found in entry["saliency"].items()
        },
    )


def _load_segmenter(files: BundleFiles, entry: dict[str, Any]) -> Segmenter:
    model = build_segmenter(entry["input_size"], tuple(entry["filters"]))
    _load_weights(files, entry, model)
    return Segmenter(model)


def _consensus(entry: dict[str, Any]) -> Consensus:
    return Consensus(_thresholds(entry), float(entry["uncertain"]["low"]), float(entry["uncertain"]["high"]))


def _thresholds(entry: dict[str, Any]) -> dict[str, float]:
    return {name: float(entry["operating_points"][name]["threshold"]) for name in OPERATING_POINTS}
