"""Examples of the shell in a real shell, in which `mlcli` is a small program that has its work done in this process.

So pipes, loops, globs and make are what they are for a user, and torch is imported once.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.cli import ENVIRONMENT, mlcli
from tests.docs.shortened import command_line

ANY_STATUS = tuple(range(256))
STUB = """#!{python} -IS
import json, os, socket, sys
words = sys.argv[1:]
if os.path.basename(sys.argv[0]) == "torchrun":  # one process in place of several, which other tests start
    words = words[words.index("mlcli.cli") + 1 :]
stdin = sys.stdin.buffer.read().decode("latin-1") if {{"-", "/dev/stdin"}} & set(words) else ""
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    request = dict(words=words, folder=os.getcwd(), stdin=stdin)
    connection.sendall(json.dumps(request).encode())
    connection.shutdown(socket.SHUT_WR)
    answer = json.loads(connection.makefile("rb").read())
try:
    sys.stderr.write(answer["stderr"])
    sys.stdout.buffer.write(answer["stdout"].encode("latin-1"))
    sys.stdout.flush()
except BrokenPipeError:  # the reader has read enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
sys.exit(answer["status"])
"""


class Shell:
    """Runs scripts. Its programs `mlcli` and `torchrun` lie in a folder of their own."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="mlcli-")  # a short path, as an address of a socket has to be
        programs = Path(self.folder.name)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(programs / "socket"))
        self.listener.listen()
        self.listener.settimeout(0.05)
        stub = STUB.format(python=sys.executable, address=str(programs / "socket"))
        for name in ("mlcli", "torchrun"):
            (programs / name).write_text(stub)
            (programs / name).chmod(0o755)
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), ENVIRONMENT["PATH"]])
        self.environment = ENVIRONMENT | {"PATH": path, "COLUMNS": "120"}

    def run(self, script: str, folder: Path) -> str:
        """Run a script in a folder, its commands made short. Returns what it printed.

        A failure is an AssertionError.
        """
        return self.start(["bash", "-euo", "pipefail", "-c", script], folder)

    def make(self, makefile: str, folder: Path) -> str:
        """Make the first target of a Makefile in a folder."""
        (folder / "Makefile").write_text(makefile)
        return self.start(["make"], folder)

    def start(self, command: list[str], folder: Path) -> str:
        output = folder / ".output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
            try:
                while process.poll() is None:
                    self.serve()
            finally:
                process.kill()
        printed = output.read_text("utf-8", "replace")
        output.unlink()
        assert process.returncode == 0, f"exit status {process.returncode} of\n{command[-1]}\n{printed}"
        return printed

    def serve(self) -> None:
        """Do the work of one call of `mlcli`, if there is one."""
        try:
            connection, _ = self.listener.accept()
        except TimeoutError:
            return
        with connection:
            request: dict[str, Any] = json.loads(connection.makefile("rb").read())
            before = os.getcwd()
            os.chdir(request["folder"])
            try:
                words = command_line(request["words"])
                done = mlcli(*words, status=ANY_STATUS, input=request["stdin"].encode("latin-1"))
            finally:
                os.chdir(before)
            answer = {
                "status": done.exit_code,
                "stdout": done.stdout_bytes.decode("latin-1"),
                "stderr": done.stderr,
            }
            connection.sendall(json.dumps(answer).encode())

    def close(self) -> None:
        self.listener.close()
        self.folder.cleanup()
