"""The law of resumption: a job that stops after any step and resumes reads what it would have read.

Owns: the check itself. Must not know: any loader, format or framework; it is given factories.

    def job():
        return [s3dlio.DataLoader(uri, batch_size=3, shuffle=True, rank=r, world_size=2) for r in range(2)]

    check_resumption(job, lambda batch: batch["label"].tolist(), samples=10)

A job is the loaders of its ranks, in rank order; a step is one batch of each. A loader is anything that
iterates batches of one epoch, then of the next, and has ``state_dict`` and ``load_state_dict``.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from typing import Self

__all__ = ["Resumable", "check_resumption"]


class Resumable(Protocol):
    """A loader of one rank."""

    def __iter__(self) -> Iterator[Any]:
        """The batches of the next epoch, or of the rest of a loaded one."""

    def state_dict(self) -> dict[str, Any]:
        """The position after the batches taken so far."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


Ids: TypeAlias = "list[Hashable]"
Steps: TypeAlias = "list[Ids]"

_STATE_BYTES = 1024
"""Most that a state may take as JSON: it is saved with every checkpoint, by every rank."""


def check_resumption(
    make_job: Callable[[], Sequence[Resumable]],
    sample_ids: Callable[[Any], Iterable[Hashable]],
    *,
    samples: int,
    resume_with: Callable[[], Sequence[Resumable]] | None = None,
    cuts: Iterable[int] | None = None,
) -> None:
    """Fail unless stopping and resuming, twice in a row, changes nothing; at every step of two epochs.

    At each cut the state crosses through JSON into new loaders, which take one step, save, and hand over to
    others again; those run to the end of the epoch and through the next one. All ranks must save the same
    state and make the same number of steps.

    Args:
        make_job: new loaders, one a rank, in rank order; the same job every time.
        sample_ids: the ids of the samples of a batch, in order; unique in the data.
        samples: of an epoch. What an epoch gives beyond them is padding and is not compared; an epoch that gives
            fewer drops its last step, and then ``resume_with`` must make steps of the same size.
        resume_with: new loaders to resume with, of another world size, batch size or framework; None for
            ``make_job``.
        cuts: the numbers of steps after which to stop, counted from the first epoch's begin; None for all of
            two epochs, both ends included. For loaders that are slow to start.
    """
    resume = resume_with or make_job
    with _Job(make_job) as whole:
        first, second, third, fourth = (list(whole.epoch(sample_ids)) for _ in range(4))
    epochs = [_flat(steps)[:samples] for steps in (first, second, third, fourth)]
    assert len(set(epochs[0])) == len(epochs[0]), "sample_ids are not unique, or a sample came twice"
    for cut in range(len(first) + len(second) + 1) if cuts is None else cuts:
        state, taken = _run_until(cut, make_job, sample_ids)
        epoch, skipped = (0, cut) if cut < len(first) else (1, cut - len(first))
        before = taken[epoch] if len(taken) > epoch else []
        if epoch == 1 and skipped == len(second):
            epoch, before = 2, []
        where = f"after {cut} steps (state {state})"
        state, once = _one_step(resume, state, sample_ids)
        seen = [*_flat(before), *_flat(once)]
        assert seen[:samples] == epochs[epoch][: len(seen)], f"first step resumed {where}"
        if len(seen) >= len(epochs[epoch]):
            epoch, seen = epoch + 1, []
        with _Job(resume, state) as rest:
            seen += _flat(rest.epoch(sample_ids))
            assert seen[:samples] == epochs[epoch], f"rest of the epoch resumed twice {where}"
            if epoch + 1 < len(epochs):
                after = _flat(rest.epoch(sample_ids))
                assert after[:samples] == epochs[epoch + 1], f"the epoch after, resumed twice {where}"


class _Job:
    """The loaders of all ranks in step."""

    def __init__(self, make: Callable[[], Sequence[Resumable]], state: dict[str, Any] | None = None) -> None:
        self._ranks = list(make())
        assert self._ranks, "make_job gave no loaders"
        if state is not None:
            for rank in self._ranks:
                rank.load_state_dict(json.loads(json.dumps(state)))

    def epoch(self, sample_ids: Callable[[Any], Iterable[Hashable]]) -> Iterator[Ids]:
        """The ids of each step, the ranks' one after the other."""
        for step in zip(*self._ranks, strict=True):
            yield [number for batch in step for number in sample_ids(batch)]

    def state(self) -> dict[str, Any]:
        """The state, the same from every rank."""
        texts = {json.dumps(rank.state_dict(), sort_keys=True) for rank in self._ranks}
        assert len(texts) == 1, f"ranks saved different states: {sorted(texts)}"
        (text,) = texts
        assert len(text) < _STATE_BYTES, f"a state of {len(text)} bytes, expected less than {_STATE_BYTES}"
        return json.loads(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for rank in self._ranks:
            close = getattr(rank, "close", None)
            if close is not None:
                close()


def _run_until(
    cut: int, make: Callable[[], Sequence[Resumable]], sample_ids: Callable[[Any], Iterable[Hashable]]
) -> tuple[dict[str, Any], list[Steps]]:
    """The state after ``cut`` steps, saved while the iteration is open, and the steps taken, by epoch."""
    taken: list[Steps] = []
    with _Job(make) as job:
        while (missing := cut - sum(map(len, taken))) > 0:
            steps = job.epoch(sample_ids)
            taken.append(list(itertools.islice(steps, missing)))
            if len(taken[-1]) == missing:
                state = job.state()
                del steps
                return state, taken
            assert taken[-1], "an epoch without steps"
        return job.state(), taken


def _one_step(
    make: Callable[[], Sequence[Resumable]],
    state: dict[str, Any],
    sample_ids: Callable[[Any], Iterable[Hashable]],
) -> tuple[dict[str, Any], Steps]:
    with _Job(make, state) as job:
        steps = job.epoch(sample_ids)
        once = list(itertools.islice(steps, 1))
        assert once, f"resumed from {state}: no step, expected the rest of an epoch or the next one"
        return job.state(), once


def _flat(steps: Iterable[Ids]) -> Ids:
    return [number for step in steps for number in step]
