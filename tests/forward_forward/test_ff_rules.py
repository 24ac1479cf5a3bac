"""Other ways to teach the same layers, and what they share with Forward-Forward."""

from dataclasses import fields, replace

import pytest
import torch
from torch.nn.functional import cross_entropy
from toys import SMALL, TINY, small, toy_images

from snnlib.experiments.ff_factory import make_rule, prepare_ff
from snnlib.forward_forward.class_wise import ClassLayer, LocalLinear
from snnlib.forward_forward.goodness import (
    class_goodness,
    every_label_loss,
    goodness,
)
from snnlib.forward_forward.judging import first_layer_goodness, label_goodness
from snnlib.forward_forward.labels import overlay_labels, with_every_label
from snnlib.forward_forward.layers import GREY_LEVEL, PoissonLayer
from snnlib.forward_forward.network import learn_from
from snnlib.forward_forward.rules import TrainingBatch
from snnlib.forward_forward.training import count_correct, train_ff
from snnlib.memory import activation_memory
from snnlib.neurons import LIFParameters, simulate
from snnlib.readout import firing_rate
from snnlib.records.reproduction import find_preset
from snnlib.settings.claims import CLAIMS
from snnlib.settings.ff_experiment import FFConfig, PostConfig
from snnlib.settings.ff_presets import (
    COMPARED_PRESETS,
    FF_PRESETS,
    GOOD_PRESETS,
    RETIRED,
    TRIED_PRESETS,
)


def _batch_of(run, images):
    return TrainingBatch(images.images, images.labels, run.generator)


def gradients_of_one_batch(config: FFConfig) -> dict[str, float]:
    images = toy_images(20, 1)
    run = prepare_ff(config, len(images))
    run.rule.training_step(run.network, _batch_of(run, images))
    return {
        name: 0.0 if w.grad is None else w.grad.abs().sum().item()
        for name, w in run.network.named_parameters()
    }


@pytest.mark.parametrize("name", SMALL)
def test_every_rule_learns_the_toy_classes_better_than_chance(name):
    config, training = small(name, epochs=8), toy_images(200, 1)
    run = prepare_ff(config, len(training))
    train_ff(run, training)
    hits = count_correct(run, toy_images(100, 2))
    assert next(iter(hits.values())) > 30  # chance is 10, its standard error 3


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_gets_a_gradient(name):
    gradients = gradients_of_one_batch(small(name))
    assert all(size > 0 for size in gradients.values()), gradients


# --- no gradient crosses a boundary, whatever the layer is


def loss_of_layer(config: FFConfig, judged: int) -> list[bool]:
    """Which layers' weights have a gradient when one layer's rate is asked for."""
    images = toy_images(20, 1)
    run = prepare_ff(config, len(images))
    hidden = getattr(run.network, "hidden", run.network)
    rates = hidden(overlay_labels(images.images, images.labels))
    rates[judged].square().sum().backward()
    return [
        any(w.grad is not None and w.grad.abs().sum() > 0 for w in layer.parameters())
        for layer in hidden.layers
    ]


@pytest.mark.parametrize("name", [name for name in SMALL if name != "bptt"])
def test_no_gradient_crosses_a_layer_boundary_in_any_forward_forward_rule(name):
    config = small(name)
    n_layers = len(config.hidden) + len(config.dense)
    for judged in range(n_layers):
        assert loss_of_layer(config, judged) == [k == judged for k in range(n_layers)]


def test_backpropagation_through_the_same_layers_does_cross_them():
    assert loss_of_layer(small("bptt"), 2) == [True, True, True]


@pytest.mark.parametrize("name", ["two-pass", "neutral-head"])
def test_a_taught_head_leaves_the_layers_below_as_goodness_alone_trains_them(name):
    images = toy_images(60, 1)
    alone = train_ff(prepare_ff(small("goodness", epochs=2), len(images)), images)
    taught = train_ff(prepare_ff(small(name, epochs=2), len(images)), images)
    for w, v in zip(alone.parameters(), taught.hidden.parameters(), strict=True):
        assert torch.equal(w, v)


