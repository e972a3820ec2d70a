"""What the package promises as a whole: light imports, arrows that point one way, errors that say what they are."""

import ast
import inspect
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import pneumo
import pneumo.errors
from pneumo.errors import PneumoError

PACKAGE = Path(pneumo.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
PRINT_MODULES = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
ERRORS = [item for _, item in inspect.getmembers(pneumo.errors, inspect.isclass)]


@pytest.mark.parametrize("module", ["pneumo", "pneumo.cli", "pneumo.ui.interface"])
def test_import_is_light(module):
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import {module}; {PRINT_MODULES}"],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
    )
    assert finished.stderr == ""
    loaded = set(json.loads(finished.stdout))
    assert "pneumo" in loaded
    assert not loaded & {"tensorflow", "keras", "tf_keras_vis", "training", "matplotlib", "sklearn"}


def imported(source: Path) -> set[str]:
    """Top-level packages that a module imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source} has a relative import"
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.relative_to(PACKAGE).as_posix())
def test_no_import_of_training(source):
    assert not imported(source) & {"training", "tests", "benchmarks"}


def test_gradio_is_of_the_page_alone():
    users = {source.parent.name for source in SOURCES if "gradio" in imported(source)}
    assert users == {"ui"}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_errors(error):
    assert issubclass(error, PneumoError)
    assert error.__module__ == "pneumo.errors"
    assert error.__doc__
    if error is not PneumoError:
        assert error.__doc__.startswith("Raised when ")
        # It can be caught as the builtin that it stands for.
        assert issubclass(error, (ValueError, RuntimeError, OSError))
    assert str(error("What is wrong.")) == "What is wrong."


def test_every_error_is_there():
    assert {"UnreadableRadiograph", "RadiographSizeError", "BundleError", "UnknownNameError"} < {
        error.__name__ for error in ERRORS
    }


def test_nothing_is_reported_to_anyone():
    code = "import pneumo.ui.interface, pneumo.hub; from huggingface_hub import constants as c"
    code += "; print(c.HF_HUB_DISABLE_TELEMETRY)"
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "True"


def test_last_words_of_an_abort_are_heard():
    code = """
import os
from pneumo.backend import _without_noise
with _without_noise():
    os.write(2, b"oneDNN custom operations are on\\nFATAL: this processor lacks AVX\\n")
    os.abort()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode < 0, done.stderr) == (True, "FATAL: this processor lacks AVX\n")


def test_port_in_use_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment = os.environ | {"GRADIO_SERVER_PORT": str(port)}
        done = subprocess.run([sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == f"The page needs a free port; {port} is in use. Name another: make app PORT=7861"
