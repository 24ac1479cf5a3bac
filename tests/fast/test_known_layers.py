"""A network that its user edited: every engine gives its own answers, or refuses by name."""

import copy
from dataclasses import replace

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from snnlib.anytime import read_anytime
from snnlib.encoding import constant_encode, poisson_encode
from snnlib.experiments.engines import EncoderState, choose_engine, make_network, make_respond
from snnlib.fast.fused import conv_snn_rate
from snnlib.fast.known_layers import parameters_of
from snnlib.fast.walks import run_by_scan
from snnlib.networks import ConvSNN, FullyConnectedSNN
from snnlib.neurons import IFParameters, LIFParameters
from snnlib.settings.presets import PRESETS

T = 6
FC = replace(PRESETS["fc"], n_steps=T)
CSNN = replace(PRESETS["csnn"], channels=16, n_steps=T)
ATAN = surrogate.ATan


def plif(**options):
    options.setdefault("surrogate_function", ATAN())
    return neuron.ParametricLIFNode(init_tau=3.0, step_mode="m", **options)


def lif(**options):
    options.setdefault("surrogate_function", ATAN())
    return neuron.LIFNode(step_mode="m", **options)


def changed_node(**changes):
    node = lif()
    for name, value in changes.items():
        setattr(node, name, value)
    return node


def fc(node):
    torch.manual_seed(3)
    network = FullyConnectedSNN()
    network.layers[2] = node
    network.layers[1].weight.data *= 6
    return network


NODES = {
    "plif": plif,
    "plif without input decay, soft reset": lambda: plif(decay_input=False, v_reset=None),
    "lif with sigmoid": lambda: lif(surrogate_function=surrogate.Sigmoid(alpha=3.0)),
    "lif with a narrow atan": lambda: lif(surrogate_function=ATAN(alpha=5.0)),
    "lif with another surrogate": lambda: lif(surrogate_function=surrogate.PiecewiseQuadratic()),
    "lif that is no spike": lambda: lif(surrogate_function=ATAN(spiking=False)),
    "lif with a moved reset": lambda: changed_node(v_reset=-0.5),
    "lif with a tensor as threshold": lambda: changed_node(v_threshold=torch.tensor(0.7)),
    "lif that stores v": lambda: lif(store_v_seq=True),
    "lif without input decay": lambda: lif(decay_input=False, v_reset=-0.25, v_threshold=2.0),
    "lif detached": lambda: lif(detach_reset=True, tau=4.0),
    "if": lambda: neuron.IFNode(step_mode="m"),
}


def own_answers(network, spikes):
    """Rates of the network's own forward, and the gradient of every weight."""
    network.zero_grad()
    rate = network(spikes).mean(0)
    rate.square().sum().backward()
    return rate.detach(), {name: p.grad.clone() for name, p in network.named_parameters()}


@pytest.mark.parametrize("engine", ["scan", "torch", "spikingjelly"])
@pytest.mark.parametrize("name", NODES)
def test_spikes_and_gradients_are_those_of_the_networks_own_forward(name, engine):
    network, images = fc(NODES[name]()), torch.rand(5, 1, 28, 28)
    spikes = poisson_encode(images, T, generator=torch.Generator().manual_seed(1))
    expected, gradients = own_answers(network, spikes)
    assert 0 < expected.mean() < 1

    network.zero_grad()
    respond = make_respond(FC, network, EncoderState(torch.Generator().manual_seed(1)), engine)
    rate = respond(images)
    rate.square().sum().backward()

    assert torch.equal(rate, expected)
    for called, p in network.named_parameters():
        allowed = 1e-5 * gradients[called].abs().max()
        assert gradients[called].abs().max() > 0
        assert (p.grad - gradients[called]).abs().max() <= allowed


@pytest.mark.parametrize("name", NODES)
def test_the_event_engine_respects_a_layer_or_refuses_it_by_name(name):
    network, images = fc(NODES[name]()), torch.rand(5, 1, 28, 28)
    noise = EncoderState(torch.Generator(), seed=4)
    if (
        not name.startswith("if")
        and not any(word in name for word in ("sigmoid", "atan", "decay", "detached"))
    ) or "plif" in name:
        with pytest.raises(ValueError, match=r"layer 2 .*LIFNode.* does not fit engine='events'"):
            make_respond(FC, network, noise, "events")(images)
        return
    from snnlib.fast.events import poisson_spikes

    spikes = poisson_spikes(images, T, seed=4).unflatten(2, (1, 28, 28))
    expected, gradients = own_answers(network, spikes)
    network.zero_grad()
    rate = make_respond(FC, network, noise, "events")(images)
    rate.square().sum().backward()
    assert torch.equal(rate, expected)
    gradient = gradients["layers.1.weight"]
    assert (network.layers[1].weight.grad - gradient).abs().max() <= 1e-5 * gradient.abs().max()


