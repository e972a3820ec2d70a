"""Errors of the training package."""

from pneumo.errors import PneumoError


class DataError(PneumoError, ValueError):
    """Raised when the training data is missing, not laid out as expected, or not what its manifest says."""


class RecipeError(PneumoError, ValueError):
    """Raised when a field of a recipe has a value that no training can use."""


class TrainingError(PneumoError, RuntimeError):
    """Raised when a training cannot start, go on or be bundled."""


class PublishError(PneumoError, RuntimeError):
    """Raised when something cannot be published: no token, no rights, no network, nothing to publish."""
