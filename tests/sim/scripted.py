"""A platform written out by hand for the tests of the simulated user agent: plain text and a written clock."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from ops.sim.inventory import Inventory, camera_item
from ops.sim.user_agent import Action, AgentConfig, Finished, Note, UserAgent
from sipserver.protocol.events import Flow
from sipserver.protocol.ids import GbId

START = 1_750_000_000.0
SERVER, DOMAIN = "34020000002000000001", "3402000000"
DEVICE = "34020000001320000001"
PASSWORD = "12345678"
NONCE = "b1f444e6805f2768"


@dataclass(frozen=True)
class Text:
    """A SIP message as text: start line, header lines by lower-case name (last one wins), body."""

    start: str
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def read(cls, data: bytes) -> Text:
        head, _, body = data.partition(b"\r\n\r\n")
        start, *lines = head.decode().split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert int(headers["content-length"]) == len(body)
        return cls(start, headers, body)

    @property
    def method(self) -> str:
        return self.start.split(" ")[0]

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])


def counting_token() -> object:
    numbers = itertools.count(1)

    def token(size: int) -> str:
        return hashlib.sha256(str(next(numbers)).encode()).hexdigest().ljust(2 * size, "0")[: 2 * size]

    return token


def camera(code: str = DEVICE, **cameras: object) -> Inventory:
    """An IPC; ``cameras`` may carry footage under ``footage``."""
    item = camera_item(code, "中山北路路口", parents=[code], civil_code="340200")
    footage = cameras.get("footage")
    playable = {code: footage} if footage is not None else {}
    return Inventory(device=GbId(code), name="中山北路路口", model="SIM-IPC", items=(item,), cameras=playable)  # type: ignore[arg-type]


def config(**changes: object) -> AgentConfig:
    settings: dict[str, object] = {"server": GbId(SERVER), "domain": DOMAIN, "password": PASSWORD, "retry": 60.0}
    return AgentConfig(**(settings | changes))  # type: ignore[arg-type]


@dataclass
class Script:
    """A user agent and the hand that plays its platform. ``notes`` and ``actions`` collect what the agent asked for."""

    agent: UserAgent
    transport: str = "udp"
    now: float = START
    notes: list[str] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    _calls: itertools.count[int] = field(default_factory=itertools.count)

    def connect(self) -> None:
        connection = 1 if self.transport == "tcp" else None
        kind = "tcp" if self.transport == "tcp" else "udp"
        flow = Flow(transport=kind, remote=("192.0.2.1", 5060), local=("192.0.2.10", 5061), connection=connection)  # type: ignore[arg-type]
        self.agent.connected(flow, now=self.now)

    def take(self) -> list[Text]:
        """What the agent sends now."""
        self.collect()
        sent = self.agent.datagrams_to_send(now=self.now)
        self.sizes += [len(data) for data in sent]
        return [Text.read(data) for data in sent]

    def one(self) -> Text:
        (message,) = self.take()
        return message

    def collect(self) -> None:
        while (action := self.agent.next_action()) is not None:
            self.actions.append(action)
            if isinstance(action, Note):
                self.notes.append(f"{action.word} {action.detail}".strip())

    def pass_time(self, seconds: float) -> None:
        """Move the clock, stopping at every timer on the way."""
        end = self.now + seconds
        while (due := self.agent.next_timeout()) is not None and due <= end:
            self.now = max(self.now, due)
            self.agent.handle_timeout(now=self.now)
        self.now = end

    def send(self, data: bytes) -> None:
        self.agent.receive(data, now=self.now)

    def answer(self, request: Text, status: str, *extra: str) -> None:
        """Answer a request of the agent."""
        copied = [f"{name}: {request.headers[name.lower()]}" for name in ("Via", "From", "Call-ID", "CSeq")]
        to = request.headers["to"]
        lines = [f"SIP/2.0 {status}", *copied, f"To: {to if ';tag=' in to else to + ';tag=registrar'}", *extra]
        self.send(("\r\n".join([*lines, "Content-Length: 0"]) + "\r\n\r\n").encode())

    def ask(
        self, method: str, target: str, body: bytes = b"", *extra: str, call: str | None = None, cseq: int = 1
    ) -> str:
        """Send a request to the agent; returns its Call-ID."""
        number = next(self._calls)
        call_id = call or f"call-{number}"
        lines = [
            f"{method} sip:{target}@{DOMAIN} SIP/2.0",
            f"Via: SIP/2.0/{self.transport.upper()} 192.0.2.1:5060;rport;branch=z9hG4bKp{number}",
            f"From: <sip:{SERVER}@{DOMAIN}>;tag=platform",
            f"Call-ID: {call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:{SERVER}@192.0.2.1:5060>",
            "Max-Forwards: 70",
            *extra,
        ]
        if not any(line.startswith("To:") for line in extra):
            lines.append(f"To: <sip:{target}@{DOMAIN}>")
        self.send(("\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n").encode() + body)
        return call_id

    def query(self, cmd_type: str, sn: int, code: str) -> None:
        body = (
            f'<?xml version="1.0" encoding="GB2312"?>\r\n<Query>\r\n<CmdType>{cmd_type}</CmdType>\r\n<SN>{sn}</SN>\r\n'
        )
        body += f"<DeviceID>{code}</DeviceID>\r\n</Query>\r\n"
        self.ask("MESSAGE", DEVICE, body.encode(), "Content-Type: Application/MANSCDP+xml")

    def register(self, *, expires: int = 3600) -> None:
        """Let the agent register and answer its first heartbeat."""
        self.connect()
        self.answer(self.one(), "401 Unauthorized", f'WWW-Authenticate: Digest realm="{DOMAIN}", nonce="{NONCE}"')
        self.answer(self.one(), "200 OK", f"Expires: {expires}")
        self.pass_time(0)
        self.answer(self.one(), "200 OK")
        assert self.take() == []
        assert self.notes[-2:] == ["registered", "keepalive_answered"]

    @property
    def exit_code(self) -> int | None:
        self.collect()
        return next((action.code for action in self.actions if isinstance(action, Finished)), None)


def script(
    agent_config: AgentConfig | None = None, inventory: Inventory | None = None, transport: str = "udp"
) -> Script:
    token = counting_token()
    agent = UserAgent(inventory or camera(), agent_config or config(), token=token)  # type: ignore[arg-type]
    return Script(agent=agent, transport=transport)