def test_read_anytime_reads_plif_neurons_as_the_network_answers():
    network, images = fc(plif()), torch.rand(20, 1, 28, 28)
    spikes = poisson_encode(images, T, generator=torch.Generator().manual_seed(1))
    labels = network(spikes).mean(0).argmax(1)
    reading = read_anytime(network, [(images, labels)], T, lambda _: spikes)
    assert reading.n_correct[-1] == 20
    assert reading.spikes["dense1"][-1] == network(spikes).sum() / 20


def test_the_time_constant_of_a_plif_neuron_learns():
    network, images = fc(plif()), torch.rand(5, 1, 28, 28)
    engine = choose_engine(replace(FC, engine="auto"), torch.device("cpu"), network)
    assert engine == "scan"
    before = network.layers[2].w.item()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    respond = make_respond(FC, network, EncoderState(torch.Generator().manual_seed(1)), engine)
    respond(images).square().sum().backward()
    optimizer.step()
    assert network.layers[2].w.item() != before


def test_only_if_and_lif_have_constants():
    assert parameters_of(neuron.IFNode()) == IFParameters()
    assert parameters_of(neuron.LIFNode(tau=3.0)) == LIFParameters(tau=3.0)

    class MyLIF(neuron.LIFNode):
        pass

    for node in (plif(), neuron.KLIFNode(), neuron.QIFNode(), MyLIF(), nn.ReLU()):
        with pytest.raises(ValueError, match=f"layer must be .* got a {type(node).__name__};"):
            parameters_of(node)
    for node in (neuron.KLIFNode(step_mode="m"), MyLIF(step_mode="m")):
        with pytest.raises(ValueError, match=type(node).__name__):
            run_by_scan(node, torch.rand(3, 2))
        with pytest.raises(ValueError, match=type(node).__name__):
            read_anytime(fc(node), [(torch.rand(1, 1, 28, 28), torch.tensor([0]))], 2)
    with pytest.raises(ValueError, match="step_mode of LIFNode must be 'm'"):
        run_by_scan(neuron.LIFNode(), torch.rand(3, 2))


def test_auto_leaves_what_no_engine_knows_to_the_network_itself():
    device, auto = torch.device("cpu"), replace(FC, engine="auto")
    assert choose_engine(auto, device, FullyConnectedSNN()) == "events"
    assert choose_engine(auto, device, fc(lif(v_threshold=0.5))) == "events"
    assert choose_engine(auto, device, fc(neuron.KLIFNode(step_mode="m"))) == "spikingjelly"
    conv = replace(CSNN, engine="auto")
    assert choose_engine(conv, device, ConvSNN(16)) == "fused"
    assert choose_engine(conv, device, make_network(replace(conv, channels=4))) == "fused"
    edited = ConvSNN(16)
    edited.layers[3] = layer.AvgPool2d(2, 2, step_mode="m")
    assert choose_engine(conv, device, edited) == "scan"


class Doubled(FullyConnectedSNN):
    """A forward of its own."""

    def forward(self, sequence):
        return super().forward(2 * sequence)


def hooked(network):
    network.layers[1].register_forward_hook(lambda module, given, result: 0.5 * result)


def patched(network):
    forward = network.layers[2].forward
    network.layers[2].forward = lambda x: forward(0.5 * x)


