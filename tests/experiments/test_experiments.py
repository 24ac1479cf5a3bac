"""Whole runs: presets are sound, protocols are kept apart, a resumed run ends the same."""

import math
from dataclasses import asdict, replace

import pytest
import torch
from spikingjelly.activation_based.neuron import BaseNode, IFNode
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from snnlib.augment import shift_images, warp_images
from snnlib.data import ImageSet, load_mnist
from snnlib.encoding import constant_encode, poisson_encode
from snnlib.experiments import bptt_run as assembly
from snnlib.experiments import engines
from snnlib.experiments.bptt_run import stream_seed
from snnlib.experiments.distributed import Group
from snnlib.experiments.run import run_experiment
from snnlib.intervals import accuracy_interval
from snnlib.neurons import LIFParameters, simulate
from snnlib.posts.fifth import last_step_rate, run_neurons, sum_of_squares
from snnlib.posts.third import log_softmax_mse, softmax_mse
from snnlib.readout import rate_mse
from snnlib.records.checkpoints import load_checkpoint, load_weights
from snnlib.settings.claims import CLAIMS
from snnlib.settings.experiment import ExperimentConfig
from snnlib.settings.ff_presets import FF_PRESETS, RETIRED
from snnlib.settings.presets import PRESETS

SMALL = {"epochs": 4, "batch_size": 40, "engine": "scan"}
FC = replace(PRESETS["fc"], n_steps=5, **SMALL)
CSNN = replace(PRESETS["csnn"], channels=2, schedule="one_cycle", **SMALL)
CSNN_SOFT = replace(PRESETS["csnn-soft"], channels=2, **SMALL)
SMALL_CONV = replace(PRESETS["small-conv"], n_steps=3, **SMALL)


@pytest.fixture
def run(training_images, test_images):
    def run_small(config, **options):
        sets = {"training_images": training_images, "test_images": test_images}
        return run_experiment(config, **{**sets, **options})

    return run_small


def one_hot_rates(labels):
    return torch.nn.functional.one_hot(labels, 10).double()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_its_network_under_its_own_name(name):
    config = PRESETS[name]
    assert config.name == name
    assert config.question.endswith(("?", "."))
    network = engines.make_network(replace(config, channels=2))
    assert sum(p.numel() for p in network.parameters()) > 0


def test_the_first_posts_settings_are_the_presets():
    fc, csnn = PRESETS["fc"], PRESETS["csnn"]
    assert (fc.n_steps, fc.tau, fc.epochs, fc.batch_size, fc.lr) == (100, 2.0, 100, 128, 1e-3)
    assert (csnn.n_steps, csnn.channels, csnn.epochs, csnn.lr, csnn.momentum) == (
        4,
        64,
        64,
        0.1,
        0.9,
    )
    assert sum(p.numel() for p in engines.make_network(fc).parameters()) == 7840


