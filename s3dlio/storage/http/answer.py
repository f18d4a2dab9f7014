"""What a web server's answer says of an object: its size, version and time, and the bytes that it carries.

Owns: the reading of headers, and of a body into memory of its length. Must not know: connections, keys.
Source: RFC 9110, HTTP Semantics: sections 8.8 (validators), 10.2.3 (Retry-After), 14.4 (Content-Range).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import http.client
import re
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPResponse

__all__ = [
    "ContentRange",
    "content_range",
    "error_code",
    "etag_of",
    "mtime_of",
    "read_into",
    "read_pieces",
    "retry_after_s",
]

_RANGE = re.compile(r"\s*bytes\s+(?:(\d{1,19})-(\d{1,19})|\*)/(?:(\d{1,19})|\*)\s*", re.IGNORECASE)
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9]{1,80})\s*</Code>")
_ERROR_BYTES = 64 << 10


class ContentRange(NamedTuple):
    """Bytes [start, end) of ``total``; an empty range for an answer that carries none, None for a total not known."""

    start: int
    end: int
    total: int | None


def content_range(answer: HTTPResponse) -> ContentRange | None:
    """What ``Content-Range`` says; None if it is missing or says nothing."""
    found = _RANGE.fullmatch(answer.getheader("Content-Range", ""))
    if found is None:
        return None
    first, last, total = (None if number is None else int(number) for number in found.groups())
    start, end = (0, 0) if first is None or last is None else (first, last + 1)
    return ContentRange(start, end, total)


def etag_of(answer: HTTPResponse) -> str | None:
    """The version mark without quotes; a weak one as it came, ``W/"..."``, so that it is told from a strong one."""
    found = answer.getheader("ETag", "").strip()
    if found.startswith('"') and found.endswith('"') and len(found) > 2:
        return found[1:-1]
    return found or None


def mtime_of(answer: HTTPResponse) -> dt.datetime | None:
    """``Last-Modified``; None if it is missing or no date."""
    found = answer.getheader("Last-Modified")
    return None if found is None else _date(found)


def retry_after_s(answer: HTTPResponse) -> float | None:
    """Seconds to wait before the next request; None if the server does not say."""
    found = answer.getheader("Retry-After", "").strip()
    if found.isdecimal():
        return float(found)
    date = _date(found) if found else None
    return None if date is None else max(0.0, (date - dt.datetime.now(dt.UTC)).total_seconds())


def error_code(answer: HTTPResponse) -> str:
    """The code in the XML that object servers answer errors with; empty elsewhere. Reads the body, if it is small."""
    try:
        found = _CODE.search(answer.read(_ERROR_BYTES))
    except (OSError, http.client.HTTPException):  # the status is the news; the rest of a broken answer is none
        return ""
    return found[1].decode() if found else ""


def read_into(answer: HTTPResponse, view: memoryview) -> int:
    """Fill ``view`` with the body's next bytes; returns how many came, fewer only if the body ends before.

    Raises:
        http.client.IncompleteRead: chunks that were cut. A body of known length that is cut just ends.
    """
    done = 0
    with _chunks():
        while done < len(view) and (count := answer.readinto(view[done:])):
            done += count
    return done


def read_pieces(answer: HTTPResponse) -> pa.Buffer | None:
    """A body whose length is not announced; None if its end is not marked either. Raises as ``read_into``."""
    if not answer.chunked:
        return None
    with _chunks():
        return pa.py_buffer(answer.read())


@contextlib.contextmanager
def _chunks() -> Iterator[None]:
    """A chunk of less than nothing is one that was cut."""
    try:
        yield
    except ValueError as error:
        raise http.client.IncompleteRead(b"") from error


def _date(text: str) -> dt.datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)
