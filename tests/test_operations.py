"""Operations of any network: by hand, by brute force, and against SpikingJelly's own counters."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from snnlib.anytime import read_anytime
from snnlib.encoding import constant_encode, poisson_encode
from snnlib.networks import ConvSNN
from snnlib.operations import counting_operations


def spikes_of(*shape, rate=0.3):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(2)) < rate).float()


def multi_step(*layers):
    """Layers in multi-step mode whose weights make all neurons fire now and then."""
    torch.manual_seed(4)
    network = nn.Sequential(*layers)
    with torch.no_grad():
        for weight in network.parameters():
            weight *= 4.0
    functional.set_step_mode(network, "m")
    return network.eval()


def dense_network():
    return multi_step(
        layer.Flatten(),
        layer.Linear(36, 20),
        neuron.IFNode(),
        layer.Linear(20, 8, bias=False),
        neuron.LIFNode(tau=2.0),
    )


def convolutional_network(**options):
    return multi_step(
        layer.Conv2d(2, 6, 3, **options),
        layer.BatchNorm2d(6),
        neuron.IFNode(),
        layer.Conv2d(6, 8, 3, padding=1, stride=2, groups=2),
        neuron.IFNode(),
        layer.MaxPool2d(2, 2),
        layer.Flatten(),
        layer.Linear(32, 5),
    )


def totals(counts):
    kinds = (counts.synaptic_operations, counts.multiply_accumulates)
    return [sum(map(sum, kind.values())) for kind in kinds]


def test_a_spike_costs_its_fan_out_and_a_number_every_connection():
    network = multi_step(layer.Linear(3, 4), neuron.IFNode(), layer.Linear(4, 2))
    nn.init.constant_(network[0].weight, 0.5)
    nn.init.zeros_(network[0].bias)
    x = torch.tensor([[[1.0, 0.0, 1.0], [0, 0, 0]], [[0.5, 0.5, 0.0], [1, 1, 0.5]]])  # T=2, N=2
    with counting_operations(network, 2) as counts:
        network(x)
    # Step 1: two spikes meet 4 connections each; step 2: two and three numbers, of 12 each.
    assert counts.synaptic_operations["0"] == [2 * 4 / 2, 0]
    assert counts.multiply_accumulates["0"] == [0, 12]
    assert counts.nonzero_multiply_accumulates["0"] == [0, (2 + 3) * 4 / 2]
    # Potentials are 1 and 0 at step 1, so that image 0 fires four times; then 0.5 and 1.25.
    assert counts.synaptic_operations["2"] == [4 * 2 / 2, 4 * 2 / 2]
    assert counts.not_counted == {}
    assert counts.energy_pj() == pytest.approx(0.9 * 12 + 4.6 * 12)
    assert counts.energy_pj(accumulate_pj=0.1, multiply_accumulate_pj=3.2) == pytest.approx(39.6)


CONVOLUTIONS = [
    (layer.Conv1d, (9,), {"padding": 1}),
    (layer.Conv1d, (9,), {"stride": 2, "dilation": 2}),
    (layer.Conv2d, (7, 8), {"padding": 1, "groups": 2}),
    (layer.Conv2d, (7, 8), {"padding": (2, 0), "stride": (2, 3), "bias": False}),
    (layer.Conv2d, (7, 8), {"padding": "same", "groups": 4}),
    (layer.Conv3d, (4, 5, 6), {"padding": 1}),
]


@pytest.mark.parametrize(("kind", "size", "options"), CONVOLUTIONS)
def test_a_convolution_with_ones_gives_the_operations_of_each_step(kind, size, options):
    """With weights 1 and no bias each operation adds 1 to some output: count them there."""
    part = kind(4, 8, 3, step_mode="m", **options)
    x = spikes_of(3, 2, 4, *size)
    with counting_operations(part, 2) as counts:
        part(x)
    nn.init.ones_(part.weight)
    if part.bias is not None:
        nn.init.zeros_(part.bias)
    expected = part(x).flatten(1).sum(1) / 2
    assert counts.synaptic_operations[kind.__name__] == expected.tolist()


def by_spikingjelly(network, x):
    """What SpikingJelly counts: synaptic operations, and multiply-accumulates."""
    counter = pytest.importorskip("spikingjelly.activation_based.op_counter")
    functional.reset_net(network)
    synops, macs = counter.SynOpCounter(), counter.MACCounter()
    norms = [nn.BatchNorm2d]  # whose multiplications it counts, too
    macs.ignore_modules.extend(norms)
    with torch.no_grad(), counter.DispatchCounterMode([synops, macs]):
        network(x)
    return [synops.get_total(), macs.get_total()]


@pytest.mark.parametrize("spiking", [True, False])
@pytest.mark.parametrize(
    ("make", "shape"), [(dense_network, (1, 6, 6)), (convolutional_network, (2, 9, 9))]
)
def test_spikingjelly_counts_the_same(make, shape, spiking):
    network, x = make(), spikes_of(5, 4, *shape)
    x = x if spiking else x + 0.5
    with torch.no_grad(), counting_operations(network, 4) as counts:
        network(x)
    assert totals(counts)[0] > 0
    assert [4 * total for total in totals(counts)] == by_spikingjelly(network, x)


def test_spikingjelly_multiplies_with_the_padding_of_numbers_and_we_do_not():
    network, x = convolutional_network(padding=1), spikes_of(5, 4, 2, 9, 9) + 0.5
    with torch.no_grad(), counting_operations(network, 4) as counts:
        network(x)
    theirs = by_spikingjelly(network, x)
    inside = 2 * 6 * (3 * 9 - 2) ** 2  # of a 3 x 3 kernel, centred on each of 9 x 9 pixels
    assert sum(counts.multiply_accumulates["0"]) == 5 * inside
    assert theirs[1] - 4 * totals(counts)[1] == 4 * 5 * 2 * 6 * ((3 * 9) ** 2 - (3 * 9 - 2) ** 2)
    assert theirs[0] == 4 * totals(counts)[0]


class Loop(nn.Module):
    """Layers inside of layers, step by step, with time inside of the forward."""

    def __init__(self, n_steps):
        super().__init__()
        self.n_steps = n_steps
        self.features = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(neuron.IFNode()))
        self.head = nn.ModuleDict({"out": nn.Linear(3 * 16, 4)})

    def forward(self, images):
        return sum(self.head["out"](self.features(images).flatten(1)) for _ in range(self.n_steps))


def test_step_by_step_all_steps_at_once_and_flattened_time_are_counted_alike():
    images = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    loop = Loop(7)
    with torch.no_grad(), counting_operations(loop, 3) as counts:
        loop(images)
    flat = layer.SeqToANNContainer(loop.features[0])
    row = nn.Sequential(flat, neuron.IFNode(step_mode="m"), nn.Flatten(2), loop.head["out"])
    with torch.no_grad(), counting_operations(row, 3) as at_once:
        row(constant_encode(images, 7))
    assert list(counts.synaptic_operations) == ["features.0", "head.out"]
    assert counts.synaptic_operations["head.out"] == at_once.synaptic_operations["3"]
    assert counts.multiply_accumulates["features.0"] == at_once.multiply_accumulates["0.0"]
    assert counts.multiply_accumulates["features.0"] == [3 * 16 * 9] * 7
    assert counts.not_counted == at_once.not_counted == {}


def test_the_books_networks_are_counted_as_read_anytime_counts_them(test_images):
    torch.manual_seed(1)
    network = ConvSNN(2).eval()
    x = poisson_encode(test_images.images[:20], 4, generator=torch.Generator().manual_seed(1))
    batch = (test_images.images[:20], test_images.labels[:20])
    reading = read_anytime(network, [batch], 4, lambda images: x)
    with torch.no_grad(), counting_operations(network, 20) as counts:
        network(x)
    for ours, theirs in zip(
        counts.synaptic_operations.values(), reading.synaptic_operations.values(), strict=True
    ):
        assert torch.tensor(ours).cumsum(0).tolist() == pytest.approx(theirs)
    assert counts.energy_pj() == pytest.approx(reading.energy_pj[-1])


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4))
        self.inner = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 4)
        self.memory = nn.LSTM(4, 4)
        self.norm = nn.GroupNorm(2, 4)
        self.node = neuron.ParametricLIFNode(step_mode="s")
        self.twin = self.inner

    def forward(self, x):
        return self.norm(self.gain * self.twin(self.inner(x)))


def test_what_is_not_known_or_not_called_is_named():
    with counting_operations(Odd(), 5) as counts:
        Odd()  # another network is not watched
    unknown = {"Odd": "Odd", "memory": "LSTM", "norm": "GroupNorm"}
    idle = dict.fromkeys(["inner", "unused"], "Linear, which was not called")
    assert counts.not_counted == unknown | idle
    network = Odd()
    with counting_operations(network, 5) as counts:
        network(torch.rand(5, 4))
    assert counts.multiply_accumulates == {"inner": [16, 16]}  # called twice, named once
    assert counts.not_counted == unknown | {"unused": "Linear, which was not called"}


def test_the_network_is_left_as_it_was():
    network, x = dense_network(), spikes_of(5, 4, 1, 6, 6)
    expected = network(x)
    functional.reset_net(network)
    with counting_operations(network, 4):
        assert torch.equal(network(x), expected)
    assert not any(part._forward_hooks for part in network.modules())
    message = r"n_images must fit what arrives at 1, of .*, got 3"
    with pytest.raises(ValueError, match=message), counting_operations(network, 3):
        network(x)
    assert not any(part._forward_hooks for part in network.modules())


def test_what_is_no_network_is_refused():
    message = "network must be Module, got 'fc'"
    with pytest.raises(ValueError, match=message), counting_operations("fc", 3):
        pass
