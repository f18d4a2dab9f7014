import tensorflow as tf

import s3dlio
from s3dlio import generate


def test_tensorflow_reads_what_put_makes(tmp_path):
    """It checks both checksums of a record."""
    s3dlio.put(tmp_path, 2, "train_{}.tfrecord", object_type="tfrecord", size=300_000, seed=5)
    files = tf.data.Dataset.list_files(f"{tmp_path}/*.tfrecord", shuffle=False)
    found = b""
    for record in tf.data.TFRecordDataset(files):
        example = tf.train.Example.FromString(record.numpy())
        (data,) = example.features.feature["data"].bytes_list.value
        parsed = tf.io.parse_single_example(record, {"data": tf.io.FixedLenFeature([], tf.string)})
        assert parsed["data"].numpy() == data
        found += data
    expected = [generate.payload(300_000 - 2 * 47, seed=5, index=index).tobytes() for index in range(2)]
    assert found == b"".join(expected)
