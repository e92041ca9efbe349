"""Running the application: where it listens, what it says at its start, how it ends."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from precis.errors import SettingsError
from precis.serve.app import ServerSettings, create_app
from precis.serve.service import Service

# Beside the connections: files of the library, of the queue of compiles, and what Python has open.
OTHER_FILES = 200
# What answers that have ended get to reach their clients before connections are cut.
LAST_WORDS_S = 5


class Server(uvicorn.Server):
    """A server that ends gently: it refuses what is new, finishes what runs, and stops.

    A second signal stops it at once.
    """

    def __init__(self, app: Any, settings: ServerSettings, announce: Callable[[str], None]) -> None:
        limits = settings.limits
        super().__init__(
            uvicorn.Config(
                app,
                log_level="critical",  # the application logs its own failures, without texts
                access_log=False,  # paths name documents
                lifespan="on",
                limit_concurrency=limits.connections,
                timeout_graceful_shutdown=LAST_WORDS_S,
                server_header=False,
                ws="none",
            )
        )
        self._app = app
        self._settings = settings
        self._announce = announce
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None
        self._asked_to_end = False
        self.address = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and announce the address."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if not self.started:
            return
        bound = (sockets or self.servers[0].sockets)[0].getsockname()
        host = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        self.address = f"http://{host}:{bound[1]}"
        service: Service = self._app.state.service
        entries = service.library.entries.values()
        usable = sum(entry.usable for entry in entries)
        broken = f", {len(entries) - usable} left out (see /health)" if usable < len(entries) else ""
        documents = "1 document" if usable == 1 else f"{usable} documents"
        self._announce(
            f"Serving {documents} of {self._settings.library}{broken} with {service.model.name} at "
            f"{self.address} (API: {self.address}/v1)"
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End gently at the first signal, at once at the second."""
        if self._asked_to_end or self._loop is None:
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT
            return
        self._asked_to_end = True
        self._loop.call_soon_threadsafe(self.end)

    def end(self) -> None:
        """Begin to end; in the event loop's thread."""
        self._asked_to_end = True
        self._ending = asyncio.ensure_future(self._end())

    async def _end(self) -> None:
        service: Service = self._app.state.service
        self._app.state.jobs.release_watchers()
        await service.drain()
        self.should_exit = True


def serve(settings: ServerSettings, announce: Callable[[str], None]) -> None:
    """Serve a library until a signal ends it.

    Raises
    ------
    SettingsError
        The library or the address cannot be used.
    ModelError
        The model cannot be loaded.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    app = create_app(settings)
    listening = _listen(settings.host, settings.port)
    _allow_files(settings.limits.connections + OTHER_FILES)
    server = Server(app, settings, announce)
    try:
        asyncio.run(server.serve(sockets=[listening]))
    except SystemExit:  # how the HTTP server answers a start that failed; what failed is said below
        if app.state.failure is None:
            raise
    finally:
        listening.close()
    if not server.started:
        raise app.state.failure or SettingsError("The server was stopped before it had started.")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise SettingsError(
            f"The server cannot listen at {host}, port {port}: {error.strerror or error}. Choose another "
            "port (0: any that is free) or host.",
            settings=("port", "host"),
        ) from error
    return listening


def _allow_files(wanted: int) -> None:
    """Let the process have as many files open as connections need, if the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
