"""Train a digit classifier with JAX and optax, from a bucket, in a way that can be killed at any moment.

    python examples/digits/prepare.py s3://bucket/digits/
    python examples/digits/train_jax.py s3://bucket/digits/
    python examples/digits/train_jax.py s3://bucket/digits/ --evaluate s3://bucket/digits/checkpoints/torch

The third line takes the weights from a checkpoint instead, its own or one that train_torch.py wrote.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import digits  # type: ignore[import-not-found]  # beside this file; mypy looks from the root
import jax
import jax.numpy as jnp
import numpy as np
import optax

from s3dlio.checkpoint import steps
from s3dlio_jax import load_checkpoint, save_checkpoint, sharded_iterator

if TYPE_CHECKING:
    import argparse

Params: TypeAlias = dict[str, dict[str, jax.Array]]

optimizer = optax.adam(5e-3)


def first_params(key: jax.Array) -> Params:
    """Two dense layers, uniform in +-1/sqrt(inputs)."""
    sizes = {"hidden": (digits.PIXELS, digits.HIDDEN), "output": (digits.HIDDEN, digits.LABELS)}
    return {
        name: {
            "kernel": jax.random.uniform(key, shape, minval=-(shape[0] ** -0.5), maxval=shape[0] ** -0.5),
            "bias": jnp.zeros(shape[1]),
        }
        for key, (name, shape) in zip(jax.random.split(key), sizes.items(), strict=True)
    }


def logits(params: Params, images: jax.Array) -> jax.Array:
    """(batch, 8, 8) -> (batch, 10)."""
    pixels = images.reshape(len(images), digits.PIXELS)
    hidden = jax.nn.relu(pixels @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return hidden @ params["output"]["kernel"] + params["output"]["bias"]


@partial(jax.jit, donate_argnames=("params", "state"))
def train_step(params: Params, state: Any, batch: dict[str, jax.Array]) -> tuple[Params, Any, jax.Array]:
    """One step of the optimizer: new weights, new optimizer state, loss."""

    def loss_of(params: Params) -> jax.Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits(params, batch["image"]), batch["label"])
        return losses.mean()

    loss, gradients = jax.value_and_grad(loss_of)(params)
    updates, state = optimizer.update(gradients, state)
    return optax.apply_updates(params, updates), state, loss


def train(options: argparse.Namespace) -> None:
    """Train, save, evaluate."""
    if options.evaluate:
        params = params_of(load_checkpoint(options.evaluate).trees)
        digits.say(digits.accuracy_line(*evaluate(params, f"{options.uri}/test/")))
        return

    params = first_params(jax.random.key(options.seed))
    state = optimizer.init(params)

    # Batches come divided over all devices. Each pass over the iterator is the next epoch, in a new order that
    # follows from the seed alone.
    batches = sharded_iterator(
        f"{options.uri}/train/", global_batch_size=options.batch_size, shuffle=True, seed=options.seed
    )

    # Weights, optimizer and the position in the data come from one commit, so they always fit together. The target
    # says which pytrees to make of it: optax keeps its state in classes of its own.
    step = 0
    if steps(options.checkpoint):
        saved = load_checkpoint(options.checkpoint, target={"params": params, "optimizer": state})
        params, state = saved.trees["params"], saved.trees["optimizer"]
        assert saved.loader is not None  # save() gives both
        assert saved.step is not None
        batches.load_state_dict(saved.loader)
        step = saved.step

    def save() -> None:
        save_checkpoint(options.checkpoint, {"params": params, "optimizer": state}, loader=batches, step=step)

    with digits.Run(options) as run:
        for _epoch in run.epochs(batches, step=step):
            for batch in run.batches(batches):  # image: float32 (64, 8, 8), label: int32 (64,), JAX's integer
                params, state, loss = train_step(params, state, batch)
                step += 1
                run.step(step, float(loss), np.asarray(batch["image"]))
                if step % options.checkpoint_every == 0:
                    save()
            save()

    run.report(*evaluate(params, f"{options.uri}/test/"))


def params_of(trees: dict[str, Any]) -> Params:
    """The weights in a checkpoint of this example, or of train_torch.py, whose kernels are (outputs, inputs)."""
    if "params" in trees:
        return trees["params"]
    model = trees["model"]
    return {
        name: {"kernel": jnp.asarray(model[f"{name}.weight"].T), "bias": jnp.asarray(model[f"{name}.bias"])}
        for name in ("hidden", "output")
    }


def evaluate(params: Params, uri: str) -> tuple[int, int]:
    """How many samples are recognised, of how many: each sample once, the last batch is not filled up."""
    correct = total = 0
    for batch in sharded_iterator(uri, global_batch_size=120, last="short"):
        correct += int((logits(params, batch["image"]).argmax(axis=1) == batch["label"]).sum())
        total += len(batch["label"])
    return correct, total


if __name__ == "__main__":
    parser = digits.option_parser(__doc__, framework="jax")
    parser.add_argument("--evaluate", metavar="URI", help="do not train; take the weights from this checkpoint")
    digits.main(train, parser)
