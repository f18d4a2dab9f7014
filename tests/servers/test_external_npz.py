"""100 NPZ objects on every S3 server, through PyTorch and TensorFlow: each sample once, with its own pixels."""

import io

import numpy as np
import pytest

SAMPLES = 100


def image(label):
    return np.random.default_rng(label).random((8, 8), dtype=np.float32)


@pytest.fixture
def npz_uri(s3_server):
    """A prefix with one NPZ object a sample, written by NumPy and a client that is not the library's."""
    bucket = s3_server.new_container()
    with s3_server.client() as client:
        for label in range(SAMPLES):
            file = io.BytesIO()
            np.savez(file, image=image(label), label=np.int64(label))
            client.put_object(Bucket=bucket, Key=f"train/{label:03d}.npz", Body=file.getvalue())
    return f"s3://{bucket}/train/"


def check(batches):
    labels = []
    for batch in batches:
        assert batch["image"].shape == (len(batch["label"]), 8, 8)
        assert batch["image"].dtype == np.float32
        assert batch["label"].dtype == np.int64
        for pixels, label in zip(batch["image"], batch["label"], strict=True):
            np.testing.assert_array_equal(pixels, image(int(label)))
        labels += batch["label"].tolist()
    assert sorted(labels) == list(range(SAMPLES))
    assert labels != sorted(labels), "shuffle=True changed nothing"


# The process that runs the tests has used the native engine, so the workers that it forks say that they use the other.
@pytest.mark.filterwarnings("ignore::s3dlio.ForkWarning")
@pytest.mark.framework("torch")
def test_torch(npz_uri):
    from torch.utils.data import DataLoader

    from s3dlio_torch import S3IterableDataset

    dataset = S3IterableDataset(npz_uri, batch_size=16, shuffle=True, seed=1)
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    check([{name: tensor.numpy() for name, tensor in batch.items()} for batch in loader])


@pytest.mark.framework("tf")
def test_tensorflow(npz_uri):
    import s3dlio_tf

    batches = s3dlio_tf.dataset(npz_uri, batch_size=16, shuffle=True, seed=1)
    check([{name: tensor.numpy() for name, tensor in batch.items()} for batch in batches])
