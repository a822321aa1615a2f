"""The rate limit on a virtual clock, and the fan-out of live events."""

from __future__ import annotations

import asyncio

import pytest

from api.eventbus import BusClosed, EventBus, Lagged, TooManySubscribers
from api.throttle import SourceLimit, source_of

NOW = 1_700_000_000.0


def test_a_source_has_a_burst_and_then_a_rate() -> None:
    limit = SourceLimit(burst=3, rate=0.5)
    assert [limit.take("10.0.0.1", now=NOW) for _ in range(4)] == [0, 0, 0, 2]
    assert limit.take("10.0.0.2", now=NOW) == 0
    assert limit.take("10.0.0.1", now=NOW + 1) == 1
    assert limit.take("10.0.0.1", now=NOW + 2.5) == 0


def test_the_table_is_bounded_and_forgets_the_longest_untouched() -> None:
    limit = SourceLimit(burst=1, rate=0.01, limit=50)
    assert limit.take("10.0.0.1", now=NOW) == 0
    for number in range(49):
        limit.take(f"10.1.0.{number}", now=NOW)
    assert limit.take("10.0.0.1", now=NOW) > 0
    for number in range(49):
        limit.take(f"10.2.0.{number}", now=NOW)
    assert len(limit) == 50
    assert limit.take("10.0.0.1", now=NOW) > 0


@pytest.mark.parametrize(
    ("ip", "unit"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("usr_abc", "usr_abc"),
    ],
)
def test_the_counted_source(ip: str, unit: str) -> None:
    assert source_of(ip) == unit


async def test_every_subscriber_gets_every_event_in_order() -> None:
    bus = EventBus()
    with bus.subscribe() as one, bus.subscribe() as two:
        for number in range(3):
            bus.publish(number)
        assert [await one.next() for _ in range(3)] == [0, 1, 2]
        assert [await two.next() for _ in range(3)] == [0, 1, 2]
    assert bus.subscribers == 0


async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many() -> None:
    bus = EventBus(limit=4)
    with bus.subscribe() as slow:
        for number in range(10):
            bus.publish(number)
        lagged = await slow.next()
        assert isinstance(lagged, Lagged)
        assert lagged.lost == 6
        assert [await slow.next() for _ in range(4)] == [6, 7, 8, 9]


async def test_close_wakes_a_waiting_reader() -> None:
    bus = EventBus()
    reader = bus.subscribe()
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    bus.close()
    with pytest.raises(BusClosed):
        await waiting
    with pytest.raises(BusClosed):
        bus.subscribe()


async def test_subscribers_are_bounded() -> None:
    bus = EventBus(subscribers=2)
    with bus.subscribe(), bus.subscribe(), pytest.raises(TooManySubscribers):
        bus.subscribe()
