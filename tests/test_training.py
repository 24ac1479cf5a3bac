"""The training loop: what a step does, what an evaluation leaves alone, how a run goes on."""

import math

import pytest
import torch
from torch import nn

from snnlib.intervals import accuracy_interval
from snnlib.metrics import Epoch, EpochMetrics, History
from snnlib.readout import rate_mse
from snnlib.records.tensorboard import tensorboard_writer
from snnlib.training import evaluate, fit, train_epoch


def toy_batches(n_batches=4, batch_size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.rand(batch_size, 6, generator=generator), torch.arange(batch_size) % 3)
        for _ in range(n_batches)
    ]


def toy_network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(6, 3, bias=False)


def sgd(network, lr=0.5):
    return torch.optim.SGD(network.parameters(), lr=lr)


def metrics(n_correct, n_images=100):
    return EpochMetrics(loss=0.5, n_correct=n_correct, n_images=n_images, seconds=1.0)


def test_one_step_of_gradient_descent_by_hand():
    # One image (1, 0), weights 0, target (1, 0): rate 0, loss 1/2,
    # dL/dW[0, 0] = 2 * (0 - 1) / 2 = -1, so with lr 0.25 that weight becomes 0.25.
    network = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(network.weight)
    batch = (torch.tensor([[1.0, 0.0]]), torch.tensor([0]))

    measured = train_epoch(network, network, [batch], rate_mse, sgd(network, lr=0.25))

    assert network.weight.tolist() == [[0.25, 0.0], [0.0, 0.0]]
    assert (measured.loss, measured.n_correct, measured.n_images) == (0.5, 1, 1)


def test_mean_loss_weighs_every_image_alike_whatever_the_batches():
    network = toy_network()
    images, labels = toy_batches(1, 11)[0]
    uneven = [(images[:8], labels[:8]), (images[8:], labels[8:])]

    measured = evaluate(network, network, uneven, rate_mse)

    expected = rate_mse(network(images), labels).item()
    assert measured.loss == pytest.approx(expected, rel=1e-6)
    assert measured.n_correct == (network(images).argmax(1) == labels).sum().item()


def test_evaluation_changes_neither_weights_nor_statistics_nor_mode():
    network = nn.Sequential(nn.BatchNorm1d(6), toy_network()).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    evaluate(network, network, toy_batches(), rate_mse)

    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_evaluation_restores_the_mode_even_when_it_fails():
    network = toy_network().train()

    def broken(images):
        raise RuntimeError("no answer")

    with pytest.raises(RuntimeError, match="no answer"):
        evaluate(network, broken, toy_batches(), rate_mse)
    assert network.training


def test_a_clipped_step_is_no_longer_than_lr_times_the_norm():
    network = toy_network()
    start = network.weight.detach().clone()

    train_epoch(
        network, network, toy_batches(1), rate_mse, sgd(network, lr=2.0), max_grad_norm=1e-3
    )

    step = (network.weight - start).norm().item()
    assert step == pytest.approx(2.0 * 1e-3, rel=1e-3)


def test_autocast_computes_rates_in_half_precision_and_the_loss_in_full():
    network = toy_network()
    seen = []

    def loss(rate, labels):
        seen.append(rate.dtype)
        return rate_mse(rate, labels)

    def respond(images):
        rate = network(images)
        seen.append(rate.dtype)
        return rate

    autocast = torch.autocast("cpu", torch.bfloat16)
    train_epoch(network, respond, toy_batches(1), loss, sgd(network), autocast=autocast)

    assert seen == [torch.bfloat16, torch.float32]


def test_the_schedule_moves_after_every_batch():
    network = toy_network()
    optimizer = sgd(network, lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)

    train_epoch(network, network, toy_batches(3), rate_mse, optimizer, scheduler=scheduler)

    assert optimizer.param_groups[0]["lr"] == 0.125


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_cure():
    network = toy_network()
    with pytest.raises(FloatingPointError, match="smaller lr"):
        train_epoch(network, network, toy_batches(1), lambda r, y: r.sum() * math.nan, sgd(network))


def test_no_batches_are_refused():
    network = toy_network()
    with pytest.raises(ValueError, match="batches"):
        evaluate(network, network, [], rate_mse)


def noisy_fit(network, n_epochs, **options):
    """A run whose noise depends on the epoch's number alone, as ``fit`` asks for."""
    generator = torch.Generator()

    def respond(images):
        return network(images + torch.rand(images.shape, generator=generator))

    return fit(
        network,
        respond,
        toy_batches(),
        {"validation": toy_batches(seed=1)},
        rate_mse,
        sgd(network),
        n_epochs,
        on_epoch_start=generator.manual_seed,
        **options,
    )


def test_a_run_in_two_parts_ends_bit_identical_to_one_in_one_part():
    whole, parts = toy_network(), toy_network()
    noisy_fit(whole, 4)

    history = noisy_fit(parts, 2)
    history = noisy_fit(parts, 4, history=history)

    assert torch.equal(whole.weight, parts.weight)
    assert [epoch.number for epoch in history.epochs] == [1, 2, 3, 4]


def test_callbacks_hear_of_every_epoch_in_order():
    heard = []
    network = toy_network()
    fit(
        network,
        network,
        toy_batches(1),
        {},
        rate_mse,
        sgd(network),
        2,
        on_epoch_start=lambda number: heard.append(("start", number)),
        on_epoch_end=lambda epoch: heard.append(("end", epoch.number)),
    )
    assert heard == [("start", 1), ("end", 1), ("start", 2), ("end", 2)]


def test_more_history_than_epochs_is_refused():
    history = noisy_fit(toy_network(), 2)
    with pytest.raises(ValueError, match="history must be of no more than 1 epochs"):
        noisy_fit(toy_network(), 1, history=history)


def test_history_survives_the_way_through_plain_dictionaries():
    history = History([Epoch(1, metrics(50), {"test": metrics(40)})])
    assert History.from_dict(history.to_dict()) == history


def test_of_equally_good_epochs_the_first_is_best():
    history = History([Epoch(n, metrics(0), {"test": metrics(h)}) for n, h in enumerate([5, 9, 9])])
    assert history.best("test").number == 1
    with pytest.raises(ValueError, match="no epoch"):
        History().best("test")


def test_an_accuracy_carries_its_interval():
    assert metrics(93).accuracy == 0.93
    assert metrics(93).interval == accuracy_interval(93, 100)


def test_tensorboard_file_holds_the_numbers_of_the_run(tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    write = tensorboard_writer(str(tmp_path))
    for number, hits in [(1, 60), (2, 75)]:
        write(Epoch(number, metrics(hits), {"test": metrics(hits - 10)}))

    events = event_accumulator.EventAccumulator(str(tmp_path)).Reload()

    curve = [(event.step, event.value) for event in events.Scalars("test/accuracy")]
    assert curve == [(1, 0.5), (2, pytest.approx(0.65))]
    assert events.Scalars("training/loss")[0].value == 0.5


def test_a_store_that_tensorboard_cannot_reach_is_told_before_the_training():
    with pytest.raises(ValueError, match="nosuchstore"):
        tensorboard_writer("nosuchstore://bucket/log")
