"""Shared fixtures: the shipped images, and a bundle of tiny networks that the real pipeline trains on them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from pneumo.backend import load_tensorflow

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
PAGE = "import app; app.launch()"
"""What starts the page."""


LONG = (
    "training/test_fit.py",
    "test_page.py",
    "test_teach.py",
    "test_cluster.py",
    "training/test_devices.py",
    "test_saliency.py",
    "test_hub.py",
    "test_cli.py",
    "training/test_training_cli.py",
    "training/test_evaluate.py",
    "test_systems.py",
    "test_api.py",
    "test_serving.py",
    "test_reliability.py",
    "training/test_distillation.py",
)
"""The files that take longest. Workers are given whole files in order: one of these at the end would leave the other
worker idle. The first needs no networks of the session, which the other worker makes meanwhile."""


def pytest_collection_modifyitems(items):
    places = {DATA.parent / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))
    absent = pytest.mark.skip(reason="../shared is not here")
    for item in items:
        if "shared" in item.keywords and not SHARED.is_dir():
            item.add_marker(absent)


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that is made once for all the workers of a run."""
    base = factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = root / name
    with FileLock(root / f"{name}.lock"):
        if not (root / f"{name}.made").exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            (root / f"{name}.made").touch()
    return folder


@pytest.fixture(scope="session")
def images() -> Path:
    """Folder of the shipped images, laid out as the data set is."""
    return DATA / "chest_xray"


@pytest.fixture(scope="session")
def manifest(images, tmp_path_factory) -> Path:
    """Data manifest of the shipped images, with sizes of the originals that tell something of the class."""
    from training.dataset import build_dataset
    from training.sources import open_source

    def make(folder: Path) -> None:
        dataset = build_dataset(open_source(images))
        varied = tuple(
            dataclasses.replace(image, megapixels=1 + number % 7 / 10 + 0.3 * (image.label == "NORMAL"))
            for number, image in enumerate(dataset.images)
        )
        dataclasses.replace(dataset, images=varied).save(folder / "dataset.json")

    return once(tmp_path_factory, "data", make) / "dataset.json"


@pytest.fixture(scope="session")
def masks() -> Path:
    """Folder of the lung masks that people drew for the shipped images."""
    return DATA / "lung_masks"


@pytest.fixture(scope="session")
def segmenter() -> Path:
    """Folder of the segmenter that ships: one trained within a test's time would find no lungs."""
    return ROOT / "models"


@pytest.fixture(scope="session")
def runs(manifest, segmenter, tmp_path_factory) -> Path:
    """Finished trainings of the three networks, made tiny: two seeds of the first, one of the others."""
    load_tensorflow()
    from pneumo.zoo import ARCHITECTURES
    from training.recipes import Robust
    from training.runs import Study

    def make(folder: Path) -> None:
        study = Study(manifest, segmenter)
        small = {"input_size": 48, "filters": (4, 4, 8, 8, 8), "epochs": 2, "batch_size": 8}
        for name in ARCHITECTURES:
            for seed in (0, 1) if name == "cnn" else (0,):
                study.run(name, "robust", Robust(seed=seed, **small), folder / name / f"seed-{seed}")

    return once(tmp_path_factory, "runs", make)


@pytest.fixture(scope="session")
def bundled(runs, manifest, segmenter, tmp_path_factory) -> Path:
    """A bundle of the tiny networks, in a folder that is made with it. Tests copy it before they alter it."""
    from training.bundling import make_bundle

    def make(folder: Path) -> None:
        make_bundle(runs, manifest, segmenter, folder / "deep" / "down")

    return once(tmp_path_factory, "bundled", make) / "deep" / "down"


@pytest.fixture(scope="session")
def bundle_folder(bundled, runs, manifest, masks, tmp_path_factory) -> Path:
    """The same, evaluated, with its case library."""
    from training.cases import make_cases
    from training.evaluate import evaluate

    def make(folder: Path) -> None:
        shutil.copytree(bundled, folder, dirs_exist_ok=True)
        evaluate(folder, manifest, runs=runs, masks=masks, originals=DATA / "full_resolution")
        make_cases(folder, manifest, masks)

    return once(tmp_path_factory, "models", make)


@pytest.fixture(scope="session")
def examiner():
    """The networks that ship."""
    load_tensorflow()
    from pneumo import Examiner, load_bundle
    from pneumo.bundle import EMBEDDED

    return Examiner(load_bundle(EMBEDDED))


@pytest.fixture(scope="session")
def loaded_once(bundle_folder):
    """`load_bundle`, but that it reads the tiny networks once: nobody alters their files."""
    from pneumo import load_bundle

    once_each = functools.cache(load_bundle)

    def load(location=None, names=None):
        return (once_each if location == str(bundle_folder) else load_bundle)(location, names)

    return load


@pytest.fixture(scope="session")
def tiny_examiner(bundle_folder, loaded_once):
    """The tiny networks in this process, for tests that compare with them and alter nothing."""
    from pneumo import Examiner

    return Examiner(loaded_once(str(bundle_folder)))


@pytest.fixture(scope="session")
def server(bundle_folder, tmp_path_factory):
    """The page as `make app` starts it, with the tiny networks: a real process behind a real port."""
    with serve(bundle_folder, tmp_path_factory.mktemp("uploads")) as url:
        yield url


@contextlib.contextmanager
def serve(models: Path | str, uploads: Path, code: str = PAGE, **environment: str):
    """Start the page in a process of its own; give its address once it answers."""
    with started(models, uploads, code=code, **environment) as (url, _, _):
        yield url


@contextlib.contextmanager
def started(
    models: Path | str,
    uploads: Path,
    port: int | None = None,
    code: str = PAGE,
    before: tuple[str, ...] = (),
    **environment: str,
):
    """The same, by a command that starts with `before`; give its address, its process and the file of what it says."""
    port = port or free_port()
    variables = {"PNEUMO_MODELS": str(models), "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(uploads)}
    log = uploads / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*before, sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | variables | environment,
            stdout=output,
            stderr=output,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                if process.poll() is not None:
                    pytest.fail(f"the page did not start:\n{log.read_text()}")
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(url, timeout=5).close()
                    break
                time.sleep(0.1)
            yield url, process, log
        finally:
            process.terminate()
            process.wait(timeout=60)


def on_disk(folder: Path) -> list[Path]:
    """The files below a page's folder, but for its log."""
    # Unlike rglob, os.walk takes no offence at a folder that the page removes meanwhile.
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names if name != "server.log"]


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium of the machine."""
    with open_browser() as chromium:
        if chromium is None:
            pytest.skip("no Chromium here; on Debian: apt-get install chromium")
        yield chromium


@contextlib.contextmanager
def open_browser():
    """Start the machine's Chromium, headless and talking to nobody; None if there is none."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        yield None
        return
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    arguments += ["--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()
