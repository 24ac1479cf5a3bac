"""Whatever people do with an ``nn.Module`` in a loop of their own works on all networks."""

import copy
import gc
import io
import pickle
from dataclasses import replace
from functools import partial
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from toys import SMALL, small, toy_images

from snnlib.experiments.engines import EncoderState, make_respond
from snnlib.experiments.ff_factory import make_ff_network, make_post_network, prepare_ff
from snnlib.forward_forward import training as ff_training
from snnlib.networks import ConvSNN, FullyConnectedSNN, NonSpikingNetwork, SmallConvSNN
from snnlib.readout import rate_mse
from snnlib.settings.ff_presets import FF_PRESETS
from snnlib.settings.presets import PRESETS
from snnlib.training import train_epoch

KINDS = (nn.Linear, nn.Conv2d)


def forward_forward(name):
    config = small(name)
    return make_ff_network(config, torch.Generator().manual_seed(0))


NETWORKS = {
    "fc": FullyConnectedSNN,
    "csnn": partial(ConvSNN, 2),
    "csnn that adds up": partial(ConvSNN, 2, last_fires=False),
    "small-conv": SmallConvSNN,
    "ordinary": lambda: NonSpikingNetwork(ConvSNN(2)),
    **{name: partial(forward_forward, name) for name in SMALL if name != "every"},
    "post": lambda: make_post_network(replace(FF_PRESETS["ff-1"], widths=(784, 20, 10), n_steps=4)),
}
IN_TIME = {"fc", "csnn", "csnn that adds up", "small-conv"}


class Ask:
    """Asks one kind of network for a number that depends on all its weights."""

    def __init__(self, name):
        self.name = name

    def inputs(self, n_images=4, n_steps=3, dtype=torch.float32):
        images = torch.rand(n_images, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        if self.name in IN_TIME:
            images = 9 * images.expand(n_steps, *images.shape)
        return images.to(dtype)

    def __call__(self, network, **shape):
        inputs = self.inputs(**shape)
        if self.name == "post":
            return self.post(network, inputs.flatten(1))
        if hasattr(network, "hidden"):
            return sum(rate.mean() for rate in network.hidden(inputs)) + network(inputs).mean()
        return self.number(network(inputs))

    @staticmethod
    def number(answer):
        rates = answer if isinstance(answer, list) else [answer]
        return 8 * sum(rate.float().mean() for rate in rates)

    @staticmethod
    def post(network, rates):
        total, generator = 0.0, torch.Generator().manual_seed(0)
        for number in range(len(network.layers)):
            rate, _ = network.pair_of_rates(number, rates, rates, generator)
            total, rates = total + rate.mean(), rate.detach()
        return total

    def step(self, network):
        """A step of one's own; every weight that may move has a gradient."""
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        optimizer.zero_grad()
        self(network).backward()
        optimizer.step()
        gradients = [p.grad for p in network.parameters() if p.requires_grad]
        assert all(grad is not None for grad in gradients)
        assert any(grad.any() for grad in gradients)


def forward(network, ask):
    network.kept = [ask(network)]  # and so its graph
    del network.kept


def under(mode):
    def answer(network, ask):
        with mode():
            ask(network)

    return answer


MOMENTS = {
    "at first": lambda network, ask: None,
    "between forward and backward": forward,
    "after the backward pass": lambda network, ask: ask(network).backward(),
    "after a step": lambda network, ask: ask.step(network),
    "after no_grad": under(torch.no_grad),
    "after inference_mode": under(torch.inference_mode),
}


def same_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def through_a_file(network):
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda network: pickle.loads(pickle.dumps(network)),
    "torch.save": through_a_file,
    "inside another": lambda network: copy.deepcopy(nn.Sequential(network))[0],
    "AveragedModel": lambda network: AveragedModel(network).module,
}


@pytest.fixture(params=NETWORKS)
def name(request):
    return request.param


@pytest.fixture
def ask(name):
    return Ask(name)


@pytest.fixture
def network(name):
    return NETWORKS[name]()


@pytest.fixture
def used(network, ask):
    """After a backward pass, with all that it leaves behind."""
    ask(network).backward()
    return network


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("way", COPIES)
def test_a_network_is_copied_at_any_moment_and_copy_and_original_go_on(way, moment, network, ask):
    MOMENTS[moment](network, ask)
    twin = COPIES[way](network)
    same_weights(network, twin)
    ask.step(network)
    ask.step(twin)


