"""Train a digit classifier with PyTorch, from a bucket, in a way that can be killed at any moment.

    python examples/digits/prepare.py s3://bucket/digits/
    python examples/digits/train_torch.py s3://bucket/digits/

Kill it in the middle of an epoch and start it again: it goes on after the last checkpoint, with the same samples
and the same losses as if nothing had happened.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import digits  # type: ignore[import-not-found]  # beside this file; mypy looks from the root
import torch
from torch import nn

from s3dlio.checkpoint import steps
from s3dlio_torch import DataLoader, S3IterableDataset, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    import argparse


def train(options: argparse.Namespace) -> None:
    """Train, save, evaluate."""
    # The same seed gives the same losses to the last bit: on one CPU thread, sums are added in one order.
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    model = nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            hidden=nn.Linear(digits.PIXELS, digits.HIDDEN),
            relu=nn.ReLU(),
            output=nn.Linear(digits.HIDDEN, digits.LABELS),
        )
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

    # The dataset makes the batches, so the loader passes them on. Each pass over it is the next epoch, in a new
    # order that follows from the seed alone.
    data = S3IterableDataset(f"{options.uri}/train/", batch_size=options.batch_size, shuffle=True, seed=options.seed)
    workers = {"num_workers": options.workers}
    if options.workers:
        # Spawned, because this process may have read a checkpoint by then, and one that is forked after that reads
        # with a slower client (s3dlio warns of it). Persistent, because spawning takes seconds.
        workers |= {"multiprocessing_context": "spawn", "persistent_workers": True}
    loader = DataLoader(data, **workers)

    # Weights, optimizer and the position in the data come from one commit, so they always fit together.
    step = 0
    if steps(options.checkpoint):
        saved = load_checkpoint(options.checkpoint)
        assert saved.loader is not None  # save() gives both
        assert saved.step is not None
        model.load_state_dict(saved.trees["model"])
        optimizer.load_state_dict(saved.trees["optimizer"])
        loader.load_state_dict(saved.loader)
        step = saved.step

    def save() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        save_checkpoint(options.checkpoint, state, loader=loader, step=step)

    with digits.Run(options) as run:
        for _epoch in run.epochs(loader, step=step):
            for batch in run.batches(loader):  # image: float32 (64, 8, 8), label: int64 (64,)
                loss = nn.functional.cross_entropy(model(batch["image"]), batch["label"])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
                run.step(step, loss.item(), batch["image"].numpy())
                if step % options.checkpoint_every == 0:
                    save()
            save()

    run.report(*evaluate(model, f"{options.uri}/test/"))


@torch.no_grad()
def evaluate(model: nn.Module, uri: str) -> tuple[int, int]:
    """How many samples are recognised, of how many. One pass is each sample once, the last batch is shorter."""
    correct = total = 0
    for batch in DataLoader(S3IterableDataset(uri, batch_size=256)):
        correct += int((model(batch["image"]).argmax(dim=1) == batch["label"]).sum())
        total += len(batch["label"])
    return correct, total


if __name__ == "__main__":
    parser = digits.option_parser(__doc__, framework="torch")
    parser.add_argument("--workers", type=int, default=0, help="worker processes (default: none, threads suffice)")
    digits.main(train, parser)
