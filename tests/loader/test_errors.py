"""Errors come at their place in the order and name the object, whatever the threads' timing."""

import random
import threading

import numpy as np
import pytest

from s3dlio import DataLoader
from s3dlio.errors import ClosedError, FormatError, NotFoundError, PreconditionError
from s3dlio.testing.faults import FaultyStore


def outcome(place, *, seed=0, **options):
    """Labels of the whole batches before the error, and the error; the reads' timing has noise of up to 1 ms.

    It shakes the threads; that every order of arrival gives the same is what test_slot shows.
    """
    gate = threading.Semaphore(0)
    noise = random.Random(seed)
    store = FaultyStore(place.store, before=lambda call: gate.acquire(timeout=noise.random() / 1000))
    given = []
    with DataLoader(place.dataset(store), batch_size=4, max_in_flight=8, **options) as loader:
        with pytest.raises((FormatError, NotFoundError, PreconditionError)) as caught:
            given.extend(batch["label"].tolist() for batch in loader)
        assert loader.state_dict()["position"] == 4 * len(given)
    return given, type(caught.value), str(caught.value), caught.value.uri


def check(place, before, kind, match, name):
    (found,) = {repr(outcome(place, seed=seed)) for seed in range(12)}
    given, error, message, uri = outcome(place)
    assert repr((given, error, message, uri)) == found
    assert given == before
    assert error is kind
    assert match in message
    assert uri == f"{place.uri}{name}"


def test_an_object_that_went_away(labelled):
    place = labelled(16)
    data = place.dataset
    place.dataset = lambda store: _with_manifest(data(), store, listed)
    listed = data().manifest
    for gone in ("d/0013.npz", "d/0006.npz", "d/0010.npz"):
        place.store.delete(gone)
    check(place, [[0, 1, 2, 3]], NotFoundError, "get", "0006.npz")


def test_an_archive_cut_in_half(labelled):
    place = labelled(16)
    data = place.store.get("d/0009.npz")
    place.store.put("d/0009.npz", data.slice(0, data.size // 2))
    check(place, [[0, 1, 2, 3], [4, 5, 6, 7]], FormatError, "The object is truncated", "0009.npz")


def test_a_label_missing_in_one_object(labelled):
    place = labelled(8)
    place.put("0005.npz", {"x": np.zeros((4, 3), "<f4")})
    place.put("0006.npz", {"x": np.zeros((4, 3), "<f4")})
    check(place, [[0, 1, 2, 3]], FormatError, f"expected label too, as in {place.uri}0004.npz", "0005.npz")


def test_a_label_missing_in_whole_batches(labelled):
    place = labelled(12)
    for n in range(4, 12):
        place.put(f"{n:04d}.npz", {"x": np.zeros((4, 3), "<f4")})
    check(place, [[0, 1, 2, 3]], FormatError, "as in the batches before", "0004.npz")


def test_another_dtype(labelled):
    place = labelled(8)
    for n in (6, 7):
        place.put(f"{n:04d}.npz", {"x": np.zeros((4, 3), "<f8"), "label": np.int64(n)})
    check(place, [[0, 1, 2, 3]], FormatError, "field 'x' is float64, expected float32", "0006.npz")


def test_nothing_comes_after_an_error(labelled):
    place = labelled(12)
    place.put("0004.npz", {"x": np.zeros((4, 3), "<f4")})
    with DataLoader(place.dataset(), batch_size=4) as loader:
        for batches in (iter(loader), loader.worker_batches(0, 1)):
            next(batches)
            with pytest.raises(FormatError):
                next(batches)
            with pytest.raises(ClosedError):
                next(batches)


def test_the_epoch_can_be_taken_up_again_after_an_error(labelled, labels):
    place = labelled(12)
    good = place.store.get("d/0005.npz").to_pybytes()
    with DataLoader(place.dataset(), batch_size=4) as loader:
        place.store.put("d/0005.npz", good[:-1])
        iteration = iter(loader)
        next(iteration)
        with pytest.raises(PreconditionError):
            next(iteration)
        place.store.put("d/0005.npz", good)
        loader.load_state_dict(loader.state_dict())
        assert [labels(batch) for batch in loader] == [[4, 5, 6, 7], [8, 9, 10, 11]]


def _with_manifest(data, store, manifest):
    return type(data)(store=store, manifest=manifest, format=data.format)


def test_iterating_again_after_an_error_goes_on_with_the_batch_that_failed(labelled):
    """A request that failed may succeed the next time; the rest of the epoch must not be skipped."""
    place = labelled(12)
    broken = [True]

    def before(call):
        if broken[0] and call.key == "d/0005.npz":
            raise NotFoundError("get it: not now", uri="it", operation="get")

    with DataLoader(place.dataset(FaultyStore(place.store, before=before)), batch_size=4) as loader:
        given = []
        with pytest.raises(NotFoundError):
            given.extend(batch["label"].tolist() for batch in loader)
        assert given == [[0, 1, 2, 3]]
        broken[0] = False
        assert (loader.epoch, len(loader)) == (0, 2)
        assert [batch["label"].tolist() for batch in loader] == [[4, 5, 6, 7], [8, 9, 10, 11]]
        assert loader.epoch == 1
