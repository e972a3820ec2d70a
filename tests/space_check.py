"""Install and start the folder that `training publish --space` would upload, as a Space does: `make space-check`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from gradio_client import Client, handle_file

from pneumo.bundle import EMBEDDED, load_bundle
from pneumo.examination import Examiner
from pneumo.radiograph import read_radiograph
from pneumo.ui.examples import load_examples


def main() -> None:
    """Stage, install, start, ask, and compare with this checkout's own answer."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        space, python = folder / "space", folder / "environment" / "bin" / "python"
        publish = [sys.executable, "-m", "training", "publish", "--space", "pneumo/pneumo", "--stage", str(space)]
        subprocess.run(publish, check=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder / "environment")], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "-r", str(space / "requirements.txt")]
        subprocess.run(install, check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PNEUMO"))}
        environment |= {"GRADIO_SERVER_PORT": str(port), "HOME": name}
        process = subprocess.Popen([str(python), "app.py"], cwd=space, env=environment)
        try:
            answer = _ask(f"http://127.0.0.1:{port}", process)
        finally:
            process.terminate()
            process.wait()
    expected = Examiner(load_bundle(EMBEDDED)).examine(read_radiograph(load_examples()[0].path)).record()
    if answer != expected:
        sys.exit(f"The Space answers otherwise than this checkout:\n{answer}\n{expected}")
    print("The Space, in an environment of its requirements.txt alone, answers as this checkout does.")


def _ask(url: str, process: subprocess.Popen) -> dict:
    for _ in range(600):
        if process.poll() is not None:
            sys.exit("The Space did not start.")
        try:
            urllib.request.urlopen(url, timeout=5).close()
            break
        except OSError:
            time.sleep(0.1)
    return Client(url, verbose=False).predict(handle_file(load_examples()[0].path), api_name="/examine")


if __name__ == "__main__":
    main()
