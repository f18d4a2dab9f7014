"""Where the files of a checkpoint are: names only, no I/O.

    <root>/step_0000000100/manifest.json                             the commit, written last
    <root>/step_0000000100/data/<attempt>/r00000-000.safetensors     arrays of rank 0, never changed
    <root>/step_0000000100/data/<attempt>/r00000.json                what rank 0 wrote, with checksums

Every try at saving a step is an attempt of its own, so the manifest is the only object that is ever
replaced, and no checkpoint mixes files of two tries. Paths inside a manifest are relative to the step's
directory: a copied checkpoint stays whole.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from s3dlio.errors import OptionError

if TYPE_CHECKING:
    from s3dlio.uri import Uri

__all__ = ["MANIFEST", "StepDirectory", "piece_path", "shard_path", "step_directory", "step_number"]

MANIFEST = "manifest.json"

_STEP = re.compile(r"step_([0-9]{10})")
_LAST_STEP = 10**10 - 1  # ten digits, so that the names of steps sort as their numbers do


@dataclasses.dataclass(frozen=True, slots=True)
class StepDirectory:
    """The directory of one checkpoint.

    Args:
        prefix: its key in the store: empty, or ending in one slash.
        step: the number that its name says, None where the name is the user's own.
    """

    prefix: str
    step: int | None

    def key(self, path: str) -> str:
        """The store's key of a file, given by its path inside the directory."""
        return self.prefix + path

    @property
    def manifest(self) -> str:
        """The store's key of the manifest."""
        return self.key(MANIFEST)


def step_directory(uri: Uri, step: int | None) -> StepDirectory:
    """The directory of ``step`` below the root ``uri``, or ``uri`` itself where it is the step's directory.

    Args:
        uri: a root of steps, or the directory of one checkpoint.
        step: 0 to 9,999,999,999; None when ``uri`` is the directory of the checkpoint.

    Raises:
        OptionError: an illegal step, or one other than the URI names.
    """
    named = step_number(uri.prefix.rstrip("/").rpartition("/")[2])
    if step is None:
        return StepDirectory(uri.prefix, named)
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= _LAST_STEP:
        raise OptionError(f"checkpoint {uri}: got step {step!r}, expected 0 to {_LAST_STEP}.", field="step")
    if named is None:
        return StepDirectory(f"{uri.prefix}step_{step:010d}/", step)
    if named != step:
        raise OptionError(
            f"checkpoint {uri}: got step {step}, expected {named}, which the URI names. "
            "Pass the directory above it, or no step.",
            field="step",
        )
    return StepDirectory(uri.prefix, step)


def step_number(name: str) -> int | None:
    """The step that a directory's name says, None if it is no step's directory."""
    match = _STEP.fullmatch(name)
    return int(match[1]) if match else None


def shard_path(attempt: str, rank: int, number: int) -> str:
    """Path of the shard ``number`` of a rank, relative to the step's directory."""
    return f"data/{attempt}/r{rank:05d}-{number:03d}.safetensors"


def piece_path(attempt: str, rank: int) -> str:
    """Path of what a rank says it wrote, relative to the step's directory."""
    return f"data/{attempt}/r{rank:05d}.json"
