"""The threads that a test has begun. Those of tests before it, which a request may still hold up, do not count."""

import threading

_older: set[threading.Thread] = set()


def forget_older() -> None:
    """Count from now on; ``conftest`` does it before each test."""
    _older.clear()
    _older.update(threading.enumerate())


def threads_begun(*names: str) -> list[threading.Thread]:
    """Those that live and whose name begins with one of ``names``; none named: ``s3dlio-``."""
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith(names or ("s3dlio-",)) and thread not in _older
    ]


def all_ended(*names: str) -> bool:
    """Whether none of ``threads_begun(*names)`` is left. Waits for them; on a busy machine they need a moment."""
    for thread in threads_begun(*names):
        thread.join(20)
    return not threads_begun(*names)
