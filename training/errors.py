"""Errors of the training package."""

from pneumo.errors import PneumoError


class DataError(PneumoError, ValueError):
    """Raised when the training data is missing, not laid out as expected, or not what its manifest says."""


class TrainingError(PneumoError, RuntimeError):
    """Raised when a training cannot start, go on or be bundled."""
