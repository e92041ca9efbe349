"""What goes wrong below the API, in OpenAI's shape."""

from __future__ import annotations

from precis.errors import PrecisError
from precis.serve.api.api_error import ApiError
from precis.serve.engine.engine import BusyError, ClosingError, EngineError
from precis.serve.library import BrokenDocumentError, UnknownDocumentError

CLOSING_RETRY_S = 5


def api_error_of(error: PrecisError) -> ApiError:
    """Put an error into OpenAI's shape."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, BusyError):
        return ApiError(429, str(error), code="queue_full", retry_s=error.retry_s)
    if isinstance(error, ClosingError):
        return ApiError(503, str(error), code="shutting_down", retry_s=CLOSING_RETRY_S)
    if isinstance(error, UnknownDocumentError):
        return ApiError(404, str(error), param="model", code="model_not_found")
    if isinstance(error, BrokenDocumentError):
        return ApiError(404, str(error), param="model", code="model_broken")
    if isinstance(error, EngineError):
        return ApiError(500, str(error), code="internal_error")
    return ApiError(400, str(error), code="invalid_value")


def too_slow(seconds: float) -> ApiError:
    """Give the error of an answer that was not there in time."""
    return ApiError(
        408,
        f"The answer was not there after {seconds:g} s, waiting included. Try again later, or ask "
        "for a shorter one.",
        code="answer_timeout",
        retry_s=CLOSING_RETRY_S,
    )
