"""Subscriptions of ours (§9.11, annex N): the table, the dialog on the wire, NOTIFYs and what they change."""

from __future__ import annotations

import pytest

from catalog.events import ChannelChanged
from catalog.model import ListedItem
from sipserver.protocol import manscdp
from sipserver.protocol.events import RequestReceived
from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.manscdp import (
    Alarm,
    AlarmQuery,
    CatalogItem,
    CatalogNotify,
    CatalogQuery,
    Message,
    MobilePosition,
    MobilePositionQuery,
    Position,
    PtzPositionNotify,
)
from sipserver.protocol.message import Headers, Request, Response, Uri
from sipserver.protocol.subscription import TABLE, Input, State, Subscription, subscription_state, verdict
from sipserver.subscriptions import Wanted
from tests.gb.editions import of_edition
from tests.gb.harness import CAMERA, DOMAIN, PLATFORM, START, FakeDevice, World, settle
from tests.gb.office import Office, office

CHANNEL = GbId("34020000001310000001")
OTHER = GbId("34020000001310000002")
THIRD = GbId("34020000001310000003")


class Notifier:
    """The other end of a subscription: keeps the SUBSCRIBEs, answers them, sends NOTIFYs in the dialog."""

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.status = 200
        self.body = b""
        self.granted: int | None = None
        self.silent = False
        self.received: list[Request] = []
        self._cseq = 0
        device.subscribed = self._take

    def _take(self, event: RequestReceived) -> None:
        self.received.append(event.request)
        if self.silent:
            return
        headers = [("Expires", event.request.headers.get("Expires") or "0")]
        if self.granted is not None:
            headers = [("Expires", str(self.granted))]
        if self.body:
            headers.append(("Content-Type", manscdp.CONTENT_TYPE))
        self.device.endpoint.respond(
            event.transaction, self.status, headers=headers, body=self.body, now=self.device.world.clock()
        )

    @property
    def last(self) -> Request:
        return self.received[-1]

    async def notify(
        self,
        message: Message | bytes | None,
        *,
        state: str = "active;expires=600",
        of: Request | None = None,
        call_id: str | None = None,
    ) -> Response:
        subscribe = of or self.last
        self._cseq += 1
        body = b"" if message is None else message if isinstance(message, bytes) else manscdp.build(message)
        headers = [
            ("From", f"<sip:{CAMERA.value}@{DOMAIN}>;tag=peer"),
            ("To", str(subscribe.from_)),
            ("Call-ID", call_id or subscribe.call_id),
            ("CSeq", f"{self._cseq} NOTIFY"),
            ("Event", subscribe.headers.get("Event") or ""),
            ("Subscription-State", state),
        ]
        if body:
            headers.append(("Content-Type", manscdp.CONTENT_TYPE))
        request = Request("NOTIFY", Uri(user=PLATFORM.value, host=DOMAIN), Headers(headers), body)
        self.device.endpoint.send_request(request, self.device.own_flow, now=self.device.world.clock())
        self.device.flush()
        return await self.device.answer()


async def subscribed(
    world: World, wanted: Wanted, version: str = "3.0"
) -> tuple[Office, DeviceKey, FakeDevice, Notifier]:
    desk = office(world)
    key, device = await of_edition(world, version)
    notifier = Notifier(device)
    desk.subscriptions.want(key, wanted)
    await settle()
    return desk, key, device, notifier


def state_of(desk: Office, key: DeviceKey) -> State:
    ((_, subscription),) = desk.subscriptions.of(key)
    return subscription.state


def listing(*items: CatalogItem, sn: int = 1) -> CatalogNotify:
    return CatalogNotify(sn=sn, device_id=CAMERA, sum_num=len(items), items=items)


# the table


def test_every_pair_of_the_table_leads_to_a_state_that_can_be_left_or_is_the_end() -> None:
    left = {state for state, _ in TABLE}
    for after, _ in TABLE.values():
        assert after in left or after is State.ENDED
    assert {state for state in State if state not in left} == {State.ENDED}


