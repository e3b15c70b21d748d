"""The training's optimiser moves the very weights of the network, in either memory layout, and is resumable."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from assets.training.optimizer import MatrixOptimizer
from assets.training.store import load_parts, save_parts


def small_net(layout: torch.memory_format) -> nn.Module:
    torch.manual_seed(3)
    net = nn.Sequential()
    net.add_module("conv_in", nn.Conv2d(3, 8, 3, padding=1))
    net.add_module("norm", nn.GroupNorm(2, 8))
    net.add_module("middle", nn.Conv2d(8, 8, 3, padding=1))
    net.add_module("conv_out", nn.Conv2d(8, 3, 3, padding=1))
    return net.to(memory_format=layout)


def learn(net: nn.Module, optimizer: MatrixOptimizer, steps: int, start: int = 0) -> float:
    loss = torch.tensor(0.0)
    for step in range(start, start + steps):
        pictures = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        loss = F.mse_loss(net(pictures), pictures.flip(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def new_optimizer(net: nn.Module) -> MatrixOptimizer:
    return MatrixOptimizer(net, 1e-2, betas=(0.9, 0.98), weight_decay=0.01)


def test_all_weights_move_and_the_loss_falls() -> None:
    net = small_net(torch.contiguous_format)
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    optimizer = new_optimizer(net)
    first = learn(net, optimizer, 1)
    assert all(not torch.equal(value, before[name]) for name, value in net.named_parameters())
    assert learn(net, optimizer, 60, start=1) < first / 4


def test_memory_layout_makes_no_difference() -> None:
    """Rows of the matrix are the same numbers in another order, so that the orthogonal update is the same one."""
    nets = [small_net(layout) for layout in (torch.contiguous_format, torch.channels_last)]
    for net in nets:
        learn(net, new_optimizer(net), 3)
    plain, last = (net.get_parameter("middle.weight") for net in nets)
    torch.testing.assert_close(plain, last, rtol=0, atol=3e-3)  # Muon computes in bfloat16


def test_a_rate_of_zero_holds_everything_still() -> None:
    net = small_net(torch.channels_last)
    optimizer = new_optimizer(net)
    optimizer.set_rate(0.0)
    before = [value.detach().clone() for value in net.parameters()]
    learn(net, optimizer, 2)
    assert all(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


def test_resumed_training_goes_on_alike(tmp_path) -> None:
    net = small_net(torch.channels_last)
    optimizer = new_optimizer(net)
    learn(net, optimizer, 5)
    save_parts(tmp_path / "run.pt", {"model": net, "optimizer": optimizer}, 5)
    wanted = learn(net, optimizer, 5, start=5)
    again = small_net(torch.channels_last)
    parts = {"model": again, "optimizer": new_optimizer(again)}
    assert load_parts(tmp_path / "run.pt", parts) == 5
    assert learn(again, parts["optimizer"], 5, start=5) == pytest.approx(wanted, rel=1e-6)


def test_a_checkpoint_of_another_optimiser_is_refused_in_words() -> None:
    net = small_net(torch.contiguous_format)
    other = torch.optim.AdamW(net.parameters())
    with pytest.raises(ValueError, match="optimiser"):
        new_optimizer(net).load_state_dict(other.state_dict())