def test_every_claim_names_presets_that_exist():
    known = {**PRESETS, **FF_PRESETS, **RETIRED}
    for claim in CLAIMS.values():
        assert set(claim.presets) <= set(known), claim.name
        assert set(claim.protocols) <= {"post", "honest"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("network", "transformer"),
        ("protocol", "optimistic"),
        ("n_steps", 0),
        ("epochs", 1.5),
        ("lr", 0.0),
        ("lr", math.nan),
        ("tau", 1.0),
        ("momentum", 1.0),
        ("max_grad_norm", -1.0),
        ("engine", "fused"),
        ("conv_steps", "one"),
        ("normalise", True),
        ("seed", -1),
        ("limit", 3),
    ],
)
def test_a_bad_setting_is_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=setting):
        replace(PRESETS["fc"], **{setting: value})


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        (
            "fc",
            {"engine": "events", "amp": "bfloat16"},
            "amp must be 'off' with engine='ev",
        ),
        ("csnn", {"tau": 5.0}, "tau must be 2.0 with network='csnn', got 5.0"),
        (
            "fc",
            {"rule": "last_step", "engine": "spikingjelly"},
            "engine must be 'auto' or 'torch'",
        ),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(preset, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(PRESETS[preset], **changes)


def test_a_soft_spike_needs_the_fully_connected_network():
    with pytest.raises(ValueError, match="spike"):
        replace(PRESETS["csnn"], spike="sigmoid")


def test_streams_of_different_purpose_epoch_or_seed_differ():
    seeds = {
        stream_seed(seed, epoch, purpose)
        for seed in range(5)
        for epoch in range(20)
        for purpose in ("order", "shift", "encode", "test")
    }
    assert len(seeds) == 5 * 20 * 4


def test_the_seed_alone_decides_the_initial_weights():
    torch.manual_seed(123)
    first = engines.make_network(FC)
    torch.manual_seed(456)
    again, other = engines.make_network(FC), engines.make_network(replace(FC, seed=1))
    assert torch.equal(*(next(n.parameters()) for n in (first, again)))
    assert not torch.equal(*(next(n.parameters()) for n in (first, other)))


class Stop:
    """Interrupts like Ctrl-C, in the middle of an epoch."""

    def __init__(self, epoch, n_batches):
        self.epoch, self.n_batches = epoch, n_batches

    def __call__(self, batches, epoch):
        for number, batch in enumerate(batches):
            if epoch == self.epoch and number == self.n_batches:
                raise KeyboardInterrupt
            yield batch


@pytest.mark.parametrize("config", [FC, CSNN, SMALL_CONV], ids=lambda c: c.name)
def test_interrupted_in_the_middle_and_resumed_a_run_ends_bit_identical(config, run, tmp_path):
    whole, parts = tmp_path / "whole.ckpt", tmp_path / "parts.ckpt"
    undisturbed = run(config, checkpoint=whole)
    with pytest.raises(KeyboardInterrupt):
        run(config, checkpoint=parts, progress=Stop(epoch=2, n_batches=3))

    resumed = run(config, checkpoint=parts, resume=parts)

    one, other = load_checkpoint(whole), load_checkpoint(parts)
    for a, b in [(one, other), (one["learner"], other["learner"])]:
        kept = "selected" if "selected" in a else "network"
        for name, tensor in a[kept].items():
            assert torch.equal(tensor, b[kept][name]), name
    assert resumed.result == undisturbed.result
    for a, b in zip(resumed.history, undisturbed.history, strict=True):
        assert a["training"]["loss"] == b["training"]["loss"]


def test_interrupted_before_the_first_epoch_ends_there_is_a_checkpoint_already(run, tmp_path):
    path = tmp_path / "run.ckpt"
    with pytest.raises(KeyboardInterrupt):
        run(FC, checkpoint=path, progress=Stop(epoch=1, n_batches=0))
    assert load_checkpoint(path)["history"] == []
    assert len(run(FC, resume=path).history) == 4


def test_a_finished_run_can_be_resumed_for_more_epochs_of_constant_lr(run, tmp_path):
    path = tmp_path / "run.ckpt"
    run(replace(FC, epochs=2), checkpoint=path)
    longer = run(FC, resume=path)
    assert longer.history[-1]["test"]["n_correct"] == run(FC).history[-1]["test"]["n_correct"]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (replace(FC, name="fc-b64"), "name='fc'"),
        (replace(FC, lr=1e-2), "lr=0.001"),
        (replace(FC, seed=7), "seed=0"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused_and_kept(run, tmp_path, other, named):
    path = tmp_path / "run.ckpt"
    run(replace(FC, epochs=1), checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=named):
        run(other, checkpoint=path, resume=path)
    assert path.read_bytes() == before


def test_a_checkpoint_of_a_run_on_other_images_is_refused_and_kept(run, tmp_path):
    path = tmp_path / "run.ckpt"
    run(replace(FC, epochs=1), checkpoint=path)
    before = path.read_bytes()
    fewer = load_mnist(train=True, limit=100)
    with pytest.raises(ValueError, match=r"was made with training_images=\[.*this run has .*\[100"):
        run(FC, checkpoint=path, resume=path, training_images=fewer)
    assert path.read_bytes() == before


def test_an_earlier_checkpoint_is_moved_aside_by_a_run_from_scratch(run, tmp_path):
    path = tmp_path / "run.ckpt"
    run(replace(FC, epochs=2), checkpoint=path)
    run(replace(FC, epochs=1), checkpoint=path)
    assert len(load_checkpoint(f"{path}.old")["history"]) == 2


def test_the_posts_protocol_reports_best_on_test_and_last(run):
    record = run(FC)
    hits = [epoch["test"]["n_correct"] for epoch in record.history]
    assert record.best_on_test.n_correct == max(hits)
    assert record.best_on_test.epoch == 1 + hits.index(max(hits))
    assert record.last.n_correct == hits[-1]
    assert (record.n_training, record.n_validation, record.n_test) == (240, 0, 60)
    low, high = accuracy_interval(max(hits), 60)
    assert (record.result.low, record.result.high) == (low, high)


def test_the_honest_protocol_looks_at_the_test_set_once_with_the_weights_of_its_epoch(
    run, monkeypatch, tmp_path, test_images
):
    looks = []
    original = assembly.make_loader

    def watched(images, *words, **options):
        batches = original(images, *words, **options)
        if images.source.startswith("MNIST test"):
            looks.append(batches)
        return batches

    monkeypatch.setattr(assembly, "make_loader", watched)
    config = replace(FC, protocol="honest")
    record = run(config, weights=tmp_path / "w.safetensors")

    assert len(looks) == 1
    assert all(set(epoch) == {"number", "training", "validation"} for epoch in record.history)
    hits = [epoch["validation"]["n_correct"] for epoch in record.history]
    assert record.validation_selected.epoch == 1 + hits.index(max(hits))
    assert (record.n_training, record.n_validation) == (200, 40)
    assert record.last is None

    weights, record_id = load_weights(tmp_path / "w.safetensors")
    assert record_id == record.id
    network = engines.make_network(config)
    network.load_state_dict(weights)
    noise = engines.EncoderState(torch.Generator())
    noise.restart(stream_seed(0, record.validation_selected.epoch, "test"))
    respond = engines.make_respond(config, network, noise, "scan")
    batches = original(test_images, config.batch_size)
    n_correct = sum((respond(x).argmax(1) == y).sum().item() for x, y in batches)
    assert n_correct == record.validation_selected.n_correct


def test_training_and_validation_images_do_not_overlap(training_images, test_images):
    config = replace(FC, protocol="honest")
    training, validation, _ = assembly._image_sets(
        config, torch.device("cpu"), training_images, test_images
    )
    seen = {image.numpy().tobytes() for image in training.images}
    assert not any(image.numpy().tobytes() in seen for image in validation.images)
    assert len(training) + len(validation) == len(training_images)


def test_a_record_holds_every_setting_and_the_engine_that_ran(run):
    record = run(replace(FC, epochs=1))
    assert record.settings == {**asdict(replace(FC, epochs=1)), "device": "cpu"}
    assert {"python", "torch", "snnlib", "spikingjelly"} <= set(record.versions)
    assert record.seconds > 0


def test_progress_and_epochs_are_reported(run):
    shown, heard = [], []

    def progress(batches, epoch):
        shown.append((epoch, len(batches)))
        return batches

    run(replace(FC, epochs=2), progress=progress, on_epoch_end=heard.append)
    assert shown == [(1, 6), (2, 6)]
    assert [epoch.number for epoch in heard] == [1, 2]


def answers(config, engine, images, seed=5):
    network = engines.make_network(config).double().eval()
    with torch.no_grad():  # strong weights, so that neurons of every layer fire
        for weight in network.parameters():
            weight *= 4.0
    noise = engines.EncoderState(torch.Generator())
    noise.restart(seed)
    rate = engines.make_respond(config, network, noise, engine)(images)
    rate_mse(rate, torch.arange(len(images)) % 10).backward()
    return rate.detach(), [p.grad for p in network.parameters()]


@pytest.mark.parametrize("engine", ["scan", "torch"])
@pytest.mark.parametrize(
    "config",
    [
        FC,
        replace(FC, reset="subtract"),
        CSNN,
        CSNN_SOFT,
        SMALL_CONV,
        replace(SMALL_CONV, reset="subtract"),
        replace(SMALL_CONV, conv_steps="one", normalise=True),
    ],
    ids=["fc", "fc-soft", "csnn", "csnn-soft", "small-conv", "small-conv-soft", "small-conv-once"],
)
def test_all_engines_give_the_rates_and_gradients_of_the_library(config, engine, training_images):
    images = training_images.images[:8].double()
    rate, grads = answers(config, engine, images)
    expected_rate, expected_grads = answers(config, "spikingjelly", images)
    assert torch.equal(rate, expected_rate)
    assert config.readout == "membrane" or 0 < rate.mean() < 1
    assert all(grad.any() for grad in grads)
    torch.testing.assert_close(grads, expected_grads, rtol=1e-9, atol=1e-12)


def test_few_steps_come_first_and_only_while_it_learns(training_images, test_images):
    config = replace(CSNN_SOFT, n_steps=4, early_steps=2, epochs=5)
    assert [config.training_steps(epoch) for epoch in range(1, 6)] == [2, 2, 4, 4, 4]
    run = assembly.prepare_run(config, training_images, test_images, None, Group())
    images = training_images.images[:8]
    with torch.no_grad():  # strong weights, so that neurons of every layer fire
        for weight in run.network.parameters():
            weight *= 4.0

    def answer_in(n_steps):
        whole = replace(config, n_steps=n_steps, early_steps=None)
        return engines.make_respond(whole, run.network, run.noise, run.engine)(images)

    with torch.no_grad():
        for epoch, learns, n_steps in [(2, True, 2), (2, False, 4), (3, True, 4), (3, False, 4)]:
            run.network.train(learns)
            run.restart_randomness(epoch)
            other = answer_in(6 - n_steps)
            assert torch.equal(run.respond(images), answer_in(n_steps))
            assert not torch.equal(run.respond(images), other)


def test_early_steps_are_fewer_than_all_and_not_for_ordinary_networks():
    with pytest.raises(ValueError, match="early_steps must be less than n_steps=4, got 4"):
        replace(CSNN_SOFT, n_steps=4, early_steps=4)
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match="early_steps must be a whole number of at least 1"):
            replace(CSNN_SOFT, early_steps=wrong)
    with pytest.raises(ValueError, match="epochs must be at least 2 with early_steps=2, got 1"):
        replace(CSNN_SOFT, n_steps=4, early_steps=2, epochs=1)
    with pytest.raises(ValueError, match="early_steps must be less than n_steps=1"):
        PRESETS["ann-csnn-16"].but("x", "?", early_steps=1)


def test_a_potential_adds_up_what_comes_in(training_images):
    network = engines.make_network(CSNN_SOFT).eval()
    with torch.no_grad():  # strong weights, so that neurons of every layer fire
        for weight in network.parameters():
            weight *= 4.0
    images = training_images.images[:8]
    respond = engines.make_respond(
        CSNN_SOFT, network, engines.EncoderState(torch.Generator()), "scan"
    )
    nodes = [part for part in network.layers if isinstance(part, BaseNode)]
    assert [node.v_reset for node in nodes] == [None] * 3

    last = IFNode(v_threshold=1e9, step_mode="m")  # never reached
    with torch.no_grad():
        last(network(constant_encode(images, CSNN_SOFT.n_steps)))
        assert last.v.any()  # silence would prove nothing
        torch.testing.assert_close(respond(images), last.v / CSNN_SOFT.n_steps)


@pytest.mark.parametrize(
    ("preset", "changes", "named"),
    [
        ("fc-last-step", {"reset": "subtract"}, "reset must be 'zero'"),
        ("ann-csnn-16", {"reset": "subtract"}, "reset must be 'zero'"),
        ("csnn-soft", {"network": "small-conv"}, "network must be 'csnn'"),
        ("csnn-soft", {"loss": "mse"}, "loss must be 'logit_cross_entropy'"),
        ("csnn-soft", {"anytime_steps": 4}, "anytime_steps must be None"),
        ("csnn", {"loss": "logit_cross_entropy"}, "readout='membrane'"),
    ],
)
def test_a_readout_that_does_not_fit_is_refused(preset, changes, named):
    with pytest.raises(ValueError, match=named):
        replace(PRESETS[preset], **changes)


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_the_event_engine_answers_like_the_others_up_to_the_noise(training_images, reset):
    pytest.importorskip("numba")
    pytest.importorskip("snnlib.fast.events")
    config = replace(FC, n_steps=2000, reset=reset)
    images = training_images.images[:4]
    rates = []
    for engine in ("events", "scan"):
        noise = engines.EncoderState(torch.Generator())
        noise.restart(1)
        with torch.no_grad():
            network = engines.make_network(replace(config, weight_std=0.1))
            rates.append(engines.make_respond(config, network, noise, engine)(images))
    # Two means over 2000 steps of values in [0, 1]: a standard error of at most 0.016.
    assert (rates[0] - rates[1]).abs().max() < 5 * 0.016


def test_the_event_engine_numbers_images_through_an_epoch():
    noise = engines.EncoderState(torch.Generator())
    noise.restart(3)
    assert [noise.serve(128), noise.serve(64), noise.serve(1)] == [0, 128, 192]
    noise.restart(3)
    assert noise.serve(1) == 0


def test_engines_that_cannot_run_there_are_refused():
    gpu = torch.device("cuda")
    with pytest.raises(ValueError, match="engine='events'"):
        engines.choose_engine(replace(FC, engine="events"), gpu)
    assert engines.choose_engine(replace(FC, engine="auto"), gpu) == "scan"
    assert engines.choose_engine(replace(SMALL_CONV, engine="auto"), torch.device("cpu")) == "fused"


def test_a_gpu_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ValueError, match="device='cuda'"):
        run_experiment(replace(FC, device="cuda"))
    with pytest.raises(ValueError, match="device"):
        run_experiment(replace(FC, device="toaster"))


