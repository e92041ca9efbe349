"""Errors in the form that OpenAI's clients expect: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from precis.errors import PrecisError

# What OpenAI's API calls an error, by its status; others are of the nearest kind.
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}


class ApiError(PrecisError, HTTPException):
    """A request that cannot be answered, and why.

    It is Starlette's exception, too, so that it comes through from wherever a body is read.

    Parameters
    ----------
    status
        The HTTP status.
    message
        For the person who reads it: what was got, what was expected, what to do.
    param
        The field of the request that is at fault, if one is.
    code
        A word for programs.
    retry_s
        After how many seconds it may go better.
    headers
        Further ones of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        retry = {} if retry_s is None else {"Retry-After": str(retry_s)}
        HTTPException.__init__(self, status, message, {**(headers or {}), **retry})
        self.param = param
        self.code = code

    def __str__(self) -> str:
        return self.detail

    def to_json(self) -> dict[str, Any]:
        """Give the body of the answer."""
        return error_body(self.status_code, self.detail, self.param, self.code)

    def response(self) -> JSONResponse:
        """Give the answer."""
        return JSONResponse(self.to_json(), self.status_code, self.headers)


def error_body(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """Give the body of an answer that tells of an error."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
