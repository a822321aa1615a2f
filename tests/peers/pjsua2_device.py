"""A SIP user agent on PJSIP that registers as a camera and sends keepalives; prints one JSON line a result.

usage: pjsua2_device.py SETTINGS.json   {"server","server_id","domain","id","password","transport","keepalives"}

Registers, sends the keepalives, says "ready", unregisters when it gets a line on standard input (or its end), ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pjsua2 as pj

PATIENCE = 10.0


def say(**fact: Any) -> None:
    print(json.dumps(fact), flush=True)


class Account(pj.Account):  # type: ignore[misc]
    """Keeps the last answer to a REGISTER and all answers to MESSAGEs."""

    def __init__(self) -> None:
        super().__init__()
        self.registered: int | None = None
        self.answers: list[int] = []

    def onRegState(self, prm: Any) -> None:
        self.registered = prm.code
        say(event="register", code=prm.code, expiration=prm.expiration)

    def onInstantMessageStatus(self, prm: Any) -> None:
        self.answers.append(prm.code)
        say(event="message", code=prm.code)


def start(transport: str) -> pj.Endpoint:
    """A silent endpoint with one transport, driven by this thread alone."""
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.logConfig.level = 0
    config.logConfig.consoleLevel = 0
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    endpoint.libInit(config)
    own = pj.TransportConfig()
    own.port = 0
    own.boundAddress = "127.0.0.1"
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_TCP if transport == "tcp" else pj.PJSIP_TRANSPORT_UDP, own)
    endpoint.libStart()
    return endpoint


def keepalive(settings: dict[str, Any], number: int) -> pj.SendInstantMessageParam:
    """A MESSAGE as §9.6 has it."""
    message = pj.SendInstantMessageParam()
    message.contentType = "Application/MANSCDP+xml"
    message.content = (
        '<?xml version="1.0" encoding="GB2312"?>\r\n<Notify><CmdType>Keepalive</CmdType>'
        f"<SN>{number}</SN><DeviceID>{settings['id']}</DeviceID><Status>OK</Status></Notify>\r\n"
    )
    return message


def main() -> int:
    settings = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    endpoint = start(settings["transport"])
    suffix = ";transport=tcp" if settings["transport"] == "tcp" else ""

    def run_until(done: Callable[[], bool]) -> bool:
        end = time.monotonic() + PATIENCE
        while not done() and time.monotonic() < end:
            endpoint.libHandleEvents(20)
        return done()

    config = pj.AccountConfig()
    config.idUri = f"sip:{settings['id']}@{settings['domain']}"
    config.regConfig.registrarUri = f"sip:{settings['server']}{suffix}"
    config.regConfig.timeoutSec = 3600
    config.regConfig.retryIntervalSec = 0
    config.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", settings["id"], 0, settings["password"]))
    account = Account()
    account.create(config)
    if not run_until(lambda: account.registered is not None) or account.registered != 200:
        say(event="refused", code=account.registered)
        return 1
    buddy_config = pj.BuddyConfig()
    buddy_config.uri = f"sip:{settings['server_id']}@{settings['server']}{suffix}"
    buddy_config.subscribe = False
    platform = pj.Buddy()
    platform.create(account, buddy_config)
    for number in range(settings["keepalives"]):
        platform.sendInstantMessage(keepalive(settings, number + 1))
    run_until(lambda: len(account.answers) == settings["keepalives"])
    say(event="ready", answers=account.answers)
    sys.stdin.readline()
    account.registered = None
    account.setRegistration(False)
    run_until(lambda: account.registered is not None)
    say(event="done", code=account.registered)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # tearing PJSIP down in order takes it seconds
