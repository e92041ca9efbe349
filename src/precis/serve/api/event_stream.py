"""Server-sent events to a client that may hang up, or not read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from precis.serve.logs import log

# What a stream gets to end by itself when the server stops; less than connections get then.
LAST_EVENTS_S = 4.0


class EventStream(EventSourceResponse):
    """A stream of server-sent events.

    Parameters
    ----------
    events
        What to send.
    send_s
        How long the client may leave an event unread once the connection's buffers are full.
    ping_s
        Seconds between comments that keep proxies from closing a quiet connection; 0: none.
    at_end
        Called when the stream is over, however it ends.
    """

    def __init__(
        self,
        events: AsyncIterator[ServerSentEvent],
        *,
        send_s: float,
        ping_s: float = 0,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            events, ping=ping_s, send_timeout=send_s, shutdown_grace_period=LAST_EVENTS_S, sep="\n"
        )
        self._at_end = at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("A client that did not read its events was let go")
        finally:
            self._at_end()


def event(data: str, name: str | None = None) -> ServerSentEvent:
    """Give an event, with line ends that also simple clients split at."""
    return ServerSentEvent(data, event=name, sep="\n")
