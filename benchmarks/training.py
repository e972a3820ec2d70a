"""How busy a training keeps the processor, beside the network alone and the reports' way; what SMOTE needs."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from rich.console import Console

from benchmarks.smote import balanced
from pneumo.framing import scale_gray
from pneumo.lungs import Segmenter
from pneumo.zoo import build
from training.balance import Balanced, Images
from training.dataset import open_dataset
from training.feed import batches
from training.fields import Recipe
from training.fit import compiled_twin, train
from training.recipes import recipe as named_recipe
from training.segment import load_segmenter
from training.views import held_out_images, load_views, training_images

_HELD_OUT = 8


def training(data: Path, lungs: Path, network: str, images: int, rounds: int, as_json: bool) -> None:
    """Train a network for short whiles, in turn with what it is compared to; print a table or JSON.

    Parameters
    ----------
    data : Path
        Data manifest.
    lungs : Path
        Folder of the segmenter.
    network : str
    images : int
        How many training images are used, each once an epoch.
    rounds : int
        How often each way is measured.
    as_json : bool
        Whether to print one JSON object instead.
    """
    recipe = named_recipe("robust", balance="none", epochs=2)
    dataset, source = open_dataset(data)
    finder = Segmenter(load_segmenter(lungs))
    every = dataset.split("train")
    # Every so many: the manifest lists one class after the other.
    views = load_views(source, every[:: max(1, len(every) // images)][:images], finder)
    shown, held_out = training_images(views, recipe), held_out_images(views.chosen(range(_HELD_OUT)), recipe)
    ways: dict[str, Callable[[], tuple[float, float]]] = {
        "ours": lambda: _ours(network, recipe, shown, held_out),
        "compute": _compute(network, recipe, len(shown.labels)),
        "reports": _reports(network, recipe, held_out_images(views, recipe)),
    }
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            costs[name].append(way())
    found: dict = {}
    for name, pairs in costs.items():
        seconds, processor = (statistics.median(values) for values in zip(*pairs, strict=True))
        found |= {f"{name}_images_a_second": round(1 / seconds, 1), f"{name}_processor_ms": round(1000 * processor, 2)}
    found["share_of_compute"] = round(found["ours_images_a_second"] / found["compute_images_a_second"], 3)
    found["share_of_processor"] = round(found["compute_processor_ms"] / found["ours_processor_ms"], 3)
    found |= _stages(recipe, shown) | {"network": network, "images": len(shown.labels), "rounds": rounds}
    found |= _smote_memory(len(every), shown.pixels.shape[1:])
    print(json.dumps(found) if as_json else _table(found))


class _Epochs(keras.callbacks.Callback):
    """Takes the time from the end of the first epoch to that of the second."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = _Clock()

    def on_epoch_end(self, epoch, logs=None) -> None:  # noqa: ARG002 - Keras names them
        self._clock.print()

    @property
    def elapsed(self) -> tuple[float, float]:
        return self._clock.elapsed


def _second_epoch(model: keras.Model, shown, images: int, **options) -> tuple[float, float]:
    """Seconds, and seconds of all cores, an image; the first epoch has what is done once."""
    epochs = _Epochs()
    model.fit(shown, epochs=2, shuffle=False, callbacks=[epochs], verbose=0, **options)
    seconds, processor = epochs.elapsed
    return seconds / images, processor / images


class _Clock(Console):
    """Where a training says that an epoch is over: the time from the first such word to the second."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self._times: list[tuple[float, float]] = []

    def print(self, *_objects, **_options) -> None:
        """Take the time instead."""
        self._times.append((time.perf_counter(), time.process_time()))

    @property
    def elapsed(self) -> tuple[float, float]:
        """Seconds, and seconds of all cores."""
        (began, used), (ended, spent) = self._times
        return ended - began, spent - used


def _ours(network: str, recipe: Recipe, shown: Images, held_out: Images) -> tuple[float, float]:
    """The second epoch of a real training; the first compiles."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as place:
        train(network, recipe, shown, held_out, Path(place), clock)
    seconds, processor = clock.elapsed
    return seconds / len(shown.labels), processor / len(shown.labels)


