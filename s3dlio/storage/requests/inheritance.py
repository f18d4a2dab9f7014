"""What a fork hands down that does not work in the child: runtimes that belong to a process.

- ``native``: obstore's threads. The child has none, believes it has, and every call hangs.
- ``azure``: the connection pool of pyarrow's Azure client, one for the process. The child would send on the
  parent's sockets; then each reads the other's answers (seen with pyarrow 26: HTTP 400, crashes in its parser).
- ``s3``: the lock of pyarrow's S3 client, where a request held it that hung while the process was forked.

Owns: which process used a runtime first. Must not know: stores.
"""

from __future__ import annotations

import os
from typing import Literal, TypeAlias

__all__ = ["Runtime", "claim", "forfeit", "lost"]

Runtime: TypeAlias = Literal["native", "azure", "s3"]

_first_user: dict[Runtime, int] = {}
# Process ids. Module-level because the runtimes are: a child inherits what is known of them as it inherits them.


def claim(runtime: Runtime) -> None:
    """Note that this process is about to use ``runtime``. Before the call, so that no fork comes in between."""
    _first_user.setdefault(runtime, os.getpid())


def forfeit(runtime: Runtime) -> None:
    """Note, in a child, that what it inherited of ``runtime`` is broken, whoever used it first."""
    _first_user[runtime] = -1


def lost(runtime: Runtime) -> bool:
    """Whether this process was forked from one that had used ``runtime``, and so must not."""
    return _first_user.get(runtime, os.getpid()) != os.getpid()
