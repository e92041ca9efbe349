"""Metrics for Prometheus: counts and times, and never a name or a text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from precis.serve.api.api_error import ApiError
from precis.serve.logs import log_failure

if TYPE_CHECKING:
    from precis.serve.engine.engine import Engine
    from precis.serve.library import Library

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# The status of a request whose client went away before the answer; no one sees it but the metrics.
GONE = 499


class Metrics:
    """What is counted of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "precis_requests", "Requests, by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "precis_request_seconds",
            "Time from a request to the end of its answer.",
            ["route"],
            registry=self.registry,
            buckets=SECONDS,
        )
        self.first_token = Histogram(
            "precis_first_token_seconds",
            "Time from a request to the first token of its answer, waiting included.",
            registry=self.registry,
            buckets=SECONDS,
        )
        self.tokens = Counter(
            "precis_tokens", "Tokens of questions and of answers.", ["kind"], registry=self.registry
        )

    def watch(self, engine: Engine, library: Library) -> None:
        """Tell of an engine and a library whenever metrics are asked for."""
        self.registry.register(_State(engine, library))


class _State(Collector):
    """What an engine and a library are doing now."""

    def __init__(self, engine: Engine, library: Library) -> None:
        self.engine = engine
        self.library = library

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        engine, at_work = self.engine, self.engine.at_work
        yield GaugeMetricFamily("precis_rows_at_work", "Answers being written now.", at_work)
        waiting = max(0, engine.rows - at_work)
        yield GaugeMetricFamily("precis_rows_waiting", "Answers that wait, or whose text is read.", waiting)
        yield CounterMetricFamily("precis_forward_passes", "Passes of the network.", engine.steps)
        entries = self.library.entries.values()
        documents = GaugeMetricFamily("precis_documents", "Files in the library.", labels=["state"])
        documents.add_metric(["usable"], sum(entry.usable for entry in entries))
        documents.add_metric(["broken"], sum(not entry.usable for entry in entries))
        yield documents
        yield GaugeMetricFamily(
            "precis_open_documents_bytes", "Memory of documents kept open.", self.library.open_bytes
        )


class Watch:
    """Middleware that counts and times requests, and answers for what nobody expected to fail."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, seen)
        except Exception as error:
            log_failure(f"{scope['method']} {_route(scope)} failed", error)
            if status:  # half of an answer is out: the connection must break, so that this is seen
                raise ConnectionAbortedError from None
            await internal_error()(scope, receive, seen)
        finally:
            route = _route(scope)
            self.metrics.requests.labels(route, str(status or GONE)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - start)


def _route(scope: Scope) -> str:
    """Name the route, not the path: paths hold names of documents, which are without number."""
    return getattr(scope.get("route"), "path", "other")


def internal_error() -> Response:
    """Give the answer where the server is at fault."""
    return ApiError(
        500, "The server failed on this request, for a reason that its log holds.", code="internal_error"
    ).response()