def test_pauses_grow_and_have_a_bound() -> None:
    subscription = Subscription(kind="alarm")
    pauses = []
    now = 0.0
    for _ in range(12):
        subscription.step(Input.DUE, now=now)
        subscription.step(Input.FAILED, now=now)
        assert subscription.due is not None
        pauses.append(subscription.due - now)
        now = subscription.due
    assert pauses[:3] == [10, 20, 40]
    assert max(pauses) == 600


@pytest.mark.parametrize(
    ("status", "given"),
    [
        (200, Input.ACCEPTED),
        (481, Input.GONE),
        (489, Input.UNSUPPORTED),
        (403, Input.UNSUPPORTED),
        (503, Input.FAILED),
        (408, Input.FAILED),
    ],
)
def test_verdicts(status: int, given: Input) -> None:
    assert verdict(status) is given


def test_subscription_states_are_read_as_peers_write_them() -> None:
    assert subscription_state(None).ended is None
    assert subscription_state("active;expires=600;retry-after=0").expires == 600
    assert subscription_state("Terminated;Reason=Timeout").ended is Input.ENDED_RETRY
    assert subscription_state("terminated").ended is Input.ENDED_RETRY
    assert subscription_state("terminated;reason=rejected").ended is Input.ENDED_FOR_GOOD
    assert subscription_state("terminated;reason=probation;retry-after=90").retry_after == 90


# the dialog


async def test_SUB_01_form_of_a_directory_subscription(world: World) -> None:
    _, _, device, notifier = await subscribed(world, Wanted(kind="catalog"))
    request = notifier.last
    event = request.headers.get("Event") or ""
    assert event.startswith("Catalog;id=")
    assert event.removeprefix("Catalog;id=").isdigit()
    assert request.headers.get("Expires") == "600"
    assert request.headers.get("Contact")
    assert request.headers.get("Content-Type") == manscdp.CONTENT_TYPE
    query = manscdp.parse(request.body)
    assert isinstance(query, CatalogQuery)
    assert query.device_id == CAMERA
    assert request.uri.user == CAMERA.value
    assert device.remote[0] == request.uri.host


async def test_SUB_01_a_device_of_2011_is_asked_for_presence(world: World) -> None:
    _, _, _, notifier = await subscribed(world, Wanted(kind="catalog"), "1.0")
    assert (notifier.last.headers.get("Event") or "").startswith("presence")


async def test_SUB_02_refresh_in_the_dialog_before_it_expires(world: World) -> None:
    desk, key, _, notifier = await subscribed(world, Wanted(kind="catalog"))
    for _ in range(57):
        await world.pass_time(10)
        await notifier.device.exchange(manscdp.Keepalive(sn=1, device_id=CAMERA))
    first, second = notifier.received
    assert second.call_id == first.call_id
    assert second.from_.tag == first.from_.tag
    assert second.to.tag is not None
    assert second.cseq[0] == first.cseq[0] + 1
    assert second.headers.get("Event") == first.headers.get("Event")
    assert isinstance(manscdp.parse(second.body), CatalogQuery)
    assert state_of(desk, key) is State.ACTIVE


async def test_SUB_02_a_dialog_that_is_gone_is_begun_anew(world: World) -> None:
    desk, key, _, notifier = await subscribed(world, Wanted(kind="catalog", expires=60))
    notifier.status = 481
    await world.pass_time(50)
    notifier.status = 200
    await world.pass_time(1)
    assert len(notifier.received) == 3
    assert notifier.received[2].call_id != notifier.received[0].call_id
    assert notifier.received[2].to.tag is None
    assert state_of(desk, key) is State.ACTIVE


async def test_SUB_02_a_lost_refresh_is_recovered(world: World) -> None:
    desk, key, _, notifier = await subscribed(world, Wanted(kind="catalog", expires=60))
    notifier.status = 503
    await world.pass_time(50)
    assert state_of(desk, key) is State.WAITING
    notifier.status = 200
    await world.pass_time(11)
    assert state_of(desk, key) is State.ACTIVE


