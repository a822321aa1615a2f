"""One frozen configuration of the whole platform, read from a TOML file and MINGJIAN_* environment variables."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


class ConfigError(Exception):
    """The configuration names an unknown key or an impossible value; the text says which and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformSection:
    """Who this platform is in the network (GB/T 28181-2022 Annex E)."""

    id: str = "34020000002000000001"
    domain: str = "3402000000"
    name: str = "明鉴视频联网平台"


@dataclass(frozen=True, slots=True, kw_only=True)
class SipSection:
    """SIP listening address; `advertise` is the address devices are told when it differs from the local one."""

    host: str = "0.0.0.0"  # noqa: S104 - cameras call from other hosts; every call is authenticated
    port: int = 5060
    advertise: str = ""
    shared_password_file: str = ""
    keepalive_interval: int = 60
    keepalive_misses: int = 3
    readmit_on_keepalive: bool = False
    clock_sync: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSection:
    """Console and REST interface."""

    host: str = "0.0.0.0"  # noqa: S104 - the console is opened from other hosts; every route has an authority cell
    port: int = 8080
    session_idle_minutes: int = 15
    session_hours: int = 12
    metrics_token_file: str = ""
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaSection:
    """Media ports; times in seconds."""

    host: str = "0.0.0.0"  # noqa: S104 - cameras send from other hosts; the acceptance rule decides
    udp_port: int = 30000
    tcp_port: int = 30000
    http_port: int = 8081
    private_ports_from: int = 30002
    private_ports_to: int = 30401
    advertise: str = ""
    source_timeout: float = 20.0
    linger: float = 10.0
    default_transport: str = "udp"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSection:
    """PostgreSQL and Valkey; empty means the platform starts its own under the data directory.

    `dsn` is what the running platform works with (a role that is mingjian_app); `owner_dsn`, if given, is used at the
    start alone, to bring the schema up to date (mingjian_owner).
    """

    dsn: str = ""
    owner_dsn: str = ""
    valkey_url: str = ""
    postgres_bin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that can be set; each field is `[section] key` in TOML and MINGJIAN_SECTION_KEY in the environment."""

    data_dir: Path = Path(".data")
    log_format: str = "json"
    platform: PlatformSection = field(default_factory=PlatformSection)
    sip: SipSection = field(default_factory=SipSection)
    http: HttpSection = field(default_factory=HttpSection)
    media: MediaSection = field(default_factory=MediaSection)
    store: StoreSection = field(default_factory=StoreSection)


def load(path: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any) -> Config:
    """Read `path` (TOML; none is fine), then MINGJIAN_* of `environ`, then `overrides` such as `http={"port": 0}`.

    Raises ConfigError for an unknown key, a wrong type or a value out of range.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from error
    _merge(values, _from_environment(os.environ if environ is None else environ))
    _merge(values, overrides)
    config = _build(Config, values, "")
    _check(config)
    return config


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping):
            section = into.setdefault(key, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{key}: expected a section")
            _merge(section, value)
        else:
            into[key] = value


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    sections = {f.name for f in dataclasses.fields(Config) if f.default is dataclasses.MISSING}
    for name, text in environ.items():
        if not name.startswith("MINGJIAN_"):
            continue
        key = name.removeprefix("MINGJIAN_").lower()
        head, _, rest = key.partition("_")
        if head in sections and rest:
            found.setdefault(head, {})[rest] = text
        else:
            found[key] = text
    return found


def _build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"unknown setting {where}{unknown[0]}; known here: {', '.join(sorted(hints))}")
    built: dict[str, Any] = {}
    for key, value in values.items():
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}{key}: expected a section")
            built[key] = _build(hint, value, f"{where}{key}.")  # type: ignore[arg-type]
        else:
            built[key] = _convert(hint, value, f"{where}{key}")
    return kind(**built)


_TRUTH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _convert(hint: Any, value: Any, name: str) -> Any:
    try:
        if hint is bool:
            return value if isinstance(value, bool) else _TRUTH[str(value).lower()]
        if hint in (int, float, str, Path):
            return hint(value)
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return tuple(str(part) for part in value)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{name}: {value!r} is not a valid {getattr(hint, '__name__', 'value')}") from error


def _check(config: Config) -> None:
    ports = {
        "sip.port": config.sip.port,
        "http.port": config.http.port,
        "media.udp_port": config.media.udp_port,
        "media.tcp_port": config.media.tcp_port,
        "media.http_port": config.media.http_port,
    }
    for name, port in ports.items():
        if not 0 <= port <= 65535:
            raise ConfigError(f"{name}: {port} is not a port (0 to 65535)")
    if not (len(config.platform.id) == 20 and config.platform.id.isascii() and config.platform.id.isdigit()):
        raise ConfigError("platform.id: must have 20 digits (GB/T 28181-2022 Annex E)")
    if config.media.default_transport not in ("udp", "tcp-passive"):
        raise ConfigError("media.default_transport: udp or tcp-passive")
    if config.store.owner_dsn and not config.store.dsn:
        raise ConfigError("store.owner_dsn: needs store.dsn, which the running platform works with")
    if config.log_format not in ("json", "text"):
        raise ConfigError("log_format: json or text")
