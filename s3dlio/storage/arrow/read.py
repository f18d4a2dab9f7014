"""Bytes through a pyarrow file, and the proof that they came.

pyarrow's S3 file says that it has read as many bytes as were asked for, however many the server sent: behind an answer
that is too short, with an honest length of its own, the memory stays as it was (seen with pyarrow 26; an object
replaced by a shorter one between HEAD and GET, a broken cache). So the last bytes are marked before a read, and a
mark that is still there is read once more with another one.
"""

from __future__ import annotations

from typing import Any

__all__ = ["fill", "read_into"]

_MARK = bytes.fromhex("c1f5 8d9b fae3 91f7 b5cd 8bf9 a7ed 8ff5")
"""Content that ends as the mark does costs a second small read, so its last byte is one that no UTF-8, padding,
trailer of a file format or floating-point number of usual size ends with. A constant one, so that the number of
requests depends on what is read and on nothing else. A longer mark changes nothing."""


def read_into(file: Any, view: memoryview, start: int) -> int:
    """Fill ``view`` with the file's bytes from ``start`` on; how many of them came, counted from its beginning."""
    size = len(view)
    mark = _MARK[-size:] if size else b""
    view[size - len(mark) :] = mark
    done = _fill(file, view, start)
    if done < size:
        return done
    sure = size - _common_end(bytes(view[size - len(mark) :]), mark)
    if sure == size:
        return size
    doubtful = mark[sure - size :]
    view[sure:] = bytes(byte ^ 0xFF for byte in doubtful)
    again = _fill(file, view[sure:], start + sure)
    return size if again == size - sure and view[sure:] == doubtful else sure


def _fill(file: Any, view: memoryview, start: int) -> int:
    file.seek(start)
    return fill(file, view)


def fill(file: Any, view: memoryview) -> int:
    """Fill ``view`` from where ``file`` stands; how many bytes came before its end."""
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])
        if count == 0:
            break
        done += count
    return done


def _common_end(first: bytes, second: bytes) -> int:
    """How many last bytes are the same."""
    pairs = zip(reversed(first), reversed(second), strict=True)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), len(first))
