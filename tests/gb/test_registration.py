"""REGISTER against the real endpoint: challenge, digest, binding, expiry, moves, refusals (§9.1)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Literal

import pytest

from catalog.events import DeviceOffline, DeviceOnline
from catalog.store import UnknownDeviceError
from sipserver.presence import SessionConfig
from sipserver.protocol import gbtime
from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp import CatalogQuery, DeviceInfoQuery, Keepalive
from sipserver.protocol.message import Response
from sipserver.registrar import FailureThrottle, RegistrarConfig, ReplayGuardUnavailable
from tests.gb.harness import CAMERA, DOMAIN, PASSWORD, RECORDER, START, World, settle

MakeWorld = Callable[..., World]
UNKNOWN = GbId("34020000001320009999")


async def test_REG_01_REG_04_REG_06_challenge(world: World) -> None:
    world.store.add(CAMERA)
    device = world.device()
    device.request("REGISTER", (("Expires", "3600"),))
    answer = await device.answer()
    assert answer.status == 401
    header = answer.headers.get("WWW-Authenticate") or ""
    assert header.startswith("Digest ")
    assert f'realm="{DOMAIN}"' in header
    assert re.search(r'nonce="[0-9a-f]{20,}"', header)
    assert "qop" not in header
    assert answer.headers.get("X-GB-Ver") == "3.0"
    assert world.store.calls == []
    assert len(world.bindings) == 0


async def test_REG_02_REG_05_REG_14_accepted(world: World) -> None:
    key = world.store.add(CAMERA)
    device = world.device()
    _, answer = await device.register(headers=(("X-GB-Ver", "2.0"),))
    assert answer.status == 200
    assert answer.headers.get("X-GB-Ver") == "3.0"
    assert answer.headers.get("Expires") == "3600"
    assert answer.headers.get("Contact") == f"<sip:{CAMERA.value}@10.0.0.9:5060>"
    date = answer.headers.get("Date") or ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", date)
    assert gbtime.parse(date) == pytest.approx(world.clock(), abs=1)
    assert answer.body == b""
    assert world.events(DeviceOnline) == [DeviceOnline(device=key, at=START)]
    bound = world.bindings.get(key)
    assert bound is not None
    assert bound.flow == device.flow
    assert bound.version == "2.0"
    assert world.store.bound[key].remote == device.remote


async def test_REG_02_binding_is_durable_before_the_200(world: World) -> None:
    world.store.add(CAMERA)
    device = world.device()
    answers_then: list[int] = []
    world.store.before_bind = lambda: answers_then.append(
        sum(data.startswith(b"SIP/2.0 200") for data, _ in world.sent)
    )
    _, answer = await device.register()
    assert answer.status == 200
    assert answers_then == [0]


async def test_REG_02_store_down_is_503_and_leaves_nothing(world: World) -> None:
    key = world.store.add(CAMERA)
    device = world.device()
    world.store.down = True
    _, answer = await device.register()
    assert answer.status == 503
    assert answer.headers.get("Retry-After") == "60"
    assert world.bindings.get(key) is None
    assert world.published == []
    world.store.down = False
    assert (await device.register())[1].status == 200


async def test_REG_03_wrong_password_refused(world: World) -> None:
    key = world.store.add(CAMERA)
    _, answer = await world.device().register(password="wrong")
    assert answer.status == 403
    assert answer.headers.get("X-GB-Ver") == "3.0"
    assert world.bindings.get(key) is None
    assert world.published == []
    assert "bind" not in world.store.calls


def without_ids(response: Response) -> list[tuple[str, str]]:
    varying = ("via", "from", "to", "call-id", "cseq")
    return [(name, value) for name, value in response.headers.items() if name.lower() not in varying]


async def test_REG_03_unknown_code_and_wrong_password_look_the_same(world: World) -> None:
    world.store.add(CAMERA)
    _, wrong = await world.device().register(password="wrong")
    calls_for_known, world.store.calls = world.store.calls, []
    _, unknown = await world.device(UNKNOWN, ("198.51.100.8", 5060)).register(password="wrong")
    assert (wrong.status, wrong.reason) == (unknown.status, unknown.reason)
    assert without_ids(wrong) == without_ids(unknown)
    assert wrong.body == unknown.body == b""
    assert world.store.calls == calls_for_known == ["device_by_gb", "credential"]


async def test_REG_04_qop_answers_are_accepted(world: World) -> None:
    world.store.add(CAMERA)
    assert (await world.device().register(qop=True))[1].status == 200


async def test_REG_08_expiry_takes_offline_after_grace(world: World) -> None:
    key = world.store.add(CAMERA)
    device = world.device()
    await device.register(expires=100)
    await world.pass_time(99)
    assert world.bindings.get(key) is not None
    await world.pass_time(32)
    assert world.bindings.get(key) is None
    assert key not in world.store.bound
    assert world.events(DeviceOffline) == [DeviceOffline(device=key, at=world.clock(), reason="expired")]


async def test_REG_09_refresh_extends_without_events(world: World) -> None:
    key, device = await world.registered()
    await world.pass_time(100)
    world.published.clear()
    _, answer = await device.register(expires=3600)
    assert answer.status == 200
    assert world.published == []
    bound = world.bindings.get(key)
    assert bound is not None
    assert bound.expires_at == world.clock() + 3600


async def test_REG_10_unregister(world: World) -> None:
    key, device = await world.registered()
    gone: list[str] = []
    world.bindings.listen(lambda bound, reason: gone.append(reason))
    _, answer = await device.register(expires=0)
    assert answer.status == 200
    assert answer.headers.get("Expires") == "0"
    assert gone == ["unregistered"]
    assert world.bindings.get(key) is None
    assert key not in world.store.bound
    assert world.events(DeviceOffline) == [DeviceOffline(device=key, at=START, reason="unregistered")]


async def test_REG_11_unregister_needs_credentials(world: World) -> None:
    key, device = await world.registered()
    challenge, answer = await device.register(expires=0, password="wrong")
    assert (challenge.status, answer.status) == (401, 403)
    assert world.bindings.get(key) is not None


async def test_REG_12_contact_expires_wins(world: World) -> None:
    key, device = await world.registered()
    contact = ("Contact", f"<sip:{CAMERA.value}@10.0.0.9>;expires=0")
    device.request("REGISTER", (contact, ("Expires", "3600")))
    challenge = await device.answer()
    authorization = ("Authorization", device.authorization(challenge))
    device.request("REGISTER", (contact, ("Expires", "3600"), authorization))
    answer = await device.answer()
    assert (answer.status, answer.headers.get("Expires")) == (200, "0")
    assert world.bindings.get(key) is None


async def test_REG_13_missing_expires_gets_the_default(world: World) -> None:
    key = world.store.add(CAMERA)
    _, answer = await world.device().register(expires=None)
    assert answer.headers.get("Expires") == "3600"
    assert world.store.bound[key].expires_at == START + 3600


@pytest.mark.parametrize(("wanted", "granted"), [(10**9, "86400"), (60, "60")])
async def test_REG_08_granted_time_is_bounded(world: World, wanted: int, granted: str) -> None:
    world.store.add(CAMERA)
    _, answer = await world.device().register(expires=wanted)
    assert (answer.status, answer.headers.get("Expires")) == (200, granted)


async def test_REG_08_too_brief_is_423(world: World) -> None:
    world.store.add(CAMERA)
    device = world.device()
    device.request("REGISTER", (("Expires", "5"),))
    answer = await device.answer()
    assert (answer.status, answer.headers.get("Min-Expires")) == (423, "30")


async def test_REG_15_requests_run_down_the_same_connection(world: World) -> None:
    key, device = await world.registered(connection=4)
    device.script = lambda message: ()
    with pytest.raises(Exception, match="no_answer"):
        await ask_and_wait(world, key)
    assert isinstance(device.asked[0], DeviceInfoQuery)
    assert world.sent[-1][1].connection == 4


async def ask_and_wait(world: World, key: object) -> None:
    task = asyncio.ensure_future(world.sessions.query_device_info(key))  # type: ignore[arg-type]
    await settle()
    await world.pass_time(10)
    await task


async def test_REG_16_lost_connection_is_offline_at_once(world: World) -> None:
    key, device = await world.registered(connection=4)
    gone: list[str] = []
    world.bindings.listen(lambda bound, reason: gone.append(reason))
    world.sessions.connection_lost(device.flow)
    assert gone == ["transport_lost"]
    assert world.bindings.get(key) is None
    await settle()
    assert key not in world.store.bound
    assert world.events(DeviceOffline) == [DeviceOffline(device=key, at=START, reason="transport_lost")]


async def test_REG_16_connection_lost_while_the_row_is_written(world: World) -> None:
    key = world.store.add(CAMERA)
    device = world.device(connection=4)
    world.store.before_bind = lambda: world.sessions.connection_lost(device.flow)
    await device.register()
    assert world.bindings.get(key) is None
    assert key not in world.store.bound
    assert world.events(DeviceOnline) == []


async def test_REG_17_address_change_moves_the_binding(world: World) -> None:
    key, _ = await world.registered()
    moved = world.device(remote=("198.51.100.7", 6000))
    assert (await moved.register())[1].status == 200
    assert world.bindings.flow(key) == moved.flow
    assert world.store.bound[key].remote == moved.remote


async def test_REG_18_nonce_replay_and_stale(world: World) -> None:
    world.store.add(CAMERA)
    device = world.device()
    device.request("REGISTER", (("Expires", "3600"),))
    challenge = await device.answer()
    authorization = ("Authorization", device.authorization(challenge))
    device.request("REGISTER", (("Expires", "3600"), authorization))
    assert (await device.answer()).status == 200
    device.request("REGISTER", (("Expires", "0"), authorization))
    replayed = await device.answer()
    assert replayed.status == 401
    assert "stale=true" in (replayed.headers.get("WWW-Authenticate") or "")
    assert len(world.bindings) == 1
    world.clock.advance(61)
    device.request("REGISTER", (("Expires", "0"), authorization))
    late = await device.answer()
    assert late.status == 401
    assert "stale=true" in (late.headers.get("WWW-Authenticate") or "")


async def test_REG_18_nonce_of_another_address_is_not_taken(world: World) -> None:
    world.store.add(CAMERA)
    device = world.device()
    device.request("REGISTER", (("Expires", "3600"),))
    authorization = ("Authorization", device.authorization(await device.answer()))
    thief = world.device(remote=("203.0.113.66", 5060))
    thief.request("REGISTER", (("Expires", "3600"), authorization))
    answer = await thief.answer()
    assert answer.status == 401
    assert "stale" not in (answer.headers.get("WWW-Authenticate") or "")


async def test_REG_18_shared_guard_away_falls_back_to_memory(world: World) -> None:
    class Away:
        async def claim(self, nonce: str) -> bool:
            raise ReplayGuardUnavailable

    world.registrar._replay = Away()
    world.store.add(CAMERA)
    device = world.device()
    device.request("REGISTER", ())
    authorization = ("Authorization", device.authorization(await device.answer()))
    device.request("REGISTER", (authorization,))
    assert (await device.answer()).status == 200
    device.request("REGISTER", (authorization,))
    assert (await device.answer()).status == 401


@pytest.mark.parametrize(("policy", "status", "port"), [("last-wins", 200, 7), ("refuse", 403, 5060)])
async def test_REG_21_second_host_last_wins_or_is_refused(
    make_world: MakeWorld, policy: Literal["last-wins", "refuse"], status: int, port: int
) -> None:
    world = make_world(registrar=RegistrarConfig(realm=DOMAIN, duplicate=policy))
    key, _ = await world.registered()
    other = world.device(remote=("203.0.113.5", 7))
    assert (await other.register())[1].status == status
    flow = world.bindings.flow(key)
    assert flow is not None
    assert flow.remote[1] == port


async def test_REG_22_ID_08_identity_is_the_user_of_from(world: World) -> None:
    key = world.store.add(CAMERA)
    device = world.device()
    sender = ("From", f'"cam" <sip:{CAMERA.value}@10.1.2.3:5060>;tag=77')
    _, answer = await device.register(username="admin", headers=(sender,))
    assert answer.status == 200
    assert world.bindings.get(key) is not None


async def test_REG_24_first_registration_asks_once(make_world: MakeWorld) -> None:
    world = make_world(sessions=SessionConfig())
    _, device = await world.registered()
    await settle()
    await world.pass_time(10)
    await settle()
    assert [type(message) for message in device.asked] == [DeviceInfoQuery, CatalogQuery]
    await device.register()
    await settle()
    assert len(device.asked) == 2


async def test_REG_03_throttle_counts_only_proven_sources_and_spares_the_device(world: World) -> None:
    key, device = await world.registered()
    thief = world.device(remote=("203.0.113.66", 5060))
    statuses = [(await thief.register(password="guess"))[1].status for _ in range(8)]
    assert statuses == [403] * 8
    assert world.registrar.counters["throttled"] == 3
    assert world.store.calls.count("credential") == 1 + 5
    assert (await thief.register())[1].status == 403
    assert (await device.register())[1].status == 200
    assert world.bindings.flow(key) == device.flow
    for _ in range(8):
        await device.register(password="mistyped")
    assert (await device.register())[1].status == 200
    world.clock.advance(31)
    assert (await thief.register())[1].status == 200


def test_throttle_is_bounded_and_refills() -> None:
    throttle = FailureThrottle(allowed=2, refill=10, entries=3)
    for number in range(10):
        throttle.failed(f"192.0.2.{number}", "x", now=0)
    assert len(throttle) == 3
    throttle.failed("192.0.2.9", "x", now=0)
    assert throttle.blocked("192.0.2.9", "x", now=0)
    assert not throttle.blocked("192.0.2.9", "y", now=0)
    assert not throttle.blocked("192.0.2.9", "x", now=10)
    wide = FailureThrottle(allowed=1, refill=10, entries=3, prefixes=(24, 64))
    wide.failed("2001:db8::1", "x", now=0)
    wide.failed("198.51.100.4", "x", now=0)
    assert wide.blocked("2001:db8::2", "x", now=0)
    assert not wide.blocked("2001:db8:0:1::1", "x", now=0)
    assert wide.blocked("198.51.100.200", "x", now=0)


async def test_shared_password_admits_and_provisions(make_world: MakeWorld) -> None:
    world = make_world(
        registrar=RegistrarConfig(realm=DOMAIN, shared_password="shared-1", allowed=frozenset((CAMERA.value,)))
    )
    world.store.add(CAMERA, None)
    assert (await world.device().register(password="shared-1"))[1].status == 200
    other = world.device(RECORDER, ("198.51.100.9", 5060))
    assert (await other.register(password="shared-1"))[1].status == 403
    open_world = make_world(registrar=RegistrarConfig(realm=DOMAIN, shared_password="shared-1"))
    fresh = open_world.device(RECORDER, ("198.51.100.9", 5060))
    assert (await fresh.register(password="wrong"))[1].status == 403
    assert "provision_device" not in open_world.store.calls
    assert (await fresh.register(password="shared-1"))[1].status == 200
    assert open_world.store.calls.count("provision_device") == 1
    own = make_world(registrar=RegistrarConfig(realm=DOMAIN, shared_password="shared-1"))
    own.store.add(CAMERA, PASSWORD)
    assert (await own.device().register(password="shared-1"))[1].status == 403


async def test_device_without_any_password_is_refused(world: World) -> None:
    world.store.add(CAMERA, None)
    assert (await world.device().register(password=""))[1].status == 403


async def test_storm_of_one_device_is_bounded(world: World) -> None:
    world.store.add(CAMERA)
    device = world.device()
    challenges = []
    for _ in range(8):
        device.request("REGISTER", ())
        challenges.append(await device.answer())
    for challenge in challenges:
        device.request("REGISTER", (("Authorization", device.authorization(challenge)),))
    await settle(200)
    statuses = sorted(response.status for response in device.responses)
    assert statuses.count(200) >= 1
    assert set(statuses) <= {200, 503}
    assert len(world.bindings) == 1
    assert world.bindings.locks.waiting(CAMERA) == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((("From", "<sip:null%00@10.0.0.1>;tag=1"),), 403),
        ((("From", "<tel:123>;tag=1"),), 400),
        ((("Contact", "*"), ("Expires", "10000")), 400),
        ((("Contact", f"sip:{CAMERA.value}@10.0.0.1?Route=x"),), 400),
        ((("Authorization", "NoOneKnowsThisScheme opaque"),), 401),
        ((("Authorization", 'Digest username="x"'),), 400),
    ],
)
async def test_malformed_registrations(world: World, headers: tuple[tuple[str, str], ...], status: int) -> None:
    world.store.add(CAMERA)
    device = world.device()
    device.request("REGISTER", headers)
    answer = await device.answer()
    assert answer.status == status
    assert len(world.bindings) == 0


async def test_star_contact_unregisters(world: World) -> None:
    key, device = await world.registered()
    leave = (("Contact", "*"), ("Expires", "0"))
    device.request("REGISTER", leave)
    challenge = await device.answer()
    device.request("REGISTER", (*leave, ("Authorization", device.authorization(challenge))))
    assert (await device.answer()).status == 200
    assert world.bindings.get(key) is None


async def test_restart_keeps_udp_devices_usable(make_world: MakeWorld) -> None:
    before = make_world()
    camera, device = await before.registered()
    recorder, _ = await before.registered(RECORDER, remote=("198.51.100.9", 5060), connection=3)
    after = make_world(store=before.store, sessions=SessionConfig())
    after.clock.now = before.clock() + 600
    assert await after.sessions.load() == 1
    assert after.bindings.flow(camera) == device.flow
    assert after.bindings.get(recorder) is None
    assert recorder not in after.store.bound
    assert after.events(DeviceOffline) == [DeviceOffline(device=recorder, at=after.clock(), reason="transport_lost")]
    await after.pass_time(100)
    assert after.bindings.get(camera) is not None
    again = after.device()
    assert (await again.exchange(Keepalive(sn=1, device_id=CAMERA))).status == 200
    await settle()
    assert isinstance(again.asked[0], DeviceInfoQuery)
    await after.pass_time(5000)
    assert after.bindings.get(camera) is None


async def test_restart_forgets_what_ran_out_meanwhile(make_world: MakeWorld) -> None:
    before = make_world()
    camera, _ = await before.registered()
    after = make_world(store=before.store)
    after.clock.now = before.clock() + 4000
    assert await after.sessions.load() == 0
    assert camera not in after.store.bound


async def test_device_withdrawn_while_it_registers_is_refused(world: World) -> None:
    def withdrawn() -> None:
        raise UnknownDeviceError("no such device")

    key = world.store.add(CAMERA)
    world.store.before_bind = withdrawn
    _, answer = await world.device().register()
    assert answer.status == 403
    assert world.bindings.get(key) is None
    assert world.published == []


async def test_withdrawn_device_is_forgotten_at_once(make_world: MakeWorld) -> None:
    world = make_world(sessions=SessionConfig(readmit=True, query_on_register=False))
    key, device = await world.registered()
    await world.sessions.removed(key)
    assert world.bindings.get(key) is None
    assert world.events(DeviceOffline) == [DeviceOffline(device=key, at=START, reason="removed")]
    assert (await device.exchange(Keepalive(sn=1, device_id=CAMERA))).status == 403
