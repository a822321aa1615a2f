"""Flood, spoofing, amplification, replay, enumeration (S8-S12 of the reliability bar), each with a control that fails
when the defence is taken away."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest

from sipserver.admission import AdmissionConfig
from sipserver.protocol import digest
from sipserver.protocol.codec import parse_datagram
from sipserver.protocol.digest import NonceIssuer
from sipserver.protocol.events import Flow
from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp import Keepalive
from sipserver.protocol.message import Response
from sipserver.registrar import MemoryReplayGuard
from tests.gb.harness import CAMERA, DOMAIN, PASSWORD, PLATFORM, SERVER, World, settle
from tests.torture.attack import Newcomer, Siege, code, register_bytes, settled
from tests.torture.notation import MESSAGES, octets

ATTACKER = ("198.51.100.200", 40_000)
OPEN = AdmissionConfig(
    source_rate=1e9, source_burst=1e9, strangers_rate=1e9, strangers_burst=1e9, patient_rate=1e9, patient_burst=1e9
)


# S8: one source


async def flood(config: AdmissionConfig | None) -> tuple[Siege, int, int]:
    """40,000 packets in a second from one address while 20 devices register: (siege, parsed of the flood, done)."""
    siege = Siege(config)
    newcomers = [Newcomer(siege, number) for number in range(20)]
    await settled()
    for step in range(400):
        for number in range(100):
            serial = step * 100 + number
            siege.packet(register_bytes(code(serial % 900_000).value, ATTACKER, serial), ATTACKER)
        siege.world.clock.advance(1 / 400)
        if step % 4 == 0:
            for one in newcomers:
                one.tick()
            await settled(6)
            siege.drain()
    return siege, siege.parsed[ATTACKER[0]], sum(one.done for one in newcomers)


async def test_S8_flood_of_one_source_leaves_everybody_else_alone() -> None:
    siege, parsed, done = await flood(AdmissionConfig(source_rate=500, source_burst=500))
    assert done == 20
    assert parsed <= 1_001
    assert siege.world.endpoint.counters["retransmissions"] == 0
    assert siege.world.transport.counters["dropped_source_rate"] >= 2_000
    assert siege.world.transport.counters["dropped_banned"] >= 20_000, "once banned, not even the bucket is asked"
    assert siege.world.endpoint.load()["server_transactions"] <= 20


async def test_S8_control_without_the_filter_the_flood_is_parsed() -> None:
    siege = Siege(OPEN)
    for serial in range(3_000):
        siege.packet(register_bytes(code(serial).value, ATTACKER, serial), ATTACKER)
    assert siege.parsed[ATTACKER[0]] == 3_000


# S9: invented sources


SMALL = AdmissionConfig(strangers_rate=200, strangers_burst=200, patient_rate=100, patient_burst=100)


async def spoofed(*, bypass: bool, seconds: float) -> tuple[int, int, int]:
    """2,000 packets/s from 5,000 sources at ten times the budget: (keepalives answered, asked, newcomers done)."""
    siege = Siege(SMALL, bypass=bypass)
    devices = [(await siege.world.registered(code(500 + n), remote=(f"192.0.2.{n + 10}", 5060)))[1] for n in range(20)]
    answered = asked = serial = 0
    newcomers: list[Newcomer] = []
    for step in range(int(seconds * 50)):
        for _ in range(40):
            serial += 1
            source = (f"10.{serial % 5_000 // 250}.{serial % 250}.7", 5060)
            siege.packet(register_bytes(code(serial % 900_000).value, source, serial), source)
        siege.world.clock.advance(0.02)
        if step == 25:
            newcomers = [Newcomer(siege, number) for number in range(20)]
        if step % 25 == 24:
            for device in devices:
                device.say(Keepalive(sn=step + 1, device_id=device.gb_id))
            asked += len(devices)
        if step % 5 == 0:
            for one in newcomers:
                one.tick()
            await settled(6)
            answered += sum(len(device.responses) for device in devices)
            for device in devices:
                device.responses.clear()
            siege.drain()
    await settled(30)
    answered += sum(len(device.responses) for device in devices)
    return answered, asked, sum(one.done for one in newcomers)


async def test_S9_spoofed_flood_known_devices_and_patient_newcomers_get_through() -> None:
    answered, asked, done = await spoofed(bypass=True, seconds=10)
    assert answered == asked > 300
    assert done >= 19


async def test_S9_control_without_the_bypass_known_devices_suffer() -> None:
    answered, asked, _ = await spoofed(bypass=False, seconds=3)
    assert answered < asked * 0.9


# S10: amplification


OURS = 12


def shapes() -> list[bytes]:
    """REGISTERs of several makes, other requests of strangers, and every torture message."""
    who, long = CAMERA.value, "User-Agent: IP Camera (C8123) Build 2021-11-02\r\nX-GB-Ver: 3.0\r\n"
    plain = register_bytes(who, ATTACKER, 1)
    found = [
        plain,
        register_bytes(who, ATTACKER, 2, long),
        plain.replace(b"User-Agent: Embedded Net DVR\r\n", b"").replace(b"Max-Forwards: 70\r\n", b""),
        plain.replace(b"Call-ID: ", b"Call-ID: x"),
        plain.replace(b"REGISTER", b"SUBSCRIBE"),
        plain.replace(b"REGISTER", b"MESSAGE"),
        plain.replace(b"REGISTER", b"INVITE"),
        plain.replace(b"REGISTER", b"OPTIONS"),
        plain.replace(b"REGISTER", b"PUBLISH"),
        plain.replace(b"REGISTER", b"UNHEARDOF"),
        b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP x\r\n\r\n",
        b"X x:x SIP/2.0\r\nv:SIP/2.0/UDP x\r\n\r\n",
    ]
    return found + [octets(path.stem) for path in sorted(MESSAGES.glob("*.dat"))]


async def amplification() -> tuple[list[float], int]:
    """(octets out by octets in for each request, most packets out for one request, for 40 s)."""
    ratios, most = [], 0
    for number, data in enumerate(shapes()):
        siege = Siege()
        source = (f"198.51.100.{number + 1}", 5060)
        siege.packet(data, source)
        await settled(20)
        for _ in range(80):
            siege.world.clock.advance(0.5)
            siege.world.transport.fire_timers()
        await settled(20)
        sent = [answer for answer, flow in siege.world.sent if flow.remote == source]
        ratios.append(sum(map(len, sent)) / len(data))
        most = max(most, len(sent))
    return ratios, most


async def test_S10_no_answer_is_larger_than_its_request() -> None:
    ratios, most = await amplification()
    assert most == 1, "one packet for one packet, and errors to strangers are not repeated"
    assert statistics.median(ratios) <= 1.0
    assert max(ratios[:OURS]) <= 1.2, "REGISTERs as devices write them, and rubbish"
    assert max(ratios) <= 1.25, "REGISTERs of 300 octets, as only RFCs write them"
    assert sum(ratio > 0 for ratio in ratios) > 55


async def test_S10_control_a_stateful_server_repeats_its_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    siege = Siege()
    siege.world.endpoint.is_stranger = lambda flow: False
    siege.packet(octets("esc01"), ATTACKER)
    await settled()
    for _ in range(80):
        siege.world.clock.advance(0.5)
        siege.world.transport.fire_timers()
    await settled()
    assert len(siege.world.sent) >= 8


# S11: replay


async def captured(world: World, *, qop: bool = False) -> tuple[bytes, bytes, Flow]:
    """(the REGISTER that succeeded, its 200, the device's flow), as somebody on the wire has seen them."""
    world.store.add(CAMERA)
    device = world.device()
    seen: list[bytes] = []
    arrive = world.transport.arrive

    def tap(data: bytes, flow: Flow) -> None:
        seen.append(data)
        arrive(data, flow)

    world.transport.arrive = tap  # type: ignore[method-assign]
    await device.register(qop=qop)
    return seen[-1], world.sent[-1][0], device.flow


def as_new_transaction(data: bytes, number: int) -> bytes:
    head, _, rest = data.partition(b"branch=z9hG4bK")
    return head + b"branch=z9hG4bKr%d" % number + rest


async def replayed(world: World, data: bytes, flow: Flow) -> int:
    world.sent.clear()
    world.transport.arrive(data, flow)
    await settle()
    [(answer, _)] = world.sent
    return int(answer[8:11])


async def test_S11_a_genuine_retransmission_gets_the_stored_answer() -> None:
    world = World()
    data, stored, flow = await captured(world)
    world.sent.clear()
    binds = world.store.calls.count("bind")
    world.clock.advance(0.5)
    world.transport.arrive(data, flow)
    await settle()
    assert world.sent == [(stored, flow)]
    world.clock.advance(15)  # the short memory for copies is over, the transaction is not
    world.transport.arrive(data, flow)
    await settle()
    assert world.sent[-1] == (stored, flow)
    assert world.store.calls.count("bind") == binds


@pytest.mark.parametrize("qop", [False, True], ids=["plain", "nc equal"])
async def test_S11_same_nonce_again_is_refused(qop: bool) -> None:
    world = World()
    data, _, flow = await captured(world, qop=qop)
    accepted = 0
    for number in range(300):
        accepted += await replayed(world, as_new_transaction(data, number), flow) == 200
    assert accepted == 0
    assert world.registrar.counters["replayed"] == 300


async def test_S11_nc_must_rise() -> None:
    world = World()
    guard = MemoryReplayGuard(world.clock)
    used = guard._set
    assert used.first_use("n", now=world.clock(), expires=world.clock() + 60, count=5)
    for count in (5, 4, 1, 0):
        assert not used.first_use("n", now=world.clock(), expires=world.clock() + 60, count=count)
    assert used.first_use("n", now=world.clock(), expires=world.clock() + 60, count=6)


async def test_S11_from_another_address_the_nonce_is_not_ours() -> None:
    world = World()
    data, _, _ = await captured(world)
    for number in range(100):
        flow = Flow("udp", (f"198.51.100.{number + 10}", 5060), SERVER)
        assert await replayed(world, as_new_transaction(data, number), flow) == 401


async def test_S11_for_another_device_the_nonce_is_not_ours() -> None:
    world = World()
    data, _, flow = await captured(world)
    world.store.add(code(77))
    assert (
        await replayed(world, as_new_transaction(data.replace(CAMERA.value.encode(), code(77).value.encode()), 1), flow)
        == 401
    )


async def test_S11_after_a_restart_the_shared_guard_remembers_and_a_new_secret_forgets_nothing() -> None:
    world = World()
    data, _, flow = await captured(world)
    after = World(store=world.store)  # same nonce secret, empty own memory
    after.registrar._replay = world.registrar._replay  # what Valkey is for
    assert await replayed(after, as_new_transaction(data, 1), flow) == 401
    other = World(store=world.store)
    other.registrar._nonces = NonceIssuer(b"another secret of 16 and more")
    assert await replayed(other, as_new_transaction(data, 2), flow) == 401


async def test_S11_when_its_life_is_over_a_nonce_is_stale() -> None:
    world = World()
    data, _, flow = await captured(world)
    world.clock.advance(61)
    assert await replayed(world, as_new_transaction(data, 1), flow) == 401
    assert b"stale=true" in world.sent[-1][0]


async def test_S11_control_with_an_emptied_replay_set_the_replay_succeeds() -> None:
    world = World()
    data, _, flow = await captured(world)
    world.registrar._own_memory = MemoryReplayGuard(world.clock)
    world.registrar._replay = MemoryReplayGuard(world.clock)
    assert await replayed(world, as_new_transaction(data, 1), flow) == 200


# S12: enumeration and brute force


async def refused(world: World, gb_id: GbId, password: str, port: int) -> tuple[bytes, list[str]]:
    device = world.device(gb_id, ("198.51.100.77", port))
    world.store.calls.clear()
    _, answer = await device.register(password=password)
    varying = ("via", "from", "to", "call-id", "cseq")
    kept = [f"{name}:{value}" for name, value in answer.headers.items() if name.lower() not in varying]
    return f"{answer.status} {answer.reason} {kept}".encode() + answer.body, list(world.store.calls)


def count_digests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    compute = digest.compute

    def counted(**given: str) -> str:
        made.append("digest")
        return compute(**given)

    monkeypatch.setattr(digest, "compute", counted)
    return made


async def test_S12_unknown_code_and_wrong_password_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.store.add(CAMERA)
    made = count_digests(monkeypatch)
    known = await refused(world, CAMERA, "wrong", 5060)
    digests, made[:] = len(made), []
    unknown = await refused(world, code(404), "wrong", 5061)
    assert known == unknown
    assert len(made) == digests == 2, "one by the device, one by us: the same work for both"
    assert known[0].startswith(b"403")


async def test_S12_control_an_early_return_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.store.add(CAMERA)
    made = count_digests(monkeypatch)
    genuine = world.registrar._authenticate

    async def early(event: object, gb_id: GbId, credentials: object) -> object:
        if await world.store.device_by_gb(gb_id) is None:
            raise LookupError
        return await genuine(event, gb_id, credentials)  # type: ignore[arg-type]

    monkeypatch.setattr(world.registrar, "_authenticate", early)
    known = await refused(world, CAMERA, "wrong", 5060)
    digests, made[:] = len(made), []
    unknown = await refused(world, code(404), "wrong", 5061)
    assert (known, digests) != (unknown, len(made))


async def guesses(world: World, minutes: float, remote: tuple[str, int], every: float) -> int:
    """How many passwords were really tried in that time from there."""
    tried = 0
    device = world.device(CAMERA, remote)
    for _ in range(int(minutes * 60 / every)):
        before = world.registrar.counters["throttled"]
        await device.register(password="wrong")
        tried += world.registrar.counters["throttled"] == before
        world.clock.advance(every)
    return tried


async def test_S12_at_most_ten_guesses_a_minute_and_the_genuine_device_is_never_locked_out() -> None:
    world = World()
    _, device = await world.registered(CAMERA)
    assert await guesses(world, 1, ("198.51.100.99", 5060), 2.0) <= 10
    _, answer = await device.register()
    assert answer.status == 200
    assert (await device.register(password="wrong"))[1].status == 403
    for _ in range(20):
        await device.register(password="wrong")
    assert (await device.register())[1].status == 200, "the host it is bound to is not throttled"


@pytest.mark.parametrize("attempt", range(3))
async def test_S12_forged_sources_cannot_fill_the_throttle(attempt: int) -> None:
    """Without having received a nonce nothing counts as a failure, so spoofed packets lock nobody out."""
    world = World()
    world.store.add(CAMERA)
    header = (
        f'Authorization: Digest username="{CAMERA.value}", realm="{DOMAIN}", nonce="{"0" * 40}", '
        f'uri="sip:{PLATFORM.value}@{DOMAIN}", response="{"0" * 32}", algorithm=MD5\r\n'
    )
    device = world.device()
    for serial in range(50):
        data = register_bytes(CAMERA.value, device.remote, serial + 1000 * attempt, header)
        world.transport.arrive(data, device.flow)
    await settle()
    assert len(world.registrar._throttle) == 0
    device.responses.clear()
    assert (await device.register(password=PASSWORD))[1].status == 200


def first_status(world: World) -> int:
    parsed = parse_datagram(world.sent[-1][0])
    assert isinstance(parsed, Response)
    return parsed.status


@pytest.mark.parametrize("bad", [lambda data: data.replace(b"REGISTER", b"MESSAGE"), lambda data: data[:40]])
async def test_strangers_cannot_make_state(bad: Callable[[bytes], bytes]) -> None:
    siege = Siege()
    for serial in range(200):
        siege.packet(bad(register_bytes(CAMERA.value, ATTACKER, serial)), ATTACKER)
    await settled()
    assert len(siege.world.bindings) == 0
    assert siege.world.store.calls == []
