"""Forward-Forward runs: presets, protocol and records, at toy size."""

from dataclasses import replace

import pytest
import torch
from toys import TINY, TOY_ROW, toy_images

from snnlib.experiments import ff_run as ff_experiments
from snnlib.experiments.ff_factory import make_post_network, prepare_ff, train_post
from snnlib.experiments.run import run_experiment
from snnlib.forward_forward.training import train_ff
from snnlib.posts import fourth as ff_post
from snnlib.records.record import RunRecord
from snnlib.settings.ff_experiment import FFConfig, PostConfig
from snnlib.settings.ff_presets import FF_PRESETS, POST_PRESETS


@pytest.fixture
def toy_mnist(monkeypatch):
    toys = lambda *, train: toy_images(300 if train else 100, int(train))  # noqa: E731
    monkeypatch.setattr(ff_experiments, "load_mnist", toys)


def test_every_preset_carries_its_name_and_a_question():
    for name, config in FF_PRESETS.items():
        assert config.name == name
        assert config.question.endswith("?")


def test_the_eight_rows_have_the_posts_settings():
    rows = [POST_PRESETS[f"ff-{k}"] for k in range(1, 9)]
    assert {(r.n_training, r.n_steps, r.tau, r.lr, r.n_updates) for r in rows} == {
        (64, 100, 2.0, 1e-3, 100)
    }
    assert all(r.shared_state and r.label_in_column and r.pixel_norm for r in rows)
    assert [r.prediction for r in rows] == ["rate"] * 7 + ["goodness"]


def test_a_mend_changes_one_thing_and_a_keep_leaves_one_fault():
    row, mended = POST_PRESETS["ff-mend-none"], POST_PRESETS["ff-mend-all"]
    for name in ("state", "softplus", "label", "norm", "scale"):
        one, but_one = POST_PRESETS[f"ff-mend-{name}"], POST_PRESETS[f"ff-keep-{name}"]
        settings = [k for k in vars(row) if k not in ("name", "question")]
        assert sum(getattr(one, k) != getattr(row, k) for k in settings) == 1
        assert sum(getattr(but_one, k) != getattr(mended, k) for k in settings) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"negatives": "random"},
        {"layers_at_once": False},
        {"pass_on": "spikes"},
        {"encoding": "poisson", "n_steps": 8},
        {"shift_pixels": 1, "rotate_degrees": 3.0, "zoom": 0.02},
    ],
)
@pytest.mark.usefixtures("toy_mnist")
def test_a_run_lowers_its_loss_and_describes_itself(changes):
    record = run_experiment(replace(TINY, **changes))

    assert RunRecord.from_dict(record.to_dict()) == record
    assert record.protocol == "honest"
    assert (record.n_training, record.n_validation, record.n_test) == (200, 100, 100)
    losses = [epoch["training"]["loss"] for epoch in record.history]
    assert min(losses[1:]) < 0.97 * losses[0]


@pytest.mark.usefixtures("toy_mnist")
def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    runs = [run_experiment(replace(TINY, epochs=2, seed=seed)) for seed in (1, 1, 2)]
    losses = [[epoch["training"]["loss"] for epoch in run.history] for run in runs]
    assert losses[0] == losses[1] != losses[2]


def test_training_at_once_and_one_by_one_count_epochs_per_layer():
    ends = []
    train_ff(
        prepare_ff(replace(TINY, epochs=2, layers_at_once=False), 40),
        toy_images(40, 0),
        on_epoch_end=lambda network, losses, seconds: ends.append(len(losses)),
    )
    assert ends == [1, 1, 1, 1]  # two layers, two epochs each, one loss at a time


@pytest.mark.usefixtures("toy_mnist")
@pytest.mark.parametrize(
    "changes", [{}, {"output_mse": True, "prediction": "rate"}, {"loss": "linear"}]
)
def test_a_row_of_the_post_runs_and_describes_itself(changes):
    record = run_experiment(replace(TOY_ROW, **changes))
    assert RunRecord.from_dict(record.to_dict()) == record
    assert record.protocol == "post"
    assert (record.n_training, record.n_test) == (64, 100)
    assert record.extra["n_training_looked_at"] == 64


