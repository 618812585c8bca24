"""The command line in the tests: in this process, where most tests want it, or in one of its own."""

import os
import subprocess
import sys

from typer.testing import CliRunner, Result

from mlcli import cli

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def mlcli(*arguments, status=0, **options) -> Result:
    """Run a command here; the exit status must be `status`, and whatever it is, no exception may have got out."""
    result = CliRunner().invoke(cli.build(), [str(argument) for argument in arguments], **options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == status, (result.exit_code, result.stderr)
    return result


def mlcli_process(*arguments, **options) -> subprocess.CompletedProcess:
    """Run a command as a user does."""
    command = [sys.executable, "-m", "mlcli.cli", *map(os.fspath, arguments)]
    done = subprocess.run(command, capture_output=True, env=ENVIRONMENT | options.pop("env", {}), **options)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done
