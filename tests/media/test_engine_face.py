"""The extension and its sources belong together; a taken port is named."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from media import session
from media.session import MediaConfig, MediaPlane, PortTaken, StaleEngine, check_engine_fresh, source_digest
from tests.media.harness import LOCALHOST

ENGINE = Path(session.__file__).parent / "engine"


def test_the_extension_was_built_from_these_sources() -> None:
    check_engine_fresh()


def test_a_changed_source_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "media" / "engine"
    shutil.copytree(ENGINE / "src", copy / "src")
    shutil.copytree(ENGINE / "py", copy / "py")
    monkeypatch.setattr(session, "__file__", str(tmp_path / "media" / "session.py"))
    check_engine_fresh()
    (copy / "src" / "lib.rs").write_text("// changed\n")
    with pytest.raises(StaleEngine):
        check_engine_fresh()


def test_a_wheel_without_sources_is_taken_as_it_is(tmp_path: Path) -> None:
    assert source_digest(tmp_path) is None


@pytest.mark.parametrize(("which", "proto"), [("udp_port", "udp"), ("tcp_port", "tcp"), ("http_port", "tcp")])
def test_a_taken_port_is_named(which: str, proto: str) -> None:
    kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind((LOCALHOST, 0))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        port = int(holder.getsockname()[1])
        ports = {"udp_port": 0, "tcp_port": 0, "http_port": 0, which: port}
        config = MediaConfig(
            udp_port=ports["udp_port"], tcp_port=ports["tcp_port"], http_port=ports["http_port"], bind=LOCALHOST,
            public_host=LOCALHOST,
        )  # fmt: skip
        plane = MediaPlane(config, on_event=lambda _: None)
        with pytest.raises(PortTaken) as refused:
            plane.start()
        assert (refused.value.port, refused.value.proto) == (port, proto)