def test_with_the_posts_fault_the_convolutions_see_one_step_and_the_rest_all():
    config = replace(SMALL_CONV, n_steps=8)
    seen = {}

    def count_steps(of):
        network = engines.make_network(of)
        for number, layer in enumerate(network.layers):
            layer.register_forward_hook(lambda _, x, y, n=number: seen.update({n: len(x[0])}))
        noise = engines.EncoderState(torch.Generator())
        engines.make_respond(of, network, noise, "spikingjelly")(torch.rand(2, 1, 28, 28))
        return [seen[number] for number in (0, 3, 7, 10)]  # two convolutions, two dense layers

    assert count_steps(replace(config, conv_steps="one")) == [1, 1, 8, 8]
    assert count_steps(config) == [8, 8, 8, 8]


def test_a_shifted_image_keeps_its_ink_and_moves_by_whole_pixels():
    images = torch.zeros(50, 1, 9, 9)
    images[:, 0, 4, 4] = 1.0
    shifted = shift_images(images, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(shifted.sum(dim=(1, 2, 3)), torch.ones(50))
    rows, columns = shifted.nonzero()[:, 2], shifted.nonzero()[:, 3]
    # Fifty draws of five equally likely values miss one with probability 5 * 0.8^50 < 1e-4.
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3, 4, 5, 6}
    assert torch.equal(shift_images(images, 0), images)
    with pytest.raises(ValueError, match="n_pixels"):
        shift_images(images, -1)
    for far in (9, 10**12):
        with pytest.raises(ValueError, match=f"n_pixels must be less than 9, .*, got {far}"):
            shift_images(images, far)
    assert shift_images(images, 8).shape == images.shape


