import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.datasets import StepPlan
from s3dlio.errors import OptionError

JOBS = st.tuples(st.integers(0, 90), st.integers(1, 7), st.integers(1, 6)).flatmap(
    lambda job: st.tuples(st.just(job), st.integers(0, job[0]))
)


def ranks(job, start, last):
    samples, batch_size, world_size = job
    return [
        StepPlan(samples=samples, batch_size=batch_size, rank=r, world_size=world_size, last=last, start=start)
        for r in range(world_size)
    ]


def delivered(plans):
    """step -> rank -> the positions that the rank delivers."""
    assert len({plan.steps for plan in plans}) == 1, "ranks make different numbers of steps"
    return [
        [rows.positions[: rows.keep].tolist() for rows in (plan.rows(step) for plan in plans)]
        for step in range(plans[0].steps)
    ]


def flat(steps):
    return [position for step in steps for rank in step for position in rank]


@given(JOBS)
def test_short_gives_every_position_once_and_in_order(job):
    (samples, batch_size, world_size), start = job
    steps = delivered(ranks(*job, "short"))
    assert flat(steps) == list(range(start, samples))
    assert len(steps) == -(-(samples - start) // (batch_size * world_size))
    for step in steps[:-1]:
        assert {len(rank) for rank in step} == {batch_size}
    for step in steps[-1:]:
        sizes = [len(rank) for rank in step]
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= batch_size


@given(JOBS)
def test_pad_fills_the_last_step_with_the_first_samples_of_the_epoch(job):
    (samples, batch_size, world_size), start = job
    steps = delivered(ranks(*job, "pad"))
    assert all(len(rank) == batch_size for step in steps for rank in step)
    found, rest = flat(steps), list(range(start, samples))
    assert found[: len(rest)] == rest
    padding = found[len(rest) :]
    assert len(padding) < batch_size * world_size
    assert padding == [n % samples for n in range(len(padding))]


@given(JOBS)
def test_drop_leaves_out_the_incomplete_step_alone(job):
    (samples, batch_size, world_size), start = job
    steps = delivered(ranks(*job, "drop"))
    whole = (samples - start) // (batch_size * world_size)
    assert all(len(rank) == batch_size for step in steps for rank in step)
    assert flat(steps) == list(range(start, start + whole * batch_size * world_size))


@given(JOBS, st.sampled_from(["short", "pad", "drop"]))
def test_a_step_is_that_of_one_rank_with_the_global_batch(job, last):
    (samples, batch_size, world_size), start = job
    one = delivered(ranks((samples, batch_size * world_size, 1), start, last))
    many = delivered(ranks(*job, last))
    assert [[position for rank in step for position in rank] for step in many] == [step[0] for step in one]


@given(JOBS, st.integers(1, 7), st.integers(1, 6), st.data())
def test_another_world_size_goes_on_where_the_first_stopped(job, batch_size, world_size, data):
    (samples, *_), start = job
    before = ranks(*job, "short")
    cut = data.draw(st.integers(0, before[0].steps))
    positions = {plan.position_after(cut) for plan in before}
    assert len(positions) == 1
    after = ranks((samples, batch_size, world_size), positions.pop(), "short")
    assert flat(delivered(before)[:cut]) + flat(delivered(after)) == list(range(start, samples))


@given(JOBS, st.sampled_from(["short", "pad", "drop"]))
def test_an_empty_batch_still_reads_a_sample_for_its_shapes(job, last):
    for plan in ranks(*job, last):
        for step in range(plan.steps):
            rows = plan.rows(step)
            assert rows.keep in {0, len(rows.positions)}
            assert len(rows.positions) >= 1
            assert rows.positions.dtype == "int64"
            assert 0 <= rows.positions.min() <= rows.positions.max() < plan.samples


def test_examples():
    steps = delivered(ranks((10, 2, 3), 0, "short"))
    assert steps == [[[0, 1], [2, 3], [4, 5]], [[6], [7], [8, 9]]]
    assert delivered(ranks((7, 2, 3), 0, "short"))[1] == [[], [], [6]]
    assert delivered(ranks((7, 2, 3), 0, "pad"))[1] == [[6, 0], [1, 2], [3, 4]]
    assert delivered(ranks((2, 2, 3), 0, "pad")) == [[[0, 1], [0, 1], [0, 1]]]
    assert delivered(ranks((7, 2, 3), 0, "drop")) == [[[0, 1], [2, 3], [4, 5]]]


@given(JOBS)
def test_the_position_never_passes_the_end(job):
    (samples, batch_size, world_size), start = job
    plan = ranks(*job, "pad")[0]
    assert plan.position_after(0) == start
    assert plan.position_after(plan.steps) == samples
    assert plan.global_batch == batch_size * world_size


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"world_size": 0}, "rank"),
        ({"rank": 2, "world_size": 2}, "rank"),
        ({"rank": -1}, "rank"),
        ({"last": "keep"}, "last"),
        ({"start": 11}, "start"),
        ({"start": -1}, "start"),
    ],
)
def test_options_are_checked(wrong, field):
    with pytest.raises(OptionError) as caught:
        StepPlan(**{"samples": 10, "batch_size": 2, **wrong})
    assert caught.value.field == field


def test_it_pickles():
    plan = StepPlan(samples=10, batch_size=2, start=4)
    assert pickle.loads(pickle.dumps(plan)) == plan