def remembered_at_once(config: FFConfig) -> int:
    """Most numbers that autograd keeps at one time while it learns from one batch."""
    images = toy_images(4, 1)
    run = prepare_ff(config, len(images))
    with activation_memory() as counts:
        run.rule.training_step(
            run.network, TrainingBatch(images.images, images.labels, run.generator)
        )
    return counts.most


DEEP = {
    "goodness": lambda depth: {"hidden": (32,) * depth},
    "relu": lambda depth: {"hidden": (32,) * depth},
    "every": lambda depth: {"hidden": (32,) * depth},
    "two-pass": lambda depth: {"hidden": (32,) * depth},
    "class-wise": lambda depth: {"hidden": (10,) * depth, "dense": ()},
    "class-wise dense": lambda depth: {"dense": (40,) * depth},
    "class-wise local": lambda depth: {"dense": (40,) * depth, "receptive_field": 14},
}


@pytest.mark.parametrize("name", DEEP)
def test_memory_to_learn_from_a_batch_does_not_grow_with_depth(name):
    # Of convolutions the first sees the largest picture, so what it needs is the most.
    two, eight = (remembered_at_once(small(name, **DEEP[name](depth))) for depth in (3, 8))
    assert two == eight > 0


def test_memory_of_backpropagation_grows_with_depth_by_the_same_amount_per_layer():
    sizes = [
        remembered_at_once(small("bptt", hidden=(32,) * depth, batch_size=4)) for depth in (2, 4, 6)
    ]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] > 0


@pytest.mark.parametrize("pass_on", ["rate", "spikes"])
def test_memory_of_a_steady_layer_does_not_grow_with_time_but_that_of_spikes_does(pass_on):
    few, many = (remembered_at_once(small("goodness", pass_on=pass_on, n_steps=n)) for n in (4, 16))
    assert (few == many) == (pass_on == "rate")


def test_what_is_remembered_is_counted_while_it_is_kept():
    x, w = torch.rand(5, 7), torch.rand(7, 3, requires_grad=True)
    with activation_memory() as counts:
        (x @ w).sum().backward()  # x for the gradient of w; w for nobody
        assert counts.now == 0
        y = (x @ w).exp()
        assert counts.now == 5 * 7 + 5 * 3
        del y
    assert (counts.now, counts.most) == (0, 5 * 7 + 5 * 3)


# --- class-wise goodness


def test_goodness_of_a_class_is_the_goodness_of_its_channels():
    rate = torch.rand(3, 20, 4, 5, generator=torch.Generator().manual_seed(0))
    judged = class_goodness(rate)
    for label in range(10):
        torch.testing.assert_close(judged[:, label], goodness(rate[:, 2 * label : 2 * label + 2]))


def test_channels_must_be_shared_equally():
    with pytest.raises(ValueError, match="multiple of n_classes=10 channels, got 15"):
        class_goodness(torch.zeros(1, 15))


def test_a_class_layer_hears_of_its_own_loss_only_through_its_own_channels():
    layer = ClassLayer(
        torch.nn.Identity(),
        torch.nn.Conv2d(1, 20, 3, bias=False),
        torch.nn.Identity(),
        lambda current: current,
    )
    rate = layer.rate(toy_images(4, 1).images)
    class_goodness(rate)[:, 3].sum().backward()
    touched = layer.weights.weight.grad.flatten(1).abs().sum(dim=1) > 0
    assert touched.nonzero().flatten().tolist() == [6, 7]


# --- Poisson input


def poisson_layer(n_steps: int, seed: int = 3) -> PoissonLayer:
    torch.manual_seed(1)
    noise = torch.Generator().manual_seed(seed)
    return PoissonLayer(784, 30, n_steps, LIFParameters(), noise, input_rms=2.0)


