"""``read_npz``: what the format promises is tested with it; here, that the object is named and one array can be had."""

import io

import numpy as np
import pytest

import s3dlio
from s3dlio.errors import FormatError, NotFoundError, OptionError

from ..servers.fault_actions import status

ARRAYS = {"x": np.arange(12, dtype="<f4").reshape(3, 4), "label": np.int64(7), "names": np.array(["a", "bc"])}


@pytest.fixture(params=[np.savez, np.savez_compressed], ids=["stored", "deflated"])
def uri(request, tmp_path):
    request.param(tmp_path / "a.npz", **ARRAYS)
    return f"file://{tmp_path}/a.npz"


def test_all_arrays_in_the_order_of_the_archive(uri):
    found = s3dlio.read_npz(uri)
    assert list(found) == list(ARRAYS)
    for name, array in found.items():
        np.testing.assert_array_equal(array, ARRAYS[name], strict=True)
        assert not array.flags.writeable


def test_one_array(uri):
    np.testing.assert_array_equal(s3dlio.read_npz(uri, array_name="x"), ARRAYS["x"], strict=True)
    assert s3dlio.read_npz(uri, "label") == 7


def test_options_reach_the_store(moto_environment):
    file = io.BytesIO()
    np.savez(file, **ARRAYS)
    s3dlio.create_bucket("s3://npz")
    s3dlio.put_bytes("s3://npz/a.npz", file.getvalue())
    assert list(s3dlio.read_npz("s3://npz/a.npz", storage_options={"backend": "arrow"})) == list(ARRAYS)
    with pytest.raises(OptionError, match="backend"):
        s3dlio.read_npz("s3://npz/a.npz", storage_options={"backend": "none"})


def test_an_array_that_is_not_there(uri):
    with pytest.raises(FormatError, match=r"read_npz file://.*/a\.npz: .*'names', expected 'y'") as caught:
        s3dlio.read_npz(uri, "y")
    assert caught.value.uri == uri


@pytest.mark.parametrize("cut", [0, 10, -5])
def test_what_is_no_whole_npz(uri, tmp_path, cut):
    path = tmp_path / "a.npz"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(FormatError, match=r"^read_npz file://.*/a\.npz: decode zip") as caught:
        s3dlio.read_npz(uri)
    assert caught.value.uri == uri


def test_python_objects(tmp_path):
    np.savez(tmp_path / "p.npz", x=np.array([{}], object))
    with pytest.raises(FormatError, match=r"read_npz .*/p\.npz: .*object"):
        s3dlio.read_npz(tmp_path / "p.npz")


def test_no_such_object(tmp_path):
    with pytest.raises(NotFoundError, match=r"none\.npz"):
        s3dlio.read_npz(tmp_path / "none.npz")


def test_a_name_that_is_none(uri):
    with pytest.raises(OptionError, match="array_name=3, expected a string"):
        s3dlio.read_npz(uri, 3)


def test_no_secret_of_a_url_is_shown(fault_proxy):
    url = fault_proxy.endpoint_url.replace("://", "://user:hunter2@") + "/b/x.npz?X-Amz-Signature=SECRET"
    fault_proxy.fail(status(200, body=b"no NPZ"), times=None)
    with pytest.raises(FormatError, match=r"^read_npz http://user:\*\*\*@.*: decode zip") as caught:
        s3dlio.read_npz(url)
    with pytest.raises(OptionError, match=r"^read_npz http://user:\*\*\*@") as refused:
        s3dlio.read_npz(url, 3)
    for error in caught.value, refused.value:
        assert "hunter2" not in f"{error} {vars(error)}"
        assert "SECRET" not in f"{error} {vars(error)}"
