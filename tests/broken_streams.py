"""A command run with standard streams that cannot be written, each in a fork of one process that has imported all.

    python -m tests.broken_streams FOLDER COMMAND...

Runs the command with `-o FOLDER/HOW` and stderr in each of the states HOW, and prints a line "HOW STATUS".
"""

import os
import pty
import sys
import termios


def pipe_without_reader() -> int:
    """The writing end of a pipe whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    return write


def run(command: list[str]) -> None:
    """The command in this fork, which ends here."""
    status = 99
    try:
        sys.argv = ["mlcli", *command]
        cli.main()
    except SystemExit as done:
        status = done.code or 0
    except BaseException as error:
        os.write(1, f"{error!r}\n".encode())
    os._exit(status)


def with_stderr(descriptor: int | None, command: list[str]) -> int:
    """The exit status of the command whose stderr is this descriptor; None: there is none."""
    if not (child := os.fork()):
        os.close(2) if descriptor is None else os.dup2(descriptor, 2)
        run(command)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def on_a_terminal_that_closes(command: list[str]) -> int:
    """The exit status of the command whose stderr is a terminal, which closes when a bar has been drawn on it.

    The terminal is not the one that controls the process: its end sends no SIGHUP, and each write fails (EIO).
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 80))
    if not (child := os.fork()):
        os.close(ours)
        os.dup2(theirs, 2)
        os.close(theirs)
        run(command)
    os.close(theirs)
    seen = b""
    while b"%|" not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: str, *command: str) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    for name, descriptor in {"reader-gone": pipe_without_reader(), "full": full, "missing": None}.items():
        print(name, with_stderr(descriptor, [*command, "-o", f"{folder}/{name}"]), flush=True)
    print("hung-up", on_a_terminal_that_closes([*command, "-o", f"{folder}/hung-up"]), flush=True)


if __name__ == "__main__":
    import mlcli.training.loop  # noqa: F401  torch, once for all forks
    from mlcli import cli

    main(*sys.argv[1:])
