import itertools

import numpy as np
import pytest
import torch

import s3dlio
from s3dlio_torch import DataLoader, S3IterableDataset, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.framework("torch")

_NAMES = itertools.count()


def trained(steps):
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, amsgrad=True)
    return (model, optimizer, *train(model, optimizer, range(steps)))


def train(model, optimizer, steps):
    losses = []
    for step in steps:
        data = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        loss = model(data).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_goes_on_as_if_nothing_had_happened():
    uri = f"memory://torch-checkpoint-{next(_NAMES)}/run"
    model, optimizer, *_ = trained(3)
    save_checkpoint(uri, {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, step=3)
    expected = train(model, optimizer, range(3, 8))

    saved = load_checkpoint(uri, step="latest")
    other, other_optimizer, *_ = trained(0)
    other.load_state_dict(saved.trees["model"])
    other_optimizer.load_state_dict(saved.trees["optimizer"])
    assert train(other, other_optimizer, range(3, 8)) == expected


@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.float64, torch.int64, torch.bool,
     torch.uint8, torch.complex64],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (5,), (3, 0), (2, 3, 4)])
def test_every_type_and_shape_comes_back_bit_for_bit(dtype, shape):
    uri = f"memory://torch-checkpoint-{next(_NAMES)}/one"
    tensor = torch.linspace(-2, 2, steps=int(np.prod(shape))).reshape(shape).to(dtype)
    save_checkpoint(uri, {"tree": {"t": tensor, "n": 3, "text": "x", "none": None, "list": [tensor, 1.5]}})
    tree = load_checkpoint(uri).trees["tree"]
    assert (tree["n"], tree["text"], tree["none"], tree["list"][1]) == (3, "x", None, 1.5)
    for found in (tree["t"], tree["list"][0]):
        assert found.dtype is dtype
        assert found.shape == shape
        assert torch.equal(found.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))
    if tree["t"].numel():
        tree["t"].zero_()  # the caller's own memory


def test_views_and_gradients_are_saved_by_value():
    uri = f"memory://torch-checkpoint-{next(_NAMES)}/one"
    base = torch.arange(12.0, requires_grad=True).reshape(3, 4)
    save_checkpoint(uri, {"t": {"column": base[:, 1], "transposed": base.t(), "parameter": torch.nn.Parameter(base)}})
    tree = load_checkpoint(uri).trees["t"]
    assert tree["column"].tolist() == [1, 5, 9]
    assert torch.equal(tree["transposed"], base.t())
    assert torch.equal(tree["parameter"], base)


def test_the_loaders_position_commits_with_the_weights(labelled, labels):
    folder = labelled(9)
    uri = f"memory://torch-checkpoint-{next(_NAMES)}/run"
    loader = DataLoader(S3IterableDataset(folder, batch_size=2, shuffle=True))
    batches = iter(loader)
    next(batches)
    save_checkpoint(uri, {"model": {"w": torch.ones(2)}}, loader=loader, step=1)
    rest = [labels(batch) for batch in batches]
    saved = load_checkpoint(uri)
    torch_again = DataLoader(S3IterableDataset(folder, batch_size=2, shuffle=True))
    torch_again.load_state_dict(saved.loader)
    assert [labels(batch) for batch in torch_again] == rest
    with s3dlio.DataLoader(folder, batch_size=2, shuffle=True) as core:
        core.load_state_dict(saved.loader)
        assert [labels(batch) for batch in core] == rest
