"""Who may ask: API keys, and no other site's pages in a browser."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from precis.errors import SettingsError
from precis.serve.api.api_error import ApiError

SHORTEST_KEY = 16
LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain"})


def read_keys(path: Path) -> frozenset[str]:
    """Read a file of API keys, one a line; blank lines and those that begin with # say nothing.

    Raises
    ------
    SettingsError
        The file cannot be read, or holds no key, or one that is too short or not plain.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The file of API keys {path} cannot be read: {error}.") from error
    keys = frozenset(line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))
    if not keys:
        raise SettingsError(f"{path} holds no API key; write one a line.")
    for key in keys:
        if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise SettingsError(
                f"{path} holds a key that will not do: a key has {SHORTEST_KEY} characters or more, of "
                "printable ASCII without blanks. Make one with 'openssl rand -hex 32'."
            )
    return keys


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, keys: frozenset[str]) -> None:
    """Refuse to be reached from elsewhere without keys.

    Raises
    ------
    SettingsError
        The address is not loopback, and there are no keys.
    """
    if not keys and not is_loopback(host):
        raise SettingsError(
            f"The host {host} can be reached from other machines, so API keys are required: write one a line "
            "into a file ('openssl rand -hex 32' makes one) and name it. Without keys use 127.0.0.1.",
            settings=("api_key_file", "host"),
        )


class Access:
    """Middleware that lets in who may ask.

    With keys, everything but `open_paths` wants one (`Authorization: Bearer KEY`). Without, the server is
    this machine's own: it then answers only to the names of this machine, so that no other site's name
    can be pointed at the server. Pages of other origins are never let in: a browser would let them send
    requests, though not read the answers.

    Parameters
    ----------
    app
        The application that it protects.
    keys
        The API keys; none: no key is wanted.
    open_paths
        Paths that want no key.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[str], open_paths: frozenset[str]) -> None:
        self.app = app
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]
        self._open = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer with a refusal."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refusal(scope["path"], headers)
        if refused is not None:
            await refused.response()(scope, receive, send)
            return
        scope.setdefault("state", {})["known"] = not self._digests or self._has_key(headers)
        await self.app(scope, receive, send)

    def _refusal(self, path: str, headers: Headers) -> ApiError | None:
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and _part(origin, "netloc") != host:
            return ApiError(403, "Pages of other origins may not use this server.", code="origin_not_allowed")
        if not self._digests:
            if host and not is_loopback(_part(f"//{host}", "hostname")):
                return ApiError(
                    403,
                    "Without API keys this server answers only to this machine's own names, such as "
                    "localhost. With API keys it can be reached by others.",
                    code="host_not_allowed",
                )
            return None
        if path in self._open or self._has_key(headers):
            return None
        given = "authorization" in headers
        return ApiError(
            401,
            "This API key is not known. Check it."
            if given
            else "An API key is required: send it as 'Authorization: Bearer KEY'.",
            code="invalid_api_key" if given else "missing_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _has_key(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        given = hashlib.sha256(key.strip().encode()).digest()
        # all of them, always: how long it takes says nothing about which is near
        return sum(hmac.compare_digest(given, digest) for digest in self._digests) > 0


def _part(address: str, name: str) -> str:
    """Give a part of an address, or nothing where the address is malformed."""
    try:
        return getattr(urlsplit(address), name) or ""
    except ValueError:
        return ""
