"""Commands in processes that begin with everything imported, so that killing many of them takes little time.

Each is a process of its own, forked from one that has imported the program and done nothing else: what it opens,
starts and connects to is its own, and SIGKILL ends it as it ends any other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import IO

from tests.whole.runs import Log, Run

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(["service.cli", "service.replay", "service.runtime"])


class Forked:
    """A running command of `run`; its standard error is read by `log`."""

    def __init__(self, run: Run, *arguments: str) -> None:
        told, tells = _forking.Pipe(duplex=False)
        self._process = _forking.Process(target=_command, args=(arguments, run.environment(), tells), daemon=True)
        self._process.start()
        tells.close()
        self.stderr: IO[str] | None = os.fdopen(os.dup(told.fileno()), "r", errors="replace")
        told.close()
        self.log = Log(self)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait(self, seconds: float) -> int | None:
        """Its exit status, the negative number of the signal that ended it, or None if it runs on after so long."""
        self._process.join(max(seconds, 0))
        return self._process.exitcode

    def kill(self) -> int | None:
        """Ends it by SIGKILL, wherever it is, and returns how it ended."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait(10)

    def terminate(self) -> None:
        """Asks it to stop, by SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)


def forked(run: Run, *arguments: str, exits: int = 0) -> str:
    """Runs a command of `run` to its end and returns all that it said."""
    process = Forked(run, *arguments)
    status = process.wait(120)
    said = "".join(process.log.rest())
    assert status == exits, f"{arguments} exited {status}: {said}"
    return said


def replay(run: Run) -> None:
    """Replays the topic of `run`."""
    forked(run, "replay", "--topic", run.topic)


def _command(arguments: tuple[str, ...], environment: Mapping[str, str], tells: Connection) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for stream in (1, 2):
        os.dup2(tells.fileno(), stream)
    tells.close()
    sys.argv = ["stitchline", *arguments]
    from service.cli import app

    app()
