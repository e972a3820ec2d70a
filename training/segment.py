"""Training of the lung segmenter on masks that people drew."""

from __future__ import annotations

import dataclasses
import json
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from keras import ops
from rich.console import Console

from pneumo.bundle import SEGMENTER, SEGMENTER_RECORD
from pneumo.framing import RASTER, scale_gray
from pneumo.lungs import Segmenter
from pneumo.zoo import SEGMENTER_FILTERS, build_segmenter
from training.augment import Augmentation
from training.dataset import Image, load_rasters, open_dataset
from training.devices import be_deterministic, stream
from training.errors import DataError, TrainingError


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterRecipe:
    """How the segmenter is trained: about 10 minutes on 2 cores.

    Attributes
    ----------
    input_size : int
        Side of the input in pixels, a multiple of 32.
    filters : tuple of int
        See `pneumo.zoo.build_segmenter`.
    augmentation : Augmentation
    epochs, batch_size : int
    learning_rate : float
        Of AdamW, lowered to 0 by a cosine after a tenth of the steps.
    average : float
        Momentum of the moving average of the weights, which is what is kept.
    scout_size, scout_epochs : int
        Input and epochs of the small segmenter that finds masks on the wrong image.
    least_agreement : float
        Dice coefficient with the scout under which a pair is dropped.
    seed : int
    """

    input_size: int = 192
    filters: tuple[int, ...] = SEGMENTER_FILTERS
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(
            rotation=12,
            zoom=0.15,
            shift=0.08,
            flip=True,
            aspect=1.25,
            gamma=1.8,
            contrast=1.8,
            brightness=0.2,
            blur=1.5,
            noise=0.05,
            jpeg=30,
        )
    )
    epochs: int = 10
    batch_size: int = 16
    learning_rate: float = 3e-3
    average: float = 0.99
    scout_size: int = 96
    scout_epochs: int = 3
    least_agreement: float = 0.8
    seed: int = 0


def read_masks(folder: Path, images: list[Image]) -> dict[str, np.ndarray]:
    """The masks that people drew, for those of the images that have one.

    Parameters
    ----------
    folder : Path
        Of files {train,test}/{NORMAL,PNEUMONIA}/NAME.png, named like the images.
    images : list of Image

    Returns
    -------
    dict of str to numpy.ndarray of bool, shape (224, 224)
        By the file of the image.

    Raises
    ------
    DataError
        If there is none, or a file is no mask.
    """
    masks = {}
    for image in images:
        path = folder / Path(image.file).with_suffix(".png")
        if not path.exists():
            continue
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if mask is None or mask.shape != (RASTER, RASTER):
            raise DataError(f"A lung mask must be a PNG of {RASTER} x {RASTER} pixels; {path} is not.")
        masks[image.file] = mask >= 128
    if not masks:
        raise DataError(
            f"A segmenter needs lung masks named like the images; {folder} has none. Name their folder by --masks."
        )
    return masks


def load_segmenter(folder: Path) -> keras.Model:
    """The segmenter that `train_segmenter` left in a folder.

    Raises
    ------
    TrainingError
        If there is none.
    """
    try:
        record = json.loads((folder / SEGMENTER_RECORD).read_text(encoding="utf-8"))
        model = build_segmenter(record["recipe"]["input_size"], tuple(record["recipe"]["filters"]))
        model.load_weights(folder / SEGMENTER)
    except (OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile) as error:
        raise TrainingError(
            f"The lungs must be found by a trained segmenter; {folder} has none. Run `python -m training lungs`."
        ) from error
    return model


