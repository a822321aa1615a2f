"""The command line: `mingjian serve`, `demo`, `check-config`, `account` and `ledger`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer

from media.session import StaleEngine
from ops.config import Config, ConfigError, load
from ops.embedded_base import EmbeddedError
from ops.migrate import MigrationError
from ops.ports import PortTakenError
from sharing.ledger import LedgerUnavailableError
from sharing.people import PeopleError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="GB/T 28181 视频联网平台"
)
ledger_app = typer.Typer(no_args_is_help=True, help="The access ledger.")
app.add_typer(ledger_app, name="ledger")
account_app = typer.Typer(no_args_is_help=True, help="Accounts, for whoever has the machine.")
app.add_typer(account_app, name="account")

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file; MINGJIAN_* variables override it.")]


_MENDABLE = (
    *(ConfigError, PortTakenError, EmbeddedError, MigrationError, StaleEngine),
    *(PeopleError, LedgerUnavailableError),
)


def _load(path: Path | None) -> Config:
    if path is None and Path("mingjian.toml").is_file():
        path = Path("mingjian.toml")
    return load(path)


@app.command()
def serve(config: ConfigFile = None) -> None:
    """Run the platform until it is told to stop (SIGTERM or Ctrl-C)."""
    from ops.serve import serve as run

    asyncio.run(run(_load(config)))


@app.command()
def demo(
    config: ConfigFile = None,
    seconds: Annotated[
        float, typer.Option(envvar="DEMO_SECONDS", help="End by itself after so many seconds; 0: never.")
    ] = 0,
) -> None:
    """Run the platform with simulated devices and show that the first picture arrives."""
    from ops.demo import demo as run

    raise typer.Exit(asyncio.run(run(_load(config), seconds=seconds)))


@app.command("check-config")
def check_config(config: ConfigFile = None) -> None:
    """Read the configuration and say what is wrong with it, or nothing."""
    _load(config)
    typer.echo("configuration: ok")


@ledger_app.command("verify")
def ledger_verify(
    config: ConfigFile = None,
    root: Annotated[str, typer.Option(help="A root (hex) somebody kept from an earlier `ledger root`.")] = "",
    size: Annotated[int, typer.Option(help="The size that belongs to --root.")] = 0,
) -> None:
    """Recompute the whole ledger from its rows. Exit 1 and the first bad position when a row was changed."""
    from ops.ledger_command import verify

    if bool(root) != bool(size):
        raise typer.BadParameter("--root and --size go together")
    good, fact = asyncio.run(verify(_load(config), root=root, size=size))
    typer.echo(json.dumps(fact, ensure_ascii=False))
    raise typer.Exit(0 if good else 1)


@ledger_app.command("root")
def ledger_root(config: ConfigFile = None) -> None:
    """Print size and root of the ledger; keep them somewhere else, and `ledger verify` can show what was cut off."""
    from ops.ledger_command import head

    typer.echo(json.dumps(asyncio.run(head(_load(config)))))


@account_app.callback()
def account() -> None:
    """Accounts, for whoever has the machine."""


@account_app.command("reset-administrator")
def account_reset_administrator(config: ConfigFile = None) -> None:
    """Give the oldest administrator a new one-time password and print it; also while the platform runs."""
    from ops.account_command import reset_administrator

    name, password = asyncio.run(reset_administrator(_load(config)))
    typer.echo(f"administrator:  {name} / {password}   (one time)")


def main() -> None:
    """Entry point; what the operator can mend is one line, not a traceback."""
    # standard output belongs to the answer; the platform's own log file is set up when it starts
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    try:
        app()
    except _MENDABLE as error:
        print(f"mingjian: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