async def test_SUB_03_cancel_in_the_dialog_and_late_notices_are_ignored(world: World) -> None:
    desk, key, _, notifier = await subscribed(world, Wanted(kind="catalog"))
    first = notifier.last
    assert desk.subscriptions.unwant(key, "catalog")
    await settle()
    assert notifier.last.headers.get("Expires") == "0"
    assert notifier.last.call_id == first.call_id
    assert desk.subscriptions.of(key) == []
    late = await notifier.notify(listing(CatalogItem(device_id=CHANNEL, event="OFF")), of=first)
    assert late.status == 200
    await settle()
    assert world.store.states == {}


async def test_SUB_04_notify_is_answered_and_changes_the_state(world: World) -> None:
    _, _, _, notifier = await subscribed(world, Wanted(kind="catalog"))
    on = listing(CatalogItem(device_id=OTHER, event="ON"), CatalogItem(device_id=CHANNEL, event="OFF"))
    answer = await notifier.notify(on)
    assert (answer.status, answer.body) == (200, b"")
    await settle()
    assert world.store.states[CHANNEL] is False
    assert [event.online for event in world.published if isinstance(event, ChannelChanged)] == [False]


@pytest.mark.parametrize(
    ("event", "condition", "online"),
    [("ON", "on", True), ("OFF", "off", False), ("VLOST", "vlost", False), ("DEFECT", "defect", False)],
)
async def test_SUB_05_states_of_objects(world: World, event: str, condition: str, online: bool) -> None:
    _, _, _, notifier = await subscribed(world, Wanted(kind="catalog"))
    world.store.states[CHANNEL] = not online
    await notifier.notify(
        listing(CatalogItem(device_id=CHANNEL, event=event), CatalogItem(device_id=OTHER, event="ON"))
    )
    await settle()
    assert world.store.conditions[CHANNEL] == condition
    assert world.store.states[CHANNEL] is online


async def test_SUB_05_add_update_delete(world: World) -> None:
    _, key, _, notifier = await subscribed(world, Wanted(kind="catalog"))
    await notifier.notify(listing(CatalogItem(device_id=CHANNEL, event="ADD", name="新")))
    await settle()
    assert world.store.catalogs[key][CHANNEL].name == "新"
    await notifier.notify(listing(CatalogItem(device_id=CHANNEL, event="UPDATE", name="改")))
    await settle()
    assert world.store.catalogs[key][CHANNEL].name == "改"
    await notifier.notify(listing(CatalogItem(device_id=CHANNEL, event="DEL")))
    await settle()
    assert CHANNEL not in world.store.catalogs[key]


async def test_SUB_05_order_within_a_notice_is_kept(world: World) -> None:
    _, key, _, notifier = await subscribed(world, Wanted(kind="catalog"))
    await notifier.notify(
        listing(
            CatalogItem(device_id=CHANNEL, event="ADD", name="a"),
            CatalogItem(device_id=CHANNEL, event="DEL"),
            CatalogItem(device_id=CHANNEL, event="ADD", name="b"),
        )
    )
    await settle()
    assert world.store.catalogs[key][CHANNEL].name == "b"


async def test_SUB_06_initial_notice_lists_the_troubled_all_others_are_in_order(world: World) -> None:
    _, _, _, notifier = await subscribed(world, Wanted(kind="catalog"))
    world.store.states = {CHANNEL: True, OTHER: True, THIRD: False}
    off = (CatalogItem(device_id=CHANNEL, event="OFF"), CatalogItem(device_id=OTHER, event="OFF"))
    await notifier.notify(listing(*off))
    await settle()
    assert world.store.states == {CHANNEL: False, OTHER: False, THIRD: True}
    # a later notice says nothing of the others
    world.store.states[THIRD] = False
    await notifier.notify(listing(CatalogItem(device_id=CHANNEL, event="OFF")))
    await settle()
    assert world.store.states[THIRD] is False


