"""The state machine of writers, over a sink that a test breaks."""

import os
import pickle

import pytest

from s3dlio.errors import ClosedError, OptionError, StorageError
from s3dlio.storage import ObjectMeta
from s3dlio.storage.protocol import ObjectWriter, WriteResult
from s3dlio.storage.writer import SinkWriter


class Sink:
    """Notes its calls; raises where it is told to."""

    parts = 3

    def __init__(self, **errors):
        self.calls = []
        self.errors = errors
        self.meta = ObjectMeta(key="k", size=2, etag="e", mtime=None)

    def _do(self, name):
        self.calls.append(name)
        if name in self.errors:
            raise self.errors[name]

    def write(self, data):
        self._do("write")

    def flush(self):
        self._do("flush")

    def publish(self):
        self._do("publish")
        return self.meta

    def discard(self):
        self._do("discard")


def broken(text="broken"):
    return StorageError(text, uri="u", operation="o")


def test_the_order_of_calls():
    sink = Sink()
    writer = SinkWriter("u", sink)
    assert isinstance(writer, ObjectWriter)
    assert writer.write(b"12") == 2
    writer.flush()
    result = writer.close()
    assert result == WriteResult(key="k", size=2, etag="e", mtime=None, parts=3, checksum="crc32c:7355c460")
    assert writer.close() is result
    writer.abort()
    assert sink.calls == ["write", "flush", "publish"]


def test_a_result_from_below_is_passed_on():
    sink = Sink()
    sink.meta = WriteResult(key="k", size=1, etag=None, mtime=None, parts=7, checksum=None)
    with SinkWriter("u", sink, checksummed=False) as writer:
        writer.write(b"12")
    assert writer.close() is sink.meta


@pytest.mark.parametrize("call", ["write", "flush", "publish"])
@pytest.mark.parametrize("error", [broken(), KeyboardInterrupt()])
def test_what_fails_is_discarded_once(call, error):
    sink = Sink(**{call: error})
    writer = SinkWriter("u", sink)
    with pytest.raises(type(error)):
        {"write": lambda: writer.write(b"1"), "flush": writer.flush, "publish": writer.close}[call]()
    for later in (writer.close, writer.flush, lambda: writer.write(b"1")):
        with pytest.raises(ClosedError, match="aborted"):
            later()
    writer.abort()
    assert sink.calls == [call, "discard"]


def test_the_first_error_counts():
    """One of discarding is a note on it."""
    sink = Sink(write=broken("the first"), discard=broken("the second"))
    with pytest.raises(StorageError, match="the first") as caught, SinkWriter("u", sink) as writer:
        writer.write(b"1")
    assert caught.value.__notes__ == ["the second"]
    assert sink.calls == ["write", "discard"]


def test_left_by_an_error_of_the_user():
    sink = Sink()
    with pytest.raises(KeyError), SinkWriter("u", sink):
        raise KeyError
    assert sink.calls == ["discard"]


def test_a_piece_that_is_refused_spoils_nothing():
    sink = Sink()
    with SinkWriter("u", sink) as writer:
        with pytest.raises(OptionError):
            writer.write("text")
        writer.write(b"12")
    assert sink.calls == ["write", "publish"]


def test_aborted_in_its_block():
    sink = Sink()
    with SinkWriter("u", sink) as writer:
        writer.abort()
    assert sink.calls == ["discard"]


def test_dropped_while_open():
    """It warns and does nothing: nobody depends on when memory is collected."""
    sink = Sink()
    writer = SinkWriter("u", sink)
    with pytest.warns(ResourceWarning, match="writer of u"):
        del writer
    assert sink.calls == []


def test_in_a_forked_child():
    """It neither writes nor publishes nor drops what the parent has: that goes on as if nothing had been."""
    sink = Sink()
    writer = SinkWriter("u", sink)
    writer.write(b"1")
    child = os.fork()
    if child == 0:
        refused = 0
        for call in (lambda: writer.write(b"2"), writer.flush, writer.close):
            try:
                call()
            except ClosedError:
                refused += 1
        writer.abort()
        os._exit(0 if refused == 3 and sink.calls == ["write"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert writer.write(b"2") == 1
    writer.close()
    assert sink.calls == ["write", "write", "publish"]


def test_it_does_not_pickle():
    with SinkWriter("u", Sink()) as writer, pytest.raises(TypeError, match="belongs to its process"):
        pickle.dumps(writer)


def test_left_by_ctrl_c_where_discarding_fails():
    """It stays Ctrl-C: who catches errors of stores must not go on after it."""
    sink = Sink(discard=broken("the second"))
    with pytest.raises(KeyboardInterrupt) as caught, SinkWriter("u", sink):
        raise KeyboardInterrupt
    assert caught.value.__notes__ == ["the second"]
    assert sink.calls == ["discard"]
