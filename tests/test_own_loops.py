"""Networks in a user's own hands: other neurons, other precisions, copies and modes."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.nn.utils import prune

from snnlib.anytime import read_anytime
from snnlib.data import ImageSet
from snnlib.encoding import poisson_encode
from snnlib.experiments.engines import EncoderState, choose_engine, make_respond
from snnlib.experiments.ff_factory import make_post_network
from snnlib.experiments.stored_weights import load_stored, predict_stored
from snnlib.fast.constant import constant_rate
from snnlib.fast.fused import conv_snn_rate
from snnlib.fast.known_layers import knows
from snnlib.fast.scan import neuron_scan
from snnlib.forward_forward.goodness import forward_forward_loss
from snnlib.forward_forward.judging import every_label_rate
from snnlib.forward_forward.labels import with_every_label
from snnlib.forward_forward.layers import PoissonLayer
from snnlib.forward_forward.network import ForwardForwardLayer, ForwardForwardNetwork, train_layers
from snnlib.networks import ConvSNN, FullyConnectedSNN, NonSpikingNetwork, SmallConvSNN
from snnlib.neurons import LIFParameters
from snnlib.readout import firing_rate, rate_mse
from snnlib.settings.ff_experiment import PostConfig
from snnlib.settings.ff_presets import FF_PRESETS
from snnlib.settings.presets import PRESETS
from snnlib.training import evaluate, train_epoch

CPU = torch.device("cpu")
LABELS = torch.tensor([1, 2])


def images(n: int = 2) -> Tensor:
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(n))


def lively(network: nn.Module, factor: float = 3.0) -> Any:
    """Weights so large that all layers fire."""
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.Linear | nn.Conv2d):
                part.weight *= factor
    return network


def rate(network: nn.Module, shown: Tensor, n_steps: int = 4) -> Tensor:
    return firing_rate(network(shown.expand(n_steps, *shown.shape)))


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]


# --- one network, several engines ------------------------------------------------------------


@pytest.mark.parametrize("tracks", [True, False])
def test_a_norm_that_asks_the_batch_gets_the_whole_batch_in_the_fused_engine(tracks: bool) -> None:
    torch.manual_seed(1)
    network = lively(ConvSNN(16), 2.0).eval()
    for norm in norms(network):
        norm.train(tracks)
        if not tracks:
            norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    own = copy.deepcopy(network)
    with torch.no_grad():
        torch.testing.assert_close(conv_snn_rate(network, images(20), 4), rate(own, images(20)))
    for ours, theirs in zip(network.buffers(), own.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    "constants",
    [
        {"v_threshold": -0.1},
        {"v_threshold": 0.0, "v_reset": None},
        {"detach_reset": 1},
    ],
)
@pytest.mark.parametrize("name", ["fc-quick", "csnn-quick", "small-conv-quick"])
def test_the_engine_chosen_for_a_network_runs_it_whatever_its_constants(
    name: str, constants: dict[str, Any]
) -> None:
    kind: dict[str, Callable[[], nn.Module]] = {
        "fc": FullyConnectedSNN,
        "csnn": lambda: ConvSNN(3),
        "small-conv": SmallConvSNN,
    }
    config = replace(PRESETS[name], engine="auto", encoding="constant", n_steps=3, normalise=False)
    network = lively(kind[config.network]()).eval()
    for part in network.modules():
        for constant, value in constants.items() if isinstance(part, neuron.BaseNode) else ():
            setattr(part, constant, value)
    respond = make_respond(config, network, EncoderState(torch.Generator()), "scan")
    torch.testing.assert_close(respond(images()), rate(network, images(), 3))
    engine = choose_engine(PRESETS[name], CPU, network)
    poisson = replace(PRESETS[name], n_steps=3)
    answer = make_respond(poisson, network, EncoderState(torch.Generator()), engine)
    assert answer(images()).shape == (2, 10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["fc-quick", "csnn-quick", "small-conv-quick"])
def test_weights_in_another_precision_than_float32_get_an_engine_that_keeps_it(
    name: str, dtype: torch.dtype
) -> None:
    network = {"fc": FullyConnectedSNN, "csnn": partial(ConvSNN, 16), "small-conv": SmallConvSNN}[
        PRESETS[name].network
    ]().to(dtype)
    assert choose_engine(replace(PRESETS[name], engine="auto"), CPU, network) == "scan"
    respond = make_respond(
        replace(PRESETS[name], n_steps=2, normalise=False),
        network,
        EncoderState(torch.Generator()),
        "scan",
    )
    assert respond((images() * 128).round() / 128).dtype == dtype


def test_the_fused_engine_refuses_weights_that_it_would_round() -> None:
    with pytest.raises(ValueError, match=r"float32 weights for engine='fused'.*float64"):
        conv_snn_rate(SmallConvSNN().double(), images(), 2)


def test_neurons_put_in_without_multi_step_mode_are_refused_and_not_run_without_memory() -> None:
    network = FullyConnectedSNN()
    network.layers[2] = neuron.LIFNode()
    with pytest.raises(ValueError, match=r"network\.layers\.2 must have step_mode='m'.*LIFNode"):
        rate(network, images())
    network = FullyConnectedSNN()
    network.layers[2] = nn.Sequential(neuron.SimpleLIFNode(tau=2.0, decay_input=True))
    with pytest.raises(ValueError, match=r"network\.layers\.2\.0 must have step_mode='m'"):
        rate(network, images())
    functional.set_step_mode(network, "m")
    assert rate(network, images()).shape == (2, 10)


def test_no_potential_of_an_earlier_trial_is_left_behind_an_engine_that_keeps_none() -> None:
    network = ConvSNN(2)
    rate(network, images())
    assert isinstance(network.layers[2].v, Tensor)
    config = replace(PRESETS["csnn-quick"], n_steps=2)
    make_respond(config, network, EncoderState(torch.Generator()), "fused")(images())
    assert network.layers[2].v == 0.0


# --- half precision --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_rate_in_half_precision_is_counted_in_float32(dtype: torch.dtype) -> None:
    neurons = LIFParameters()
    always = torch.full((1,), 5.0, dtype=dtype)
    assert constant_rate(always, 3000, neurons).item() == 1.0
    currents = (3 * torch.rand(500, generator=torch.Generator().manual_seed(0))).to(dtype)
    scanned = firing_rate(neuron_scan(currents.expand(20, -1), neurons))
    assert torch.equal(constant_rate(currents, 20, neurons), scanned)


def test_a_reading_in_half_precision_counts_every_spike() -> None:
    network = FullyConnectedSNN().bfloat16()
    with torch.no_grad():
        network.layers[1].weight.abs_()
    spikes = (torch.rand(600, 4, 1, 28, 28, generator=torch.Generator().manual_seed(0)) < 0.8) + 0.0
    reading = read_anytime(network, [(images(4), torch.arange(4))], 600, lambda _: spikes)
    assert reading.spikes["input"][-1] == pytest.approx(spikes.double().sum().item() / 4, abs=1e-6)
    assert reading.spikes["dense1"][-1] == network(spikes).double().sum().item() / 4


def test_half_precision_rates_equal_the_rounded_rates_of_full_precision() -> None:
    current = torch.tensor([1.5, 2.5], dtype=torch.float16)
    exact = constant_rate(current.float(), 3000, LIFParameters())
    half = constant_rate(current, 3000, LIFParameters())
    assert half.dtype == torch.float16
    assert torch.equal(half, exact.half())


@pytest.mark.parametrize("network", [FullyConnectedSNN().double(), ConvSNN(channels=16).half()])
def test_engines_in_float32_do_not_take_a_network_of_another_precision(network: nn.Module) -> None:
    assert not knows("events", network)
    assert not knows("fused", network)
    assert knows("scan", network)


def test_neurons_that_do_not_spike_are_not_counted_as_if_they_did() -> None:
    network = FullyConnectedSNN()
    network.layers[2].surrogate_function = surrogate.ATan(spiking=False)
    with pytest.raises(ValueError, match=r"layer 2 .*must spike"):
        read_anytime(network, [(images(), LABELS)], 2)


# --- modes, copies, threads ------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["evaluate", "read_anytime"])
def test_a_norm_that_is_frozen_stays_frozen_when_the_network_is_asked_meanwhile(ask: str) -> None:
    network = ConvSNN(2).train()
    network.layers[1].eval()
    before = [part.training for part in network.modules()]
    if ask == "evaluate":
        evaluate(network, lambda shown: rate(network, shown), [(images(), LABELS)], rate_mse)
    else:
        read_anytime(network, [(images(), LABELS)], 2)
    assert [part.training for part in network.modules()] == before


def test_a_stored_network_that_learns_on_may_be_asked_for_its_digits_meanwhile() -> None:
    network, record = load_stored("small-conv")
    network.train()
    predict_stored(network, record, images())
    assert network.training


def test_a_copy_holds_each_neuron_once_under_all_its_names_and_at_rest() -> None:
    network: Any = FullyConnectedSNN()
    network.layers.append(layer.Linear(10, 10, step_mode="m"))
    network.layers.append(network.layers[2])
    network.node = network.layers[2]
    network.layers[2].store_v_seq = True
    rate(network, images()).sum()
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        node = twin.layers[2]
        assert twin.node is node
        assert twin.layers[4] is node
        assert node is not network.node
        assert node.v == 0.0
        assert node.v_seq is None
    assert isinstance(network.node.v_seq, Tensor)


# --- the ordinary twin -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "node",
    [
        lambda: neuron.SimpleIFNode(step_mode="m"),
        lambda: neuron.LIFNode(step_mode="m"),
        lambda: neuron.KLIFNode(step_mode="m"),
    ],
)
def test_the_ordinary_network_has_a_relu_for_neurons_of_any_family(
    node: Callable[[], nn.Module],
) -> None:
    spiking = SmallConvSNN()
    spiking.layers[1] = spiking.layers[10] = node()
    ordinary = NonSpikingNetwork(spiking)
    assert sum(isinstance(part, nn.ReLU) for part in ordinary.layers) == 3
    assert torch.equal(ordinary(images()), ordinary(images()))


def test_the_ordinary_network_refuses_neurons_inside_of_a_layer() -> None:
    spiking = FullyConnectedSNN()
    spiking.layers.insert(1, nn.Sequential(neuron.LIFNode(step_mode="m")))
    with pytest.raises(ValueError, match="some inside of layer 1, a Sequential"):
        NonSpikingNetwork(spiking)


def test_a_dropout_of_the_ordinary_network_draws_anew_for_each_batch() -> None:
    spiking = FullyConnectedSNN()
    spiking.layers.insert(1, layer.Dropout(step_mode="m"))
    ordinary = NonSpikingNetwork(spiking).train()
    assert not torch.equal(ordinary(images(3)), ordinary(images(3)))
    assert ordinary(images(4)).shape == (4, 10)


# --- who learns ------------------------------------------------------------------------------


def test_an_optimizer_of_weights_that_the_network_does_not_have_is_refused() -> None:
    network = FullyConnectedSNN()
    batches = [(images(), LABELS)]
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    network.layers[1] = layer.Linear(784, 10, step_mode="m")
    with pytest.raises(ValueError, match="optimizer must hold parameters of network"):
        train_epoch(network, lambda shown: rate(network, shown), batches, rate_mse, optimizer)
    for part in network.parameters():
        part.requires_grad_(False)  # nothing to learn here, so the optimizer is another's affair
    shift = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([shift], 0.1)
    train_epoch(network, lambda x: rate(network, x) + shift, batches, rate_mse, optimizer)
    assert shift.item() != 0


def test_optimizers_and_schedules_that_want_more_than_a_step_are_refused_by_name() -> None:
    network = FullyConnectedSNN()
    learn = partial(train_epoch, network, partial(rate, network), [(images(), LABELS)], rate_mse)
    with pytest.raises(ValueError, match="no closure, got LBFGS"):
        learn(torch.optim.LBFGS(network.parameters()))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(ValueError, match=r"scheduler must be .* got ReduceLROnPlateau"):
        learn(optimizer, scheduler=schedule)


# --- Forward-Forward -------------------------------------------------------------------------


class _Louder(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + 1.0


def _louder(linear: nn.Linear) -> nn.Linear:
    new = _Louder(linear.in_features, linear.out_features, bias=linear.bias is not None)
    new.load_state_dict(linear.state_dict())
    return new


def _hooked(linear: nn.Linear) -> nn.Linear:
    linear.register_forward_hook(lambda module, given, out: out + 1.0)
    return linear


def _patched(linear: nn.Linear) -> nn.Linear:
    linear.forward = lambda given: nn.Linear.forward(linear, given) + 1.0  # type: ignore[assignment,method-assign]
    return linear


def _with_bias(linear: nn.Linear) -> nn.Linear:
    new = nn.Linear(linear.in_features, linear.out_features)
    new.weight = linear.weight
    nn.init.ones_(new.bias)
    return new


def _pruned(linear: nn.Linear) -> nn.Linear:
    prune.l1_unstructured(linear, "weight", 0.5)
    with torch.no_grad():
        linear.weight_orig *= 5  # as after a step of an optimizer: .weight is renewed by a call
    return linear


CHANGES = [_louder, _hooked, _patched, _with_bias, _pruned]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("pixel_norm", [True, False])
def test_the_posts_network_predicts_with_the_layers_it_learns_with(
    change: Callable[[nn.Linear], nn.Linear], pixel_norm: bool
) -> None:
    torch.manual_seed(0)
    preset = next(c for c in FF_PRESETS.values() if isinstance(c, PostConfig))
    network = make_post_network(replace(preset, n_steps=400, pixel_norm=pixel_norm))
    network.layers[0] = change(network.layers[0])
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        asked = network(images(4), noise)[0]
        taught = firing_rate(network.fire(network.currents(0, images(4).flatten(1), noise)))
    assert (asked - taught).abs().mean() < 0.04  # two draws of 400 steps


@pytest.mark.parametrize("change", CHANGES)
def test_a_poisson_layer_answers_with_the_linear_map_that_it_has(
    change: Callable[[nn.Linear], nn.Linear],
) -> None:
    torch.manual_seed(0)
    poisson = PoissonLayer(784, 50, 400, LIFParameters(), torch.Generator().manual_seed(0))
    poisson.linear = change(poisson.linear)
    with torch.no_grad():
        difference = poisson.rate(images(4)) - firing_rate(poisson(images(4)))
    assert difference.abs().mean() < 0.04


def test_new_constants_of_a_poisson_layer_count_for_its_rates_and_its_spikes() -> None:
    torch.manual_seed(0)
    poisson = PoissonLayer(784, 50, 400, LIFParameters(), torch.Generator().manual_seed(0))
    poisson.neuron = LIFParameters(v_threshold=0.3)
    with torch.no_grad():
        difference = poisson.rate(images(4)) - firing_rate(poisson(images(4)))
    assert difference.abs().mean() < 0.04


@pytest.mark.parametrize("change", CHANGES)
def test_every_label_is_judged_by_the_linear_map_that_a_layer_has(
    change: Callable[[nn.Linear], nn.Linear],
) -> None:
    torch.manual_seed(0)
    dense = ForwardForwardLayer(784, 50, 20, partial(neuron_scan, neuron=LIFParameters()))
    dense.linear = change(dense.linear)
    with torch.no_grad():
        rates = every_label_rate(dense, images(4))
        torch.testing.assert_close(rates, dense.rate(with_every_label(images(4))))


def test_a_layer_shown_longer_or_given_other_neurons_counts_those_and_not_the_quick_way() -> None:
    torch.manual_seed(0)
    neurons = LIFParameters()
    dense = ForwardForwardLayer(
        784,
        50,
        5,
        partial(neuron_scan, neuron=neurons),
        partial(constant_rate, n_steps=5, neuron=neurons),
    )
    dense.n_steps = 40
    assert torch.equal(dense.rate(images(4)), firing_rate(dense(images(4))))
    dense.fire = partial(neuron_scan, neuron=LIFParameters(v_threshold=0.3))
    assert torch.equal(dense.rate(images(4)), firing_rate(dense(images(4))))
    assert torch.equal(copy.deepcopy(dense).rate(images(4)), dense.rate(images(4)))


def test_neurons_of_spikingjelly_in_a_forward_forward_layer_start_each_time_from_rest() -> None:
    torch.manual_seed(0)
    nodes = [neuron.LIFNode(step_mode="m") for _ in range(2)]
    network = ForwardForwardNetwork(
        [ForwardForwardLayer(784, 20, 10, nodes[0]), ForwardForwardLayer(20, 20, 10, nodes[1])]
    )
    with torch.no_grad():
        assert torch.equal(network(images())[0], network(images())[0])
    loss = partial(forward_forward_loss, theta=0.2)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    assert len(train_layers(network, [(images(), images())] * 3, loss, optimizer)) == 2
    with pytest.raises(ValueError, match="fire must have step_mode='m'"):
        ForwardForwardLayer(784, 20, 10, neuron.LIFNode())(images())


# --- what a look at a network is made of


def looks(network):
    return lambda batches, loss=rate_mse: evaluate(
        network, lambda shown: rate(network, shown), batches, loss
    )


def test_labels_of_another_shape_are_refused_and_not_stretched() -> None:
    look = looks(FullyConnectedSNN())
    for labels in (LABELS[:, None], torch.eye(10)[LABELS], LABELS.float()):
        with pytest.raises(ValueError, match=r"labels must be class numbers \[N\]"):
            look([(images(), labels)])


def test_one_pair_or_a_set_in_the_place_of_batches_is_refused() -> None:
    look = looks(FullyConnectedSNN())
    for given in ((images(), LABELS), ImageSet(images(), LABELS, "toy")):
        with pytest.raises(ValueError, match=r"batches must be pairs .*make_loader"):
            look(given)


def test_a_loss_of_many_numbers_is_refused() -> None:
    look = looks(FullyConnectedSNN())
    with pytest.raises(ValueError, match=r"loss must return one number, got shape \[2\]"):
        look([(images(), LABELS)], lambda rates, labels: rates.sum(1))


def test_an_answer_that_is_no_tensor_is_refused() -> None:
    network = FullyConnectedSNN()
    with pytest.raises(ValueError, match=r"respond\(images\) must be"):
        evaluate(network, lambda shown: shown.numpy(), [(images(), LABELS)], rate_mse)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dark_pixels_in_half_precision_fire_as_often_as_they_should(dtype: torch.dtype) -> None:
    dark = torch.full((100_000,), 1 / 255).to(dtype)
    dice = torch.Generator().manual_seed(0)
    spikes = poisson_encode(dark, 10, generator=dice).double()
    deviation = (dark[0].double() * (1 - dark[0].double()) / spikes.numel()).sqrt()
    assert (spikes.mean() - dark[0].double()).abs() < 4 * deviation


def spiking_layer() -> ForwardForwardLayer:
    return ForwardForwardLayer(784, 20, 5, neuron.LIFNode(step_mode="m"))


def test_a_forward_forward_network_of_spikingjelly_neurons_can_be_copied_after_a_look() -> None:
    network = ForwardForwardNetwork([spiking_layer()])
    network(images())
    assert torch.equal(copy.deepcopy(network)(images())[0], network(images())[0])


def test_neurons_set_to_single_steps_later_are_refused_by_a_forward_forward_layer() -> None:
    network = ForwardForwardNetwork([spiking_layer()])
    functional.set_step_mode(network, "s")
    with pytest.raises(ValueError, match="fire must have step_mode='m'"):
        network(images())


def test_the_one_layer_that_learns_must_be_there() -> None:
    network = ForwardForwardNetwork([spiking_layer()])
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for only in (-1, 1):
        with pytest.raises(ValueError, match=r"only must be a whole number in 0\.\.0"):
            train_layers(
                network, [(images(), images())], forward_forward_loss, optimizer, only=only
            )


def test_inputs_of_another_width_are_refused_with_the_width_wanted() -> None:
    network = ForwardForwardNetwork([spiking_layer()])
    for given in (images()[:, 0], images().expand(5, 2, 1, 28, 28)):
        with pytest.raises(ValueError, match=r"inputs must be .*784"):
            network(given)