def test_the_event_engine_gives_the_rates_of_a_simulated_spike_train():
    layer, images = poisson_layer(40), toy_images(300, 2).images
    by_events = layer.rate(images).mean(dim=0)
    simulated = firing_rate(layer(images)).mean(dim=0)
    # Rates of 300 images and 40 steps, each step's variance at most 1/4; two such means differ.
    bound = 5 * (2 * 0.25 / (300 * 40)) ** 0.5
    assert (by_events - simulated).abs().max() < bound
    assert by_events.mean() > 0.05


def test_poisson_spikes_are_drawn_anew_at_every_call_and_repeat_with_the_noise():
    layer, images = poisson_layer(8), toy_images(20, 2).images
    first, second = layer.rate(images), layer.rate(images)
    assert not torch.equal(first, second)
    assert torch.equal(first, poisson_layer(8).rate(images))


def test_all_spikes_have_one_size_so_that_a_typical_image_has_the_wanted_length():
    layer, images = poisson_layer(8), toy_images(5, 2).images
    assert layer.scale_of(images).flatten().tolist() == pytest.approx([2.0 / GREY_LEVEL] * 5)


def test_images_stretched_alike_keep_their_differences_in_strength():
    images = toy_images(5, 2).images
    bright, faint = torch.full_like(images, 0.8), torch.full_like(images, 0.4)
    for normalise, ratio in ((True, 1.0), (False, 2.0)):
        config = small("goodness", normalise_images=normalise)
        layer = prepare_ff(config, 100).network.layers[0]
        torch.nn.init.zeros_(layer.linear.bias)
        torch.testing.assert_close(layer.current(bright), ratio * layer.current(faint))
        typical = torch.full_like(images, GREY_LEVEL)
        wanted = layer.linear(torch.full((5, 784), layer.input_rms))
        torch.testing.assert_close(layer.current(typical), wanted, atol=1e-5, rtol=1e-5)


def test_the_quick_goodness_of_a_poisson_layer_is_that_of_its_mean_input():
    layer, images = poisson_layer(8), toy_images(6, 2).images
    quick = first_layer_goodness(layer, images)
    for label in range(10):
        marked = overlay_labels(images, torch.full((6,), label))
        slow = goodness(layer.rate_of(layer.current(marked)))
        torch.testing.assert_close(quick[:, label], slow, rtol=0, atol=2 / (30 * 8))


# --- heads


def test_two_passes_ask_again_with_the_first_answer_written_in():
    config, images = small("two-pass"), toy_images(30, 2).images
    run = prepare_ff(config, 100)
    answers = run.rule.predict(run.network, images, run.noise)
    top = run.network.hidden(overlay_labels(images, answers["one pass, any label"]))[-1]
    assert torch.equal(answers["two passes"], run.network.head.rate(top).argmax(dim=1))
    assert next(iter(answers)) == "two passes"  # the one that counts


def test_bptt_takes_the_gradient_of_cross_entropy_through_all_layers():
    # Same numbers from torch's own graph: a ReLU network of the same weights.
    config, images = small("bptt", activation="relu", hidden=(20, 20)), toy_images(10, 2)
    run = prepare_ff(config, 100)
    run.rule.training_step(run.network, _batch_of(run, images))
    x = images.images.flatten(1)
    weights = [layer.linear for layer in run.network.layers]
    copies = [(w.weight.detach().clone().requires_grad_(), w.bias.detach()) for w in weights]
    for weight, bias in copies:
        x = torch.relu((2 * x.shape[1] ** 0.5 * x / x.norm(dim=1, keepdim=True)) @ weight.T + bias)
    cross_entropy(10 * x, images.labels).backward()
    for layer, (weight, _) in zip(weights, copies, strict=True):
        torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-4, atol=1e-6)


def test_every_wrong_label_at_once_is_cross_entropy_over_the_goodness_of_all_labels():
    config, images = small("every", loss_slope=3.0), toy_images(10, 2)
    run = prepare_ff(config, 100)
    measure = make_rule(config).measure
    losses = run.rule.training_step(
        run.network, TrainingBatch(images.images, images.labels, run.generator)
    )
    judged = label_goodness(run.network, images.images, measure=measure)
    by_hand = torch.stack([cross_entropy(3 * g, images.labels) / 3 for g in judged])
    torch.testing.assert_close(losses, by_hand)


