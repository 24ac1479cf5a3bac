"""Hidden layers, recurrent ones too, held equal to loops written out here."""

import copy
import math

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate

from snnlib.encoding import poisson_encode, rows_encode
from snnlib.hidden import DenseSNN, LeakyReadout
from snnlib.networks import FullyConnectedSNN, layers_of
from snnlib.neurons import LIFParameters, simulate
from snnlib.readout import potential_logits

KINDS = {
    "plain": {},
    "recurrent": dict(recurrent=True),
    "learnt tau": dict(learn_tau=True),
    "membrane readout": dict(readout_tau=5.0),
    "soft": dict(reset="subtract"),
    "whole input": dict(decay_input=False),
    "all": dict(
        recurrent=True, learn_tau=True, readout_tau=5.0, reset="subtract", decay_input=False
    ),
}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def small(**options):
    """Two hidden layers in float64, with weights so strong that all of them fire."""
    network = DenseSNN((6, 5, 4, 3), 2.5, **options).double()
    with torch.no_grad():
        for matrix in network.parameters():
            if matrix.dim():
                matrix.copy_(torch.randn(matrix.shape, generator=seeded(matrix.numel())) + 0.8)
    return network


def inputs(n_steps=7):
    return torch.rand(n_steps, 3, 6, generator=seeded(4), dtype=torch.float64)


def make_smooth(network):
    """Let spikes be the sigmoid itself, forward too, so that differences have a limit."""
    for part in network.modules():
        if isinstance(part, neuron.BaseNode) and not isinstance(part, LeakyReadout):
            part.surrogate_function = surrogate.Sigmoid(alpha=4.0, spiking=False)


def by_hand(network, sequence, spike, *, reset="zero", decay_input=True, **_):
    """The equations of snnlib.hidden and of chapter 2, step by step, on the network's weights.

    ``spike`` takes H - v_threshold to S.
    """
    weights = [p for name, p in network.named_parameters() if name.endswith("weight")]
    back = {
        number: part.element_wise_function.matrix.weight
        for number, part in enumerate(network.layers)
        if hasattr(part, "element_wise_function")
    }
    forward = [w for w in weights if all(w is not u for u in back.values())]
    taus = network_taus(network)
    leaks = isinstance(network.layers[-1], LeakyReadout)
    v = [sequence.new_zeros(sequence.shape[1], len(w)) for w in forward]
    spikes = [torch.zeros_like(x) for x in v]
    answers = []
    for step in sequence:
        x = step
        for k, weight in enumerate(forward):
            current = x @ weight.T
            if 2 * k + 2 in back:
                current = current + spikes[k] @ back[2 * k + 2].T
            is_readout = leaks and k == len(forward) - 1
            gain = 1 / taus[k] if decay_input or is_readout else 1
            charged = v[k] - v[k] / taus[k] + gain * current
            if is_readout:
                v[k] = x = charged
                continue
            spikes[k] = x = spike(charged - 1.0)
            v[k] = charged - x if reset == "subtract" else (1 - x) * charged
        answers.append(x)
    return torch.stack(answers)


def network_taus(network):
    """1 / sigmoid(w) where tau learns, with its gradient; else the number."""
    nodes = [part for part in network.modules() if isinstance(part, neuron.BaseNode)]
    return [1 / node.w.sigmoid() if hasattr(node, "w") else node.tau for node in nodes]


