"""Figures of the HTTP interface in the process's Prometheus registry; label domains are closed sets."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class HttpMetrics:
    """`route` is a route template (as many as there are routes), `status` a class such as `2xx`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "mingjian_http_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "mingjian_http_request_seconds", "Time to the end of the answer.", ["route"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.logins = Counter("mingjian_logins", "Login attempts by outcome.", ["outcome"], registry=registry)
        self.refusals = Counter(
            "mingjian_stream_refusals", "Streams refused, by stable code.", ["code"], registry=registry
        )
        self.live_clients = Gauge("mingjian_event_clients", "Open live-event connections.", registry=registry)
        self.lagged = Counter("mingjian_events_lost", "Live events dropped for slow clients.", registry=registry)

    def observe(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """`status` 499 stands for a caller that left before the answer."""
        label = "client_left" if status == 499 else f"{status // 100}xx"
        self._requests.labels(route=route, method=method, status=label).inc()
        self._seconds.labels(route=route).observe(seconds)