@pytest.mark.parametrize(
    "changes",
    [{}, {"normalise_images": False}, {"reset": "subtract"}, {"activation": "relu", "n_steps": 1}],
)
@pytest.mark.parametrize("only", [None, 0, 1])
def test_against_every_label_the_quick_way_and_the_long_way_teach_the_same(
    changes, only, monkeypatch
):
    config, images = small("every", **changes), toy_images(10, 2)
    measure = make_rule(config).measure

    def objective(rate):
        g = measure(rate).view(10, -1).T
        return every_label_loss(g, images.labels, slope=config.loss_slope)

    quick, long = (prepare_ff(config, 100) for _ in range(2))
    for run in (quick, long):
        run.network.double()
    given = images.images.double()
    learn_from(long.network, with_every_label(given), objective, only)
    with monkeypatch.context() as patch:  # the quick way never writes all labels into images
        patch.delattr("snnlib.forward_forward.pairs.with_every_label")
        quick.rule.training_step(
            quick.network, TrainingBatch(given, images.labels, quick.generator, only)
        )
    for one, other in zip(quick.network.parameters(), long.network.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad)


def test_layers_with_a_soft_reset_answer_as_the_simulated_neurons_do():
    config, images = small("soft"), toy_images(10, 2).images
    layer = prepare_ff(config, 100).network.layers[0].double()
    current = layer.current(images.double()).expand(config.n_steps, -1, -1)
    trace = simulate(current, LIFParameters(v_reset=None))
    hard = simulate(current, LIFParameters())
    torch.testing.assert_close(layer.rate(images.double()), firing_rate(trace.spikes))
    assert not torch.equal(trace.spikes, hard.spikes)


def test_dense_layers_of_classes_need_no_convolution_below_and_keep_the_whole_picture():
    run = prepare_ff(small("class-wise dense"), 100)
    assert [layer.weights.in_features for layer in run.network.layers] == [784, 50]
    assert [rate.shape for rate in run.network(toy_images(3, 1).images)] == [(3, 50), (3, 30)]
    with pytest.raises(ValueError, match=r"hidden \(or dense\) must name the width"):
        small("class-wise", hidden=(), dense=())


def test_convolutions_halve_the_picture_twice_and_layers_above_them_no_more():
    run = prepare_ff(small("class-wise", hidden=(10,), dense=(50, 30)), 100)
    assert [layer.weights.weight.shape[1] for layer in run.network.layers] == [1, 10 * 14 * 14, 50]


def test_a_local_neuron_answers_to_its_square_of_the_image_and_to_nothing_else():
    torch.manual_seed(0)
    images = torch.rand(4, 28, 28)
    weights = LocalLinear(28, 90, field=10)
    current = weights(images.flatten(1))
    for neuron in range(90):  # 9 neurons a class: corners at 0, 9 and 18
        own, place = divmod(neuron, 9)
        row, column = divmod(place, 3)
        seen = images[:, 9 * row : 9 * row + 10, 9 * column : 9 * column + 10].flatten(1)
        torch.testing.assert_close(current[:, neuron], seen @ weights.weight[place, own])


def test_squares_of_local_neurons_cover_the_image():
    for n_places, field in [(100, 12), (50, 8), (6, 14), (1, 28)]:
        pixels = LocalLinear(28, 10 * n_places, field).pixels
        assert pixels.shape == (n_places, field**2)
        assert set(pixels.flatten().tolist()) == set(range(28 * 28))


def test_local_neurons_that_see_the_whole_image_are_a_dense_layer():
    local = LocalLinear(28, 10, field=28)
    images = torch.rand(3, 28 * 28)
    torch.testing.assert_close(local(images), images @ local.weight[0].T)


