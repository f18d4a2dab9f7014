"""A loader's position as JSON: some 200 bytes, the same from every framework.

Owns: the saved form and the check that it fits. Must not know: threads, frameworks.
A position counts samples that the whole job has taken, so it does not depend on ranks, workers or batch size.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from s3dlio.datasets import ORDER
from s3dlio.errors import StateError

__all__ = ["LoaderState"]

_VERSION = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoaderState:
    """Where a job is: the next sample to be taken is number ``position`` of epoch ``epoch``."""

    fingerprint: str
    """Of the manifest that the position counts in."""
    samples: int
    """Samples in an epoch."""
    shuffle: bool
    """Whether the epochs are permuted."""
    seed: int
    """Of the permutation."""
    epoch: int
    """From 0."""
    position: int
    """0 <= position < samples; a finished epoch is position 0 of the next one."""

    def to_json(self) -> dict[str, Any]:
        """A dict of strings, whole numbers and booleans."""
        return {"kind": "s3dlio.loader", "version": _VERSION, "order": ORDER, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> LoaderState:
        """Read what ``to_json`` gave, or what a JSON file made of it.

        Raises:
            StateError: not a loader's state, of another version, or damaged.
        """
        if not isinstance(state, dict) or state.get("kind") != "s3dlio.loader":
            raise StateError(f"load state: got {_short(state)}, expected what a loader's state_dict() gave.")
        if state.get("version") != _VERSION or state.get("order") != ORDER:
            raise StateError(
                f"load state: version {state.get('version')!r}, order {state.get('order')!r}, expected version "
                f"{_VERSION}, order {ORDER!r}. It was written by another release; resume with that one."
            )
        names = {"kind", "version", "order", *(field.name for field in dataclasses.fields(cls))}
        unknown = sorted(set(state) - names)
        if unknown:
            raise StateError(
                f"load state: found {unknown[0]!r} in it, expected nothing of that name. It is not a loader's state, "
                "or that of one torch worker process; use the state of s3dlio_torch.DataLoader."
            )
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            value: Any = state.get(field.name)
            legal = {"str": str, "int": int, "bool": bool}[str(field.type)]
            negative = isinstance(value, int) and value < 0 and field.name != "seed"
            if type(value) is not legal or negative:
                raise StateError(f"load state: {field.name} is {value!r}, expected {field.type}. The state is damaged.")
            values[field.name] = value
        found = cls(**values)
        if found.position > found.samples:
            raise StateError(f"load state: position {found.position} of {found.samples} samples. The state is damaged.")
        return found

    def check_fits(self, other: LoaderState) -> None:
        """Compare what may not change between saving and resuming; ``other`` is the resuming loader's.

        Raises:
            StateError: other data, another seed, or shuffled and not; a position would mean other samples.
        """
        if (self.fingerprint, self.samples) != (other.fingerprint, other.samples):
            raise StateError(
                f"load state: saved over {self.samples} samples (fingerprint {self.fingerprint}), this dataset has "
                f"{other.samples} ({other.fingerprint}). The data changed; use the data of the saved run, or begin "
                "a new epoch with set_epoch()."
            )
        for name in ("shuffle", "seed") if self.shuffle else ("shuffle",):
            if getattr(self, name) != getattr(other, name):
                raise StateError(
                    f"load state: saved with {name}={getattr(self, name)!r}, this loader has "
                    f"{name}={getattr(other, name)!r}. Pass {name}={getattr(self, name)!r}."
                )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
