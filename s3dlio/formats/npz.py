"""NPZ: several named NumPy arrays in an object, a ZIP archive of NPYs."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, ClassVar

from s3dlio.errors import FormatError, OptionError
from s3dlio.formats.npy import Layouts, decode_npy
from s3dlio.formats.zip_members import Member, member_bytes, read_members

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from s3dlio.arrays import Sample

__all__ = ["NpzFormat"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NpzFormat:
    """The arrays of an object that ``numpy.savez`` or ``savez_compressed`` wrote, by their names.

    Stored arrays (``savez``) are views of the object's bytes, at whatever alignment the archive gave them:
    NumPy reads and copies them like any other, but code that hands out pointers must copy those whose
    ``flags.aligned`` is False. Deflated arrays are inflated into memory of their own. A view keeps the whole
    object alive. Arrays of Python objects are refused: they are pickles.
    """

    name: ClassVar[str] = "npz"
    suffixes: ClassVar[tuple[str, ...]] = (".npz",)

    verify: bool = True
    """Check the CRC-32 of each decoded array: no flipped bit gets through. Costs about 0.3 s a GB."""

    fields: tuple[str, ...] | None = None
    """The arrays wanted, in the order of the sample; None is all. The others are neither inflated nor checked."""

    _layouts: Layouts = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.fields is None:
            return
        if isinstance(self.fields, str) or not self.fields or len(set(self.fields)) != len(self.fields):
            raise OptionError(
                f"NpzFormat.fields: got {self.fields!r}, expected a tuple of distinct names, or None for all.",
                field="fields",
            )
        object.__setattr__(self, "fields", tuple(self.fields))

    def decode(self, buffer: pa.Buffer) -> Sample:
        """The arrays in ``buffer``, in the order of the archive or of ``fields``.

        The name of an array is its member's without ".npy"; a member without that suffix keeps its name and
        must be an NPY all the same.

        Raises:
            FormatError: not an NPZ, truncated, corrupt, encrypted, compressed by another method than deflate,
                without one of ``fields``, or with a wanted member that is no NPY or holds Python objects.
        """
        view = memoryview(buffer).toreadonly()
        members = _by_field(read_members(view))
        sample: Sample = {}
        for field in members if self.fields is None else self.fields:
            member = members.get(field)
            if member is None:
                found = ", ".join(map(repr, members)) or "none"
                raise FormatError(f"decode npz: arrays {found}, expected {field!r}. Name fields that all objects have.")
            data, start, end = member_bytes(view, member, verify=self.verify)
            try:
                sample[field] = decode_npy(data, start, end, self._layouts)
            except FormatError as error:
                # Inside inflated bytes an offset says nothing about the object; the member's start does.
                offset = error.offset if data is view else member.start
                raise FormatError(f"decode npz member {member.name!r}: {error}", offset=offset) from error
        return sample

    def __reduce__(self) -> tuple[Callable[[], NpzFormat], tuple[()]]:
        """Pickle without the cache."""
        return functools.partial(NpzFormat, verify=self.verify, fields=self.fields), ()


def _by_field(members: list[Member]) -> dict[str, Member]:
    fields: dict[str, Member] = {}
    for member in members:
        field = member.name.removesuffix(".npy")
        if field in fields:
            raise FormatError(
                f"decode npz at byte {member.header}: a second array {field!r}, expected each name once. "
                "Write the object again with distinct names.",
                offset=member.header,
            )
        fields[field] = member
    return fields
