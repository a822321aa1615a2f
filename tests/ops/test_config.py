"""Configuration: what is read, what is refused and how clearly; ports checked before anything starts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ops.config import Config, ConfigError, load
from ops.files import secret_bytes, secret_text
from ops.ports import PortTakenError, check_ports


def test_defaults_are_the_documented_ports() -> None:
    config = load(environ={})
    assert (config.sip.port, config.http.port, config.media.udp_port, config.media.http_port) == (
        5060,
        8080,
        30000,
        8081,
    )


def test_file_then_environment_then_overrides(tmp_path: Path) -> None:
    file = tmp_path / "mingjian.toml"
    file.write_text(
        'data_dir = "x"\n[http]\nport = 9000\norigins = ["https://a.example"]\n[sip]\nport = 6000\n', "utf-8"
    )
    config = load(file, environ={"MINGJIAN_HTTP_PORT": "9001", "PATH": "/bin"}, sip={"port": 6001})
    assert (config.http.port, config.sip.port, config.data_dir) == (9001, 6001, Path("x"))
    assert config.http.origins == ("https://a.example",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[http]\nprot = 1\n", "unknown setting http.prot"),
        ("[http]\nport = 'many'\n", "http.port"),
        ("[http]\nport = 70000\n", "http.port: 70000 is not a port"),
        ("[platform]\nid = '123'\n", "platform.id"),
        ("http = 3\n", "http: expected a section"),
        ("[media]\ndefault_transport = 'sctp'\n", "media.default_transport"),
        ("not toml", "mingjian.toml"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "mingjian.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=words.replace(".", r"\.")):
        load(file, environ={})


def test_an_unknown_variable_is_refused_not_ignored() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting sip\.prot"):
        load(environ={"MINGJIAN_SIP_PROT": "1"})


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_taken_port_is_named_with_the_setting_that_moves_it(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            holder.listen(1)
        port = holder.getsockname()[1]
        config = load(
            environ={},
            sip={"port": port, "host": "127.0.0.1"},
            http={"port": 0},
            media={"udp_port": 0, "tcp_port": 0, "http_port": 0},
        )
        with pytest.raises(PortTakenError, match=rf"port {port} .*MINGJIAN_SIP_PORT"):
            check_ports(config)
    check_ports(config)


def test_secrets_are_made_once_private_and_differ(tmp_path: Path) -> None:
    first = secret_bytes(tmp_path / "a" / "one.key")
    assert secret_bytes(tmp_path / "a" / "one.key") == first
    assert secret_bytes(tmp_path / "a" / "two.key") != first
    assert (tmp_path / "a" / "one.key").stat().st_mode & 0o777 == 0o600


def test_an_empty_secret_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n", "utf-8")
    with pytest.raises(ConfigError, match="is empty"):
        secret_text(tmp_path / "empty")
    with pytest.raises(ConfigError, match="No such file"):
        secret_text(tmp_path / "none")
    (tmp_path / "short").write_bytes(b"abc")
    with pytest.raises(ConfigError, match="shorter"):
        secret_bytes(tmp_path / "short")


def test_no_secret_has_a_default() -> None:
    config = Config()
    assert (config.sip.shared_password_file, config.http.metrics_token_file, config.store.dsn) == ("", "", "")
