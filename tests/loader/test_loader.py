import itertools
import json
import pickle
import threading

import numpy as np
import pytest

from s3dlio import DataLoader
from s3dlio.datasets import epoch_order
from s3dlio.errors import ClosedError, OptionError, StateError
from s3dlio.testing.faults import FaultyStore

WAIT_S = 20


def order(samples, epoch, seed=0):
    return epoch_order(samples, shuffle=True, seed=seed, epoch=epoch)(np.arange(samples)).tolist()


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


class TestBatches:
    def test_shapes_types_and_alignment(self, labelled):
        with DataLoader(labelled(7).dataset(), batch_size=3) as loader:
            assert len(loader) == 3
            batches = list(loader)
        assert [list(batch) for batch in batches] == [["label", "x"]] * 3
        assert [batch["x"].shape for batch in batches] == [(3, 4, 3), (3, 4, 3), (1, 4, 3)]
        assert [batch["label"].tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
        for array in (array for batch in batches for array in batch.values()):
            assert array.ctypes.data % 64 == 0
            assert array.flags.writeable
            assert array.flags.c_contiguous
            assert array.dtype.isnative

    def test_a_batch_stays_the_callers(self, labelled, labels):
        """Memory that was handed over is never filled again."""
        with DataLoader(labelled(40).dataset(), batch_size=2) as loader:
            kept = list(itertools.chain(loader, loader))
        assert [labels(batch) for batch in kept] == [[n, n + 1] for n in range(0, 40, 2)] * 2
        starts = {array.ctypes.data for batch in kept for array in batch.values()}
        assert len(starts) == 2 * len(kept)

    def test_a_uri_will_do(self, labelled, labels):
        with DataLoader(labelled(4).uri, batch_size=4) as loader:
            assert [labels(batch) for batch in loader] == [[0, 1, 2, 3]]

    def test_raw_objects_of_equal_size_are_one_array(self, place):
        for n in range(3):
            place.put(f"{n}.bin", bytes([n]) * 10)
        with DataLoader(place.dataset(), batch_size=3) as loader:
            (batch,) = loader
        assert batch["data"].shape == (3, 10)
        assert batch["data"].dtype == np.uint8
        assert batch["data"][:, 0].tolist() == [0, 1, 2]

    def test_raw_objects_of_unequal_size_are_a_list(self, place):
        for n in range(4):
            place.put(f"{n}.bin", bytes([n]) * n)
        with DataLoader(place.dataset(), batch_size=4) as loader:
            (batch,) = loader
        assert [row.tobytes() for row in batch["data"]] == [bytes([n]) * n for n in range(4)]

    def test_text_and_ragged_fields_and_other_layouts(self, place):
        for n in range(3):
            big = np.asfortranarray(np.full((2, 3), n, ">f8"))
            place.put(f"{n}.npz", {"boxes": np.full((n, 4), n, "<f4"), "name": np.array("n" * n), "big": big})
        with DataLoader(place.dataset(), batch_size=3) as loader:
            (batch,) = loader
        assert [row.shape for row in batch["boxes"]] == [(0, 4), (1, 4), (2, 4)]
        assert batch["name"].tolist() == ["", "n", "nn"]
        assert batch["big"].dtype == np.dtype("=f8")
        assert batch["big"][:, 1, 2].tolist() == [0, 1, 2]

    def test_fields(self, labelled):
        with DataLoader(labelled(4).dataset(fields=["label"]), batch_size=4) as loader:
            assert [list(batch) for batch in loader] == [["label"]]

    def test_memory_comes_from_the_allocator(self, labelled):
        given = []

        def allocator(shape, dtype):
            given.append(np.empty(shape, dtype))
            return given[-1]

        with DataLoader(labelled(5).dataset(), batch_size=2, allocator=allocator) as loader:
            arrays = [array for batch in loader for array in batch.values()]
        assert {id(array) for array in arrays} == {id(array) for array in given}

    def test_more_prefetch_than_memory_and_a_batch_larger_than_the_budget(self, labelled, labels):
        with DataLoader(labelled(9).dataset(), batch_size=4, prefetch_bytes=1, max_in_flight=1) as loader:
            assert [labels(batch) for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


class TestEpochs:
    def test_each_iteration_is_the_next_epoch(self, labelled, labels):
        with DataLoader(labelled(10).dataset(), batch_size=3, shuffle=True, seed=5) as loader:
            for epoch in range(4):
                assert loader.epoch == epoch
                assert [n for batch in loader for n in labels(batch)] == order(10, epoch, seed=5)
            assert loader.epoch == 4

    def test_without_shuffle_all_epochs_are_alike(self, labelled, labels):
        with DataLoader(labelled(5).dataset(), batch_size=5) as loader:
            assert [labels(batch) for batch in itertools.chain(loader, loader)] == [[0, 1, 2, 3, 4]] * 2

    def test_after_a_break_comes_the_next_epoch(self, labelled, labels):
        with DataLoader(labelled(10).dataset(), batch_size=3, shuffle=True) as loader:
            for batch in loader:
                assert labels(batch) == order(10, 0)[:3]
                break
            assert loader.epoch == 0
            assert [n for batch in loader for n in labels(batch)] == order(10, 1)

    def test_next_of_iter(self, labelled, labels):
        with DataLoader(labelled(10).dataset(), batch_size=3, shuffle=True) as loader:
            assert [labels(next(iter(loader))) for _ in range(3)] == [order(10, epoch)[:3] for epoch in range(3)]

    def test_all_batches_without_the_end(self, labelled, labels):
        """zip(range(n), loader) and islice take the last batch and never ask for another."""
        with DataLoader(labelled(6).dataset(), batch_size=3, shuffle=True) as loader:
            for epoch in range(3):
                taken = [labels(batch) for batch in itertools.islice(loader, len(loader))]
                assert flat(taken) == order(6, epoch)

    def test_an_iteration_without_a_batch_takes_none(self, labelled, labels):
        with DataLoader(labelled(4).dataset(), batch_size=4, shuffle=True) as loader:
            for _ in range(3):
                iter(loader)
            assert [n for batch in loader for n in labels(batch)] == order(4, 0)

    def test_a_new_iteration_ends_the_old_one(self, labelled, labels):
        with DataLoader(labelled(10).dataset(), batch_size=3) as loader:
            old = iter(loader)
            next(old)
            new = iter(loader)
            with pytest.raises(ClosedError):
                next(old)
            assert loader.epoch == 1
            assert len([labels(batch) for batch in new]) == 4

    def test_the_end_is_the_end(self, labelled):
        with DataLoader(labelled(3).dataset(), batch_size=3) as loader:
            iteration = iter(loader)
            next(iteration)
            for _ in range(3):
                assert next(iteration, None) is None
            assert loader.epoch == 1

    def test_set_epoch(self, labelled, labels):
        with DataLoader(labelled(10).dataset(), batch_size=3, shuffle=True) as loader:
            next(iter(loader))
            loader.set_epoch(7)
            assert [n for batch in loader for n in labels(batch)] == order(10, 7)
            assert loader.epoch == 8
            with pytest.raises(OptionError) as caught:
                loader.set_epoch(-1)
            assert caught.value.field == "epoch"

    def test_step_by_step_across_ranks(self, labelled, labels):
        place = labelled(10)
        for world_size in (1, 2, 3, 5):
            ranks = [
                DataLoader(place.dataset(), batch_size=2, shuffle=True, last="short", rank=r, world_size=world_size)
                for r in range(world_size)
            ]
            steps = [[n for batch in step for n in labels(batch)] for step in zip(*ranks, strict=True)]
            assert flat(steps) == order(10, 0)
            for rank in ranks:
                rank.close()

    @pytest.mark.parametrize("last", ["short", "pad", "drop", None])
    def test_the_last_step_over_ranks(self, labelled, last):
        place = labelled(7)
        ranks = [DataLoader(place.dataset(), batch_size=2, rank=r, world_size=3, last=last) for r in range(3)]
        steps = [[batch["label"].tolist() for batch in step] for step in zip(*ranks, strict=True)]
        tail = {"short": [[[], [], [6]]], "pad": [[[6, 0], [1, 2], [3, 4]]], "drop": []}[last or "pad"]
        assert steps == [[[0, 1], [2, 3], [4, 5]], *tail]
        assert {len(rank) for rank in ranks} == {len(steps)}
        for rank in ranks:
            rank.close()

    def test_an_empty_batch_has_the_shapes_and_types_of_the_others(self, labelled):
        with DataLoader(labelled(4).dataset(), batch_size=3, rank=0, world_size=2, last="short") as loader:
            assert len(next(iter(loader))["x"]) == 2
        with DataLoader(labelled(1).dataset(), batch_size=3, rank=0, world_size=2, last="short") as loader:
            (batch,) = loader
        assert batch["x"].shape == (0, 4, 3)
        assert batch["x"].dtype == np.float32
        assert batch["label"].shape == (0,)

    def test_drop_last(self, labelled, labels):
        with DataLoader(labelled(7).dataset(), batch_size=3, drop_last=True) as loader:
            assert [labels(batch) for batch in loader] == [[0, 1, 2], [3, 4, 5]]
        with DataLoader(labelled(2).dataset(), batch_size=3, drop_last=True) as loader:
            for epoch in range(2):
                assert (loader.epoch, list(loader)) == (epoch, [])

    def test_workers_divide_the_batches(self, labelled, labels):
        with DataLoader(labelled(11).dataset(), batch_size=2, shuffle=True) as loader:
            whole = [labels(batch) for batch in loader]
            loader.set_epoch(0)
            shares = [[labels(batch) for batch in loader.worker_batches(w, 4)] for w in range(4)]
            assert [batch for turn in itertools.zip_longest(*shares) for batch in turn if batch] == whole
            assert [labels(batch) for batch in loader.worker_batches(1, 4, skip=1)] == shares[1][1:]
            assert loader.state_dict()["position"] == 0


class TestState:
    def test_it_is_small_json_and_advances_on_hand_over(self, labelled):
        """Reading runs ahead: all objects are fetched before the first batch is asked for."""
        place = labelled(12)
        fetched = threading.Semaphore(0)
        store = FaultyStore(place.store, before=lambda call: fetched.release())
        with DataLoader(place.dataset(store), batch_size=3, shuffle=True, seed=9) as loader:
            assert loader.state_dict()["position"] == 0
            iteration = iter(loader)
            for _ in range(12):
                assert fetched.acquire(timeout=WAIT_S)
            for taken in range(4):
                state = loader.state_dict()
                assert len(json.dumps(state)) < 1000
                assert (state["epoch"], state["position"]) == (0, 3 * taken)
                assert state == loader.state_dict(batches=taken)
                next(iteration)
            assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (1, 0)
            assert next(iteration, None) is None
            assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (1, 0)

    def test_it_can_be_read_after_close(self, labelled):
        loader = DataLoader(labelled(12).dataset(), batch_size=3)
        next(iter(loader))
        loader.close()
        assert loader.state_dict()["position"] == 3

    @pytest.mark.parametrize("batches", [-1, 5])
    def test_batches_outside(self, labelled, batches):
        with DataLoader(labelled(12).dataset(), batch_size=3) as loader, pytest.raises(OptionError) as caught:
            loader.state_dict(batches=batches)
        assert caught.value.field == "batches"

    def test_a_state_of_another_run_changes_nothing(self, labelled, labels):
        place = labelled(12)
        with DataLoader(place.dataset(), batch_size=3, shuffle=True) as loader:
            next(iter(loader))
            state = loader.state_dict()
            place.put("9999.npz", {"x": np.zeros(1)})
            others = [
                DataLoader(place.dataset(), batch_size=3, shuffle=True),
                DataLoader(loader.dataset, batch_size=3),
                DataLoader(loader.dataset, batch_size=3, shuffle=True, seed=1),
            ]
            for other, match in zip(others, ["data changed", "shuffle=True", "seed=0"], strict=True):
                before = other.state_dict()
                with pytest.raises(StateError, match=match):
                    other.load_state_dict(state)
                assert other.state_dict() == before
                with pytest.raises(StateError):
                    other.load_state_dict({"epoch": 1})
            loader.load_state_dict(state)
            assert flat(labels(batch) for batch in loader) == order(12, 0)[3:]

    def test_len_is_what_is_left_of_a_loaded_epoch(self, labelled):
        with DataLoader(labelled(12).dataset(), batch_size=3) as loader:
            loader.load_state_dict({**loader.state_dict(), "position": 7})
            assert len(loader) == 2
            assert len(list(loader)) == 2
            assert len(loader) == 4

    def test_a_rest_that_is_no_full_step_is_dropped(self, labelled, labels):
        with DataLoader(labelled(10).dataset(), batch_size=4, drop_last=True) as loader:
            loader.load_state_dict({**loader.state_dict(), "position": 8})
            assert (loader.epoch, len(loader)) == (1, 2)
            assert [labels(batch) for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7]]

    def test_loading_ends_a_running_iteration(self, labelled):
        with DataLoader(labelled(12).dataset(), batch_size=3) as loader:
            iteration = iter(loader)
            next(iteration)
            loader.load_state_dict(loader.state_dict())
            with pytest.raises(ClosedError):
                next(iteration)

    def test_it_pickles_with_its_position(self, labelled, labels):
        with DataLoader(labelled(10).dataset(), batch_size=3, shuffle=True) as loader:
            iteration = iter(loader)
            next(iteration)
            twin = pickle.loads(pickle.dumps(loader))
            assert twin.state_dict() == loader.state_dict()
            with twin:
                twin.load_state_dict(loader.state_dict())
                rest = [labels(batch) for batch in iteration]
                assert [labels(batch) for batch in twin] == rest


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.0}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"shuffle": "yes"}, "shuffle"),
        ({"seed": None}, "seed"),
        ({"rank": 1}, "rank"),
        ({"rank": -1, "world_size": 2}, "rank"),
        ({"world_size": 0}, "world_size"),
        ({"last": "keep"}, "last"),
        ({"last": "pad", "drop_last": True}, "last"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"prefetch_bytes": -1}, "prefetch_bytes"),
    ],
    ids=str,
)
def test_an_option_error_names_the_field(labelled, wrong, field):
    with pytest.raises(OptionError, match=field) as caught:
        DataLoader(labelled(2).dataset(), **{"batch_size": 2, **wrong})
    assert caught.value.field == field