def test_black_enters_where_a_shifted_image_left():
    images = torch.ones(20, 1, 6, 6)
    shifted = shift_images(images, 1, generator=torch.Generator().manual_seed(0))
    assert set(shifted.sum(dim=(1, 2, 3)).tolist()) <= {36.0, 30.0, 25.0}


def test_turned_images_are_those_of_torchvision():
    images = torch.rand(20, 1, 9, 9)
    turned = warp_images(images, 90, 0, generator=torch.Generator().manual_seed(0))
    shares = torch.rand((4, 20), generator=torch.Generator().manual_seed(0))[0] * 2 - 1
    for image, ours, share in zip(images, turned, shares.tolist(), strict=True):
        theirs = rotate(image, 90 * share, InterpolationMode.BILINEAR)
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_stretched_image_has_as_much_less_ink_as_it_is_sampled_wider():
    # Without a turn the determinant of the sampling grid is (1 + across)(1 + down).
    rows, columns = torch.meshgrid(torch.arange(71) - 35, torch.arange(71) - 35, indexing="ij")
    blob = torch.exp(-(rows**2 + columns**2) / 50.0).expand(30, 1, 71, 71)
    warped = warp_images(blob, 0, 0.3, generator=torch.Generator().manual_seed(1))
    _, across, down, _ = torch.rand((4, 30), generator=torch.Generator().manual_seed(1)) * 2 - 1
    ratio = (warped.sum(dim=(1, 2, 3)) / blob.sum(dim=(1, 2, 3))).double()
    expected = 1 / ((1 + 0.3 * across) * (1 + 0.3 * down)).double()
    assert torch.allclose(ratio, expected, rtol=5e-3)


