"""What a server counts, for Prometheus."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The counts of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._requests = Counter(
            "onnx_deconv_requests",
            "Answered requests, by route, model and status.",
            ["route", "model", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "onnx_deconv_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route", "model"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._images = Histogram(
            "onnx_deconv_run_images",
            "Images that ran together.",
            buckets=_IMAGES,
            registry=self._registry,
        )
        self._open = Gauge(
            "onnx_deconv_open_requests", "Requests that are worked on or wait.", registry=self._registry
        )

    def ran(self, images: int) -> None:
        """Count a run of a model."""
        self._images.observe(images)

    def opened(self, count: int) -> None:
        """Tell how many requests are open."""
        self._open.set(count)

    def answered(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(route, model, str(status)).inc()
        self._seconds.labels(route, model).observe(seconds)

    def text(self) -> bytes:
        """Write all counts as Prometheus reads them."""
        return generate_latest(self._registry)
