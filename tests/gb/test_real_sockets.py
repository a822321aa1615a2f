"""One device over a real TCP connection: registration, a query down the same connection, and its loss (§9.1.1 f)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from sipserver.bindings import Bindings, Bound, OfflineReason
from sipserver.devices import DeviceSessions
from sipserver.dispatch import Dispatch
from sipserver.presence import SessionConfig
from sipserver.protocol import digest, manscdp
from sipserver.protocol.digest import NonceIssuer
from sipserver.protocol.endpoint import Endpoint
from sipserver.protocol.events import Event, RequestReceived
from sipserver.protocol.manscdp import DeviceInfoQuery, DeviceInfoResponse, Keepalive
from sipserver.protocol.message import Headers, Request, Uri
from sipserver.registrar import MemoryReplayGuard, Registrar, RegistrarConfig
from sipserver.transport import SipTransport
from tests.gb.harness import CAMERA, DOMAIN, PASSWORD, PLATFORM, Clock, FakeStore, counting_token


def request(method: str, body: bytes = b"", **headers: str) -> Request:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    if body:
        fields.append(("Content-Type", manscdp.CONTENT_TYPE))
    return Request(method, Uri(user=PLATFORM.value, host=DOMAIN), Headers(fields), body)


async def test_REG_15_REG_16_over_a_real_connection() -> None:
    clock, store, bindings, token = Clock(), FakeStore(), Bindings(), counting_token()
    key = store.add(CAMERA)
    endpoint = Endpoint(identity=PLATFORM, domain=DOMAIN, user_agent="platform", token=token)
    platform = SipTransport(endpoint, clock=clock, udp=None, tcp=("127.0.0.1", 0))
    sessions = DeviceSessions(
        platform,
        store,
        bindings,
        clock=clock,
        token=token,
        publish=lambda event: None,
        config=replace(SessionConfig(), query_on_register=False),
    )
    registrar = Registrar(
        platform,
        store,
        MemoryReplayGuard(clock),
        clock=clock,
        config=RegistrarConfig(realm=DOMAIN),
        nonces=NonceIssuer(b"0123456789abcdef"),
        bindings=bindings,
        publish=lambda event: None,
        on_bound=sessions.bound,
    )
    platform.on_event = Dispatch(platform, registrar, sessions).on_event
    platform.on_connection_lost = sessions.connection_lost
    gone: asyncio.Future[tuple[Bound, OfflineReason]] = asyncio.get_running_loop().create_future()
    bindings.listen(lambda bound, reason: gone.set_result((bound, reason)))

    camera_end = Endpoint(identity=CAMERA, domain=DOMAIN, user_agent="camera", token=token)
    camera = SipTransport(camera_end, clock=clock, udp=None, tcp=None)

    def asked(event: Event) -> None:
        if not isinstance(event, RequestReceived):
            return
        question = manscdp.parse(event.request.body)
        assert isinstance(question, DeviceInfoQuery)
        camera.respond(event.transaction, 200)
        answer = manscdp.build(DeviceInfoResponse(sn=question.sn, device_id=CAMERA, model="real"))
        camera.send(request("MESSAGE", answer), event.flow)

    await platform.start()
    try:
        assert platform.tcp_address is not None
        flow = await camera.connect(platform.tcp_address)
        challenge = await camera.request(request("REGISTER", Expires="3600"), flow)
        parsed = digest.parse_challenge(challenge.headers.get("WWW-Authenticate") or "")
        assert parsed is not None
        authorization = digest.answer(
            parsed, username=CAMERA.value, password=PASSWORD, method="REGISTER", uri=f"sip:{PLATFORM.value}@{DOMAIN}"
        )
        accepted = await camera.request(request("REGISTER", Expires="3600", Authorization=authorization), flow)
        assert accepted.status == 200
        heartbeat = manscdp.build(Keepalive(sn=1, device_id=CAMERA))
        assert (await camera.request(request("MESSAGE", heartbeat), flow)).status == 200
        camera.on_event = asked
        assert (await sessions.query_device_info(key)).model == "real"
        bound = bindings.get(key)
        assert bound is not None
        assert bound.flow.transport == "tcp"
        await camera.stop()
        async with asyncio.timeout(10):
            lost, reason = await gone
        assert (lost.key, reason) == (key, "transport_lost")
        assert bindings.get(key) is None
    finally:
        await camera.stop()
        await sessions.stop()
        await platform.stop()
    assert key not in store.bound
