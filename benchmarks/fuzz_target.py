"""What `python -m benchmarks fuzz` runs: a process that libFuzzer ends as soon as a fault is found."""

import random
import sys
from contextlib import suppress

import atheris

# No import of these before: only what is imported here is counted.
with atheris.instrument_imports(include=["pneumo", "pydicom", "PIL", "zipfile"], enable_loader_override=False):
    from benchmarks.damage import damaged, load_seeds
    from benchmarks.mutations import check
    from pneumo.errors import PneumoError
    from pneumo.intake import sources_of_uploads

_SEEDS = load_seeds()
_ANEW = 0.1


def _read(content: bytes) -> None:
    for source in sources_of_uploads([("upload", content)]):
        with suppress(PneumoError):
            check(source.read())


def _mutate(content: bytes, longest: int, seed: int) -> bytes:
    """As libFuzzer does; now and then from the start, by damage that knows the format."""
    if random.Random(seed).random() < _ANEW:
        return damaged(_SEEDS, seed)[1][:longest]
    return atheris.Mutate(content, longest)


atheris.Setup(sys.argv, _read, custom_mutator=_mutate)
atheris.Fuzz()