async def test_SUB_07_item_without_event_is_an_upsert(world: World) -> None:
    _, key, _, notifier = await subscribed(world, Wanted(kind="catalog"))
    await notifier.notify(listing(CatalogItem(device_id=CHANNEL, name="X", online=True)))
    await settle()
    assert isinstance(world.store.catalogs[key][CHANNEL], ListedItem)


@pytest.mark.parametrize(
    ("reason", "wait", "after"),
    [
        ("", 1.0, 2),
        (";reason=timeout", 1.0, 2),
        (";reason=rejected", 700.0, 1),
        (";reason=probation;retry-after=90", 60.0, 1),
    ],
)
async def test_SUB_08_terminated_is_answered_and_followed_by_its_reason(
    world: World, reason: str, wait: float, after: int
) -> None:
    desk, key, device, notifier = await subscribed(world, Wanted(kind="catalog"))
    answer = await notifier.notify(None, state=f"terminated{reason}")
    assert answer.status == 200
    passed = 0.0
    while passed < wait:
        await world.pass_time(min(60.0, wait - passed))
        passed += 60.0
        await device.exchange(manscdp.Keepalive(sn=1, device_id=CAMERA))
    assert len(notifier.received) == after
    assert state_of(desk, key) is {1.0: State.ACTIVE, 700.0: State.REFUSED, 60.0: State.WAITING}[wait]


async def test_SUB_09_notify_of_an_unknown_dialog_is_481(world: World) -> None:
    _, _, _, notifier = await subscribed(world, Wanted(kind="catalog"))
    answer = await notifier.notify(listing(CatalogItem(device_id=CHANNEL, event="OFF")), call_id="nobody-knows")
    assert answer.status == 481
    await settle()
    assert world.store.states == {}


async def test_SUB_09_notify_from_another_host_is_481(world: World) -> None:
    _, _, _, notifier = await subscribed(world, Wanted(kind="catalog"))
    stranger = Notifier(world.device(OTHER, remote=("203.0.113.9", 5060)))
    answer = await stranger.notify(listing(CatalogItem(device_id=CHANNEL, event="OFF")), of=notifier.last)
    assert answer.status == 481


async def test_SUB_10_notify_before_the_200_belongs_to_the_dialog(world: World) -> None:
    desk = office(world)
    key, device = await of_edition(world)
    notifier = Notifier(device)
    notifier.silent = True
    desk.subscriptions.want(key, Wanted(kind="catalog"))
    await settle()
    early = await notifier.notify(listing(CatalogItem(device_id=CHANNEL, event="OFF")))
    assert early.status == 200
    await settle()
    assert world.store.states == {CHANNEL: False}


@pytest.mark.parametrize(("result", "state"), [("OK", State.ACTIVE), ("ERROR", State.REFUSED)])
async def test_SUB_11_body_in_the_200_of_2016(world: World, result: str, state: State) -> None:
    desk = office(world)
    key, device = await of_edition(world, "2.0")
    notifier = Notifier(device)
    notifier.body = (
        f"<?xml version='1.0'?><Response><CmdType>Catalog</CmdType><SN>1</SN><DeviceID>{CAMERA.value}</DeviceID>"
        f"<Result>{result}</Result></Response>"
    ).encode()
    changes: list[State] = []
    desk.subscriptions.on_change = lambda device, wanted, state: changes.append(state)
    desk.subscriptions.want(key, Wanted(kind="catalog"))
    await settle()
    assert state_of(desk, key) is state
    assert changes[-1] is state


@pytest.mark.parametrize(("version", "there"), [("2.0", True), ("3.0", False)])
async def test_SUB_11_our_200_to_a_notify_carries_a_body_only_up_to_2016(
    world: World, version: str, there: bool
) -> None:
    _, _, _, notifier = await subscribed(world, Wanted(kind="catalog"), version)
    answer = await notifier.notify(listing(CatalogItem(device_id=CHANNEL, event="OFF"), sn=77))
    assert answer.status == 200
    assert (b"<SN>77</SN>" in answer.body and b"<Result>OK</Result>" in answer.body) is there


