"""Write scikit-learn's handwritten digits to a bucket, one NPZ object a scan.

    python examples/digits/prepare.py s3://bucket/digits/

1,437 objects below train/ and 360 below test/, each with ``image`` (8 x 8 float32, 0 is paper and 1 is ink) and
``label`` (int64). Any URI will do: s3://, az://, gs://, or a directory. Running it again writes the same objects.
"""

from __future__ import annotations

import argparse
import io
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from rich.progress import track
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import s3dlio
from s3dlio.errors import S3dlioError
from s3dlio.uri import Uri

UPLOADS = 16  # at the same time: an upload is mostly waiting for the answer


def objects() -> dict[str, bytes]:
    """Key -> NPZ bytes. The split is the same every time, with all digits equally frequent in both parts."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)  # the scans have 17 shades, 0 to 16
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(images)), test_size=360, random_state=0, stratify=labels)
    return {
        f"{part}/{number:05d}.npz": npz(image=images[index], label=labels[index])
        for part, indices in {"train": train, "test": test}.items()
        for number, index in enumerate(indices)
    }


def npz(**arrays: np.ndarray | np.generic) -> bytes:
    """The arrays as one NPZ file. Stored, not compressed: batches are then filled without unpacking."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def prepare(uri: str) -> None:
    """Upload everything, several objects at a time."""
    begun = time.perf_counter()
    root, files = Uri.parse(uri), objects()
    with s3dlio.open_store(root) as store, ThreadPoolExecutor(UPLOADS) as pool:
        uploads = pool.map(lambda name: store.put((root / name).key, files[name]), files)
        sizes = [
            meta.size
            for meta in track(uploads, "uploading", len(files), transient=True, disable=not sys.stdout.isatty())
        ]
    seconds = time.perf_counter() - begun
    train = sum(name.startswith("train/") for name in files)
    print(f"{train:,} objects in {root / 'train'}/, {len(files) - train:,} in {root / 'test'}/")
    print(f"{sum(sizes) / 1e6:.1f} MB in {seconds:.1f} s ({len(files) / seconds:,.0f} objects/s)")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("uri", help="directory to write to, e.g. s3://bucket/digits/")
    try:
        prepare(parser.parse_args().uri)
    except S3dlioError as error:
        raise SystemExit(f"error: {error}") from error
    except KeyboardInterrupt:
        print("Stopped. The same command writes the rest.")
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
