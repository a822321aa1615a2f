"""The queries of §9.5, §9.7 and annex A.2.4 one by one: what goes out in which edition, what comes back as values.

Every method raises QueryError (device_offline, no_answer within ten seconds, refused, device_error with the device's
reason, too_many). Answers that come later are counted and ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from sipserver.protocol import edition
from sipserver.protocol.catalogue import record_identity
from sipserver.protocol.edition import Edition
from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.manscdp import (
    AlarmQuery,
    AlarmResponse,
    ConfigDownloadQuery,
    ConfigDownloadResponse,
    CruiseTrack,
    CruiseTrackListQuery,
    CruiseTrackListResponse,
    CruiseTrackQuery,
    CruiseTrackResponse,
    DeviceStatusQuery,
    DeviceStatusResponse,
    HomePosition,
    HomePositionQuery,
    HomePositionResponse,
    MobilePositionQuery,
    PersetQuery,
    Preset,
    PresetQuery,
    PresetResponse,
    PtzPositionQuery,
    PtzPositionResponse,
    RecordInfoQuery,
    RecordItem,
    SdCard,
    SdCardQuery,
    SdCardResponse,
)
from sipserver.protocol.manscdp_config import BLOCKS, SINCE
from sipserver.queries import Queries, QueryError

_HOUR: Final = 3600.0
MAX_SLICES: Final = 366


class NotInEditionError(QueryError):
    """The device said it speaks an edition that does not know this."""

    def __init__(self) -> None:
        super().__init__("not_supported")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordList:
    """Recordings sorted by start, without doubles; ``complete`` False when parts are missing."""

    items: tuple[RecordItem, ...]
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFilter:
    """What recordings are wanted; the last three only reach devices of the 2022 edition."""

    kind: str = "all"
    file_path: str | None = None
    address: str | None = None
    secrecy: bool | None = False
    recorder: str | None = None
    indistinct: int | None = None
    stream_number: int | None = None
    alarm_methods: tuple[int, ...] = ()
    alarm_types: tuple[int, ...] = ()


def method_list(methods: Iterable[int], of: Edition) -> str | None:
    """Alarm methods as the edition joins them: ``2/5`` since 2022, ``25`` before; None for none."""
    return ("/" if of >= edition.GB_2022 else "").join(str(method) for method in methods) or None


def require(of: Edition, announced: str | None, since: Edition) -> None:
    """Raise NotInEditionError when the device has said that it is older; who said nothing is tried."""
    if announced is not None and of < since:
        raise NotInEditionError


class Inquiries:
    """Asks one device one thing."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def status(self, device: DeviceKey, *, target: GbId | None = None) -> DeviceStatusResponse:
        """The working state of the device, or of a channel of it."""
        bound = self._queries.require(device)
        query = DeviceStatusQuery(sn=self._queries.next_sn(), device_id=target or bound.gb_id)
        return await self._queries.ask(bound, query, DeviceStatusResponse)

    async def records(
        self, device: DeviceKey, channel: GbId, *, start: float, end: float, wanted: RecordFilter | None = None
    ) -> RecordList:
        """Recordings between two unix times, asked for in slices where the device's profile says so."""
        found: dict[Any, RecordItem] = {}
        complete = True
        hours = self._queries.profile(device).number("record_slice_hours")
        for begin, stop in slices(start, end, hours * _HOUR):
            part = await self._records(device, channel, begin, stop, wanted or RecordFilter())
            found.update({record_identity(item): item for item in part.items})
            complete = complete and part.complete
        items = sorted(found.values(), key=lambda item: (item.start_time or 0.0, item.end_time or 0.0))
        return RecordList(items=tuple(items), complete=complete)

    async def _records(
        self, device: DeviceKey, channel: GbId, start: float, end: float, wanted: RecordFilter
    ) -> RecordList:
        bound = self._queries.require(device)
        of = self._queries.edition(bound)
        modern = of >= edition.GB_2022
        query = RecordInfoQuery(
            sn=self._queries.next_sn(),
            device_id=channel,
            start_time=start,
            end_time=end,
            file_path=wanted.file_path,
            address=wanted.address,
            secrecy=wanted.secrecy,
            type=wanted.kind if wanted.kind != "all" or self._queries.profile(device).flag("record_type") else None,
            recorder_id=wanted.recorder,
            indistinct=wanted.indistinct,
            stream_number=wanted.stream_number if modern else None,
            alarm_method=method_list(wanted.alarm_methods, of) if modern else None,
            alarm_type="/".join(str(kind) for kind in wanted.alarm_types) or None if modern else None,
        )
        found = await self._queries.records(bound, query)
        return RecordList(items=found.items, complete=found.complete)

    async def config(
        self, device: DeviceKey, types: Iterable[str], *, target: GbId | None = None
    ) -> ConfigDownloadResponse:
        """Configuration blocks, merged from one or several answers. KeyError for a name that is no ConfigType."""
        bound = self._queries.require(device)
        of = self._queries.edition(bound)
        names = tuple(dict.fromkeys(types))
        for name in names:
            require(of, bound.version, Edition(SINCE[name]))
        wanted = set(names)
        query = ConfigDownloadQuery(
            sn=self._queries.next_sn(), device_id=target or bound.gb_id, config_type="/".join(names)
        )
        parts = await self._queries.ask_many(
            bound,
            query,
            ConfigDownloadResponse,
            # One vendor names the blocks differently: as many blocks as types were asked for is enough, too.
            enough=lambda given: len({name for part in given for name in part.blocks()}) >= len(wanted),
        )
        merged: dict[str, Any] = {}
        for part in parts:
            merged.update({BLOCKS[name]: value for name, value in part.blocks().items()})
        return ConfigDownloadResponse(sn=query.sn, device_id=parts[0].device_id, **merged)

    async def presets(self, device: DeviceKey, channel: GbId) -> tuple[Preset, ...]:
        """The presets of a channel; edition 1.1 calls the query PersetQuery."""
        bound = self._queries.require(device)
        of = self._queries.edition(bound)
        require(of, bound.version, edition.GB_2014)
        kind = PersetQuery if of <= edition.GB_2014 else PresetQuery
        query = kind(sn=self._queries.next_sn(), device_id=channel)
        parts = await self._queries.ask_many(
            bound, query, PresetResponse, enough=lambda given: _enough(given, lambda part: part.presets)
        )
        return tuple(preset for part in parts for preset in part.presets)

    async def home_position(self, device: DeviceKey, channel: GbId) -> HomePosition | None:
        """The guard position, None when there is none."""
        bound = self._queries.require(device)
        require(self._queries.edition(bound), bound.version, edition.GB_2022)
        query = HomePositionQuery(sn=self._queries.next_sn(), device_id=channel)
        return (await self._queries.ask(bound, query, HomePositionResponse)).home

    async def cruise_tracks(self, device: DeviceKey, channel: GbId) -> tuple[CruiseTrack, ...]:
        """The cruise tracks of a channel."""
        bound = self._queries.require(device)
        require(self._queries.edition(bound), bound.version, edition.GB_2022)
        query = CruiseTrackListQuery(sn=self._queries.next_sn(), device_id=channel)
        parts = await self._queries.ask_many(
            bound, query, CruiseTrackListResponse, enough=lambda given: _enough(given, lambda part: part.tracks)
        )
        return tuple(track for part in parts for track in part.tracks)

    async def cruise_track(self, device: DeviceKey, channel: GbId, number: int) -> CruiseTrackResponse:
        """One cruise track with its stops; 0 is the first."""
        bound = self._queries.require(device)
        require(self._queries.edition(bound), bound.version, edition.GB_2022)
        query = CruiseTrackQuery(sn=self._queries.next_sn(), device_id=channel, number=number)
        return await self._queries.ask(bound, query, CruiseTrackResponse)

    async def ptz_position(self, device: DeviceKey, channel: GbId) -> PtzPositionResponse:
        """Where the camera looks."""
        bound = self._queries.require(device)
        require(self._queries.edition(bound), bound.version, edition.GB_2022)
        query = PtzPositionQuery(sn=self._queries.next_sn(), device_id=channel)
        return await self._queries.ask(bound, query, PtzPositionResponse)

    async def sd_cards(self, device: DeviceKey, *, target: GbId | None = None) -> tuple[SdCard, ...]:
        """The memory cards."""
        bound = self._queries.require(device)
        require(self._queries.edition(bound), bound.version, edition.GB_2022)
        query = SdCardQuery(sn=self._queries.next_sn(), device_id=target or bound.gb_id)
        parts = await self._queries.ask_many(
            bound, query, SdCardResponse, enough=lambda given: _enough(given, lambda part: part.cards)
        )
        return tuple(card for part in parts for card in part.cards)

    async def mobile_position(self, device: DeviceKey, *, target: GbId | None = None, interval: int = 5) -> None:
        """Ask for a position once; it comes as a notice, like those of a subscription."""
        bound = self._queries.require(device)
        query = MobilePositionQuery(sn=self._queries.next_sn(), device_id=target or bound.gb_id, interval=interval)
        await self._queries.send(bound, query)

    async def alarms(self, device: DeviceKey, query: AlarmQuery) -> None:
        """The alarm query of the editions before subscriptions; the device acknowledges it (its SN is replaced)."""
        bound = self._queries.require(device)
        asked = AlarmQuery(
            sn=self._queries.next_sn(),
            device_id=query.device_id or bound.gb_id,
            start_priority=query.start_priority,
            end_priority=query.end_priority,
            method=query.method,
            type=query.type,
            start_time=query.start_time,
            end_time=query.end_time,
        )
        await self._queries.ask(bound, asked, AlarmResponse)


def slices(start: float, end: float, step: float) -> list[tuple[float, float]]:
    """A range cut into pieces of ``step`` seconds (0: one piece), longer ones where more than MAX_SLICES came out."""
    if step <= 0 or end - start <= step:
        return [(start, end)]
    step = max(step, (end - start) / MAX_SLICES)
    count = math.ceil((end - start) / step)
    return [(start + step * n, min(start + step * (n + 1), end)) for n in range(count)]


def _enough(parts: list[Any], members: Callable[[Any], tuple[object, ...]]) -> bool:
    """True when as many members came as were announced, or nothing was."""
    total = parts[-1].sum_num
    return total is None or sum(len(members(part)) for part in parts) >= total