@pytest.mark.parametrize("settings", [{"theta": 1.0}, {"rule": "two-pass"}])
def test_every_wrong_label_at_once_needs_a_loss_on_differences(settings):
    with pytest.raises(ValueError, match=r"(theta|rule) must be .* with negatives='every'"):
        small("every", **settings)


def test_layers_one_by_one_need_a_rule_without_a_head():
    with pytest.raises(ValueError, match=r"rule must be .* with layers_at_once=False"):
        small("two-pass", layers_at_once=False)


def test_unknown_settings_are_refused_by_name():
    for name in ("rule", "activation", "goodness", "negatives", "pass_on", "encoding", "reset"):
        with pytest.raises(ValueError, match=f"{name} must be one of .*, got 'odd'"):
            replace(TINY, **{name: "odd"})


def test_every_rule_that_the_settings_name_is_another_one():
    (rule,) = (field for field in fields(FFConfig) if field.name == "rule")
    names = rule.metadata["choices"]
    made = {
        type(make_rule(config)) for config in FF_PRESETS.values() if isinstance(config, FFConfig)
    }
    assert len(made) == len(names)


def test_learning_from_a_batch_counts_the_layers_that_learn():
    config, images = small("class-wise"), toy_images(10, 2)
    run = prepare_ff(config, 100)
    losses, top = learn_from(run.network, images.images, lambda rate: rate.mean(), only=1)
    assert losses.shape == (1,)
    assert top.shape[1] == 20


def test_compared_presets_differ_from_the_good_one_only_where_their_question_says():
    good = vars(GOOD_PRESETS["ff-good-500"])
    allowed = {
        "ff-vs-bptt": {"rule"},
        "ff-two-pass": {"rule"},
        "ff-neutral-head": {"rule"},
        "ff-goodness-10": set(),
        "ff-poisson": {"encoding", "n_steps"},
        "ff-steady-16": {"n_steps"},
        "ff-alike-16": {"n_steps", "normalise_images"},
        "ff-every-500": {"negatives"},
        "ff-every-relu": {
            "negatives",
            "activation",
            "n_steps",
            "input_rms",
            "loss_slope",
            "goodness_gain",
        },
        "ff-class-500": {"rule", "hidden", "dense", "goodness_gain", "batch_size", "lr"},
        "ff-relu-500": {
            "activation",
            "n_steps",
            "input_rms",
            "theta",
            "loss_slope",
            "goodness_gain",
        },
    }
    for name, differs in allowed.items():
        preset = vars(COMPARED_PRESETS[name])
        found = {key for key in good if preset[key] != good[key]} - {"name", "question", "claim"}
        assert found == differs
    for preset in COMPARED_PRESETS.values():  # the same images, split and epochs
        assert (preset.epochs, preset.n_validation) == (30, 10_000)
        assert preset.shift_pixels == good["shift_pixels"]


def test_each_idea_that_was_tried_changes_one_setting():
    base = vars(TRIED_PRESETS["ff-try-base"])
    for name, preset in TRIED_PRESETS.items():
        found = {key for key in base if vars(preset)[key] != base[key]} - {"name", "question"}
        assert len(found) == (name != "ff-try-base")
    assert set(CLAIMS["ff-tried"].presets) == {*TRIED_PRESETS, *RETIRED}


