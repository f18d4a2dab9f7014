"""A dataset: numbered samples below a URI, readable in any order.

Owns: what sample i is and how it is read and decoded. Must not know: epochs, ranks, batches.
One object is one sample. Reading one makes one request, and none before it is asked for.
"""

from __future__ import annotations

import dataclasses
import posixpath
from typing import TYPE_CHECKING, Any

from s3dlio.datasets.manifest import Manifest
from s3dlio.errors import FormatError, OptionError, PreconditionError
from s3dlio.formats import NpzFormat, format_for
from s3dlio.reading import Request, fetch
from s3dlio.storage import StorageOptions, open_store
from s3dlio.storage.where import where_in

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from s3dlio.arrays import Sample
    from s3dlio.formats import Format
    from s3dlio.reading import FetchOptions
    from s3dlio.storage import Store
    from s3dlio.uri import Uri

__all__ = ["Dataset", "dataset", "list_for_workers"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Samples 0 .. len-1, in the order of their keys. Made by ``s3dlio.dataset``.

    It pickles: connections are made anew where it arrives, the listing travels along.

    Threads: any.
    """

    store: Store
    """Where the objects are."""
    manifest: Manifest
    """Which objects there are."""
    format: Format
    """How an object becomes a sample."""
    fields: tuple[str, ...] | None = None
    """The fields of a sample to deliver, in any order; None for all that an object holds."""

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.manifest)

    def uri(self, index: int) -> str:
        """The object that sample ``index`` comes from."""
        return self.store.uri(self.manifest.key(index))

    def __getitem__(self, index: int) -> Sample:
        """Read and decode one sample. One request; blocks.

        Args:
            index: 0 <= index < len; negative ones count from the end.

        Returns: field -> array; read-only views of the fetched buffer where the format allows.

        Raises:
            IndexError: there is no such sample.
            StorageError, FormatError: naming the object.
        """
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"sample {index}: expected {-len(self)} to {len(self) - 1}.")
        return self.decode(number, self.store.get(self.manifest.key(number)))

    def decode(self, index: int, buffer: pa.Buffer) -> Sample:
        """The sample that ``buffer``, the bytes of object ``index``, holds.

        Raises:
            PreconditionError: the object has another size than when it was listed.
            FormatError: the bytes do not decode, or a field is missing; with the object's URI.
        """
        listed = self.manifest.size(index)
        if buffer.size != listed:
            raise PreconditionError(
                f"read {self.uri(index)}: got {buffer.size} bytes, expected {listed}. "
                "The object changed after it was listed; make the dataset anew.",
                uri=self.uri(index),
                operation="get",
            )
        try:
            sample = self.format.decode(buffer)
        except FormatError as error:
            raise FormatError(f"read {self.uri(index)}: {error}", uri=self.uri(index), offset=error.offset) from error
        if self.fields is None:
            return sample
        missing = [name for name in self.fields if name not in sample]
        if missing:
            raise FormatError(
                f"read {self.uri(index)}: found fields {', '.join(sorted(sample))}, expected {', '.join(missing)} too. "
                "Rewrite the object, or leave the field out of fields=.",
                uri=self.uri(index),
            )
        return {name: sample[name] for name in self.fields}

    def __iter__(self) -> Iterator[Sample]:
        """All samples in order, one request after the other; ``s3dlio.DataLoader`` reads ahead."""
        return (self[index] for index in range(len(self)))

    def read_many(self, indices: Sequence[int], *, options: FetchOptions | None = None) -> Iterator[Sample]:
        """Read samples concurrently and give them in the order asked for.

        Args:
            indices: sample numbers, 0 <= index < len; the same one may come twice.
            options: what may be in flight.

        Raises:
            IndexError: there is no such sample.
            StorageError, FormatError: at the failed sample's place, naming the object.
        """
        wrong = [index for index in indices if not 0 <= index < len(self)]
        if wrong:
            raise IndexError(f"sample {wrong[0]}: expected 0 to {len(self) - 1}.")
        requests = (
            Request(key=self.manifest.key(index), end=self.manifest.size(index), whole=True) for index in indices
        )
        return (self.decode(indices[at], buffer) for at, buffer in fetch(self.store, requests, options))


def dataset(
    uri: str | os.PathLike[str] | Uri,
    *,
    format: str | Format | None = None,
    fields: Iterable[str] | None = None,
    pattern: str | None = None,
    manifest: Manifest | str | os.PathLike[str] | None = None,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
) -> Dataset:
    """The objects below ``uri`` as a dataset of one sample each.

    Lists the prefix once, here, so that a wrong bucket or key is an error at this line. Objects whose
    name, or whose directory below ``uri``, starts with "." or "_" are left out.

    Args:
        uri: a directory such as ``"s3://bucket/train/"``, or one object.
        format: "npz", "npy", "raw" or a ``Format``; None decides by the keys' suffix, which must then be
            the same for all objects.
        fields: names of the fields to deliver; None for all.
        pattern: regular expression that a key must contain below ``uri``. Not with ``manifest``.
        manifest: a saved listing (its path, or the object) instead of a new one.
        storage_options: endpoint, credentials, engine: complete ``StorageOptions``, or a dict of some of its fields,
            the rest of which, like None, comes from the usual environment variables.
        filesystem: a pyarrow or fsspec filesystem of your own, in which ``uri`` is then a path.

    Raises:
        NotFoundError: no bucket, or no object there.
        AccessError: the store refused the credentials.
        OptionError: an unknown format, objects of several formats and none chosen, or no field's name.
    """
    wanted = None if fields is None else tuple(fields)
    if isinstance(fields, str) or (wanted is not None and len(set(wanted)) != (len(wanted) or 1)):
        raise OptionError(f"fields: got {fields!r}, expected distinct names, or None for all.", field="fields")
    if pattern is not None and manifest is not None:
        raise OptionError(
            f"pattern: got {pattern!r} with a manifest, expected one of them. Select when the manifest is made.",
            field="pattern",
        )
    where = where_in(uri, filesystem)
    store = open_store(uri, storage_options=storage_options, filesystem=filesystem)
    if manifest is None:
        manifest = Manifest.from_listing(store, where.key, pattern=pattern)
    elif not isinstance(manifest, Manifest):
        manifest = Manifest.load(manifest)
    single = len(manifest) == 1 and where.key == manifest.key(0)
    if not single and where.key not in {manifest.root, manifest.root.rstrip("/")}:
        raise OptionError(
            f"open {where}: got a manifest of {store.uri(manifest.root)}, expected one of that directory. List again.",
            field="manifest",
        )
    decoder = _one_format(format, manifest, store)
    if isinstance(decoder, NpzFormat) and decoder.fields is None:
        decoder = dataclasses.replace(decoder, fields=wanted)  # what is not wanted is not inflated either
    return Dataset(store=store, manifest=manifest, format=decoder, fields=wanted)


def list_for_workers(
    uri: str | os.PathLike[str] | Uri,
    *,
    pattern: str | None = None,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
) -> Manifest:
    """The listing of ``uri`` made through the ``arrow`` engine, for a parent of worker processes.

    The native engine's threads do not survive a fork, so a parent that has used it leaves its workers with
    the slower engine. One that has only listed through ``arrow`` does not.

    Args, Raises: as ``dataset``.
    """
    where = where_in(uri, filesystem)
    chosen = {} if filesystem is not None else {"backend": "arrow"}
    with open_store(uri, storage_options=storage_options, filesystem=filesystem, **chosen) as store:
        return Manifest.from_listing(store, where.key, pattern=pattern)


def _one_format(chosen: str | Format | None, manifest: Manifest, store: Store) -> Format:
    first = manifest.key(0)
    if chosen is not None:
        return format_for(chosen, first)
    suffixes = _suffixes(manifest.table["key"].to_pylist())
    formats = {suffix: format_for(None, key) for suffix, key in suffixes.items()}
    if len({found.name for found in formats.values()}) > 1:
        raise OptionError(
            f"open {store.uri(manifest.root)}: found objects of several formats "
            f"({', '.join(sorted(suffix or 'no suffix' for suffix in suffixes))}), expected one. "
            "Choose with format=, or select keys with pattern=.",
            field="format",
        )
    return next(iter(formats.values()))


def _suffixes(keys: Sequence[str]) -> dict[str, str]:
    """Each suffix that occurs, with one key that has it."""
    return {posixpath.splitext(key)[1].lower(): key for key in reversed(keys)}
