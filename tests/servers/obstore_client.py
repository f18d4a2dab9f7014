"""What ``tests/test_servers.py`` does through obstore, as a script: python obstore_client.py CHECK SCHEME CONTAINER.

A process of its own, because obstore's threads would be running in the tests' process from then on, and no worker
process that a later test forks could use obstore any more. All settings come from the environment.
"""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import obstore
import obstore.exceptions
from obstore.store import AzureStore, S3Store


def exchange(store):
    """Read what pyarrow wrote, and leave an object for it."""
    assert obstore.get(store, "a/from-pyarrow").bytes() == b"other bytes"
    obstore.put(store, "a/from-obstore", b"some bytes")
    names = {entry["path"] for batch in obstore.list(store) for entry in batch}
    assert names == {"a/from-obstore", "a/from-pyarrow"}


def empty(store):
    assert list(obstore.list(store)) == []


def create(store):
    """Of eight conditional puts at once, one wins, and its object stays."""
    start = threading.Barrier(8)

    def one(number):
        start.wait()
        try:
            obstore.put(store, "key", str(number).encode(), mode="create", use_multipart=False)
        except obstore.exceptions.AlreadyExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(one, range(8)) if number is not None]
    assert len(winners) == 1, winners
    assert obstore.get(store, "key").bytes() == str(winners[0]).encode()


def ranges(store):
    """An object of three parts, whole and across the border of two parts."""
    border = 5 * 2**20
    data = os.urandom(12 * 2**20)
    obstore.put(store, "large", data, chunk_size=border)
    assert obstore.get_range(store, "large", start=border - 1, end=border + 1) == data[border - 1 : border + 1]
    assert obstore.get(store, "large").bytes() == data


if __name__ == "__main__":
    _, check, scheme, container = sys.argv
    if scheme == "az":
        # The one setting that obstore does not take from the environment under this name.
        options = {"endpoint": os.environ["AZURE_STORAGE_ENDPOINT"], "client_options": {"allow_http": True}}
        globals()[check](AzureStore(container, **options))
    else:
        globals()[check](S3Store(container, client_options={"allow_http": True}))
