"""The command line in the tests: in this process, where most tests want it, or in one of its own."""

import os
import signal
import subprocess
import sys
from unittest import mock

from typer.testing import CliRunner, Result

from mlcli import cli
from mlcli.runtime import signals

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def mlcli(*arguments, status=0, **options) -> Result:
    """Run a command here; the exit status must be `status`, or one of them; no exception may have got out."""
    words = [str(argument) for argument in arguments]
    result = CliRunner().invoke(cli.build(cli.named(words)), words, **options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    wanted = status if isinstance(status, tuple) else (status,)
    assert result.exit_code in wanted, (result.exit_code, result.stderr)
    return result


def mlcli_process(*arguments, **options) -> subprocess.CompletedProcess:
    """Run a command as a user does."""
    command = [sys.executable, "-m", "mlcli.cli", *map(os.fspath, arguments)]
    done = subprocess.run(command, capture_output=True, env=ENVIRONMENT | options.pop("env", {}), **options)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def status_of_main(*arguments) -> int:
    """The exit status of the process of this command line, run in this one with its handlers of signals.

    It prints to sys.stdout and sys.stderr, which a test may have replaced.
    """
    handlers = {number: signal.getsignal(number) for number in signals.ENDING}
    try:
        with mock.patch.object(sys, "argv", ["mlcli", *map(str, arguments)]):
            cli.main()
    except SystemExit as end:
        assert all(signal.getsignal(number) == signal.SIG_DFL for number in signals.ENDING)
        return end.code or 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    raise AssertionError("main ends with SystemExit")