async def test_SUB_12_alarm_subscription_with_filters(world: World) -> None:
    filters = AlarmQuery(start_priority=1, end_priority=4, method="0", start_time=START, end_time=START + 3600)
    desk, _, device, notifier = await subscribed(world, Wanted(kind="alarm", filters=filters))
    assert notifier.last.headers.get("Event") == "presence"
    text = notifier.last.body.decode("gb18030")
    names = ["StartAlarmPriority", "EndAlarmPriority", "AlarmMethod", "StartAlarmTime", "EndAlarmTime"]
    places = [text.index(f"<{name}>") for name in names]
    assert places == sorted(places)
    await notifier.notify(Alarm(sn=3, device_id=CHANNEL, priority=1, method=5, time=START))
    await settle()
    assert [entry.report.method for entry in desk.alarms.entries] == [5]
    assert device.asked == []  # no Response MESSAGE for a NOTIFY


async def test_SUB_13_positions_of_a_subscription_are_kept(world: World) -> None:
    desk, key, _, notifier = await subscribed(world, Wanted(kind="position", interval=5))
    query = manscdp.parse(notifier.last.body)
    assert isinstance(query, MobilePositionQuery)
    assert query.interval == 5
    for step in range(3):
        await notifier.notify(
            MobilePosition(sn=step + 1, device_id=CAMERA, time=START + 5 * step, longitude=118 + step, latitude=31)
        )
    await settle()
    assert [fix.longitude for _, fix in desk.positions.fixes] == [118, 119, 120]
    assert (await desk.positions.latest(key, CAMERA)) is not None


async def test_SUB_14_list_of_positions(world: World) -> None:
    desk, _, _, notifier = await subscribed(world, Wanted(kind="position"))
    points = tuple(
        Position(device_id=gb_id, capture_time=START, longitude=118, latitude=31) for gb_id in (CHANNEL, OTHER, THIRD)
    )
    await notifier.notify(MobilePosition(sn=1, device_id=CAMERA, time=START, sum_num=3, positions=points))
    await settle()
    assert [fix.gb_id for _, fix in desk.positions.fixes] == [CHANNEL, OTHER, THIRD]


@pytest.mark.parametrize("named", ["", f"<TargetID>{OTHER.value}</TargetID>"])
async def test_SUB_15_single_position_without_device_id(world: World, named: str) -> None:
    desk, _, _, notifier = await subscribed(world, Wanted(kind="position", target=CHANNEL), "2.0")
    body = (
        f"<?xml version='1.0'?><Notify><CmdType>MobilePosition</CmdType><SN>1</SN>{named}"
        "<Time>2023-11-15T06:13:20</Time><Longitude>118.5</Longitude><Latitude>31.5</Latitude></Notify>"
    )
    await notifier.notify(body.encode())
    await settle()
    ((_, fix),) = desk.positions.fixes
    assert fix.gb_id == (OTHER if named else CHANNEL)
    assert fix.at == START


async def test_SUB_16_where_a_camera_looks(world: World) -> None:
    desk, key, _, notifier = await subscribed(world, Wanted(kind="ptz", target=CHANNEL))
    await notifier.notify(PtzPositionNotify(sn=1, device_id=CHANNEL, pan=12.5, tilt=-3.5, zoom=2))
    await settle()
    assert desk.settings.states[(key, CHANNEL)].view == {"pan": 12.5, "tilt": -3.5, "zoom": 2}


