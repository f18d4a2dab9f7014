"""Listings of the native engine: obstore's Arrow pages made into batches of ``LIST_SCHEMA``, without Python rows.

obstore drops the slash at the end of a key, so a directory marker "d/" looks like an object "d" of no bytes. Asking
for each of those would cost a request an object. Instead one listing of their directory with a delimiter tells all
of them: what is not among its directories is an object. Where a page has a single one, the object is asked for.
So a listing without empty objects costs nothing more, and one of nothing else twice its requests.

A key that ends in a slash and has content is found where something is below it, and listed under its real name, which
no verb reads. Alone it cannot be told from an object and is listed without its slash; reading that is a NotFoundError.
A key that obstore cannot name ("a//b", "a/../b") is an error of the whole listing, which names the key.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import obstore
import pyarrow as pa
import pyarrow.compute as pc

from s3dlio.concurrency import ReadAhead
from s3dlio.storage.protocol import LIST_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["listed"]

_PAGE_ROWS = 1000
"""Keys in one answer of every provider, so one batch is one request."""

_QUESTIONS = 16
"""Requests at a time that settle the doubts of one page: a page of a thousand tiny directories has as many."""


def listed(client: Any, below: str) -> Iterator[pa.RecordBatch]:
    """All objects whose keys start with ``below``, a batch a request. Raises what obstore raises.

    Args:
        client: an obstore store.
        below: empty, or a directory with its slash.
    """
    names = _Names(client)
    pages = obstore.list(client, below or None, chunk_size=_PAGE_ROWS, return_arrow=True)
    following = _next_page(pages, below)
    while (page := following) is not None:
        following = _next_page(pages, below)
        first = following["path"][0].as_py() if following is not None and following.num_rows else ""
        keys, keep = names.of(page, first)
        batch = pa.record_batch(
            [
                keys,
                page["size"].cast(pa.int64()),
                pc.utf8_trim(page["e_tag"], '"'),
                page["last_modified"].cast(LIST_SCHEMA.field("mtime").type),
            ],
            schema=LIST_SCHEMA,
        )
        if keep is not None:
            batch = batch.filter(keep)
        if batch.num_rows:
            yield batch


def _next_page(pages: Iterator[Any], below: str) -> pa.RecordBatch | None:
    page = next(pages, None)
    if page is None:
        return None
    batch = pa.record_batch(page)
    return batch.filter(pc.starts_with(batch["path"], below)) if below else batch  # the directory's own marker goes


class _Names:
    """Which rows of one listing are objects, and what they are really called. Pages come in order."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._directories: dict[str, _Directory] = {}
        self._pages: Counter[str] = Counter()  # with doubtful rows, by directory
        self._heads: Counter[str] = Counter()  # by directory
        self._taken: set[str] = set()  # doubtful names that turned out to be objects; a second row is the marker

    def of(self, page: pa.RecordBatch, first: str) -> tuple[pa.Array, pa.Array | None]:
        """The keys of ``page``, and which rows to keep; None for all.

        Args:
            page: of obstore.
            first: the name in the first row of the page after it.
        """
        paths = page["path"]
        sizes = page["size"].to_numpy()
        empty = np.flatnonzero(sizes == 0)
        markers = self._markers(empty, paths) if empty.size else []
        # A key with a slash and content comes right before what is below it.
        followed = [row for row in _with_something_below(paths, first) if sizes[row]]
        renamed = {row: f"{name}/" for row in followed if self._has_slash(name := paths[row].as_py())}
        if renamed:
            paths = pa.array([renamed.get(row, name) for row, name in enumerate(paths.to_pylist())], pa.string())
        if not markers:
            return paths, None
        keep = np.ones(len(sizes), bool)
        keep[markers] = False
        return paths, pa.array(keep)

    def _markers(self, empty: np.ndarray[Any, Any], paths: pa.Array) -> list[int]:
        """Those rows of ``empty`` that are directory markers."""
        groups: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        for row, name in zip(empty.tolist(), paths.take(empty).to_pylist(), strict=True):
            groups[name.rpartition("/")[0]].append((row, name))
        new = []
        doubts = []
        for parent, group in groups.items():
            self._pages[parent] += 1
            if parent not in self._directories:
                if self._heads[parent] + len(group) > self._pages[parent]:
                    new.append(parent)
                else:
                    self._heads[parent] += len(group)
                    doubts += [name for _, name in group if name not in self._taken]
        answers = _all([*(partial(_Directory, self._client, parent) for parent in new),
                        *(partial(self._is_there, name) for name in doubts)])  # fmt: skip
        self._directories.update(zip(new, answers, strict=False))
        there = dict(zip(doubts, answers[len(new) :], strict=True))
        markers = []
        for parent, group in groups.items():
            directory = self._directories.get(parent)
            for row, name in group:
                if directory is not None and name not in directory.names:
                    continue
                found = name in directory.empty if directory is not None else there.get(name, False)
                if found and name not in self._taken:
                    self._taken.add(name)
                else:
                    markers.append(row)
        return markers

    def _is_there(self, name: str) -> bool:
        """Whether the row of no bytes ``name`` is an object."""
        try:
            size = obstore.head(self._client, name)["size"]
        except FileNotFoundError:
            return False
        # With content by now it is another row's object and this one the marker, or it was overwritten meanwhile.
        return size == 0 or not self._has_slash(name)

    def _has_slash(self, name: str) -> bool:
        """Whether there is a key of this name and a slash: it is the first in its directory."""
        page = next(obstore.list(self._client, name, chunk_size=1), [])
        return bool(page) and page[0]["path"] == name


