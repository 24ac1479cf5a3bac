"""Our neurons, surrogates and networks, held equal to SpikingJelly's."""

import itertools

import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate

from snnlib.encoding import constant_encode, poisson_encode
from snnlib.networks import ConvSNN, FullyConnectedSNN, SmallConvSNN
from snnlib.neurons import IFParameters, LIFParameters, simulate
from snnlib.surrogate import ATan, Sigmoid

GRID = list(itertools.product([0.0, None, -0.3], [False, True], [ATan(2.0), Sigmoid(4.0)]))


def theirs_of(ours):
    kind = surrogate.ATan if isinstance(ours, ATan) else surrogate.Sigmoid
    return kind(alpha=ours.alpha)


def assert_same_run(simulate, node, currents):
    """Spikes exactly, potentials and gradients to float tolerance."""
    ours = currents.clone().requires_grad_()
    theirs = currents.clone().requires_grad_()
    trace = simulate(ours)
    node.step_mode, node.store_v_seq = "m", True
    their_spikes = node(theirs)

    assert torch.equal(trace.spikes, their_spikes)
    assert 0 < trace.spikes.mean() < 1
    torch.testing.assert_close(trace.v, node.v_seq)

    # A random direction makes every spike count in the gradient.
    direction = torch.rand_like(currents)
    (trace.spikes * direction).sum().backward()
    (their_spikes * direction).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert ours.grad.abs().max() > 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("v_reset", "detach_reset", "slope"), GRID)
@pytest.mark.parametrize("decay_input", [True, False])
def test_lif_equals_spikingjelly(v_reset, detach_reset, slope, decay_input, seed):
    generator = torch.Generator().manual_seed(seed)
    tau = 1.2 + 8 * torch.rand(1, generator=generator).item()
    threshold = 0.5 + torch.rand(1, generator=generator).item()
    strength = 2.5 if decay_input else 1.0
    currents = strength * torch.randn(30, 6, 5, dtype=torch.float64, generator=generator)
    parameters = LIFParameters(
        tau=tau,
        v_threshold=threshold,
        v_reset=v_reset,
        decay_input=decay_input,
        detach_reset=detach_reset,
    )
    node = neuron.LIFNode(
        tau=tau,
        decay_input=decay_input,
        v_threshold=threshold,
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate_function=theirs_of(slope),
    )
    assert_same_run(lambda x: simulate(x, parameters, slope), node, currents)


@pytest.mark.parametrize(("v_reset", "detach_reset", "slope"), GRID)
def test_if_equals_spikingjelly(v_reset, detach_reset, slope):
    generator = torch.Generator().manual_seed(5)
    currents = torch.randn(25, 4, 7, dtype=torch.float64, generator=generator)
    parameters = IFParameters(v_threshold=0.8, v_reset=v_reset, detach_reset=detach_reset)
    node = neuron.IFNode(
        v_threshold=0.8,
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate_function=theirs_of(slope),
    )
    assert_same_run(lambda x: simulate(x, parameters, slope), node, currents)


@pytest.mark.parametrize("ours", [ATan(2.0), ATan(0.5), Sigmoid(4.0), Sigmoid(1.0)], ids=str)
def test_surrogate_slopes_equal_spikingjelly(ours):
    x = torch.linspace(-2, 2, 81, dtype=torch.float64, requires_grad=True)
    theirs_of(ours)(x).sum().backward()
    torch.testing.assert_close(ours.derivative(x.detach()), x.grad)


def lively(network):
    """The network in evaluation mode, with weights so strong that every layer fires."""
    with torch.no_grad():
        for weight in network.parameters():
            weight *= 6.0
    return network.eval()


@pytest.mark.parametrize("build", [FullyConnectedSNN, lambda: ConvSNN(4), SmallConvSNN])
def test_a_network_gives_the_same_answer_when_asked_twice(build):
    network = lively(build())
    images = torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    sequence = constant_encode(images, 7)
    with torch.no_grad():
        first, second = network(sequence), network(sequence)
        unreset = network.layers(sequence)  # goes on where the last run has left the potentials
    assert first.shape == (7, 16, 10)
    assert torch.equal(first, second)
    assert not torch.equal(first, unreset)


def test_fully_connected_network_is_one_linear_map_and_our_lif():
    torch.manual_seed(1)
    network = FullyConnectedSNN(tau=3.0)
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    spikes_in = poisson_encode(images, 20, generator=torch.Generator().manual_seed(3))

    weight = 8 * network.layers[1].weight.detach()  # strong enough for many spikes
    network.layers[1].weight.data = weight
    currents = spikes_in.flatten(2) @ weight.T

    expected = simulate(currents, LIFParameters(tau=3.0)).spikes
    assert expected.sum() > 20
    # The two matrix products may round differently; a spike differs only at the threshold.
    assert (network(spikes_in) != expected).sum() == 0


def test_single_and_multi_step_mode_agree():
    torch.manual_seed(2)
    network = lively(SmallConvSNN())
    sequence = poisson_encode(
        torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(4)),
        8,
        generator=torch.Generator().manual_seed(5),
    )
    with torch.no_grad():
        together = network(sequence)
        functional.reset_net(network)
        functional.set_step_mode(network, "s")
        one_by_one = torch.stack([network.layers(step) for step in sequence])
    assert together.any()
    torch.testing.assert_close(together, one_by_one)


def test_the_convolutional_network_has_the_layers_the_post_lists():
    names = [type(part).__name__ for part in ConvSNN(64).layers]
    block = ["Conv2d", "BatchNorm2d", "IFNode", "MaxPool2d"]
    assert names == [*block, *block, "Flatten", "Linear", "IFNode", "Linear", "IFNode"]
    sizes = [tuple(p.shape) for p in ConvSNN(64).parameters() if p.dim() > 1]
    assert sizes == [(64, 1, 3, 3), (64, 64, 3, 3), (1024, 3136), (10, 1024)]


def test_time_last_input_is_refused():
    with pytest.raises(ValueError, match=r"sequence must be \[T, N, 1, 28, 28\]"):
        FullyConnectedSNN()(torch.zeros(5, 784))