@pytest.mark.parametrize("kind", KINDS)
def test_spikes_and_gradients_are_those_of_the_equations_written_out(kind):
    network = small(**KINDS[kind])
    direction = torch.randn(7, 3, 3, generator=seeded(5), dtype=torch.float64)

    expected = by_hand(network, inputs(), surrogate.ATan(), **KINDS[kind])
    wanted = torch.autograd.grad((expected * direction).sum(), list(network.parameters()))
    answer = network(inputs())
    given = torch.autograd.grad((answer * direction).sum(), list(network.parameters()))

    assert answer.count_nonzero() > 5
    torch.testing.assert_close(answer, expected)
    torch.testing.assert_close(given, wanted)
    assert all(gradient.abs().max() > 0 for gradient in given)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_differences_where_spikes_are_smooth(kind):
    network = small(**KINDS[kind])
    make_smooth(network)
    direction = torch.randn(7, 3, 3, generator=seeded(5), dtype=torch.float64)

    def value():
        return (network(inputs()) * direction).sum()

    parameters = list(network.parameters())
    gradients = torch.autograd.grad(value(), parameters)
    h = 1e-5  # the error of a central difference is of order h**2 times a third derivative
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            along = torch.randn(parameter.shape, generator=seeded(6), dtype=torch.float64)
            parameter += h * along
            above = value()
            parameter -= 2 * h * along
            below = value()
            parameter += h * along
            slope = ((above - below) / (2 * h)).item()
            assert slope == pytest.approx((gradient * along).sum().item(), rel=1e-5, abs=1e-7)


def test_a_recurrent_layer_without_feedback_is_a_plain_one():
    recurrent, plain = small(recurrent=True), small()
    matrices = [part for part in recurrent.layers if hasattr(part, "element_wise_function")]
    assert len(matrices) == 2  # the output is not recurrent
    with torch.no_grad():
        for part in matrices:
            part.element_wise_function.matrix.weight.zero_()
        for number in (1, 3, 5):
            plain.layers[number].weight.copy_(recurrent.layers[number].weight)
    assert torch.equal(recurrent(inputs()), plain(inputs()))


def test_feedback_arrives_one_step_late():
    network = small(recurrent=True)
    with torch.no_grad():
        before = network(inputs())
        for part in network.layers:
            if hasattr(part, "element_wise_function"):
                part.element_wise_function.matrix.weight.mul_(-3.0)
        after = network(inputs())
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1:], after[1:])


def test_a_network_of_one_layer_is_the_fully_connected_one():
    one = FullyConnectedSNN(tau=3.0)
    other = DenseSNN((784, 10), tau=3.0)
    other.load_state_dict(one.state_dict())
    spikes = poisson_encode(torch.rand(4, 1, 28, 28, generator=seeded(2)), 6, generator=seeded(3))
    with torch.no_grad():
        for network in (one, other):
            network.layers[1].weight.mul_(8.0)
    assert one(spikes).any()
    assert torch.equal(one(spikes), other(spikes))


@pytest.mark.parametrize("tau", [1.5, 4.0])
def test_the_membrane_readout_never_fires_and_follows_the_charging_curve(tau):
    readout = LeakyReadout(tau)
    readout.step_mode = "m"
    v = readout(torch.full((12, 1, 1), 50.0, dtype=torch.float64)).flatten()
    steps = torch.arange(1, 13, dtype=torch.float64)
    torch.testing.assert_close(v, 50 * (1 - (1 - 1 / tau) ** steps))


def test_the_membrane_readout_is_a_lif_neuron_of_huge_threshold_in_both_step_modes():
    currents = torch.randn(9, 2, 3, generator=seeded(1), dtype=torch.float64)
    expected = simulate(currents, LIFParameters(tau=3.0, v_threshold=1e9)).v
    for mode in ("m", "s"):
        readout = LeakyReadout(3.0)
        readout.step_mode = mode
        x = currents.clone().requires_grad_()
        v = readout(x) if mode == "m" else torch.stack([readout(step) for step in x])
        torch.testing.assert_close(v, expected)
        v[-1].sum().backward()  # step s keeps (1/tau) (1 - 1/tau)**(T - s)
        weight = (1 / 3) * (2 / 3) ** torch.arange(8, -1, -1, dtype=torch.float64)
        torch.testing.assert_close(x.grad, weight[:, None, None].expand_as(x))


