"""Every error that a caller of pneumo can see.

Each message says the rule, what came, and what to do about it, in words that can be shown to a visitor as they are.
"""

import zipfile
import zlib

UNREADABLE_ZIP = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
"""What `zipfile` raises of a file that is missing, damaged, cut short, encrypted, or packed in an unknown way."""


class PneumoError(Exception):
    """Base of all errors of this package. Its text may be shown to a person.

    Attributes
    ----------
    file : str
        What to call the file that was refused, if its own name must not be told; else "".
    """

    file: str = ""


class UnreadableRadiograph(PneumoError, ValueError):
    """Raised when the bytes are not one still JPEG, PNG or DICOM image that decodes completely."""


class NotAChestRadiograph(PneumoError, ValueError):
    """Raised when what an image shows is no chest radiograph."""


class RadiographSizeError(PneumoError, ValueError):
    """Raised when an image or a file is smaller or larger than what is accepted."""


class BundleError(PneumoError, RuntimeError):
    """Raised when trained networks cannot be loaded: a missing, altered or mismatched file of a bundle."""


class HubUnreachable(BundleError):
    """Raised when the Hugging Face Hub does not answer, or answers with a failure of its own."""


class SourceError(PneumoError, ValueError):
    """Raised when many radiographs cannot be scored: where they come from, or where the result is to go."""


class ServerBusy(PneumoError, TimeoutError):
    """Raised when an examination was not finished within the time that it may take."""


class UnknownNameError(PneumoError, ValueError):
    """Raised when what was chosen does not exist: a network, operating point, framing, method, class or region."""


def first_line(error: BaseException) -> str:
    """What an error of another library says in its first line, or its kind if it says nothing, without a full stop."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300].rstrip(".: ")
