"""Optimizers that start at once are those of torch, bit for bit."""

import subprocess
import sys

import pytest
import torch

from snnlib.fast import optimizers

KINDS = [
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "fused": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
]


class Learning:
    """A small network that learns its way down a one-cycle schedule of ten steps."""

    def __init__(self, source, kind, options):
        torch.manual_seed(3)
        self.network = torch.nn.Linear(5, 3)
        self.optimizer = getattr(source, kind)(self.network.parameters(), **options)
        schedules = torch.optim.lr_scheduler
        self.schedule = schedules.OneCycleLR(self.optimizer, options["lr"], total_steps=10)
        self.noise = torch.Generator().manual_seed(5)

    def learn(self, n_steps):
        for _ in range(n_steps):
            self.optimizer.zero_grad()
            inputs = torch.randn(4, 5, generator=self.noise)
            self.network(inputs).square().sum().backward()
            self.optimizer.step()
            self.schedule.step()
        return self.network.weight.detach().clone(), self.optimizer.state_dict()


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_weights_and_state_are_those_of_torch(kind, options):
    ours, state = Learning(optimizers, kind, options).learn(7)
    theirs, their_state = Learning(torch.optim, kind, options).learn(7)
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(state, their_state, rtol=0, atol=0)
    assert state["param_groups"] == their_state["param_groups"]


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_state_of_torch_goes_on_with_ours_and_back(kind, options):
    undisturbed, _ = Learning(torch.optim, kind, options).learn(6)
    run = Learning(torch.optim, kind, options)
    for source in (optimizers, torch.optim):
        _, state = run.learn(2)
        other = Learning(source, kind, options)
        other.network.load_state_dict(run.network.state_dict())
        other.optimizer.load_state_dict(state)
        other.schedule.load_state_dict(run.schedule.state_dict())
        other.noise.set_state(run.noise.get_state())
        run = other
    assert torch.equal(run.learn(2)[0], undisturbed)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_step_leaves_no_graph_and_the_gradient_mode_as_it_was(kind, options):
    learning = Learning(optimizers, kind, options)
    learning.learn(1)
    with torch.enable_grad():
        learning.optimizer.step()
        assert torch.is_grad_enabled()
    assert learning.network.weight.is_leaf
    assert learning.network.weight.grad_fn is None


STARTED = """
import sys
from snnlib.cli.main import main
words = "--limit 60 --test-limit 20 -T 2 -b 20 -epochs 1 -device cpu -out-dir".split()
assert main(["train", "fc-quick", *words, sys.argv[1]]) == 0
never = {"torch._dynamo", "torch._inductor", "torchvision", "matplotlib", "tensorboard", "sympy"}
print("loaded", sorted(never & set(sys.modules)))
"""


def test_a_training_loads_no_compiler_and_nothing_that_draws(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", STARTED, str(tmp_path)], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "loaded []", done.stdout + done.stderr
