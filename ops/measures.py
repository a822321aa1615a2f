"""What the platform tells Prometheus: engine, live play, registrar, SIP transport, bindings, ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Protocol

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from media.session import MediaPlane
from ops.signalling import Signalling
from sharing.ledger import Ledger
from sharing.service import Sharing
from sipserver.play import LivePlay

Source = Callable[[], Iterable[Metric] | Awaitable[Iterable[Metric]]]

# Everything else the engine counts since its start.
_ENGINE_GAUGES = {"sessions", "leases", "tcp_connections", "viewers", "connections"}


class Measured(Protocol):
    """The parts of a platform that are measured."""

    media: MediaPlane
    play: LivePlay
    signalling: Signalling
    ledger: Ledger
    sharing: Sharing


def metric_sources(platform: Measured) -> tuple[Source, ...]:
    """Callables that read their part at each scrape."""

    def engine() -> list[Metric]:
        return [
            (GaugeMetricFamily if name in _ENGINE_GAUGES else CounterMetricFamily)(
                f"mingjian_engine_{name}", f"Media engine: {name.replace('_', ' ')}.", value=value
            )
            for name, value in asdict(platform.media.stats()).items()
        ]

    def play() -> list[Metric]:
        gauges: list[Metric] = [
            GaugeMetricFamily(f"mingjian_live_{name}", f"Live play: {name} now.", value=value)
            for name, value in platform.play.load().items()
        ]
        gauges.append(GaugeMetricFamily("mingjian_leases_open", "Open leases.", value=len(platform.sharing.leases())))
        return gauges

    def signalling() -> list[Metric]:
        side = platform.signalling
        return [
            GaugeMetricFamily("mingjian_devices_online", "Registered devices.", value=len(side.bindings)),
            _counted("mingjian_registrations", "Registrar outcomes.", "outcome", side.registrar.counters),
            _counted("mingjian_device_messages", "Messages of devices by outcome.", "outcome", side.devices.counters),
            _counted("mingjian_sip_transport", "Oddities of the SIP transport.", "kind", side.transport.counters),
            _counted("mingjian_sip_core", "Oddities of the SIP core.", "kind", side.transport.endpoint.counters),
        ]

    async def ledger() -> list[Metric]:
        head = await platform.ledger.head()
        return [GaugeMetricFamily("mingjian_ledger_entries", "Rows of the access ledger.", value=head.size)]

    return engine, play, signalling, ledger


def _counted(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family
