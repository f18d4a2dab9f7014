"""Several servers written as one text: templates, lists and files of endpoint URLs.

Owns: the notation, which is MinIO's, and the number that a launcher gives this process. Must not know: stores,
options. Pure but for the one file that a text beginning with "@" names.

Guarantees: the result depends on the texts alone, so every process that is given the same has the same endpoints
in the same order.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from s3dlio.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["expand", "is_several", "masked", "rank_from"]

_RANGE = re.compile(r"\{([0-9a-fA-F]+)\.\.\.([0-9a-fA-F]+)\}")
_SEPARATOR = re.compile(r"[\s,]+")

_NAMES = re.compile(r"(?<=//)[^\s,]*@|[^/@\s,]+@")  # a password may have slashes in it, against the rules
_SECRETS = re.compile(r"([\w-]*(?:sig|token|credential|key)[\w-]*)=[^&\s,]+", re.IGNORECASE)

_MAX_ENDPOINTS = 1024
"""More than any one client talks to; stops ``{1...1000000000}``, a slip of the finger, from filling the memory."""

_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
"""What torchrun, Slurm, Open MPI, PMIx and MPICH call the number of a process; the first that is set counts."""


def expand(texts: str | Iterable[str]) -> tuple[str, ...]:
    """The endpoint URLs that ``texts`` stand for, in order, without doubles and without slashes at their ends.

    Args:
        texts: each one of: a URL; a template, in which ``{1...10}`` stands for each of the numbers, ``{01...10}``
            with zeros in front, ``{a...f}`` in hexadecimal; several ranges give every combination, the last
            varying fastest; a list of these with commas or blanks between; ``@path``, a text file with these,
            in which ``#`` begins a comment. URLs give themselves.

    Raises:
        OptionError: a piece that is none of these, named in the message; a file that cannot be read; nothing at all.
    """
    given = [texts] if isinstance(texts, str) else list(texts) if isinstance(texts, Iterable) else [texts]
    for text in given:
        if not isinstance(text, str):
            raise OptionError(f"endpoints: got {type(text).__name__}, expected URLs as text.", field="endpoint_urls")
    found: dict[str, None] = {}
    for text in given:
        for piece in _pieces(text):
            for url in _template(piece):
                found[_checked(url, piece)] = None
                if len(found) > _MAX_ENDPOINTS:
                    raise _bad(piece, f"more than {_MAX_ENDPOINTS} endpoints", "fewer")
    if not found:
        raise OptionError(
            f"endpoints: {', '.join(repr(masked(text)) for text in given) or 'an empty list'} names none, expected at "
            "least one URL.",
            field="endpoint_urls",
        )
    return tuple(found)


def masked(text: str) -> str:
    """``text`` for messages: without the names, passwords and signatures that do not belong into its URLs."""
    return _SECRETS.sub(r"\1=***", _NAMES.sub("***@", text))


def is_several(text: str) -> bool:
    """Whether ``text`` is a template, a list or a file, and not one URL. Reads nothing."""
    return text.lstrip().startswith("@") or "{" in text or _SEPARATOR.search(text.strip()) is not None


def rank_from(environ: Mapping[str, str]) -> int | None:
    """The number that the launcher gave this process: ``RANK``, ``SLURM_PROCID``, ``OMPI_COMM_WORLD_RANK``, ...

    Raises:
        OptionError: the variable holds no number.
    """
    name = next((name for name in _RANKS if environ.get(name)), None)
    if name is None:
        return None
    if not environ[name].isdecimal():
        raise OptionError(
            f"endpoints: {name} is {environ[name]!r}, expected the number of this process, 0 or more.",
            field="endpoint_rank",
        )
    return int(environ[name])


def _pieces(text: str) -> Iterator[str]:
    """The texts between separators, and those of the lines of the file that is named."""
    text = text.strip()
    if not text.startswith("@"):
        yield from filter(None, _SEPARATOR.split(text))
        return
    path = Path(text[1:]).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise _bad(text, f"{error}", "a text file with one URL a line") from error
    for line in lines:
        entry = line.partition("#")[0]
        if entry.lstrip().startswith("@"):
            raise _bad(entry.strip(), f"a file named inside {path}", "URLs there")
        yield from filter(None, _SEPARATOR.split(entry))


def _template(piece: str) -> Iterator[str]:
    """Every URL of a template, lazily: the caller counts them."""
    fixed = _RANGE.split(piece)  # text, first, last, text, first, last, ..., text
    texts = fixed[::3]
    if any("{" in text or "}" in text for text in texts):
        raise _bad(piece, "braces without a range in them", "{first...last} with three dots, as {1...10}")
    ranges = [_numbers(first, last, piece) for first, last in zip(fixed[1::3], fixed[2::3], strict=True)]
    for numbers in itertools.product(*ranges):
        yield texts[0] + "".join(number + text for number, text in zip(numbers, texts[1:], strict=True))


def _numbers(first: str, last: str, piece: str) -> list[str]:
    base = 10 if (first + last).isdecimal() else 16
    low, high = int(first, base), int(last, base)
    if low > high:
        raise _bad(piece, f"a range from {first} down to {last}", "the lower number first")
    if high - low >= _MAX_ENDPOINTS:
        raise _bad(piece, f"more than {_MAX_ENDPOINTS} endpoints", "fewer")
    width = len(first) if first.startswith("0") else 1
    return [format(number, f"0{width}{'d' if base == 10 else 'x'}") for number in range(low, high + 1)]


def _checked(url: str, piece: str) -> str:
    """``url`` without a slash at its end, if it is a URL of a server."""
    try:
        parts = urlsplit(url)
        port = parts.port  # raises for what is no port
    except ValueError as error:
        # Not "from", nor with "@" its words: they quote what is taken for a port, which may be a part of a password.
        raise _bad(piece, "no such URL" if "@" in url else f"{error}", "http://host:port or https://host") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise _bad(piece, f"{masked(url)!r}" if url != piece else "no such URL", "http://host:port or https://host")
    return url.rstrip("/")


def _bad(piece: str, found: str, expected: str) -> OptionError:
    return OptionError(f"endpoints: {masked(piece)!r}: found {found}, expected {expected}.", field="endpoint_urls")
