"""A network that diverges is stopped at once, by name, and is never a result."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from toys import SMALL, TINY, small, toy_images

from snnlib import training
from snnlib.anytime import read_anytime
from snnlib.checks import divergence
from snnlib.checks.divergence import DivergenceCheck
from snnlib.cli.main import main
from snnlib.experiments.bptt_run import prepare_run
from snnlib.experiments.distributed import Group
from snnlib.experiments.ff_factory import make_post_network, prepare_ff, train_post
from snnlib.forward_forward import training as ff_training
from snnlib.forward_forward.network import ForwardForwardLayer, ForwardForwardNetwork, train_layers
from snnlib.metrics import History
from snnlib.networks import FullyConnectedSNN
from snnlib.posts.fourth import count_correct_post
from snnlib.readout import rate_mse
from snnlib.records.checkpoints import load_checkpoint
from snnlib.settings.ff_presets import FF_PRESETS
from snnlib.settings.presets import PRESETS

QUICK = ["--limit", "60", "--test-limit", "20", "-T", "3", "-b", "20", "-device", "cpu"]
RUNS = [
    ("fc", "events"),
    ("fc", "scan"),
    ("fc", "torch"),
    ("fc", "spikingjelly"),
    ("post5", "torch"),
    ("small-conv", "fused"),
    ("small-conv", "scan"),
    ("csnn", "fused"),
    ("csnn", "spikingjelly"),
]


def prepared(preset, engine, images, **changes):
    settings = {"n_steps": 3, "batch_size": 20, "device": "cpu", "engine": engine, **changes}
    if preset == "csnn":
        settings["channels"] = 2
    return prepare_run(replace(PRESETS[preset], **settings), images, images, None, Group())


def learn(run, epoch=1):
    run.restart_randomness(epoch)
    return training.train_epoch(
        run.network,
        run.respond,
        run.training,
        run.loss,
        run.optimizer,
        scheduler=run.scheduler,
        max_grad_norm=run.config.max_grad_norm,
        epoch=epoch,
    )


def toy(weight=1.0):
    network = nn.Linear(2, 2, bias=False)
    nn.init.constant_(network.weight, weight)
    return network, torch.optim.SGD(network.parameters(), lr=0.5)


def batches(n):
    return [(torch.ones(1, 2), torch.tensor([0]))] * n


@pytest.mark.parametrize(("preset", "engine"), RUNS)
def test_far_too_large_a_step_ends_every_network_on_every_engine(preset, engine, training_images):
    run = prepared(preset, engine, training_images, lr=1e38)
    place = r"holds (NaN|infinity) \([\d,]+ of [\d,]+ values.*\) (in|after) batch [123] of epoch 3"
    with pytest.raises(FloatingPointError, match=rf"layers\.\d+\.\w+ {place}; .*lr than 1e\+38"):
        learn(run, epoch=3)


@pytest.mark.parametrize(("preset", "engine"), [r for r in RUNS if r[0] in ("csnn", "small-conv")])
def test_a_damaged_pixel_is_named_as_the_cause_and_reaches_no_weight(
    preset, engine, training_images
):
    images = replace(training_images, images=training_images.images.clone())
    run = prepared(preset, engine, images, shift_pixels=0)
    before = [p.detach().clone() for p in run.network.parameters()]
    run.training.batches.images.images[:, 0, 5, 5] = math.nan
    with pytest.raises((FloatingPointError, ValueError), match=r"images .*NaN \(20"):
        learn(run)
    assert all(map(torch.equal, before, run.network.parameters()))


@pytest.mark.parametrize("rule", SMALL)
def test_far_too_large_a_step_ends_every_rule_of_forward_forward(rule):
    config, images = small(rule, lr=1e38, epochs=5), toy_images(80, 1)
    run = prepare_ff(config, len(images))
    with pytest.raises(
        FloatingPointError, match=r"holds (NaN|infinity) .* of epoch [1-5]; .*1e\+38"
    ):
        ff_training.train_ff(run, images)


@pytest.mark.parametrize("rule", [r for r in SMALL if r != "poisson"])
def test_a_damaged_pixel_ends_every_rule_of_forward_forward(rule):
    config, images = small(rule), toy_images(80, 1)
    run = prepare_ff(config, len(images))
    images.images[:, 0, 14, 14] = math.nan
    with pytest.raises((FloatingPointError, ValueError), match=r"NaN"):
        ff_training.train_ff(run, images)


def test_the_post_and_a_loop_over_pairs_are_stopped_too():
    config = replace(FF_PRESETS["ff-1"], widths=(784, 20, 10), n_steps=4, lr=1e37, n_updates=5)
    with pytest.raises(FloatingPointError, match=r"batch [12] of layer 1; .*lr than 1e"):
        train_post(config, toy_images(64, 1))

    network = ForwardForwardNetwork([ForwardForwardLayer(4, 3, 1, torch.relu)])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    pair = (torch.ones(2, 4), torch.zeros(2, 4))
    with pytest.raises(FloatingPointError, match=r"of layers\.0\.linear\.weight .*\[nan\]; .*lr"):
        train_layers(network, [pair], lambda a, b: (b - a).mean() * math.nan, optimizer)


def test_a_gradient_that_is_no_number_never_reaches_the_weights():
    network, optimizer = toy()
    network.weight.register_hook(lambda grad: grad.index_fill(0, torch.tensor(1), math.inf))
    sentence = (
        r"^the gradient of weight holds infinity \(2 of 4 values\) in batch 1; "
        r"a smaller lr than 0\.5 is the usual cure$"
    )
    with pytest.raises(FloatingPointError, match=sentence):
        training.train_epoch(network, network, batches(3), rate_mse, optimizer)
    assert network.weight.tolist() == [[1, 1], [1, 1]]


def test_a_large_gradient_that_is_passed_over_is_found_by_the_next_look():
    network, n = nn.Linear(400, 300, bias=False), 0

    def spoil(gradient):
        nonlocal n
        n += 1
        return gradient * math.inf if n == 21 else gradient

    network.weight.register_hook(spoil)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    shown = [(torch.ones(1, 400), torch.tensor([0]))] * 40
    with pytest.raises(FloatingPointError, match=r"weight .* batch 2[1-4]"):
        training.train_epoch(network, network, shown, rate_mse, optimizer)
    assert n <= 24


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize(("bad", "place"), [(7, "in batch 8"), (30, "after batch 30")])
def test_weights_that_go_wrong_within_a_step_are_found_by_the_next_gradient_or_at_the_end(
    bad, place, on_gpu, monkeypatch
):
    network, optimizer = toy()
    n_steps = []

    def spoil(*words):
        n_steps.append(1)
        if len(n_steps) == bad:
            network.weight.data[0, 0] = math.nan

    optimizer.register_step_post_hook(spoil)
    make = DivergenceCheck.__init__

    def as_on_a_gpu(self, *words):
        make(self, *words)
        self.waits = on_gpu

    monkeypatch.setattr(DivergenceCheck, "__init__", as_on_a_gpu)
    with pytest.raises(FloatingPointError, match=rf"^weight holds NaN \(\d of 4 values\) {place};"):
        training.train_epoch(network, network, batches(30), rate_mse, optimizer)
    assert len(n_steps) == (20 if on_gpu and bad == 7 else bad)


def test_statistics_of_a_norm_count_as_well():
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    check = DivergenceCheck(network, torch.optim.SGD(network.parameters(), lr=0.1))
    network[0].running_var[1] = math.inf
    with pytest.raises(
        FloatingPointError, match=r"0\.running_var holds infinity \(1 of 2 values\)"
    ):
        check.weights(torch.zeros(1, 2))


def test_large_values_whose_sum_overflows_are_no_alarm():
    network, optimizer = toy(weight=3e38)
    assert math.isinf(network.weight.sum().item())
    divergence.check_finite_network(network)
    check = DivergenceCheck(network, optimizer)
    network.weight.grad = torch.full((2, 2), 3e38)
    check.gradients(torch.ones(1, 2), torch.tensor(0.0))
    check.weights(torch.ones(1, 2))
    check.finish()


def test_a_network_that_is_no_number_is_neither_taught_nor_judged(training_images, test_images):
    network = FullyConnectedSNN()
    with torch.no_grad():
        network.layers[1].weight[3, 4] = math.nan
    message = r"layers\.1\.weight holds NaN \(1 of 7,840 values\)"

    def respond(images):
        return network(images[None])[0]

    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with pytest.raises(FloatingPointError, match=f"{message} before batch 1 of epoch 4"):
        training.train_epoch(network, respond, [], rate_mse, optimizer, epoch=4)
    with pytest.raises(ValueError, match=f"network must hold finite numbers, but {message}"):
        training.evaluate(network, respond, [], rate_mse)
    with pytest.raises(ValueError, match=message):
        read_anytime(network, [], 3)


def test_forward_forward_networks_that_are_no_numbers_are_not_judged():
    images = toy_images(20, 1)
    run = prepare_ff(TINY, len(images))
    post = make_post_network(FF_PRESETS["ff-1"])
    for network in (run.network, post):
        next(network.parameters()).data.fill_(math.inf)
    with pytest.raises(ValueError, match=r"layers\.0\.linear\.weight holds infinity"):
        ff_training.count_correct(run, images)
    with pytest.raises(ValueError, match=r"layers\.0\.weight holds infinity"):
        count_correct_post(post, images, torch.Generator())


def test_an_evaluation_without_a_finite_loss_is_no_epoch():
    network, optimizer = toy(weight=1e30)
    history = History()
    test = [(torch.full((1, 2), 1e30), torch.tensor([0]))]
    with pytest.raises(FloatingPointError, match="the test loss of epoch 1 is inf"):
        training.fit(
            network,
            network,
            [(torch.zeros(1, 2), torch.tensor([0]))],
            {"test": test},
            rate_mse,
            optimizer,
            1,
            history=history,
        )
    assert len(history) == 0


def test_a_run_that_diverges_leaves_its_last_checkpoint_and_nothing_else(tmp_path, capsys):
    words = ["train", "fc", *QUICK, "--engine", "scan", "-lr", "1e38", "-save-model"]
    assert main([*words, "-out-dir", str(tmp_path)]) == 1
    message = capsys.readouterr().err.strip()
    checkpoint = tmp_path / "fc-post-s0.ckpt"
    assert message.count("\n") == 0
    assert "layers.1.weight holds" in message
    assert message.endswith(f"nothing was recorded; {checkpoint} holds the run as it was before")
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]
    assert load_checkpoint(checkpoint)["learner"]["network"]["layers.1.weight"].isfinite().all()


def test_a_network_that_learns_nothing_but_is_finite_is_a_result(training_images):
    run = prepared("fc", "scan", training_images, lr=1e6)
    assert math.isfinite(learn(run).loss)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_a_step_longer_than_float32_goes_is_told_like_every_divergence(make):
    layer = nn.Linear(2, 1)
    optimizer = make(layer.parameters(), lr=1e39)  # float32 ends at 3.4e38
    check = DivergenceCheck(layer, optimizer, "epoch 1")
    layer(torch.ones(1, 2)).sum().backward()
    said = r"batch 1 of epoch 1; a smaller lr than 1e\+39"
    with pytest.raises(FloatingPointError, match=said), check.step():
        optimizer.step()


def test_the_posts_network_diverges_in_one_sentence():
    config = replace(FF_PRESETS["ff-1"], lr=1e38, n_updates=1)  # Adam begins with 10 * lr
    with pytest.raises(FloatingPointError, match=r"layer 1; a smaller lr than 1e\+38"):
        train_post(config, toy_images(20, 0))
