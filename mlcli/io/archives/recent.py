"""Which archives hold bytes in memory to be read on from: those that were read last, since there may be thousands."""

import threading
from collections import OrderedDict
from typing import Protocol

MOST = 4


class Releases(Protocol):
    """An archive that holds bytes and can let them go; it begins at the front when it is read again."""

    def release(self) -> None: ...


_recent: OrderedDict[int, Releases] = OrderedDict()  # by their identity, the last one used at the end
_lock = threading.Lock()


def used(archive: Releases) -> None:
    """Note that an archive is being read, and let those go that were not for the longest time.

    For a thread that holds none of the locks that `release` takes.
    """
    with _lock:
        _recent[id(archive)] = archive
        _recent.move_to_end(id(archive))
        gone = [_recent.popitem(last=False)[1] for _ in range(len(_recent) - MOST)]
    for other in gone:
        other.release()
