"""Commands in processes that begin with everything imported: most of what a command costs is importing the program.

Each is a process of its own, forked from one that has done what `imported` does and nothing else: what it opens, starts
and connects to is its own, and SIGKILL ends it as it ends any other. That the command also starts as people
start it, tests/test_whole_way.py and tests/service/test_cli.py show.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

forking = multiprocessing.get_context("forkserver")
# A process has one server to fork from, which imports what was set last: so all that is forked in tests stands here.
forking.set_forkserver_preload(["tests.whole.imported", "tests.faults.test_slack"])


class Forked:
    """A running command."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        stdin: IO[bytes] | None = None,
        folder: Path | None = None,
    ) -> None:
        """In `folder`, or where this process is. Reads what `stdin` gives, from where that stands, or what
        `communicate` is given."""
        reads, writes = os.pipe() if stdin is None else (os.dup(stdin.fileno()), None)
        out, told = os.pipe()
        err, warned = os.pipe()
        theirs = [Connection(reads, writable=False), *(Connection(fd, readable=False) for fd in (told, warned))]
        self._process = forking.Process(
            target=_command, args=(arguments, environment, str(folder or Path.cwd()), theirs), daemon=True
        )
        self._process.start()
        for end in theirs:
            end.close()
        self.stdin: IO[str] | None = None if writes is None else os.fdopen(writes, "w", encoding="utf-8")
        self.stdout: IO[str] = os.fdopen(out, encoding="utf-8", errors="replace")
        self.stderr: IO[str] | None = os.fdopen(err, encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, the negative number of the signal that ended it, or None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float) -> int | None:
        """Its `returncode`, once it has ended or so long after."""
        self._process.join(max(seconds, 0))
        return self.returncode

    def communicate(self, text: str = "", seconds: float = 120) -> tuple[str, str]:
        """Sends `text` and returns all of standard output and standard error, once it has ended."""
        assert self.stderr is not None
        with ThreadPoolExecutor(2) as readers:
            out, err = readers.submit(self.stdout.read), readers.submit(self.stderr.read)
            if self.stdin is not None:
                with suppress(BrokenPipeError):  # it wanted no more of it
                    self.stdin.write(text)
                    self.stdin.close()
            status = self.wait(seconds)
            self.kill()
            assert status is not None, f"it runs on after {seconds} s: {out.result()}\n{err.result()}"
            return out.result(), err.result()

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            if self.returncode is None:
                os.kill(self.pid, number)

    def kill(self) -> int | None:
        """Ends it by SIGKILL, wherever it is, and returns how it ended."""
        self.send_signal(signal.SIGKILL)
        return self.wait(10)


@dataclass(frozen=True)
class Called:
    """What a command that has ended said."""

    returncode: int | None
    stdout: str
    stderr: str


def called(*arguments: str, folder: Path, **variables: str) -> Called:
    """Runs a command to its end in `folder`, with these variables and no other settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("STITCHLINE_")}
    command = Forked(arguments, env | variables, folder=folder)
    out, err = command.communicate()
    return Called(command.returncode, out, err)


def _command(
    arguments: Sequence[str], environment: Mapping[str, str], folder: str, streams: Sequence[Connection]
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)  # multiprocessing has closed the other
    sys.argv = ["stitchline", *arguments]
    from service.cli import app

    app()