def overlap(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dice coefficient and intersection over union of pairs of masks.

    Parameters
    ----------
    first, second : numpy.ndarray of bool, shape (n, rows, columns)

    Returns
    -------
    dice, iou : numpy.ndarray of float64, shape (n,)
        0 to 1; 1 where both are empty.
    """
    both = (first & second).sum(axis=(1, 2))
    either = (first | second).sum(axis=(1, 2))
    total = both + either
    dice = np.divide(2 * both, total, out=np.ones(len(total)), where=total > 0)
    iou = np.divide(both, either, out=np.ones(len(total)), where=either > 0)
    return dice, iou


def train_segmenter(manifest: Path, masks: Path, folder: Path, recipe: SegmenterRecipe, console: Console) -> None:
    """Train the segmenter on the masks of the train split and write it with its record.

    Some published train masks lie on the wrong image. A small segmenter is trained first; pairs with which it
    disagrees are dropped, and named in the record. A mask of another patient can pass: lungs are much alike.

    Parameters
    ----------
    manifest : Path
        Data manifest.
    masks : Path
        See `read_masks`.
    folder : Path
        Where `SEGMENTER` and `SEGMENTER_RECORD` are written.
    recipe : SegmenterRecipe
    console : rich.console.Console
        Where progress is shown.

    Raises
    ------
    DataError
        If the data is not what the manifest says, or there are no masks, or none fits its image.
    """
    started = time.monotonic()
    dataset, source = open_dataset(manifest)
    be_deterministic(recipe.seed)
    pairs: dict[str, tuple[list[Image], np.ndarray, np.ndarray]] = {}
    for name, images in (("train", dataset.split("train")), ("held out", dataset.held_out())):
        drawn = read_masks(masks, images)
        images = [image for image in images if image.file in drawn]
        pairs[name] = images, load_rasters(source, images)[0], np.stack([drawn[image.file] for image in images])

    images, rasters, truth = pairs["train"]
    scout = _fit(rasters, truth, dataclasses.replace(recipe, input_size=recipe.scout_size, epochs=recipe.scout_epochs))
    agreement = _agreement(scout, rasters, truth)
    good = agreement >= recipe.least_agreement
    dropped = {
        images[index].file: round(float(agreement[index]), 3) for index in np.argsort(agreement) if not good[index]
    }
    console.print(f"scout: {len(dropped)} of {len(images)} pairs dropped, Dice under {recipe.least_agreement}")
    held_images, held_rasters, held_truth = pairs["held out"]
    # The same rule as for training: a mask on the wrong image measures nothing.
    fair = _agreement(scout, held_rasters, held_truth) >= recipe.least_agreement
    if not good.any() or not fair.any():
        raise DataError(
            f"Lung masks must lie on the images that they are named like; those of {masks} do not, by a small "
            f"segmenter whose highest Dice is {agreement.max():.2f}. Name another folder by --masks."
        )
    model = _fit(rasters[good], truth[good], recipe, console)
    dice, iou = overlap(_found(model, held_rasters[fair]), held_truth[fair])
    folder.mkdir(parents=True, exist_ok=True)
    _without_optimizer(model, recipe).save(folder / SEGMENTER)
    record: dict[str, Any] = {
        "recipe": dataclasses.asdict(recipe),
        "parameters": model.count_params(),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "pairs": int(good.sum()),
        "dropped": dropped,
        "held_out": {
            "pairs": int(fair.sum()),
            "dropped": [image.file for image, kept in zip(held_images, fair, strict=True) if not kept],
            "dice": float(dice.mean()),
            "iou": float(iou.mean()),
        },
        "data": dataset.fingerprint,
    }
    (folder / SEGMENTER_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    console.print(f"held out: Dice {dice.mean():.4f}, IoU {iou.mean():.4f} of {fair.sum()} pairs")


def _without_optimizer(model: keras.Model, recipe: SegmenterRecipe) -> keras.Model:
    """The same network without what only its training needed, at a quarter of the size."""
    bare = build_segmenter(recipe.input_size, recipe.filters)
    bare.set_weights(model.get_weights())
    return bare


def _found(model: keras.Model, rasters: np.ndarray) -> np.ndarray:
    segmenter = Segmenter(model)
    return np.concatenate([segmenter.masks(rasters[start : start + 32]) >= 0.5 for start in range(0, len(rasters), 32)])


def _agreement(model: keras.Model, rasters: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return overlap(_found(model, rasters), truth)[0]


def _fit(
    rasters: np.ndarray, truth: np.ndarray, recipe: SegmenterRecipe, console: Console | None = None
) -> keras.Model:
    steps = -(-len(rasters) // recipe.batch_size)
    model = build_segmenter(recipe.input_size, recipe.filters)
    total = steps * recipe.epochs
    schedule = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 10,
        total - total // 10,
        warmup_target=recipe.learning_rate,
        warmup_steps=total // 10,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-4, use_ema=True, ema_momentum=recipe.average)
    model.compile(optimizer=optimizer, loss=_loss, jit_compile=False)
    size = (recipe.input_size, recipe.input_size)
    stack = np.empty((len(rasters), *size, 2), np.uint8)
    for index, (raster, mask) in enumerate(zip(rasters, truth, strict=True)):
        stack[index, ..., 0] = cv2.resize(raster, size, interpolation=cv2.INTER_AREA)
        stack[index, ..., 1] = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
    shown = stream(lambda: _batches(stack, recipe), ahead=4)
    callbacks = []
    if console:
        callbacks.append(
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: console.print(
                    f"segmenter epoch {epoch + 1}/{recipe.epochs}: loss {logs['loss']:.4f}"
                )
            )
        )
    # At its end `fit` puts the averaged weights in place.
    model.fit(shown, steps_per_epoch=steps, epochs=recipe.epochs, callbacks=callbacks, shuffle=False, verbose=0)
    return model


def _batches(stack: np.ndarray, recipe: SegmenterRecipe) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    epoch = 0
    while True:
        generator = np.random.default_rng((recipe.seed, epoch))
        order = generator.permutation(len(stack))
        for start in range(0, len(order), recipe.batch_size):
            images, _ = recipe.augmentation.apply(stack[order[start : start + recipe.batch_size]], generator)
            yield scale_gray(images[..., 0], "standard"), scale_gray(images[..., 1])
        epoch += 1


def _loss(truth, found):
    """Binary cross-entropy plus one minus the soft Dice coefficient (Milletari et al., 3DV 2016)."""
    entropy = ops.mean(keras.losses.binary_crossentropy(truth, found), axis=(1, 2))
    both = ops.sum(truth * found, axis=(1, 2, 3))
    total = ops.sum(truth, axis=(1, 2, 3)) + ops.sum(found, axis=(1, 2, 3))
    return entropy + 1 - (2 * both + 1) / (total + 1)
