"""The end of a process in which foreign calls still hang.

A thread inside one cannot be ended, and what Python and C++ tear down around it may wait for it or crash under it.
Must not know: what the calls are.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

__all__ = ["die_by_interrupt", "ended_by_interrupt", "skip_destructors"]


def ended_by_interrupt() -> bool:
    """At exit: whether an unhandled Ctrl-C ends the process."""
    kind = getattr(sys, "last_type", None)
    return kind is not None and issubclass(kind, KeyboardInterrupt) and not hasattr(sys, "ps1")


def die_by_interrupt() -> None:
    """End the process as Python ends it after an unhandled Ctrl-C, but now. For the last handler at exit."""
    _flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def skip_destructors() -> bool:
    """At exit: end the process after Python's own teardown, with its status, without the destructors of libraries.

    Returns: whether that was arranged; glibc can (``on_exit``), other C libraries cannot.
    """
    import ctypes  # noqa: PLC0415 - loads a library that only such an exit needs

    libc = ctypes.CDLL(None)
    if not hasattr(libc, "on_exit"):
        return False
    _flush()
    libc.fflush(None)
    # Handlers run in reverse: this one before the destructors. It is called with the status, and ends the process.
    return bool(libc.on_exit(libc._exit, None) == 0)  # noqa: SLF001 - the C function


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # broken pipe, closed, or None
            stream.flush()
