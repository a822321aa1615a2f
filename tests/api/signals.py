"""The signalling side for tests of the HTTP interface: of a world with devices, or one in which none is registered."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from api.services import Signals
from sipserver.bindings import Bindings
from sipserver.devices import DeviceSessions
from sipserver.orders import Orders
from sipserver.protocol.ids import GbId
from sipserver.subscriptions import Subscriptions
from tests.gb.office import Office
from tests.gb.stores import MemoryAlarms, MemoryOrders, MemoryPositions, MemorySettings


def signals_of(office: Office, folder: Path) -> Signals:
    """What requests use of a world in memory."""
    sessions = office.world.sessions
    return Signals(
        inquiries=sessions.inquiries,
        controls=sessions.controls,
        profiles=sessions.profiles,
        subscriptions=office.subscriptions,
        orders=office.orders,
        settings=office.settings,
        alarms=office.alarms,
        positions=office.positions,
        stored_orders=office.stored,
        query_info=sessions.query_device_info,
        snapshot_dir=folder,
        upload_base="http://platform.test/api/v1/snapshot-uploads",
    )


def no_signals(folder: Path) -> Signals:
    """Nobody is registered, so nothing is ever sent."""
    nowhere = cast(Any, SimpleNamespace())
    bindings = Bindings()
    sessions = DeviceSessions(
        nowhere, nowhere, bindings, clock=lambda: 0.0, token=lambda n: "0" * 2 * n, publish=lambda event: None
    )
    subscriptions = Subscriptions(
        nowhere,
        bindings,
        sessions.profiles,
        sessions.background,
        identity=GbId("34020000002000000001"),
        domain="3402000000",
        clock=lambda: 0.0,
        token=lambda n: "0" * 2 * n,
        next_sn=sessions.queries.next_sn,
    )
    stored = MemoryOrders()
    orders = Orders(
        store=stored,
        controls=sessions.controls,
        channels=nowhere,
        background=sessions.background,
        clock=lambda: 0.0,
        token=lambda n: "0" * 2 * n,
        publish=lambda event: None,
    )
    return Signals(
        inquiries=sessions.inquiries,
        controls=sessions.controls,
        profiles=sessions.profiles,
        subscriptions=subscriptions,
        orders=orders,
        settings=MemorySettings(),
        alarms=MemoryAlarms(),
        positions=MemoryPositions(),
        stored_orders=stored,
        query_info=sessions.query_device_info,
        snapshot_dir=folder,
    )