def _compute(network: str, recipe: Recipe, images: int) -> Callable[[], tuple[float, float]]:
    """The same network on one batch, again and again."""
    import tensorflow as tf

    steps = -(-images // recipe.batch_size)
    model = compiled_twin(build(network, recipe.input_size, recipe.filters), recipe, steps)
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((recipe.batch_size, *model.inputs[0].shape[1:]), np.float32)
    targets = generator.integers(0, 2, (recipe.batch_size, 1)).astype(np.float32)
    fixed = tf.data.Dataset.from_tensors((inputs, targets)).repeat()
    return lambda: _second_epoch(model, fixed, steps * recipe.batch_size, steps_per_epoch=steps)


def _reports(network: str, recipe: Recipe, shown: Images) -> Callable[[], tuple[float, float]]:
    """Keras's own network, fed as the reports feed theirs: ImageDataGenerator with rotation, zoom, shifts and flip."""
    model = build(network, recipe.input_size, recipe.filters)
    model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"])
    changes = ImageDataGenerator(
        rotation_range=30, zoom_range=0.2, width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=True
    )
    fed = changes.flow(scale_gray(shown.pixels, "unit"), shown.labels, batch_size=recipe.batch_size)
    return lambda: _second_epoch(model, fed, len(shown.labels))


def _stages(recipe: Recipe, shown: Images) -> dict[str, float]:
    """Milliseconds an image of what one core does before a step: the transforms, the scaling, all of it."""
    chosen, generator = shown.pixels[: recipe.batch_size], np.random.default_rng(0)
    moved = recipe.augmentation.apply(chosen, generator, recipe.input_size)[0]
    made = batches(Balanced(shown.pixels, shown.labels), recipe, 0)
    tasks: dict[str, Callable[[], object]] = {
        "augment": lambda: recipe.augmentation.apply(chosen, generator, recipe.input_size),
        "scale": lambda: scale_gray(moved[..., 0], recipe.scaling),
        "pipeline": lambda: next(made),
    }
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(10):
        for name, task in tasks.items():
            started = time.thread_time()
            task()
            times[name].append(1000 * (time.thread_time() - started) / recipe.batch_size)
    return {f"{name}_ms": round(statistics.median(values), 3) for name, values in times.items()}


def _smote_memory(images: int, shape: tuple[int, ...]) -> dict[str, int]:
    """MiB of the whole training set, three quarters of it pneumonias, and of the peak while SMOTE balances it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        before, peak = pool.apply(balanced, (images, shape))
    return {"set_mib": round(images * float(np.prod(shape)) / 2**20), "before_smote_mib": before, "smote_mib": peak}


def _table(found: dict) -> str:
    rows = (
        ("a training, images a second", "ours_images_a_second"),
        ("the same network alone, on one batch", "compute_images_a_second"),
        ("the reports' way, ImageDataGenerator", "reports_images_a_second"),
        ("share of the network alone", "share_of_compute"),
        ("a training, ms of all cores an image", "ours_processor_ms"),
        ("the same network alone", "compute_processor_ms"),
        ("the reports' way", "reports_processor_ms"),
        ("share of the network alone", "share_of_processor"),
        ("random transforms, ms an image on one core", "augment_ms"),
        ("scaling of gray values", "scale_ms"),
        ("all that is done before a step", "pipeline_ms"),
        ("the whole training set, MiB", "set_mib"),
        ("memory of a process that holds it, MiB", "before_smote_mib"),
        ("its peak while SMOTE balances it", "smote_mib"),
    )
    title = f"{found['network']}, {found['images']:,} images, {found['rounds']} rounds"
    return "\n".join([title, *(f"{words:<48}{found[name]:>10,}" for words, name in rows)])
