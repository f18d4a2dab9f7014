import re

import numpy as np
import pytest
from sklearn.datasets import load_digits

import s3dlio


@pytest.fixture
def environment(moto_environment):
    """This process reads from the embedded server, too."""
    return moto_environment


def scans(uri):
    return [(sample["image"].tobytes(), int(sample["label"])) for sample in s3dlio.dataset(uri)]


def test_every_scan_is_in_one_of_the_two_parts(digits_uri, environment):
    digits = load_digits()
    scaled = (digits.images / 16).astype(np.float32)
    expected = sorted((image.tobytes(), int(label)) for image, label in zip(scaled, digits.target, strict=True))
    train, test = scans(f"{digits_uri}/train/"), scans(f"{digits_uri}/test/")
    assert (len(train), len(test)) == (1437, 360)
    assert sorted(train + test) == expected


def test_all_digits_are_equally_frequent_in_both_parts(digits_uri, environment):
    for part, samples in {"train": 1437, "test": 360}.items():
        labels = [label for _, label in scans(f"{digits_uri}/{part}/")]
        share = np.bincount(labels, minlength=10) / samples
        assert np.abs(share - np.bincount(load_digits().target) / 1797).max() < 0.003


def test_batches_are_what_the_guide_says(digits_uri, environment):
    with s3dlio.DataLoader(f"{digits_uri}/train/", batch_size=64) as loader:
        batch = next(iter(loader))
    assert {field: (value.shape, value.dtype.name) for field, value in batch.items()} == {
        "image": ((64, 8, 8), "float32"),
        "label": ((64,), "int64"),
    }
    assert (batch["image"].min(), batch["image"].max()) == (0, 1)


def test_writing_again_changes_nothing(script, tmp_path):
    script("prepare").prepare(str(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.npz")}
    script("prepare").prepare(str(tmp_path))
    assert len(before) == 1797
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.npz")} == before


def test_it_says_what_it_wrote(prepared):
    uri, output = prepared
    first, second = output.splitlines()
    assert first == f"1,437 objects in {uri}/train/, 360 in {uri}/test/"
    assert re.fullmatch(r"\d\.\d MB in [\d.]+ s \([\d,]+ objects/s\)", second)


def test_a_wrong_bucket_is_one_line(scripts):
    failed = scripts.run("prepare.py", "s3://no-such-bucket/digits/", status=1)
    assert failed.output == ""
    assert failed.errors.startswith("error: ")
    assert "no-such-bucket" in failed.errors
    assert len(failed.errors.splitlines()) == 1
