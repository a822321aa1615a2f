"""Joins what devices tell by themselves to those who take it: the desk, the directory, the orders."""

from __future__ import annotations

from sipserver.alarms import Desk
from sipserver.devices import DeviceSessions
from sipserver.orders import Orders
from sipserver.protocol.manscdp import (
    Alarm,
    CatalogNotify,
    CatalogResponse,
    MobilePosition,
    PtzPositionNotify,
    PtzView,
    SnapshotFinished,
    UpgradeResult,
    VideoUploadNotify,
)
from sipserver.subscriptions import Notice, Subscriptions


def connect(sessions: DeviceSessions, *, desk: Desk, subscriptions: Subscriptions, orders: Orders) -> None:
    """After this every notice, by MESSAGE or NOTIFY, reaches its taker."""
    sessions.subscriptions = subscriptions
    sessions.on_alarm = desk.alarm
    sessions.on_notice(MobilePosition, lambda event, bound, message: desk.position(bound, message))
    sessions.on_notice(PtzPositionNotify, lambda event, bound, message: desk.view(bound, message))
    sessions.on_notice(SnapshotFinished, lambda event, bound, message: orders.snapshots_finished(bound, message))
    sessions.on_notice(UpgradeResult, lambda event, bound, message: orders.upgrade_result(bound, message))
    sessions.on_notice(VideoUploadNotify, lambda event, bound, message: orders.upload_requested(bound, message))

    def notified(notice: Notice) -> None:
        bound, message, target = notice.bound, notice.message, notice.wanted.target
        sessions.presence.heard(bound)
        if isinstance(message, CatalogNotify | CatalogResponse):  # the 2011 edition has the root Response here
            sessions.directory.changed(bound, message.items, initial=notice.first)
        elif isinstance(message, Alarm):
            desk.alarm(bound, message)
        elif isinstance(message, MobilePosition):
            desk.position(bound, message, subscribed=target)
        elif isinstance(message, PtzView):
            desk.view(bound, message, subscribed=target)
        else:
            subscriptions.counters["unexpected"] += 1

    subscriptions.on_notice = notified
