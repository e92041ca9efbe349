"""What the server logs: what happened and where, never a document's, a question's or an answer's text."""

from __future__ import annotations

import logging
import traceback

log = logging.getLogger("precis.serve")


def log_failure(what: str, error: BaseException) -> None:
    """Log an error that nobody expected, by its kind and place: its message may quote a text."""
    place = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s: %s\n%s", what, type(error).__name__, place)
