"""A constant input: the shortcut gives the rate and the gradient of the full run."""

import itertools
import os
import subprocess
import sys

import pytest
import torch

from snnlib.fast import constant
from snnlib.fast.constant import constant_rate
from snnlib.neurons import IFParameters, LIFParameters, simulate
from snnlib.surrogate import ATan, Sigmoid

SETTINGS = list(itertools.product([0.0, -0.2, None], [True, False], [True, False]))


def currents(n: int = 400) -> torch.Tensor:
    generator = torch.Generator().manual_seed(11)
    return 3 * torch.randn(n, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("v_reset", "decay_input", "detach_reset"), SETTINGS)
@pytest.mark.parametrize("surrogate", [ATan(), Sigmoid()])
def test_rate_and_gradient_equal_autograd_through_every_step(
    v_reset, decay_input, detach_reset, surrogate
):
    neuron = LIFParameters(
        tau=2.5, v_reset=v_reset, decay_input=decay_input, detach_reset=detach_reset
    )
    by_steps, shortcut = currents().requires_grad_(), currents().requires_grad_()
    weights = torch.linspace(-1, 2, 400, dtype=torch.float64)

    slow = simulate(by_steps.expand(9, -1), neuron, surrogate).spikes.mean(0)
    fast = constant_rate(shortcut, 9, neuron, surrogate)
    (slow * weights).sum().backward()
    (fast * weights).sum().backward()

    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-15)
    torch.testing.assert_close(shortcut.grad, by_steps.grad, rtol=1e-10, atol=1e-12)


def test_the_neuron_without_a_leak_too():
    neuron = IFParameters(v_threshold=0.7)
    by_steps, shortcut = currents().requires_grad_(), currents().requires_grad_()

    simulate(by_steps.expand(6, -1), neuron).spikes.mean(0).square().sum().backward()
    constant_rate(shortcut, 6, neuron).square().sum().backward()

    torch.testing.assert_close(shortcut.grad, by_steps.grad, rtol=1e-10, atol=1e-12)


def test_without_a_gradient_the_rate_is_the_same():
    neuron = LIFParameters()
    with_gradient = constant_rate(currents().requires_grad_(), 8, neuron)
    assert torch.equal(constant_rate(currents(), 8, neuron), with_gradient)


def test_nothing_of_the_time_loop_is_remembered():
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, id):
        constant_rate(currents(50).requires_grad_(), 1000, LIFParameters())
    assert sum(saved) == 50  # the slope, whatever T is


def test_refuses_a_run_of_no_steps():
    with pytest.raises(ValueError, match="n_steps"):
        constant_rate(currents(), 0, LIFParameters())


def test_numba_and_torch_walk_alike():
    settings = (9, LIFParameters(tau=1.7, v_reset=-0.3, v_threshold=0.8), ATan())
    for fast, plain in zip(
        constant._walk_by_numba(currents(), *settings),
        constant._walk_by_torch(currents(), *settings),
        strict=True,
    ):
        torch.testing.assert_close(fast, plain, rtol=1e-12, atol=1e-14)


def test_the_triton_kernel_too_in_its_interpreter():
    pytest.importorskip("triton")
    script = (
        "import torch; from snnlib.fast import constant; from snnlib.neurons import LIFParameters;"
        "from snnlib.surrogate import ATan;"
        "x = 3 * torch.randn(3000, generator=torch.Generator().manual_seed(3));"
        "s = (7, LIFParameters(tau=2.0, v_threshold=0.9), ATan());"
        "a, b = constant._walk_by_triton(x, *s), constant._walk_by_torch(x, *s);"
        "torch.testing.assert_close(a[0], b[0]); torch.testing.assert_close(a[1], b[1])"
    )
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=300)


def test_a_single_current_has_a_single_rate():
    one = constant_rate(torch.tensor(3.0), 8, LIFParameters())
    assert one.shape == ()
    assert torch.equal(one, constant_rate(torch.tensor([3.0]), 8, LIFParameters())[0])
