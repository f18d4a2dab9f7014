"""The law of resumption on the core's loader; and the law's own check, on loaders that break it."""

import itertools

import pytest

from s3dlio import DataLoader
from s3dlio.testing.loaders import check_resumption


def job(place, batch_size, world_size=1, **options):
    options = {"shuffle": True, "seed": 3, "last": "short", **options}
    return lambda: [
        DataLoader(place.dataset(), batch_size=batch_size, rank=r, world_size=world_size, max_in_flight=4, **options)
        for r in range(world_size)
    ]


@pytest.mark.parametrize("last", ["short", "pad", "drop"])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("batch_size", "world_size"), [(1, 1), (3, 1), (2, 3), (5, 2), (11, 1), (20, 1)])
def test_the_same_job(labelled, labels, batch_size, world_size, last, shuffle):
    samples = 11
    if last == "drop" and batch_size * world_size > samples:
        samples = batch_size * world_size + 1
    make = job(labelled(samples), batch_size, world_size, last=last, shuffle=shuffle)
    check_resumption(make, labels, samples=samples)


@pytest.mark.parametrize("last", ["short", "pad"])
@pytest.mark.parametrize(
    ("before", "after"), [((2, 1), (3, 1)), ((2, 2), (2, 3)), ((1, 3), (4, 1)), ((4, 1), (1, 2)), ((20, 1), (1, 4))]
)
def test_another_batch_and_world_size(labelled, labels, before, after, last):
    place = labelled(11)
    check_resumption(job(place, *before, last=last), labels, samples=11, resume_with=job(place, *after, last=last))


def test_one_sample(labelled, labels):
    place = labelled(1)
    check_resumption(job(place, 2, 3), labels, samples=1, resume_with=job(place, 1))


class Plain:
    """A loader of numbers that keeps the law, with a seam for each way to break it."""

    samples = 6

    def __init__(self):
        self.epoch = self.position = 0

    def __iter__(self):
        while self.position < self.samples:
            low = self.position
            self.position = self.after(low)
            yield self.values(low)
        self.epoch, self.position = self.epoch + 1, 0

    def after(self, low):
        return min(low + 2, self.samples)

    def values(self, low):
        return [(n * (self.epoch + 1)) % 7 for n in range(low + 1, min(low + 2, self.samples) + 1)]

    def state_dict(self):
        done = self.position == self.samples
        return {"epoch": self.epoch + done, "position": 0 if done else self.position}

    def load_state_dict(self, state):
        self.epoch, self.position = state["epoch"], state["position"]


class StateOfTheFetched(Plain):
    """Counts a batch that is read ahead."""

    def state_dict(self):
        state = super().state_dict()
        return {**state, "position": min(state["position"] + 2, 4)}


class ForgetsTheEpoch(Plain):
    def load_state_dict(self, state):
        self.position = state["position"]


class SkipsTheRest(Plain):
    def load_state_dict(self, state):
        super().load_state_dict(state)
        if self.position:
            self.epoch, self.position = self.epoch + 1, 0


class StaysAtTheEnd(Plain):
    def state_dict(self):
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state):
        self.epoch, self.position = state["epoch"], state["position"] % self.samples


class ResumesOnce(Plain):
    """The position of a resumed run counts from where it resumed."""

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.base = self.position

    def state_dict(self):
        state = super().state_dict()
        return {**state, "position": max(0, state["position"] - getattr(self, "base", 0))}


class LargeState(Plain):
    def state_dict(self):
        return {**super().state_dict(), "indices": list(range(1000))}


class NumberKeys(Plain):
    """Survives in memory, not through JSON."""

    def state_dict(self):
        return {0: self.epoch, 1: super().state_dict()}

    def load_state_dict(self, state):
        super().load_state_dict(state[1])


class DifferentStates(Plain):
    made = itertools.count()

    def __init__(self):
        super().__init__()
        self.rank = next(self.made)

    def state_dict(self):
        return {**super().state_dict(), "rank": self.rank}


def numbers(batch):
    return batch


def test_a_loader_that_keeps_the_law_passes():
    check_resumption(lambda: [Plain()], numbers, samples=6)
    check_resumption(lambda: [Plain()], numbers, samples=6, cuts=[1, 4])


@pytest.mark.parametrize(
    "kind", [StateOfTheFetched, ForgetsTheEpoch, SkipsTheRest, StaysAtTheEnd, ResumesOnce, LargeState, NumberKeys]
)
def test_a_loader_that_breaks_the_law_is_caught(kind):
    with pytest.raises((AssertionError, KeyError)):
        check_resumption(lambda: [kind()], numbers, samples=6)


def test_ranks_with_different_states_or_steps_are_caught():
    with pytest.raises(AssertionError, match="different states"):
        check_resumption(lambda: [DifferentStates(), DifferentStates()], lambda batch: [object()], samples=99)

    class Shorter(Plain):
        samples = 4

    with pytest.raises(ValueError, match="shorter"):
        check_resumption(lambda: [Plain(), Shorter()], lambda batch: [object()], samples=99)
