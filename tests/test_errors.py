import inspect
import pickle
import re

import pytest

from s3dlio import errors

BUILTINS = {
    "NotFoundError": FileNotFoundError,
    "AccessError": PermissionError,
    "ExistsError": FileExistsError,
    "StorageTimeoutError": TimeoutError,
    "FormatError": ValueError,
    "StateError": ValueError,
    "OptionError": ValueError,
    "ClosedError": RuntimeError,
    "MissingExtraError": ImportError,
}
CLASSES = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("cls", CLASSES)
def test_one_tree(cls):
    assert issubclass(cls, errors.S3dlioError)
    assert issubclass(cls, BUILTINS.get(cls.__name__, Exception))
    assert cls.__doc__


def test_the_drawn_tree_is_complete():
    drawn = set(re.findall(r"\b[A-Z]\w*Error\b", errors.__doc__))
    assert drawn - {builtin.__name__ for builtin in BUILTINS.values()} == set(errors.__all__)
    defined = {name for name, cls in vars(errors).items() if inspect.isclass(cls) and cls.__module__ == errors.__name__}
    assert defined == set(errors.__all__)


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if issubclass(cls, errors.StorageError)])
def test_storage_errors_keep_their_attributes(cls):
    error = cls("get s3://b/k: no, expected yes.", uri="s3://b/k", operation="get", attempts=3, retryable=True)
    error.add_note("a note")
    for found in (error, pickle.loads(pickle.dumps(error))):
        assert type(found) is cls
        assert str(found) == "get s3://b/k: no, expected yes."
        assert (found.uri, found.operation, found.attempts, found.retryable) == ("s3://b/k", "get", 3, True)
        assert found.__notes__ == ["a note"]


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if not issubclass(cls, errors.StorageError)])
def test_other_errors_pickle(cls):
    found = pickle.loads(pickle.dumps(cls("message")))
    assert type(found) is cls
    assert str(found) == "message"


def test_attributes_of_the_others():
    error = pickle.loads(pickle.dumps(errors.FormatError("m", uri="u", offset=7)))
    assert (error.uri, error.offset) == ("u", 7)
    assert pickle.loads(pickle.dumps(errors.OptionError("m", field="f"))).field == "f"


def test_what_a_retry_may_mend():
    for cls in (errors.ThrottledError, errors.StorageTimeoutError, errors.ShortReadError):
        assert cls("m").retryable
    for cls in (errors.NotFoundError, errors.AccessError, errors.ExistsError, errors.PreconditionError):
        assert not cls("m").retryable
    assert not errors.ShortReadError("m", retryable=False).retryable
