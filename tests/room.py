"""A full disk, for one process, without being root: files may not grow beyond a size. The system then refuses a write
as it does when there is no room (EFBIG instead of ENOSPC), and DuckDB takes the same way."""

from __future__ import annotations

import resource


class Room:
    """What files of process `pid` (0: this one) may hold."""

    def __init__(self, pid: int = 0) -> None:
        self._pid = pid
        self._before = resource.prlimit(pid, resource.RLIMIT_FSIZE)

    def take(self, size: int = 0) -> None:
        """From now on no file can be written beyond `size` bytes."""
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (size, self._before[1]))

    def give(self) -> None:
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, self._before)