EDITS = {
    "a bias": lambda n: setattr(n.layers[1], "bias", nn.Parameter(torch.linspace(0, 1, 10))),
    "dropout": lambda n: n.layers.insert(1, layer.Dropout(0.5, step_mode="m")),
    "a second layer": lambda n: n.layers.extend(
        [layer.Linear(10, 10, step_mode="m"), lif(v_threshold=0.1)]
    ),
    "a hook": hooked,
    "a patched forward": patched,
    "a parametrization": lambda n: nn.utils.parametrizations.weight_norm(n.layers[1]),
    "nothing in front": lambda n: n.layers.insert(1, nn.Identity()),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("engine", ["events", "scan", "torch", "spikingjelly"])
def test_an_edited_dense_network_answers_as_its_own_forward_or_is_refused(edit, engine):
    from snnlib.fast.events import poisson_spikes

    network, images = fc(lif()), torch.rand(4, 1, 28, 28)
    EDITS[edit](network)
    network.eval()
    noise = EncoderState(torch.Generator().manual_seed(1), seed=1)
    respond = make_respond(FC, network, noise, engine)
    if engine == "events" and edit != "a bias":
        with pytest.raises(ValueError, match=r"^layer \d \(.*does not fit engine='events'"):
            respond(images)
        return
    rate = respond(images)
    if engine == "events":
        spikes = poisson_spikes(images, T, seed=1).unflatten(2, (1, 28, 28))
    else:
        spikes = poisson_encode(images, T, generator=torch.Generator().manual_seed(1))
    assert torch.equal(rate, network(spikes).mean(0))
    assert rate.any()


def test_a_network_with_a_forward_of_its_own_is_left_to_it():
    network = Doubled()
    for engine in ("events", "scan", "torch"):
        with pytest.raises(ValueError, match="Doubled has another forward"):
            make_respond(FC, network, EncoderState(torch.Generator()), engine)(
                torch.rand(2, 1, 28, 28)
            )
    assert choose_engine(replace(FC, engine="auto"), torch.device("cpu"), network) == "spikingjelly"


def conv_edits():
    def put(number, part):
        return lambda network: network.layers.__setitem__(number, part)

    once = layer.MaxPool2d(2, 2, step_mode="m")
    return {
        "average pool": put(3, layer.AvgPool2d(2, 2, step_mode="m")),
        "wide pool": put(3, layer.MaxPool2d(3, 2, padding=1, step_mode="m")),
        "5 x 5": put(4, layer.Conv2d(16, 16, 5, padding=2, bias=False, step_mode="m")),
        "bias": put(4, layer.Conv2d(16, 16, 3, padding=1, step_mode="m")),
        "reflection": put(
            0, layer.Conv2d(1, 16, 3, padding=1, bias=False, padding_mode="reflect", step_mode="m")
        ),
        "groups": put(4, layer.Conv2d(16, 16, 3, padding=1, bias=False, groups=2, step_mode="m")),
        "plif": put(2, plif()),
        "lif": put(2, lif()),
        "dense bias": put(9, layer.Linear(784, 256, step_mode="m")),
        "dropout": lambda network: network.layers.insert(9, layer.Dropout(0.3, step_mode="m")),
        "appended": lambda network: network.layers.append(layer.Linear(10, 10, step_mode="m")),
        "one pool, used twice": lambda network: (put(3, once)(network), put(7, once)(network)),
        "narrow atan": put(2, neuron.IFNode(surrogate_function=ATAN(4.0), step_mode="m")),
        "sigmoid": put(2, neuron.IFNode(step_mode="m")),
        "low threshold": put(6, neuron.IFNode(0.3, None, surrogate_function=ATAN(), step_mode="m")),
        "no norm": lambda network: network.layers.__delitem__(1),
        "dense sigmoid": put(10, neuron.IFNode(step_mode="m")),
    }


TAKEN = {"one pool, used twice", "narrow atan", "low threshold", "no norm", "dense sigmoid"}


@pytest.mark.parametrize("edit", conv_edits())
@pytest.mark.parametrize("engine", ["fused", "scan"])
def test_an_edited_convolutional_network_answers_as_its_own_forward_or_is_refused(edit, engine):
    torch.manual_seed(0)
    network, images = ConvSNN(16), torch.rand(3, 1, 28, 28)
    for weight in network.parameters():
        weight.data *= 2
    conv_edits()[edit](network)
    network.eval()
    config = replace(CSNN, normalise=False, engine=engine)
    run = lambda: make_respond(config, network, EncoderState(torch.Generator()), engine)(images)  # noqa: E731
    if engine == "fused" and edit not in TAKEN:
        with pytest.raises(ValueError, match=r"^layer \d+ \(.*does not fit engine='fused'"):
            run()
        return
    exact = copy.deepcopy(network).double()
    sequence = constant_encode(images.double(), T)
    expected = exact(sequence).mean(0)
    expected.square().sum().backward()
    rate = run()
    rate.square().sum().backward()
    assert expected.any()
    torch.testing.assert_close(rate.double(), expected)
    for (name, ours), theirs in zip(network.named_parameters(), exact.parameters(), strict=True):
        assert (ours.grad - theirs.grad).abs().max() <= 5e-5 * theirs.grad.abs().max(), name


def test_layers_that_nobody_can_count_are_refused_by_read_anytime():
    batch = [(torch.rand(2, 1, 28, 28), torch.tensor([0, 1]))]
    network = FullyConnectedSNN()
    network.layers[1] = nn.Sequential(network.layers[1])
    with pytest.raises(ValueError, match=r"layer 1 \(Sequential\) is not known"):
        read_anytime(network, batch, 2)
    pooled = ConvSNN(2)
    pooled.layers[3] = layer.AvgPool2d(2, 2, step_mode="m")
    pooled.layers[0].weight.data *= 30
    with pytest.raises(ValueError, match="conv2 must be reached by spikes"):
        read_anytime(pooled, batch, 2)


def test_a_layer_of_neurons_used_twice_is_refused_where_its_potential_would_be_lost():
    network = FullyConnectedSNN()
    network.layers.extend([layer.Linear(10, 10, step_mode="m"), network.layers[2]])
    with pytest.raises(ValueError, match=r"layer 4 \(LIFNode.*must be used once"):
        make_respond(FC, network, EncoderState(torch.Generator()), "scan")(torch.rand(1, 1, 28, 28))


def test_the_rate_of_a_fused_network_is_that_of_its_own_modes():
    network = ConvSNN(16)
    functional.set_step_mode(network, "s")
    with pytest.raises(ValueError, match=r"layers\.0 must have step_mode='m'.* Conv2d"):
        conv_snn_rate(network, torch.rand(1, 1, 28, 28), 2)