def test_an_image_is_left_alone_if_no_warp_is_asked_for():
    images = torch.rand(3, 1, 9, 9)
    assert warp_images(images, 0, 0) is images
    tiny = warp_images(images, 1e-4, 1e-6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(tiny, images, atol=1e-3)
    for degrees in (-1, 180.1, 1e300):
        with pytest.raises(ValueError, match=r"degrees must be a finite number in \[0, 180\], got"):
            warp_images(images, degrees, 0)
    assert warp_images(images, 180, 0).shape == images.shape
    with pytest.raises(ValueError, match="zoom"):
        warp_images(images, 0, 1.0)


def test_log_softmax_with_mse_punishes_the_perfect_answer():
    # The post's loss is lower for a rate of 0.27 than for a perfect 1: its optimum is no answer.
    labels = torch.arange(10)
    silent = torch.zeros(10, 10, dtype=torch.float64)
    perfect = one_hot_rates(labels)
    losses = [log_softmax_mse(rate, labels).item() for rate in (silent, perfect, 0.27 * perfect)]
    assert losses == pytest.approx([5.862, 6.057, 5.837], abs=5e-4)


def test_softmax_of_rates_leaves_a_floor_under_the_loss():
    # The largest probability is e / (e + 9); the loss of the best answer follows from it.
    labels = torch.arange(10)
    p = math.e / (math.e + 9)
    floor = ((1 - p) ** 2 + 9 * ((1 - p) / 9) ** 2) / 10
    assert softmax_mse(one_hot_rates(labels), labels).item() == pytest.approx(floor)
    assert floor == pytest.approx(0.0655, abs=5e-5)


def test_the_fifth_posts_loss_has_rate_minus_target_as_gradient():
    rate = torch.rand(4, 10, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([3, 1, 4, 1])
    sum_of_squares(rate, labels).backward()
    torch.testing.assert_close(rate.grad, rate.detach() - one_hot_rates(labels))


def test_the_soft_neuron_is_never_silent():
    # At rest it "fires" sigmoid(-1) = 0.2689 at the first step without any input.
    rate, _ = run_neurons(torch.zeros(1, 1, 1), LIFParameters(), sigmoid=True)
    assert rate.item() == pytest.approx(0.2689, abs=5e-5)
    assert run_neurons(torch.zeros(50, 1, 1), LIFParameters())[0].item() == 0


def test_the_last_step_rule_counts_like_the_neuron_and_learns_by_the_posts_formula():
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(6, 784, generator=generator, dtype=torch.float64)
    weight = torch.randn(10, 784, generator=generator, dtype=torch.float64) / 10
    spikes = poisson_encode(images, 7, generator=generator)
    weight.requires_grad_()
    neuron = LIFParameters()

    rate = last_step_rate(weight, images, spikes, neuron, sigmoid=False)
    trace = simulate(spikes @ weight.detach().T, neuron)
    assert torch.equal(rate, trace.spikes.sum(0) / 7)

    outer = torch.rand(6, 10, generator=generator, dtype=torch.float64)
    rate.backward(outer)
    smooth = torch.sigmoid(trace.v[-1])
    torch.testing.assert_close(weight.grad, (outer * smooth * (1 - smooth)).T @ images)


def test_it_learns(test_images):
    images = load_mnist(train=True, limit=1000)
    config = replace(PRESETS["fc"], n_steps=10, epochs=2, batch_size=20, lr=1e-2, engine="scan")
    record = run_experiment(config, training_images=images, test_images=test_images)
    assert record.result.accuracy > 0.6  # chance is 0.1; the interval of 60 images is +-0.13


def test_images_may_be_handed_in_by_the_caller():
    blank = ImageSet(torch.zeros(24, 1, 28, 28), torch.arange(24) % 10, "blank")
    record = run_experiment(
        replace(FC, epochs=1, batch_size=12), training_images=blank, test_images=blank
    )
    assert record.data_source == "blank"
    # Silent neurons tie, and a tie goes to class 0: 3 of these 24.
    assert record.last.n_correct == 3


def test_a_config_is_immutable_and_equal_by_its_settings():
    assert ExperimentConfig("a", "b", "c?") == ExperimentConfig("a", "b", "c?")
    with pytest.raises(AttributeError):
        FC.lr = 1.0


@pytest.mark.parametrize("protocol", ["post", "honest"])
def test_a_record_says_which_test_images_were_predicted_correctly(protocol, run, tmp_path):
    config = replace(FC, protocol=protocol, epochs=3)
    place = tmp_path / "run.pt"
    whole = run(config, checkpoint=place)
    assert sum(whole.result.images_correct()) == whole.result.n_correct
    again = run(config, resume=place)  # nothing is left to be learnt
    assert again.result == whole.result