def test_time_constants_are_told_and_learn():
    network = small(learn_tau=True, readout_tau=7.0)
    assert network.time_constants() == pytest.approx([2.5, 2.5, 7.0])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    potential_logits(network(inputs())).square().sum().backward()
    optimizer.step()
    learnt = network.time_constants()
    assert learnt[:2] != pytest.approx([2.5, 2.5])
    assert all(tau > 1 for tau in learnt)
    assert learnt[2] == 7.0
    assert small().time_constants() == [2.5, 2.5, 2.5]


def test_weight_scale_multiplies_every_matrix_and_no_time_constant():
    options = dict(recurrent=True, learn_tau=True)
    torch.manual_seed(1)
    plain = DenseSNN((6, 5, 3), **options).state_dict()
    torch.manual_seed(1)
    scaled = DenseSNN((6, 5, 3), weight_scale=4.0, **options).state_dict()
    for name, value in plain.items():
        factor = 1.0 if name.endswith(".w") else 4.0
        torch.testing.assert_close(scaled[name], factor * value)


@pytest.mark.parametrize("kind", KINDS)
def test_each_trial_starts_at_rest_and_a_copy_can_be_made_after_it(kind):
    network = small(**KINDS[kind])
    first = network(inputs())
    twin = copy.deepcopy(network)  # the state of the trial has a graph, which cannot be copied
    assert torch.equal(network(inputs()[:, :2]), first[:, :2])  # another batch size
    assert torch.equal(twin(inputs()), first)
    functional.reset_net(network)
    assert len(layers_of(network)) == 7


def test_rows_are_shown_to_a_network_of_28_inputs(training_images):
    rows = rows_encode(training_images.images[:5])
    assert DenseSNN((28, 20, 10), recurrent=True)(rows).shape == (28, 5, 10)
    with pytest.raises(ValueError, match=r"sequence must be \[T, N, 1, 28, 28\], time first"):
        DenseSNN()(rows)
    with pytest.raises(ValueError, match=r"sequence must be \[T, N, 28\], time first"):
        DenseSNN((28, 10))(training_images.images[None])


def test_a_network_that_remembers_nothing_cannot_tell_the_order_of_rows():
    # tau so near 1 that H[t] is X[t]: the mean over time of the currents forgets the order.
    images = torch.rand(6, 1, 28, 28, generator=seeded(8), dtype=torch.float64)
    order = torch.randperm(28, generator=seeded(9))
    options = dict(readout_tau=1 + 1e-12, weight_scale=4.0)

    def logits(network, rows):
        return potential_logits(network(rows))

    def moved(**more):
        network = DenseSNN((28, 16, 10), **options, **more).double()
        rows = rows_encode(images)
        return (logits(network, rows) - logits(network, rows[order])).abs().max().item()

    assert moved(tau=1 + 1e-12) < 1e-9
    assert moved(tau=2.0) > 1e-3
    assert moved(tau=1 + 1e-12, recurrent=True) > 1e-3


def test_sizes_may_be_numbers_of_numpy_and_a_list():
    network = DenseSNN([np.int64(6), np.int64(3)], tau=np.float32(2.0))
    assert network.layers[1].weight.shape == (3, 6)


SWITCHES = ("recurrent", "learn_tau", "decay_input")
BAD = ["text", True, math.nan, [2], -1.5]


@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize(
    "name",
    [
        "tau",
        "readout_tau",
        "weight_scale",
        "reset",
        "sizes",
        "recurrent",
        "learn_tau",
        "decay_input",
    ],
)
def test_what_is_no_such_setting_is_refused_by_name(name, bad):
    value = "yes" if bad is True and name in SWITCHES else bad
    with pytest.raises(ValueError, match=f"^{name} must"):
        DenseSNN(**{name: value})
    if name == "tau":
        with pytest.raises(ValueError, match=r"^tau must"):
            LeakyReadout(bad)


@pytest.mark.parametrize("bad", [(784,), (784, 0), (784, 10.0), (784, True)], ids=str)
def test_sizes_are_whole_numbers_two_at_least(bad):
    with pytest.raises(ValueError, match=r"^sizes must be a"):
        DenseSNN(bad)
