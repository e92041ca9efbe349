"""What can go wrong through no fault of the code, in words for the person who reads them.

Every message says what was got, what was expected and what to do next, whoever reads it: a caller of the
library, of the command line, or of the server. Which settings would help is a field of the error; each front
end names them as its users know them. The command line prints the message alone and exits with 2; a library
user can catch `PrecisError`, or the standard exception that each class also is.
"""

from __future__ import annotations

from collections.abc import Sequence


class PrecisError(Exception):
    """Base of all errors that precis raises on purpose.

    Parameters
    ----------
    message
        What was got, what was expected, what to do next.
    settings
        Names of the parameters that would help, as the library has them.
    """

    def __init__(self, message: str, *, settings: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.settings = tuple(settings)


class DocumentError(PrecisError, ValueError):
    """A document cannot be read, or holds no text."""


class QuestionsError(PrecisError, ValueError):
    """A questions file is malformed, or a question does not fit the model."""


class ModelError(PrecisError, ValueError):
    """A model cannot be loaded, or cannot be conditioned on a prefix."""


class WindowError(ModelError):
    """What must stand before a question does not fit the model's window."""


class ArtifactError(PrecisError, ValueError):
    """A `.precis` file is damaged, or was compiled for another model."""


class SettingsError(PrecisError, ValueError):
    """A setting has a value that cannot work."""


class StorageError(PrecisError, OSError):
    """A file cannot be written: the disk is full, or the folder is not writable."""