def test_a_copy_has_neurons_at_rest_and_the_original_keeps_its_potential():
    network = FullyConnectedSNN()
    network(3 * torch.rand(3, 4, 1, 28, 28))
    assert network.layers[2].v.shape == (4, 10)
    assert network.layers[2].v.requires_grad
    assert copy.deepcopy(network).layers[2].v == 0.0
    network.layers[2].v.sum().backward()
    assert network.layers[1].weight.grad.any()


def test_a_network_may_be_sent_to_another_process(used):
    assert len(ForkingPickler.dumps(used)) > 0
    used.share_memory()


def test_a_state_holds_weights_and_statistics_only_and_can_be_put_back(network, ask):
    names = list(network.state_dict())
    ask.step(network)
    assert list(network.state_dict()) == names
    kept = {name: x.clone() for name, x in network.state_dict().items()}
    ask.step(network)
    network.load_state_dict(kept)
    same_weights(network, copy.deepcopy(network))
    network.load_state_dict({name: x.clone() for name, x in kept.items()}, assign=True)
    ask.step(network)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_all_weights_may_change_their_precision(dtype, used, ask):
    used.to(dtype)
    ask(used, dtype=dtype).backward()
    used.float()
    used.zero_grad()
    ask.step(used)


def test_a_network_may_have_no_numbers_at_all_for_a_while(used):
    used.to("meta").to_empty(device="cpu")


def test_frozen_weights_stand_still_and_the_others_learn(network, ask):
    parameters = list(network.parameters())
    for p in parameters:
        p.data.abs_()  # nobody is silent
    frozen = parameters[:-1]
    before = [p.detach().clone() for p in frozen]
    for p in frozen:
        p.requires_grad_(False)
    ask.step(network)
    assert all(map(torch.equal, before, frozen))
    network.requires_grad_(False)
    assert not ask(network).requires_grad


def test_parameters_keep_their_order_and_stand_in_it_once(network, ask):
    names = [name for name, _ in network.named_parameters()]
    ask.step(network)
    assert [name for name, _ in network.named_parameters()] == names
    assert len({id(p) for p in network.parameters()}) == len(names)
    assert len(repr(network)) < 3000


def test_gradients_may_be_zeroed_clipped_gathered_and_asked_for_twice(used, ask):
    used.zero_grad(set_to_none=False)
    for n_images in (4, 3):
        ask(used, n_images=n_images).backward()
    nn.utils.clip_grad_norm_(used.parameters(), 1.0)
    nn.utils.parameters_to_vector(used.parameters())
    total = ask(used) + ask(used, n_images=3)
    total.backward(retain_graph=True)
    total.backward()
    used.zero_grad(set_to_none=True)
    ask.step(used)


def test_the_number_of_images_and_steps_may_change_from_call_to_call(used, ask):
    for n_images, n_steps in ((4, 3), (2, 1), (7, 6)):
        ask(used, n_images=n_images, n_steps=n_steps).backward()
    used.eval()
    ask(used, n_images=1)


def test_a_hook_hears_the_network_and_every_linear_map(name, network, ask):
    maps = [part for part in network.modules() if isinstance(part, KINDS)]
    heard = []
    for part in (network, *maps):
        part.register_forward_hook(lambda part, x, y: heard.append(part))
    ask.step(network)
    assert set(heard) == {*maps, *([] if name == "post" else [network])}


def weight_norm(layer):
    parametrizations.weight_norm(layer)


def old_weight_norm(layer):
    nn.utils.weight_norm(layer)


def spectral_norm(layer):
    parametrizations.spectral_norm(layer)


def pruned(layer):
    prune.random_unstructured(layer, "weight", 0.3)


def fresh_weight(layer):
    layer.weight = nn.Parameter(0.1 * torch.rand_like(layer.weight))


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(
    "change", [weight_norm, old_weight_norm, spectral_norm, pruned, fresh_weight]
)
def test_weights_may_be_replaced_by_what_is_computed_from_others(change, used, ask):
    for layer in [part for part in used.modules() if isinstance(part, KINDS)]:
        change(layer)
    for _ in range(2):
        ask.step(used)


def test_pruned_weights_stay_at_zero_while_the_others_move(network, ask):
    layer = next(part for part in network.modules() if isinstance(part, KINDS))
    prune.l1_unstructured(layer, "weight", 0.5)
    before = layer.weight.detach().clone()
    for _ in range(2):
        ask.step(network)
    ask(network)
    assert torch.equal(layer.weight == 0, before == 0)
    assert not torch.equal(layer.weight, before)


