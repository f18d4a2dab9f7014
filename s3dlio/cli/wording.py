"""What the library says about its arguments, said about the command's options."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3dlio.errors import S3dlioError

__all__ = ["lines"]

SPELLINGS = {
    "Pass recursive=True for all below.": "Pass -r for all below.",
    "resume=True goes on from there": "cp --resume goes on from there",
    "Choose another, or pass exist_ok=True.": "Choose another; s3dlio mkdir takes one that exists.",
    "Delete them first: s3dlio.delete(uri, recursive=True, whole_container=True).": "Delete them first: s3dlio rm -r.",
    "Use list_keys for the objects in it.": "For what is in it: s3dlio ls.",
    "one without: pass the credentials as options": "one without: set the variables of the credentials",
    "Pass account_key or sas_token for this account.": "Set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY for it.",
    "pass anonymous=True for public objects": "pass --anonymous for public objects",
    "Use backend='native'": "Use --backend native",
    "use backend='native'": "use --backend native",
    "Use backend='arrow'": "Use --backend arrow",
    "list with backend='arrow'": "list with --backend arrow",
    "read them with backend='arrow'": "read them with --backend arrow",
    "expected a free key (mode='create')": "expected a free key (--create)",
    "at most with mode='create', which is one request. Write it under a key of its own with mode='overwrite'.": (
        "at most with --create, which is one request. Write it under a key of its own without --create."
    ),
    "Use file://, or set direct_fallback=True to go through the page cache.": "Use file://.",
    "Pass size_hint=, about the object's size, for larger parts.": "Upload a file, whose size is known.",
}
"""Ends of the library's sentences that name keyword arguments. What is in none has no place in a command's message:
a test looks for such words in everything that commands call."""


def lines(error: S3dlioError) -> list[str]:
    """The message of ``error`` and its notes, a line each, as the command says them."""
    said = [str(error), *getattr(error, "__notes__", ())]
    for library, command in SPELLINGS.items():
        said = [text.replace(library, command) for text in said]
    return said