def test_the_post_feeds_the_next_layer_what_the_last_update_saw(monkeypatch):
    asked, answered = [], []
    one_layer = ff_post.PostNetwork.pair_of_rates

    def watched(self, number, positive, negative, generator):
        asked.append((number, positive, negative))
        answered.append(one_layer(self, number, positive, negative, generator))
        return answered[-1]

    monkeypatch.setattr(ff_post.PostNetwork, "pair_of_rates", watched)
    train_post(replace(TOY_ROW, n_updates=3), toy_images(64, 3))
    assert [number for number, *_ in asked] == [0, 0, 0, 1, 1, 1]
    for _, positive, negative in asked[3:]:
        assert torch.equal(positive, answered[2][0])
        assert torch.equal(negative, answered[2][1])
    assert not torch.equal(answered[1][0], answered[2][0])  # other dice at each update


def test_the_output_layer_of_row_eight_is_silent_and_so_learns_nothing():
    # A spike frame of length 1 gives currents far below the threshold 0.45.
    config = replace(POST_PRESETS["ff-8"], n_steps=10, n_updates=3)
    untouched = make_post_network(config).layers[1].weight.clone()
    network = train_post(config, toy_images(64, 3))
    assert torch.equal(network.layers[1].weight, untouched)


@pytest.mark.parametrize("pixel_norm", [True, False])
def test_the_kernel_for_testing_draws_the_same_statistics_as_the_tensors(pixel_norm):
    config = replace(POST_PRESETS["ff-8"], widths=(784, 40, 10), pixel_norm=pixel_norm, n_steps=50)
    network = make_post_network(replace(config, seed=1))
    # Raw spikes and frames of length 1 drive hardly anybody; make the weights strong enough.
    with torch.no_grad():
        for layer in network.layers:
            layer.weight *= 10 if pixel_norm else 1
    images, generator = toy_images(600, 5).images, torch.Generator().manual_seed(2)

    kernel = network.rates(images, generator)
    for number, inputs in enumerate([images.flatten(1), kernel[0]]):
        tensors = network.fire(network.currents(number, inputs, generator)).mean(0)
        # Mean rates of 600 images; each rate is noisy by at most 0.5 / sqrt(50).
        standard_error = 0.5 / (50 * 600) ** 0.5 * 2**0.5
        gap = (kernel[number].mean(0) - tensors.mean(0)).abs().max()
        assert gap < 5 * standard_error
        assert tensors.mean() > 0.01


def test_every_kind_of_run_chooses_its_device_and_other_settings_are_refused():
    for config in (FFConfig("a", "b", device="gpu"), PostConfig("a", "b", device="gpu")):
        with pytest.raises(ValueError, match="device must be auto, cpu, cuda"):
            run_experiment(config)
    with pytest.raises(ValueError, match="config must be ExperimentConfig or FFConfig or"):
        run_experiment("fc")


@pytest.mark.parametrize("widths", [(), (784,)])
def test_widths_of_the_post_name_a_layer(widths):
    with pytest.raises(ValueError, match="widths must be those of the input and of one layer"):
        PostConfig("a", "b", widths=widths)


def test_a_row_of_the_post_begins_with_the_pixels():
    with pytest.raises(ValueError, match="widths must begin with the 784 pixels"):
        run_experiment(PostConfig("a", "b", widths=(100, 10)))


@pytest.mark.parametrize("asked", [{"output_mse": True}, {"prediction": "rate"}])
def test_output_neurons_that_stand_for_digits_are_at_least_ten(asked):
    with pytest.raises(ValueError, match="widths must end in at least 10"):
        PostConfig("a", "b", widths=(784, 3), **asked)
    assert PostConfig("a", "b", widths=(784, 3)).widths == (784, 3)