def test_every_compared_preset_is_part_of_a_claim():
    claimed = {preset for claim in CLAIMS.values() for preset in claim.presets}
    for name, preset in {**COMPARED_PRESETS, **GOOD_PRESETS}.items():
        assert name in claimed
        assert find_preset(name) is preset


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"seed": -1}, rf"seed must be a whole number in 0\.\.{2**62}, got -1"),
        ({"loss_slope": 0.0}, "loss_slope must be a finite number greater than 0, got 0"),
        ({"hidden": ()}, "hidden must name the width of one layer"),
        ({"tau": 1.0}, "tau must be a finite number greater than 1, got 1"),
        ({"rule": "bptt", "encoding": "poisson"}, "encoding must be 'constant' with rule='bptt'"),
        (
            {"rule": "class-wise", "activation": "relu"},
            "activation must be 'lif' with rule='class-wise'",
        ),
        ({"rule": "two-pass", "pass_on": "spikes"}, "pass_on must be 'rate'"),
        (
            {"rule": "class-wise", "hidden": (), "dense": (55,)},
            r"dense must be .* multiples of 10, for ten classes, got \(55,\)",
        ),
        ({"rule": "class-wise", "hidden": ()}, r"hidden \(or dense\) must name the width"),
        (
            {"rule": "class-wise", "hidden": (), "dense": (50,), "receptive_field": 29},
            r"receptive_field must be a whole number in 1\.\.28, got 29",
        ),
        (
            {"rule": "class-wise", "hidden": (10,), "receptive_field": 5},
            r"hidden must be \(\) with a receptive_field of 5, got \(10,\)",
        ),
        ({"receptive_field": 5}, "receptive_field must be None with rule='goodness', got 5"),
        *(
            (
                {"rule": "class-wise", "hidden": (), "dense": (n_out,), "receptive_field": 12},
                f"here {rows}, to cover all 28 by 28 pixels, got 12",
            )
            for n_out, rows in ((10, "1 by 1"), (470, "1 by 47"), (40, "2 by 2"))
        ),
        (
            {"rule": "class-wise", "hidden": (), "dense": (50,), "kernel": 9},
            "kernel must be 5 without convolutions in hidden, got 9",
        ),
        ({"rule": "class-wise", "hidden": (10,), "kernel": 4}, "kernel must be an odd whole"),
        ({"rule": "class-wise", "hidden": (10,), "kernel": 29}, "odd whole number from 1 to 27"),
        ({"lr": "x"}, "lr must be a finite number greater than 0, got 'x'"),
        ({"n_steps": True}, "n_steps must be a whole number of at least 1, got True"),
        (
            {"rule": "class-wise", "loss_slope": 3.0},
            "loss_slope must be 6.0 with rule='class-wise'",
        ),
        ({"rule": "class-wise", "batch_size": 1}, "batch_size must be at least 2"),
        ({"rule": "bptt", "theta": 1.0}, "theta must be None with rule='bptt'"),
        ({"hidden": (0,)}, r"hidden must be a tuple of whole numbers of at least 1, got \(0,\)"),
        ({"hidden": 500}, "hidden must be a tuple of whole numbers of at least 1, got 500"),
        ({"seed": 2**70}, rf"seed must be a whole number in 0\.\.{2**62}, got {2**70}"),
        (
            {"activation": "relu", "reset": "subtract"},
            "activation must be 'lif' with reset='subtract', got 'relu'",
        ),
        (
            {"activation": "relu", "encoding": "poisson"},
            "activation must be 'lif' with encoding='poisson'",
        ),
        (
            {"normalise_images": False, "encoding": "poisson"},
            "encoding must be 'constant' with normalise_images=False, got 'poisson'",
        ),
    ],
)
def test_settings_that_break_a_run_or_would_be_ignored_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        FFConfig("x", "?", **changes)


def test_faults_of_the_post_are_spelt_right_or_refused():
    for name in ("surrogate", "loss", "goodness", "prediction"):
        with pytest.raises(ValueError, match=f"{name} must be one of .*, got 'odd'"):
            PostConfig("x", "?", **{name: "odd"})


def test_a_loss_that_is_no_number_ends_the_run_at_once():
    config, training = small("relu", epochs=3, negatives="random"), toy_images(40, 1)
    run = prepare_ff(config, len(training))
    with torch.no_grad():
        run.network.layers[0].linear.bias.fill_(float("nan"))
    with pytest.raises(
        FloatingPointError,
        match=r"layers.0.linear.bias holds NaN \(\d+ of \d+ values\) before batch 1",
    ):
        train_ff(run, training)
    assert run.n_done == 0


def test_layers_one_after_another_count_all_their_epochs():
    assert small("goodness", layers_at_once=False, epochs=8).n_epochs == 16
    assert small("goodness", epochs=8).n_epochs == 8