class _Directory:
    """What a listing with a delimiter says of one directory: it keeps apart what ``obstore.list`` mixes up."""

    def __init__(self, client: Any, name: str) -> None:
        found = obstore.list_with_delimiter(client, name or None, return_arrow=True)
        self.names = set(found["common_prefixes"])
        """What has something below it, without the slash. An empty row of another name is an object."""
        self.empty: set[str] = set()
        """Those of ``names`` that are objects without bytes, too."""
        if self.names:
            objects = pa.table(found["objects"])
            both = pc.is_in(objects["path"], pa.array([*self.names], pa.string()))
            self.empty.update(objects.filter(pc.and_(both, pc.equal(objects["size"], 0)))["path"].to_pylist())


class _Question:
    """A call as a group of one task."""

    cost = 1

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.answer: Any = None

    def __len__(self) -> int:
        return 1

    def run(self, _task: int) -> None:
        self.answer = self.call()


def _all(calls: list[Callable[[], Any]]) -> list[Any]:
    """The results of ``calls``, made several at a time."""
    if len(calls) < 2:  # no threads for one
        return [call() for call in calls]
    questions = [_Question(call) for call in calls]
    threads, count = min(_QUESTIONS, len(calls)), len(calls)
    with ReadAhead(iter(questions), threads=threads, budget=count, max_groups=count, name="list") as done:
        return [question.answer for question in done]


def _with_something_below(paths: pa.Array, first: str) -> list[int]:
    """The rows that are followed by a key below them: "a" before "a/b". ``first`` follows the last row."""
    count = len(paths)
    if not count:
        return []
    offsets = np.frombuffer(paths.buffers()[1], np.int32)[paths.offset : paths.offset + count + 1]
    text = np.frombuffer(paths.buffers()[2], np.uint8)
    lengths = np.diff(offsets)
    # Only where the next key is longer and has a slash in the right place are the two compared.
    longer = np.flatnonzero(lengths[1:] > lengths[:-1])
    candidates = longer[text[offsets[longer + 1] + lengths[longer]] == ord("/")]
    found = [
        row
        for row, name, after in zip(
            candidates.tolist(),
            paths.take(candidates).to_pylist(),
            paths.take(candidates + 1).to_pylist(),
            strict=True,
        )
        if after.startswith(f"{name}/")
    ]
    if first.startswith(f"{paths[count - 1].as_py()}/"):
        found.append(count - 1)
    return found
