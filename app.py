"""Entry of the Hugging Face Space and of `make app`."""

import sys
import tempfile

from pneumo.backend import preload_tensorflow, uncollected

try:
    # Gradio asks for it as it is imported.
    tempfile.gettempdir()
except FileNotFoundError as error:
    sys.exit(
        f"The page needs a folder for temporary files that it can write to; {error.strerror}. "
        "Name one: TMPDIR=/path make app"
    )

preload_tensorflow()
with uncollected():
    from pneumo.ui.interface import launch

if __name__ == "__main__":
    launch()
