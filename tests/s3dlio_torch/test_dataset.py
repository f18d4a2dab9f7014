"""Order, epochs and shares of the torch datasets; the core loader in this process is what they are compared with."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.utils.data
from torchdata.stateful_dataloader import StatefulDataLoader

import s3dlio
from s3dlio.errors import NotFoundError, OptionError, StateError
from s3dlio.testing.loaders import check_resumption
from s3dlio_torch import DataLoader, S3IterableDataset, S3MapDataset

pytestmark = [
    pytest.mark.framework("torch"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # more workers than cores here
]


def core_epochs(folder, labels, *, epochs, **options):
    with s3dlio.DataLoader(folder, **options) as loader:
        return [[labels(batch) for batch in loader] for _ in range(epochs)]


def stock(dataset, workers, **options):
    return torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers, **options)


OPTIONS = {"batch_size": 3, "shuffle": True, "seed": 4}


class TestOrder:
    @pytest.mark.parametrize(("workers", "persistent"), [(0, False), (1, False), (2, False), (2, True), (5, False)])
    def test_any_number_of_workers_gives_the_batches_of_the_core(self, labelled, labels, workers, persistent):
        folder = labelled(20)
        expected = core_epochs(folder, labels, epochs=3, **OPTIONS)
        loader = stock(S3IterableDataset(folder, **OPTIONS), workers, persistent_workers=persistent)
        assert len(loader) == 7
        assert [[labels(batch) for batch in loader] for _ in range(3)] == expected

    def test_more_workers_than_batches(self, labelled, labels):
        folder = labelled(4)
        expected = core_epochs(folder, labels, epochs=2, **OPTIONS)
        loader = stock(S3IterableDataset(folder, **OPTIONS), 5)
        assert [[labels(batch) for batch in loader] for _ in range(2)] == expected

    def test_after_a_break_comes_the_next_epoch(self, labelled, labels):
        folder = labelled(20)
        expected = core_epochs(folder, labels, epochs=2, **OPTIONS)
        for workers in (0, 2):
            loader = stock(S3IterableDataset(folder, **OPTIONS), workers)
            assert labels(next(iter(loader))) == expected[0][0]
            assert [labels(batch) for batch in loader] == expected[1]

    def test_set_epoch(self, labelled, labels):
        folder = labelled(20)
        expected = core_epochs(folder, labels, epochs=3, **OPTIONS)
        for workers in (0, 2):
            dataset = S3IterableDataset(folder, **OPTIONS)
            loader = stock(dataset, workers)
            list(loader)
            dataset.set_epoch(2)
            assert [labels(batch) for batch in loader] == expected[2]
            dataset.set_epoch(0)
            assert [labels(batch) for batch in loader] == expected[0]

    def test_ranks_with_workers(self, labelled, labels):
        folder = labelled(20)
        (expected,) = core_epochs(folder, labels, epochs=1, batch_size=6, shuffle=True)
        datasets = [S3IterableDataset(folder, batch_size=3, shuffle=True, rank=r, world_size=2) for r in range(2)]
        loaders = [stock(dataset, workers) for dataset, workers in zip(datasets, (2, 3), strict=True)]
        steps = [[n for batch in step for n in labels(batch)] for step in zip(*loaders, strict=True)]
        assert steps[:3] == expected[:3]
        assert steps[3] == [*expected[3], *expected[0][:4]], "padded with the first samples"

    def test_tensors_share_the_batchs_memory(self, labelled):
        dataset = S3IterableDataset(labelled(4), batch_size=4)
        batch = next(iter(dataset))
        assert isinstance(batch["x"], torch.Tensor)
        assert batch["x"].dtype is torch.float32
        assert batch["x"].shape == (4, 2, 3)
        assert batch["x"].data_ptr() % 64 == 0

    def test_an_error_in_a_worker_names_the_object_at_its_place(self, labelled, labels):
        folder = labelled(12)
        dataset = S3IterableDataset(folder, batch_size=2)
        Path(folder, "0005.npz").unlink()
        for workers in (0, 1):
            given = []
            with pytest.raises(NotFoundError, match=r"0005\.npz"):
                given.extend(labels(batch) for batch in stock(dataset, workers))
            assert given == [[0, 1], [2, 3]]
            dataset.set_epoch(0)


class TestRankOfACopy:
    def test_a_copy_in_another_rank_asks_for_itself(self, labelled, labels, monkeypatch):
        """As torch.multiprocessing.spawn(train, args=(dataset,)) sends it."""
        dataset = S3IterableDataset(labelled(12), batch_size=3)
        assert len(dataset) == 4
        dataset.state_dict()
        shares = []
        for rank in ("0", "1"):
            monkeypatch.setenv("RANK", rank)
            monkeypatch.setenv("WORLD_SIZE", "2")
            copy = pickle.loads(pickle.dumps(dataset))
            assert len(copy) == 2
            shares.append([labels(batch) for batch in copy])
        assert shares == [[[0, 1, 2], [6, 7, 8]], [[3, 4, 5], [9, 10, 11]]]

    def test_len_does_not_settle_the_rank(self, labelled, monkeypatch):
        dataset = S3IterableDataset(labelled(12), batch_size=3)
        assert len(dataset) == 4
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert len(dataset) == 2

    def test_a_copy_goes_on_where_its_original_begins(self, labelled, labels):
        dataset = S3IterableDataset(labelled(12), batch_size=3)
        dataset.load_state_dict({**dataset.state_dict(), "position": 6})
        assert [labels(batch) for batch in pickle.loads(pickle.dumps(dataset))] == [[6, 7, 8], [9, 10, 11]]


class TestState:
    def job(self, folder, workers, batch_size=3):
        return lambda: [
            DataLoader(S3IterableDataset(folder, **{**OPTIONS, "batch_size": batch_size}), num_workers=workers)
        ]

    def test_the_law_without_workers(self, labelled, labels):
        check_resumption(self.job(labelled(7), 0), labels, samples=7)

    @pytest.mark.parametrize(("before", "after"), [(2, 0), (0, 2), (2, 3)])
    def test_the_law_at_every_cut_with_workers(self, labelled, labels, before, after):
        folder = labelled(7)
        # both ends of an epoch, and every cut of the first one
        job, resumed = self.job(folder, before), self.job(folder, after, batch_size=2)
        check_resumption(job, labels, samples=7, resume_with=resumed, cuts=[0, 1, 2, 3, 4, 6])

    def test_between_torch_and_the_core(self, labelled, labels):
        folder = labelled(7)

        def core():
            return [s3dlio.DataLoader(folder, **{**OPTIONS, "batch_size": 2})]

        check_resumption(self.job(folder, 0), labels, samples=7, resume_with=core)
        check_resumption(core, labels, samples=7, resume_with=self.job(folder, 0))

    def test_workers_run_ahead_and_the_state_does_not(self, labelled, labels):
        folder = labelled(40)
        loader = DataLoader(S3IterableDataset(folder, **OPTIONS), num_workers=2, prefetch_factor=4)
        for taken, _ in enumerate(loader, 1):
            state = json.loads(json.dumps(loader.state_dict()))
            assert (state["epoch"], state["position"]) == divmod(min(3 * taken, 40), 40)
        assert taken == 14

    def test_before_the_first_batch_of_an_epoch_it_is_that_epochs_begin(self, labelled):
        """Also when the first batch never comes: what an emergency checkpoint saves then."""
        folder = labelled(6)
        loader = DataLoader(S3IterableDataset(folder, batch_size=3), num_workers=1)
        for epoch in range(2):
            assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (epoch, 0)
            list(loader)
        Path(folder, "0001.npz").rename(f"{folder}/gone")
        with pytest.raises(NotFoundError):
            next(iter(loader))
        assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (2, 0)

    def test_workers_that_die_before_they_begin_do_not_move_the_position(self, labelled, tmp_path):
        def die(worker):
            if (tmp_path / "die").exists():
                raise RuntimeError("no memory")

        loader = DataLoader(S3IterableDataset(labelled(6), batch_size=3), num_workers=1, worker_init_fn=die)
        list(loader)
        (tmp_path / "die").touch()
        with pytest.raises(RuntimeError, match="no memory"):
            next(iter(loader))
        assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (1, 0)

    def test_a_broken_off_epoch_keeps_its_position_until_the_next_begins(self, labelled):
        loader = DataLoader(S3IterableDataset(labelled(12), batch_size=3), num_workers=2)
        for taken, _ in enumerate(loader, 1):
            if taken == 2:
                break
        assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (0, 6)
        next(iter(loader))
        assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (1, 3)

    def test_len_is_what_is_left(self, labelled):
        loader = DataLoader(S3IterableDataset(labelled(12), batch_size=3))
        assert len(loader) == 4
        loader.load_state_dict({**loader.state_dict(), "position": 6})
        assert (len(loader), len(loader.dataset)) == (2, 4)
        assert len(list(loader)) == 2
        assert len(loader) == 4

    def test_torchs_own_loader_cannot_say_where_workers_are(self, labelled):
        dataset = S3IterableDataset(labelled(12), batch_size=3)
        dataset.state_dict()
        next(iter(stock(dataset, 2)))
        with pytest.raises(StateError, match="run ahead"):
            dataset.state_dict()
        assert dataset.state_dict(batches=1)["position"] == 3

    def test_torchs_own_loader_without_workers_can(self, labelled, labels):
        folder = labelled(12)
        dataset = S3IterableDataset(folder, **OPTIONS)
        batches = iter(stock(dataset, 0))
        next(batches)
        other = S3IterableDataset(folder, **OPTIONS)
        other.load_state_dict(dataset.state_dict())
        assert [labels(batch) for batch in stock(other, 2)] == [labels(batch) for batch in batches]

    @pytest.mark.parametrize("make", [DataLoader, lambda dataset, **options: stock(dataset, 2, **options)])
    def test_persistent_workers_that_have_begun_hear_of_it(self, labelled, labels, make):
        folder = labelled(12)
        epochs = core_epochs(folder, labels, epochs=4, **OPTIONS)
        dataset = S3IterableDataset(folder, **OPTIONS)
        options = {"num_workers": 2} if make is DataLoader else {}
        loader = make(dataset, persistent_workers=True, **options)
        assert [labels(batch) for batch in loader] == epochs[0]
        dataset.set_epoch(3)
        assert [labels(batch) for batch in loader] == epochs[3]
        state = {**dataset.state_dict(batches=0), "epoch": 1, "position": 6}
        (loader if make is DataLoader else dataset).load_state_dict(state)
        assert [labels(batch) for batch in loader] == epochs[1][2:]
        assert [labels(batch) for batch in loader] == epochs[2]

    def test_epochs_with_and_without_workers_take_turns(self, labelled, labels):
        folder = labelled(12)
        dataset = S3IterableDataset(folder, **OPTIONS)
        epochs = core_epochs(folder, labels, epochs=6, **OPTIONS)
        for epoch, workers in enumerate((2, 0, 0, 1, 2, 0)):
            loader = DataLoader(dataset, num_workers=workers)
            assert [labels(batch) for batch in loader] == epochs[epoch]
            state = loader.state_dict()
            assert (state["epoch"], state["position"]) == (epoch + 1, 0)

    def test_seeding_torch_alike_before_every_epoch_does_not_repeat_it(self, labelled, labels):
        folder = labelled(12)
        loader = stock(S3IterableDataset(folder, **OPTIONS), 2)
        found = []
        for _ in range(3):
            torch.manual_seed(0)
            found.append([labels(batch) for batch in loader])
        assert found == core_epochs(folder, labels, epochs=3, **OPTIONS)

    def test_a_state_of_other_data(self, labelled):
        state = DataLoader(S3IterableDataset(labelled(6), batch_size=3)).state_dict()
        with pytest.raises(StateError, match="The data changed"):
            DataLoader(S3IterableDataset(labelled(7), batch_size=3)).load_state_dict(state)

    @pytest.mark.parametrize(("option", "value"), [("batch_size", 4), ("in_order", False)])
    def test_options_that_would_break_the_count(self, labelled, option, value):
        with pytest.raises(OptionError) as caught:
            DataLoader(S3IterableDataset(labelled(6), batch_size=3), **{option: value})
        assert caught.value.field == option

    @pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata 0.11 on torch 2.13
    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("cut", [0, 1, 4, 7])
    def test_torchdatas_stateful_loader(self, labelled, labels, workers, cut):
        """It asks the datasets in its workers; their states fit the same number of workers alone."""
        folder = labelled(20)

        def stateful():
            return StatefulDataLoader(S3IterableDataset(folder, **OPTIONS), batch_size=None, num_workers=workers)

        first = stateful()
        batches = iter(first)
        seen = [labels(next(batches)) for _ in range(cut)]
        resumed = stateful()
        resumed.load_state_dict(first.state_dict())
        for _ in range(2):
            seen += [labels(batch) for batch in resumed]
        expected = core_epochs(folder, labels, epochs=3, **OPTIONS)
        assert len(seen) in {14, 21}, "what comes after the last batch of an epoch is the end of it, or the next one"
        assert seen == [batch for epoch in expected for batch in epoch][: len(seen)]


class TestOptions:
    def test_a_wrong_option_is_an_error_at_once(self, labelled):
        with pytest.raises(OptionError) as caught:
            S3IterableDataset(labelled(2), batch_size=0)
        assert caught.value.field == "batch_size"

    def test_a_missing_prefix_is_an_error_at_once(self, tmp_path):
        with pytest.raises(NotFoundError):
            S3IterableDataset(str(tmp_path / "none"), batch_size=1)
        with pytest.raises(NotFoundError):
            S3MapDataset(str(tmp_path / "none"))

    def test_pattern_and_fields(self, labelled):
        dataset = S3IterableDataset(labelled(12), batch_size=4, pattern="000[0-3]", fields=["label"])
        assert [{name: value.tolist() for name, value in batch.items()} for batch in dataset] == [
            {"label": [0, 1, 2, 3]}
        ]

    def test_the_rank_is_torchruns(self, labelled, labels, monkeypatch):
        folder = labelled(8)
        dataset = S3IterableDataset(folder, batch_size=2)
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert [labels(batch) for batch in dataset] == [[2, 3], [6, 7]]
        given = S3IterableDataset(folder, batch_size=2, rank=0, world_size=1)
        assert [labels(batch) for batch in given] == [[0, 1], [2, 3], [4, 5], [6, 7]]

    @pytest.mark.parametrize("rank", ["2", "-1"])
    def test_a_rank_outside_the_world(self, labelled, monkeypatch, rank):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(OptionError) as caught:
            iter(S3IterableDataset(labelled(4), batch_size=2))
        assert caught.value.field == "rank"


class TestMapDataset:
    def test_samples_by_number(self, labelled):
        dataset = S3MapDataset(labelled(5))
        assert len(dataset) == 5
        assert dataset[3]["label"].item() == 3
        assert dataset[-1]["x"].tolist() == [[4.0] * 3] * 2
        assert [sample["label"].item() for sample in dataset.__getitems__([4, 0, 4])] == [4, 0, 4]
        with pytest.raises(IndexError):
            dataset[5]

    @pytest.mark.parametrize("workers", [0, 2])
    def test_torchs_samplers_and_collation(self, labelled, labels, workers):
        dataset = S3MapDataset(labelled(11))
        plain = torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=workers)
        assert [labels(batch) for batch in plain] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
        samplers = [torch.utils.data.DistributedSampler(dataset, 2, rank, shuffle=True, seed=1) for rank in range(2)]
        seen = []
        for sampler in samplers:
            loader = torch.utils.data.DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=workers)
            assert [n for batch in loader for n in labels(batch)] == list(sampler)
            seen += list(sampler)
        assert set(seen) == set(range(11))

    def test_it_feeds_random_split(self, labelled):
        parts = torch.utils.data.random_split(S3MapDataset(labelled(9)), [6, 3])
        found = [
            n.item()
            for part in parts
            for batch in torch.utils.data.DataLoader(part, batch_size=4)
            for n in batch["label"]
        ]
        assert sorted(found) == list(range(9))


SPAWNED = """
import sys
import torch.utils.data
from s3dlio_torch import DataLoader, S3IterableDataset

