"""Entry of the Hugging Face Space and of `make app`."""

from pneumo.backend import uncollected

with uncollected():
    from pneumo.ui.interface import launch

if __name__ == "__main__":
    launch()
