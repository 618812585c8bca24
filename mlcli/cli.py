"""Builds the command line from commands.COMMANDS; turns an MlcliError into a message and an exit status."""

import functools
import importlib
import os
import signal
from collections.abc import Callable
from typing import Annotated

import typer
from typer.core import TyperCommand

import mlcli
from mlcli.commands import COMMANDS
from mlcli.commands._report import complain
from mlcli.errors import MlcliError


def version(show: bool) -> None:
    if show:
        typer.echo(f"mlcli {mlcli.__version__}")
        raise typer.Exit


def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """The classical image-learning methods as single-purpose commands, over files and folders of images."""


def build() -> typer.Typer:
    """The Typer app with every command of COMMANDS. Loads no torch."""
    app = typer.Typer(
        name="mlcli",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    for command in COMMANDS:
        module = importlib.import_module(f"mlcli.commands.{command.module}")
        run = module.run
        summary = run.__doc__.strip().splitlines()[0]
        app.command(
            command.name,
            cls=getattr(module, "Parser", TyperCommand),
            rich_help_panel=command.panel,
            short_help=f"{summary} [dim]{command.example}[/dim]",
            epilog=f"Example: [bold]{command.example}[/bold]",
        )(guarded(run))
    return app


def guarded(run: Callable) -> Callable:
    """The command with its MlcliErrors printed on stderr and turned into exit statuses."""

    @functools.wraps(run)
    def wrapper(*args, **kwargs):
        try:
            return run(*args, **kwargs)
        except MlcliError as error:
            if os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
                complain(error)
            raise typer.Exit(error.exit_status) from None

    return wrapper


def main() -> None:
    """Entry point of `mlcli`."""

    def terminate(number, frame):
        # As an exception, so that half-written temporary files are removed on the way out.
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, terminate)
    try:
        build()(prog_name="mlcli")
    except KeyboardInterrupt:  # before Typer is in charge
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