def test_a_layer_may_be_replaced_by_another(used, ask):
    where, layer = next((n, part) for n, part in used.named_modules() if isinstance(part, KINDS))
    other = copy.deepcopy(layer)
    other.reset_parameters()
    used.set_submodule(where, other)
    ask.step(used)
    assert other.weight.grad is not None


def test_a_norm_may_be_frozen_by_its_mode(network, ask):
    norms = [part for part in network.modules() if hasattr(part, "running_mean")]
    network.train()
    for norm in norms:
        norm.eval()
    before = [norm.running_mean.clone() for norm in norms]
    ask.step(network)
    assert all(
        torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True)
    )
    network.train()
    assert all(part.training for part in network.modules())


def test_autocast_and_apply_are_as_usual(used, ask):
    with torch.autocast("cpu", torch.bfloat16):
        value = ask(used)
    value.backward()
    used.apply(lambda part: nn.init.uniform_(part.weight, 0, 0.2) if type(part) in KINDS else None)
    ask.step(used)


def test_a_call_may_be_checkpointed_or_given_other_weights(name, used, ask):
    if name == "post":
        pytest.skip("asked layer by layer")
    ask.number(checkpoint(used, ask.inputs(), use_reentrant=False)).backward()
    others = {n: p.detach().clone().requires_grad_() for n, p in used.named_parameters()}
    ask.number(torch.func.functional_call(used, others, (ask.inputs(),))).backward()
    assert any(p.grad is not None for p in others.values())


@pytest.mark.parametrize("name", ["fc", "csnn", "poisson"])
def test_calls_without_a_backward_pass_keep_no_more_than_the_last(name):
    network, ask = NETWORKS[name](), Ask(name)

    def n_kept():
        gc.collect()
        return sum(x.numel() for x in gc.get_objects() if type(x) in (torch.Tensor, nn.Parameter))

    ask(network)
    before = n_kept()
    for _ in range(5):
        ask(network)
    assert n_kept() == before


ENGINES = [
    *(("fc", engine) for engine in ("spikingjelly", "torch", "scan", "events")),
    *(("small-conv", engine) for engine in ("spikingjelly", "scan", "fused")),
    *(("csnn", engine) for engine in ("torch", "scan", "fused")),
]


@pytest.mark.parametrize(("preset", "engine"), ENGINES)
def test_every_engine_leaves_frozen_weights_alone_and_sees_new_ones(preset, engine):
    config = replace(PRESETS[preset], n_steps=3, channels=2, device="cpu")
    network, noise = NETWORKS[preset](), EncoderState(torch.Generator())
    respond = make_respond(config, network, noise, engine)
    images, labels = torch.rand(4, 1, 28, 28), torch.arange(4)
    maps = [part for part in network.modules() if isinstance(part, KINDS)]
    for part in maps:
        part.weight.data.abs_()  # nobody is silent
    last = maps[-1]
    last.weight = nn.Parameter(torch.full_like(last.weight, 0.05))  # after ``respond`` was made
    frozen = [p for p in network.parameters() if p is not last.weight]
    for p in frozen:
        p.requires_grad_(False)
    before = [p.clone() for p in (*frozen, last.weight)]

    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    train_epoch(network, respond, [(images, labels)], rate_mse, optimizer)

    assert all(map(torch.equal, before, frozen))
    assert not torch.equal(before[-1], last.weight)
    with torch.no_grad():
        last.weight.zero_()
    assert not respond(images).any()


@pytest.mark.parametrize("rule", [name for name in SMALL if name in NETWORKS])
def test_a_rule_of_forward_forward_leaves_a_frozen_layer_alone(rule):
    config, images = small(rule, epochs=2), toy_images(40, 1)
    run = prepare_ff(config, len(images))
    layers = run.network.hidden.layers if hasattr(run.network, "hidden") else run.network.layers
    layers[0].requires_grad_(False)
    before = [p.clone() for p in layers[0].parameters()]
    moving = [p.detach().clone() for p in layers[1].parameters()]
    losses = ff_training.learn_epoch(run, images)
    assert all(map(torch.equal, before, layers[0].parameters()))
    assert not all(map(torch.equal, moving, layers[1].parameters()))
    assert len(losses) == len(ff_training.learn_epoch(run, images))
