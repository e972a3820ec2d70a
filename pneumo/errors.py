"""Every error that a caller of pneumo can see.

Each message says the rule, what came, and what to do about it, in words that can be shown to a visitor as they are.
"""


class PneumoError(Exception):
    """Base of all errors of this package. Its text may be shown to a person."""


class UnreadableRadiograph(PneumoError, ValueError):
    """Raised when the bytes are not one still JPEG or PNG image that decodes completely."""


class RadiographSizeError(PneumoError, ValueError):
    """Raised when an image or a file is smaller or larger than what is accepted."""


class BundleError(PneumoError, RuntimeError):
    """Raised when trained networks cannot be loaded: a missing, altered or mismatched file of a bundle."""


class UnknownNameError(PneumoError, ValueError):
    """Raised when a network, saliency method or class is named that does not exist."""
