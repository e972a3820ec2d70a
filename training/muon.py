"""The optimizer Muon for networks of convolutions."""

from __future__ import annotations

import math

import keras
from keras import ops


class Muon(keras.optimizers.Muon):
    """Keras's Muon, which takes kernels of convolutions too.

    A step is made orthogonal: its directions count alike, however large the gradient is in each (Jordan et al., Muon,
    2024), and is as long as one of AdamW (Liu et al., arXiv 2502.16982, 2025). Keras does so for matrices alone and has
    AdamW do all else. A convolution's kernel is one as well, with a row for each value that its filters see. AdamW
    does what has a single row or column, and recurrent layers, whose kernels hold the matrices of several gates.
    """

    def __init__(self, learning_rate=1e-3, weight_decay=0.0, **options) -> None:
        options.setdefault("adam_weight_decay", weight_decay)
        options.setdefault("exclude_layers", ["recurrent"])
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **options)

    def _should_use_adamw(self, variable):
        if len(variable.shape) == 4:
            return variable.shape[-2] == 1
        return super()._should_use_adamw(variable) or variable.shape[-1] == 1

    def _muon_update_step(self, gradient, variable, lr, m):
        self.assign_add(m, gradient + m * (self.momentum - 1))
        rows, columns = math.prod(variable.shape[:-1]), variable.shape[-1]
        step = self.zeropower_via_newtonschulz5(
            ops.reshape(gradient + self.momentum * m, (rows, columns)), self.ns_steps
        )
        length = self.rms_rate * math.sqrt(max(rows, columns))
        self.assign_sub(variable, lr * length * ops.reshape(step, variable.shape))
