"""A world whose notices are taken: desk, subscriptions and orders joined to the sessions, over stores in memory."""

from __future__ import annotations

from dataclasses import dataclass

from sipserver.alarms import Desk
from sipserver.orders import Orders
from sipserver.subscriptions import Subscriptions
from sipserver.told import connect
from tests.gb.harness import DOMAIN, PLATFORM, World
from tests.gb.stores import MemoryAlarms, MemoryOrders, MemoryPositions, MemorySettings


@dataclass(slots=True, kw_only=True)
class Office:
    """Everything that takes what devices tell."""

    world: World
    alarms: MemoryAlarms
    positions: MemoryPositions
    settings: MemorySettings
    stored: MemoryOrders
    desk: Desk
    subscriptions: Subscriptions
    orders: Orders


def office(world: World) -> Office:
    """Join it to a world."""
    sessions, clock, publish = world.sessions, world.clock, world.published.append
    alarms, positions, settings, stored = MemoryAlarms(), MemoryPositions(), MemorySettings(), MemoryOrders()
    desk = Desk(
        queries=sessions.queries,
        controls=sessions.controls,
        bindings=world.bindings,
        profiles=sessions.profiles,
        background=sessions.background,
        channels=world.store,
        alarms=alarms,
        positions=positions,
        states=settings,
        clock=clock,
        publish=publish,
    )
    subscriptions = Subscriptions(
        world.transport,
        world.bindings,
        sessions.profiles,
        sessions.background,
        identity=PLATFORM,
        domain=DOMAIN,
        clock=clock,
        token=world.token,
        next_sn=sessions.queries.next_sn,
    )
    orders = Orders(
        store=stored,
        controls=sessions.controls,
        channels=world.store,
        background=sessions.background,
        clock=clock,
        token=world.token,
        publish=publish,
    )
    connect(sessions, desk=desk, subscriptions=subscriptions, orders=orders)
    sessions.on_tick.append(orders.tick)
    return Office(
        world=world,
        alarms=alarms,
        positions=positions,
        settings=settings,
        stored=stored,
        desk=desk,
        subscriptions=subscriptions,
        orders=orders,
    )
