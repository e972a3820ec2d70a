"""All networks of a bundle as one compiled graph: probabilities, and the heatmaps of both classes, from one pass.

The segmenter of `pneumo.lungs` is a graph of its own, run before. Between the two, NumPy and OpenCV find the lungs in
the mask and crop to their box, by the same functions as in training (`pneumo.framing`). All that one graph for both
could save is one call, 0.3 ms as an empty graph of the segmenter's shapes takes, of an examination of some 45 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pneumo.bundle import Bundle
from pneumo.classifier import calibrate
from pneumo.framing import Prepared
from pneumo.probe import integrated, probe, signature
from pneumo.zoo import architecture

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class Answers:
    """What the networks say of n radiographs, by network.

    Attributes
    ----------
    probabilities : dict of str to numpy.ndarray of float64, shape (n,)
        Of pneumonia, 0 to 1, calibrated.
    signed : dict of str to numpy.ndarray of float32, shape (n, rows, columns)
        Evidence at each place of a feature map, in units of the logit: above 0 for pneumonia, below for NORMAL. Empty
        if none was asked for.
    features : dict of str to numpy.ndarray of float32, shape (n, d)
        What the last layer of each takes.
    """

    probabilities: dict[str, np.ndarray]
    signed: dict[str, np.ndarray]
    features: dict[str, np.ndarray]

    def of(self, number: int) -> Answers:
        """What they say of one of them: n is 1."""
        parts = self.probabilities, self.signed, self.features
        return Answers(*({name: values[number : number + 1] for name, values in part.items()} for part in parts))


class NetworkGraph:
    """The networks of a bundle, compiled together once, for any number of radiographs at a time.

    Equal to one network after the other, but for rounding in the last digits: what is shared is computed once.

    Parameters
    ----------
    bundle : Bundle
    explained : bool
        Whether evidence is taken too, as the default method does: see `pneumo.probe.integrated`.
    """

    def __init__(self, bundle: Bundle, explained: bool = False) -> None:
        self._networks = bundle.networks
        models = {name: network.model for name, network in bundle.networks.items()}
        self._compiled = _compile(models, explained)

    def ask(self, prepared: Sequence[Prepared]) -> Answers:
        """What the networks say of radiographs, by `Bundle.prepare`."""
        seen: dict[tuple[str, str, int, int], np.ndarray] = {}
        inputs = []
        for network in self._networks.values():
            view = network.view
            if view not in seen:
                seen[view] = np.concatenate([item.inputs(*view) for item in prepared], dtype=np.float32)
            inputs.append(seen[view])
        outputs, signed, features = self._compiled(inputs)
        return Answers(
            {
                name: calibrate(output.numpy(), network.slope, network.offset)
                for (name, network), output in zip(self._networks.items(), outputs, strict=True)
            },
            {name: values.numpy() for name, values in zip(self._networks, signed, strict=False)},
            {name: values.numpy() for name, values in zip(self._networks, features, strict=True)},
        )

    @property
    def traces(self) -> int:
        """How often the graph was built; more than once is time lost."""
        return self._compiled.experimental_get_tracing_count()


def _compile(models: Mapping[str, keras.Model], explained: bool):
    """From an input for each model to the outputs, evidence, (n, rows, columns), and the last features."""
    import tensorflow as tf

    passes = [_pass(name, model, explained) for name, model in models.items()]

    def compute(inputs):
        found = [run(values) for run, values in zip(passes, inputs, strict=True)]
        last, logits, signed = map(list, zip(*found, strict=True))
        return [tf.sigmoid(logit) for logit in logits], [item for item in signed if item is not None], last

    return tf.function(compute, input_signature=[[signature(model) for model in models.values()]], autograph=False)


def _pass(name: str, model: keras.Model, explained: bool) -> Callable:
    """What one network is asked: `pneumo.probe.integrated`, or the same without evidence."""
    if explained:
        design = architecture(name)
        return integrated(model, design.fine_map, design.last_map)
    run = probe(model, [""])

    def without(inputs):
        (last,), logit = run(inputs)
        return last, logit, None

    return without
