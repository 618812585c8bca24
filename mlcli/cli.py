"""Builds the command line from commands.COMMANDS; turns an MlcliError into a message and an exit status."""

import atexit
import functools
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import mlcli.commands
from mlcli.api import events
from mlcli.api.events import Silent
from mlcli.commands import COMMANDS, Command, _help, _streams
from mlcli.commands._report import Printer, complain, say
from mlcli.errors import Interrupted, MlcliError, lost_peer, out_of_memory
from mlcli.io import tally
from mlcli.runtime import garbage, signals


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


def build(wanted: str | None = None) -> typer.Typer:
    """The Typer app with every command of COMMANDS. Loads no torch.

    wanted: the command that is to run. The others are then only listed, with their summaries, and their modules are not
    imported, which takes a third of the time of `--help`. None: every command can run.
    """
    app = typer.Typer(
        name="mlcli",
        cls=_help.Group,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    for command in COMMANDS:
        if wanted in (None, command.name):
            module = importlib.import_module(f"mlcli.commands.{command.module}")
            run, kind = guarded(module.run, command.name), getattr(module, "Parser", _help.Command)
        else:
            run, kind = listed, _help.Command
        app.command(
            command.name,
            cls=kind,
            rich_help_panel=command.panel,
            short_help=f"{summary(command)} [dim]{command.example}[/dim]",
            help=paragraphs(run.__doc__ or ""),
            epilog=f"Example: [bold]{command.example}[/bold]",
        )(run)
    return app


def paragraphs(text: str) -> str:
    """A docstring whose paragraphs are one line each, which the help then wraps to the width of the terminal."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def listed() -> None:
    """Stands for a command that is not to run."""


def summary(command: Command) -> str:
    """The first line of the docstring of a command's `run`, read from its file without importing it."""
    source = Path(mlcli.commands.__file__).with_name(f"{command.module}.py").read_text("utf-8")
    return source.split("\ndef run(", 1)[1].split('"""', 2)[1].strip().splitlines()[0]


def named(arguments: Sequence[str]) -> str | None:
    """The command that a command line names; "" where it names none, None where the shell asks for completions."""
    if "_MLCLI_COMPLETE" in os.environ:
        return None
    return next((argument for argument in arguments if not argument.startswith("-")), "")


def guarded(run: Callable[..., Any], name: str = "mlcli") -> Callable[..., Any]:
    """The command with its MlcliErrors printed on stderr and turned into exit statuses.

    In the end a line on stderr says how many images were read, and what was left out and why.
    """

    @functools.wraps(run)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        rank = int(os.environ.get("RANK", "0"))
        speaks = rank == 0  # of several processes, one
        counted = tally.begin()
        printer = Printer(quiet=bool(kwargs.get("quiet"))) if speaks else Silent()
        for given in tildes(kwargs.values()):
            printer.problem(
                f"{given}: taken for a folder named {given.split('/')[0]} in this one; a shell expands a tilde at the "
                "beginning of a word alone, as in `-o ~/x`"
            )
        signals.outlasted.clear()
        failed = True
        failure = 2 if kwargs.get("exit_status") else 1  # 1 is an answer there
        try:
            with events.listening(printer):
                run(*args, **kwargs)
            failed = False
        except typer.Exit as left:
            failed = left.exit_code != 0
            raise
        except MlcliError as error:
            if signals.arrived and not isinstance(error, Interrupted):
                raise typer.Exit(128 + signals.arrived[0]) from None  # the rest comes of breaking off what ran
            if speaks:
                complain(error)
            raise typer.Exit(failure if error.exit_status == 1 else error.exit_status) from None
        except (MemoryError, RuntimeError) as error:
            if out_of_memory(error):
                complain(
                    "the memory does not suffice for this; take smaller images or fewer at a time, or another device"
                )
            elif not lost_peer(error):
                raise
            elif rank < 2:  # one of which is alive
                complain(
                    "another process of the group has ended, so this one cannot continue; what was saved is kept, and "
                    "the same command with --resume resumes it"
                )
            raise typer.Exit(failure) from None
        finally:
            if speaks and (failed or counted.met_images) and (text := counted.summary()):
                say(f"{name}: {text}", kwargs.get("quiet", False))
        if signals.outlasted:
            raise typer.Exit(128 + signals.outlasted[0])

    return wrapper


def tildes(values: Iterable[Any]) -> list[str]:
    """Those of the values of options and arguments that begin with a tilde, as paths that no shell has expanded do."""
    texts = [str(one) for value in values for one in (value if isinstance(value, list) else [value])]
    return [text for text in texts if text == "~" or re.match(r"=?~[\w.-]*/", text)]


def wait_briefly() -> None:
    """Let the threads of OpenMP sleep soon when they have nothing to do; before torch, whose library reads it once.

    By default they spin for milliseconds, on cores that another process could use: two commands at a time, as make and
    cron start them, took half as long again. Whoever has set how threads wait has it so.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def main() -> None:
    """Entry point of `mlcli`."""
    status = [1]  # of an exception that nobody catches
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        atexit.register(leave, status)  # before all others, hence called after them
    try:
        command()
        status[0] = 0
    except SystemExit as end:
        status[0] = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


def leave(status: Sequence[int]) -> None:
    """End a process of a group here, without the end of the C++ libraries.

    There torch's threads of the group abort now and then when all is written, and torchrun calls the run failed.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status[0])


def command() -> None:
    """Build the command that is named and run it. Ends with SystemExit."""
    garbage.collect_seldom()
    _streams.secure()
    wait_briefly()
    signals.listen()
    try:
        try:
            build(named(sys.argv[1:]))(prog_name="mlcli")
        finally:
            sys.stdout.flush()  # while there is somebody to say that it failed
    except MlcliError as error:
        complain(error)
        raise SystemExit(error.exit_status) from None
    except (Exception, KeyboardInterrupt):
        if not signals.arrived:
            raise
        # Before Typer is in charge; or a library was being imported, and half imported fails in a way of its own
        raise SystemExit(128 + signals.arrived[0]) from None
    finally:
        signals.stop_listening()


if __name__ == "__main__":
    main()
