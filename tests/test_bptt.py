import pytest
import torch

from snnlib.bptt import OneLayerLIF
from snnlib.neurons import LIFParameters, simulate
from snnlib.surrogate import ATan, Sigmoid


def random_problem(n_steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spikes = torch.rand(n_steps, 5, 12, generator=generator, dtype=torch.float64) < 0.4
    weight = torch.randn(4, 12, generator=generator, dtype=torch.float64)
    grad_rate = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    return spikes.double(), weight, grad_rate


@pytest.mark.parametrize("n_steps", [1, 7, 100])
@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("v_reset", [0.0, -0.2, None])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("surrogate", [ATan(), Sigmoid()], ids=str)
def test_hand_written_backward_equals_autograd(
    n_steps, detach_reset, v_reset, decay_input, surrogate
):
    spikes, weight, grad_rate = random_problem(n_steps)
    neuron = LIFParameters(
        tau=1.7, v_reset=v_reset, decay_input=decay_input, detach_reset=detach_reset
    )
    layer = OneLayerLIF(neuron, surrogate)
    tape = layer.forward(spikes, weight)

    leaf = weight.clone().requires_grad_()
    rate = simulate(spikes @ leaf.T, neuron, surrogate).spikes.mean(0)
    (rate * grad_rate).sum().backward()

    assert torch.equal(tape.rate, rate.detach())
    torch.testing.assert_close(layer.backward(tape, grad_rate), leaf.grad, rtol=0, atol=1e-10)
    assert leaf.grad.abs().max() > 1e-3


def test_one_step_by_hand():
    # One input spike, one weight w = 1.6, tau = 2: H = 0.8, no spike, slope at -0.2.
    layer = OneLayerLIF(LIFParameters(tau=2.0), ATan(2.0))
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    tape = layer.forward(one, torch.tensor([[1.6]], dtype=torch.float64))
    gradient = layer.backward(tape, torch.ones(1, 1, dtype=torch.float64))
    expected = 0.5 * ATan(2.0).derivative(torch.tensor(-0.2, dtype=torch.float64))
    torch.testing.assert_close(gradient.squeeze(), expected)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"spikes_in must be \[T, N, M\] and weight \[K, M\]"):
        OneLayerLIF().forward(torch.zeros(3, 2, 784), torch.zeros(10, 783))