async def test_SUB_17_a_device_that_registers_anew_gets_one_new_dialog(world: World) -> None:
    desk, key, device, notifier = await subscribed(world, Wanted(kind="catalog"))
    _, again = await device.register(headers=(("X-GB-Ver", "3.0"),))
    assert again.status == 200
    await settle()
    assert len(notifier.received) == 2
    assert notifier.received[1].call_id != notifier.received[0].call_id
    assert state_of(desk, key) is State.ACTIVE
    # what still comes in the old dialog is answered, and changes nothing
    old = await notifier.notify(listing(CatalogItem(device_id=CHANNEL, event="OFF")), of=notifier.received[0])
    assert old.status == 200
    await settle()
    assert world.store.states == {}


async def test_SUB_17_an_offline_device_is_subscribed_when_it_is_back(world: World) -> None:
    desk = office(world)
    key = world.store.add(CAMERA)
    desk.subscriptions.want(key, Wanted(kind="alarm"))
    assert state_of(desk, key) is State.PARKED
    _, device = await of_edition(world)
    # registered before the notifier listens: the device answers nothing, so it is asked again later
    notifier = Notifier(device)
    await device.register(headers=(("X-GB-Ver", "3.0"),))
    await settle()
    assert len(notifier.received) == 1
    assert state_of(desk, key) is State.ACTIVE


@pytest.mark.parametrize("status", [489, 403])
async def test_SUB_18_a_device_that_does_not_do_it_is_left_alone(world: World, status: int) -> None:
    desk = office(world)
    key, device = await of_edition(world)
    notifier = Notifier(device)
    notifier.status = status
    desk.subscriptions.want(key, Wanted(kind="ptz"))
    await settle()
    for _ in range(30):
        await world.pass_time(60)
        await device.exchange(manscdp.Keepalive(sn=1, device_id=CAMERA))
    assert len(notifier.received) == 1
    ((_, subscription),) = desk.subscriptions.of(key)
    assert (subscription.state, subscription.last_status) == (State.REFUSED, status)


async def test_SUB_33_several_subscriptions_have_dialogs_of_their_own(world: World) -> None:
    desk, key, _, notifier = await subscribed(world, Wanted(kind="catalog"))
    for kind in ("alarm", "position", "ptz"):
        desk.subscriptions.want(key, Wanted(kind=kind))
    await settle()
    assert len({request.call_id for request in notifier.received}) == 4
    assert {request.cseq[0] for request in notifier.received} == {1}


async def test_ignored_off_events_by_profile(world: World) -> None:
    _, key, _, notifier = await subscribed(world, Wanted(kind="catalog"))
    await world.sessions.profiles.choose(key, {"ignore_off": True})
    await notifier.notify(listing(CatalogItem(device_id=CHANNEL, event="OFF")))
    await settle()
    assert world.store.states == {}


async def test_parts_with_different_sn_are_all_taken(world: World) -> None:
    _, key, _, notifier = await subscribed(world, Wanted(kind="catalog"))
    for sn, gb_id in ((5, CHANNEL), (9, OTHER)):
        await notifier.notify(listing(CatalogItem(device_id=gb_id, name="x"), sn=sn))
    await settle()
    assert set(world.store.catalogs[key]) == {CHANNEL, OTHER}


async def test_broken_notify_is_400_and_leaves_no_trace(world: World) -> None:
    desk, key, _, notifier = await subscribed(world, Wanted(kind="catalog"))
    assert (await notifier.notify(b"<Notify><CmdType>Cat")).status == 400
    assert state_of(desk, key) is State.ACTIVE


async def test_SUB_34_routing_across_levels_is_not_offered_and_leaves_no_state(world: World) -> None:
    """Optional (§N.2.2): we end subscriptions here and hold our own below, so a foreign SUBSCRIBE is 489."""
    desk = office(world)
    key, device = await of_edition(world)
    body = manscdp.build(CatalogQuery(sn=1, device_id=CHANNEL))
    device.request(
        "SUBSCRIBE", (("Event", "Catalog;id=1"), ("Expires", "600"), ("Content-Type", manscdp.CONTENT_TYPE)), body
    )
    assert (await device.answer()).status == 489
    assert desk.subscriptions.of(key) == []
