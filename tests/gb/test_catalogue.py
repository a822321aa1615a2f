"""The collector of multi-part answers by itself: completeness, lies, bounds, time (annex M)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipserver.protocol.catalogue import (
    Collected,
    Collector,
    CollectorLimits,
    Key,
    Late,
    Progress,
    Unexpected,
    record_identity,
)
from sipserver.protocol.errors import LocalProtocolError
from sipserver.protocol.manscdp import RecordItem

KEY = Key("dev_a", "Catalog", 17)


def collector(**limits: float) -> Collector[int]:
    """Items are numbers; negative ones name nothing."""
    return Collector(lambda item: item if item >= 0 else None, limits=CollectorLimits(**limits))  # type: ignore[arg-type]


def test_CAT_02_complete_when_the_sum_is_reached() -> None:
    collect = collector()
    collect.start(KEY, now=0)
    assert collect.part(KEY, [1, 2], total=3, now=1) == Progress(key=KEY, received=2, total=3)
    done = collect.part(KEY, [3], total=3, now=2)
    assert done == Collected(key=KEY, items=(1, 2, 3), complete=True, reason="complete", total=3, parts=2)
    assert len(collect) == 0
    assert collect.load == (0, 0)


def test_CAT_03_a_copy_of_a_part_counts_once() -> None:
    collect = collector()
    collect.start(KEY, now=0)
    for _ in range(5):
        assert isinstance(collect.part(KEY, [1, 2, 2, -1], total=6, now=0), Progress)
    assert isinstance(collect.part(KEY, [3, 4], total=6, now=0), Collected)


def test_CAT_04_idle_timer_and_first_part_timer() -> None:
    collect = collector(first=60, gap=10)
    collect.start(KEY, now=0)
    assert collect.next_timeout() == 60
    assert collect.expire(now=59) == []
    collect.part(KEY, [1], total=2, now=59)
    assert collect.next_timeout() == 69
    (ended,) = collect.expire(now=69)
    assert (ended.items, ended.complete, ended.reason) == ((1,), False, "idle")
    collect.start(KEY, now=100)
    (ended,) = collect.expire(now=160)
    assert (ended.items, ended.complete, ended.reason) == ((), False, "no_answer")
    assert collect.next_timeout() is None


def test_CAT_06_announced_total_changes_last_one_counts() -> None:
    collect = collector()
    collect.start(KEY, now=0)
    collect.part(KEY, [1, 2], total=10, now=0)
    collect.part(KEY, [3], total=None, now=0)
    collect.part(KEY, [4], total=-1, now=0)
    assert isinstance(collect.part(KEY, [5], total=5, now=0), Collected)


def test_CAT_06_total_never_said_ends_by_time_and_is_partial() -> None:
    collect = collector(gap=10)
    collect.start(KEY, now=0)
    collect.part(KEY, [1, 2], total=None, now=0)
    (ended,) = collect.expire(now=10)
    assert (ended.items, ended.complete) == ((1, 2), False)


def test_CAT_06_fewer_than_known_settles_first() -> None:
    collect = collector(settle=5)
    collect.start(KEY, now=0, expected=3)
    assert isinstance(collect.part(KEY, [1], total=1, now=0), Progress)
    assert isinstance(collect.part(KEY, [1], total=1, now=4), Progress)
    (ended,) = collect.expire(now=5)
    assert (ended.items, ended.complete) == ((1,), True)


def test_CAT_06_more_after_the_sum_makes_it_partial() -> None:
    collect = collector(settle=5)
    collect.start(KEY, now=0, expected=3)
    for number in (1, 2, 3):
        assert isinstance(collect.part(KEY, [number], total=1, now=0), Progress)
    (ended,) = collect.expire(now=5)
    assert (ended.items, ended.complete, ended.reason) == ((1, 2, 3), False, "inconsistent")


def test_CAT_07_parts_after_the_end_are_late_for_a_while_then_unexpected() -> None:
    collect = collector(remember=300)
    collect.start(KEY, now=0)
    collect.part(KEY, [1, 2], total=2, now=0)
    assert collect.part(KEY, [2, -1], total=1, now=10) == Late(key=KEY, items=(2,))
    assert collect.part(KEY, [2], total=1, now=301) == Unexpected(key=KEY)
    assert collect.part(KEY._replace(sn=18), [2], total=1, now=0) == Unexpected(key=KEY._replace(sn=18))
    assert collect.part(KEY._replace(peer="dev_b"), [2], total=1, now=0) == Unexpected(key=KEY._replace(peer="dev_b"))


def test_CAT_30_two_queries_do_not_mix() -> None:
    collect = collector()
    other = KEY._replace(sn=18)
    collect.start(KEY, now=0)
    collect.start(other, now=0)
    with pytest.raises(LocalProtocolError, match="collection_already_open"):
        collect.start(KEY, now=0)
    collect.part(KEY, [1], total=2, now=0)
    collect.part(other, [5], total=2, now=0)
    done = collect.part(KEY, [2], total=2, now=0)
    assert isinstance(done, Collected)
    assert done.items == (1, 2)


def test_bounds() -> None:
    collect = collector(max_items=10, max_octets=1000, max_open=2, max_finished=3)
    collect.start(KEY, now=0)
    ended = collect.part(KEY, range(50), total=50, now=0)
    assert isinstance(ended, Collected)
    assert (len(ended.items), ended.complete, ended.reason) == (10, False, "too_large")
    assert collect.load == (0, 0)
    collect.start(KEY, now=0)
    collect.part(KEY, [1], total=50, now=0, octets=900)
    assert collect.load == (1, 900)
    ended = collect.part(KEY, [2], total=50, now=0, octets=101)
    assert isinstance(ended, Collected)
    assert (ended.items, ended.reason) == ((1,), "too_large")
    for sn in (1, 2):
        collect.start(KEY._replace(sn=sn), now=0)
    with pytest.raises(LocalProtocolError, match="collections_full"):
        collect.start(KEY._replace(sn=3), now=0)
    for sn in range(1, 20):
        collect.cancel(KEY._replace(sn=sn), now=0)
        collect.start(KEY._replace(sn=sn + 100), now=0)
        collect.cancel(KEY._replace(sn=sn + 100), now=0)
    assert len(collect._finished) <= 3


def test_cancel() -> None:
    collect = collector()
    assert collect.cancel(KEY, now=0) is None
    collect.start(KEY, now=0)
    collect.part(KEY, [1], total=5, now=0)
    ended = collect.cancel(KEY, now=0)
    assert ended is not None
    assert (ended.items, ended.complete, ended.reason) == ((1,), False, "cancelled")


def test_QRY_05_recordings_are_told_apart() -> None:
    one = RecordItem(start_time=1.0, end_time=2.0, file_path="a")
    assert record_identity(one) == record_identity(RecordItem(start_time=1.0, end_time=2.0, file_path="a", size=9))
    assert record_identity(one) != record_identity(RecordItem(start_time=1.0, end_time=2.0, file_path="b"))
    assert record_identity(RecordItem(name="x")) is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(-1, 12), max_size=6), st.one_of(st.none(), st.integers(-2, 15))), max_size=12
    ),
    st.integers(0, 12),
)
def test_whatever_comes_it_ends_and_counts_stay_right(parts: list[tuple[list[int], int | None]], expected: int) -> None:
    collect = collector(max_items=10, gap=10, settle=5, first=60)
    collect.start(KEY, now=0, expected=expected)
    results: list[Collected[int]] = []
    for number, (items, total) in enumerate(parts):
        outcome = collect.part(KEY, items, total=total, now=number, octets=1)
        results.extend([outcome] if isinstance(outcome, Collected) else [])
    results += collect.expire(now=1000)
    (ended,) = results
    assert len(set(ended.items)) == len(ended.items) <= 10
    assert all(item >= 0 for item in ended.items)
    assert ended.complete == (ended.reason == "complete")
    assert collect.load == (0, 0)
    assert len(collect) == 0
