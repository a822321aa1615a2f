"""Checks that every listening port is free before anything else starts."""

from __future__ import annotations

import socket

from ops.config import Config


class PortTakenError(Exception):
    """A port the platform needs is in use; the text names port, protocol and the setting that changes it."""


def check_ports(config: Config) -> None:
    """Bind and release each configured port; raise PortTakenError for the first that is taken."""
    wanted = [
        ("sip.port", config.sip.host, config.sip.port, "udp"),
        ("sip.port", config.sip.host, config.sip.port, "tcp"),
        ("http.port", config.http.host, config.http.port, "tcp"),
        ("media.udp_port", config.media.host, config.media.udp_port, "udp"),
        ("media.tcp_port", config.media.host, config.media.tcp_port, "tcp"),
        ("media.http_port", config.media.host, config.media.http_port, "tcp"),
    ]
    for setting, host, port, protocol in wanted:
        if port:
            _probe(setting, host, port, protocol)


def _probe(setting: str, host: str, port: int, protocol: str) -> None:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if protocol == "tcp":  # a closed listener's TIME_WAIT is no reason to refuse
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            if protocol == "tcp":
                probe.listen(1)
        except OSError as error:
            variable = "MINGJIAN_" + setting.replace(".", "_").upper()
            raise PortTakenError(
                f"{protocol} port {port} cannot be used ({error.strerror}); free it, or set {setting} ({variable})"
            ) from error