if __name__ == "__main__":
    folder, *methods = sys.argv[1:]
    for method in methods:
        dataset = S3IterableDataset(folder, batch_size=3, shuffle=True, seed=4, max_in_flight=4)
        loader = DataLoader(dataset, num_workers=2, multiprocessing_context=method)
        for _ in range(2):
            print(method, [batch["label"].tolist() for batch in loader])
        print(loader.state_dict()["epoch"], loader.state_dict()["position"])
"""

GLOO = """
import os, sys
import torch.distributed
from s3dlio_torch import DataLoader, S3IterableDataset

if __name__ == "__main__":
    folder, rank = sys.argv[1], int(sys.argv[2])
    dataset = S3IterableDataset(folder, batch_size=3, last="short")
    store = torch.distributed.FileStore(folder + ".rendezvous", 2)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2, store=store)
    os.environ.update(RANK="0", WORLD_SIZE="1")  # the process group knows better
    loader = DataLoader(dataset, num_workers=2 * rank)
    print([batch["label"].tolist() for batch in loader])
    torch.distributed.destroy_process_group()
"""


def start(script, *arguments):
    command = [sys.executable, "-W", "error", str(script), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_workers_by_every_start_method(labelled, labels, tmp_path):
    """fork is what torch does here by default; the others get the dataset pickled."""
    folder = labelled(10)
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    expected = core_epochs(folder, labels, epochs=2, **OPTIONS)
    with start(script, folder, "spawn", "forkserver") as process:
        out, err = process.communicate(timeout=250)
    assert process.returncode == 0, err
    # Python's resource tracker sometimes finds one of torch's semaphores gone already, and says so at the exit
    assert err == "" or "resource_tracker.py" in err
    lines = [[f"{method} {expected[0]}", f"{method} {expected[1]}", "2 0"] for method in ("spawn", "forkserver")]
    assert out.splitlines() == lines[0] + lines[1]


def test_ranks_of_a_process_group(labelled, tmp_path):
    folder = labelled(10)
    script = tmp_path / "ranks.py"
    script.write_text(GLOO)
    processes = [start(script, folder, str(rank)) for rank in range(2)]
    results = []
    for process in processes:
        with process:
            out, err = process.communicate(timeout=200)
        results.append((process.returncode, out))
        assert process.returncode == 0, err
    assert results == [(0, "[[0, 1, 2], [6, 7]]\n"), (0, "[[3, 4, 5], [8, 9]]\n")]
