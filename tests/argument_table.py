"""Every public function with a number or an array among its arguments, and a call that works.

``test_arguments`` changes one argument of a call at a time. Numbers are exact in binary
and floats fit into float32, so that they are the same number in every type.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snnlib import (
    activity,
    augment,
    bptt,
    conversion,
    data,
    encoding,
    hidden,
    intervals,
    metrics,
    neurons,
    operations,
    plotting,
    readout,
    surrogate,
    theory,
    training,
)
from snnlib.forward_forward import goodness as ff_goodness
from snnlib.forward_forward import labels as ff_labels
from snnlib.mnist import pictures
from snnlib.records import record as run_record
from snnlib.records import reproduction, student
from snnlib.settings import claims
from snnlib.settings import experiment as settings
from snnlib.settings import ff_experiment as ff_settings

MODULES = [
    *(
        activity,
        augment,
        bptt,
        claims,
        conversion,
        data,
        encoding,
        ff_goodness,
        ff_labels,
        ff_settings,
        hidden,
        intervals,
    ),
    *(
        metrics,
        neurons,
        operations,
        pictures,
        plotting,
        readout,
        reproduction,
        student,
        run_record,
        settings,
        surrogate,
    ),
    *(theory, training),
]

# What an array must be, besides an array of real numbers.
FINITE, FLOAT32, GREY, LABELS, PICTURES = "finite", "float32", "grey", "labels", "floating point"

LIF, IF = neurons.LIFParameters(), neurons.IFParameters()
GREYS = torch.arange(3 * 784).remainder(5).reshape(3, 1, 28, 28) / 4
STEPS = torch.arange(24).remainder(3).reshape(4, 3, 2).clamp(max=1).float()
CURRENTS = torch.arange(24).remainder(7).reshape(4, 3, 2) / 2
RATES = torch.tensor([[0.5, 0.25, 0.0], [1.0, 0.0, 0.75]])
CLASSES = torch.tensor([2, 0])
WEIGHT = torch.tensor([[1.0, 0.5], [0.25, 2.0], [1.5, 0.0]])


def dice() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def image_set() -> data.ImageSet:
    return data.ImageSet(GREYS, torch.tensor([3, 1, 4]), "made up")


def dense(**options: Any) -> Any:
    """What a network of hidden layers with ones for weights answers."""
    network = hidden.DenseSNN(**options)
    with torch.no_grad():
        for matrix in network.parameters():
            matrix.fill_(1.0)
    return network(CURRENTS), network.time_constants()


def tape() -> bptt.Tape:
    return bptt.OneLayerLIF().forward(CURRENTS, WEIGHT)


def learn(run: Callable[..., Any], **options: Any) -> Any:
    """A run of ``train_epoch`` or ``fit`` on a network of one layer."""
    network = nn.Linear(2, 3)
    nn.init.constant_(network.weight, 0.5)
    nn.init.zeros_(network.bias)
    batches = [(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), CLASSES)]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    between = [{}] if run is training.fit else []
    ends = [readout.rate_mse, optimizer]
    return run(network, network, batches, *between, *ends, **options), network.weight


def relu_network() -> nn.Sequential:
    """Two hidden units and three outputs, none of them drawn at random."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 2), nn.ReLU(), nn.Linear(2, 3))
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.0078125)
    return network


def counted(n_images: Any) -> Any:
    network = nn.Linear(2, 3)
    with operations.counting_operations(network, n_images) as counts:
        network(CURRENTS[:, :2])
    return counts


def run_epochs(n_epochs: Any) -> Any:
    learnt = metrics.EpochMetrics(0.5, 1, 2, 1.0)
    return len(training.run_epochs(lambda _: learnt, dict, n_epochs, metrics.History()))


def fit(**options: Any) -> Any:
    start = metrics.EpochMetrics(0.5, 1, 2, 1.0)
    return learn(training.fit, history=metrics.History([metrics.Epoch(1, start)]), **options)


def record(**changes: Any) -> run_record.RunRecord:
    hits = run_record.Result(1, 2, 1, 0.0, 1.0)
    texts = ("id", "claim", "preset", "question", "data_source", "commit", "device")
    rest = dict(settings={}, history=[], versions={}, extra={}, dirty=False)
    when = "2026-01-31T12:00:00+00:00"
    honest = dict(protocol="honest", last=None, best_on_test=None, validation_selected=hits)
    return run_record.RunRecord(
        **dict.fromkeys(texts, "x"), **rest, **honest, finished=when, **changes
    )


def config(**changes: Any) -> settings.ExperimentConfig:
    return settings.ExperimentConfig("x", "x", "?", **changes)


def ff_config(**changes: Any) -> ff_settings.FFConfig:
    return ff_settings.FFConfig("x", "?", **changes)


NEURON = dict(v_threshold=1.5, v_reset=0.5)
SHARED = dict(n_steps=4, tau=4.0, batch_size=2, lr=0.25, seed=3)
MOVES = dict(shift_pixels=1, rotate_degrees=2.0, zoom=0.5)
EXPERIMENT = dict(early_steps=2, channels=3, epochs=4, momentum=0.5, max_grad_norm=2.0)
EXPERIMENT |= dict(weight_std=0.5, anytime_steps=3, limit=20, test_limit=5, normalise=False)
FORWARD = dict(v_threshold=1.5, input_rms=1.5, theta=0.5, loss_slope=2.0, goodness_gain=3.0)
FORWARD |= dict(epochs=3, n_validation=30, hidden=(20, 10))
DENSE = dict(sizes=(2, 4, 3), tau=4.0, recurrent=True, learn_tau=True)
DENSE |= dict(decay_input=False, readout_tau=2.0, weight_scale=2.0)
POST = dict(
    widths=(784, 10), v_threshold=0.5, theta=0.25, loss_slope=2.0, n_training=8, n_updates=3
)
COUNTS = dict(n_training=3, n_validation=0, n_test=2, threads=2, schema_version=1)

# module.name: the call, arguments that work, and what its arrays must be.
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, tuple[str, ...]]]] = {
    "activity.silent_and_saturated": (
        activity.silent_and_saturated,
        dict(spikes=STEPS),
        {"spikes": ()},
    ),
    "activity.rate_penalty": (
        activity.rate_penalty,
        dict(spikes=STEPS, low=0.25, high=0.5),
        {"spikes": ()},
    ),
    "augment.shift_images": (
        lambda **k: augment.shift_images(**k, generator=dice()),
        dict(images=GREYS, n_pixels=2),
        {"images": (PICTURES,)},
    ),
    "augment.warp_images": (
        lambda **k: augment.warp_images(**k, generator=dice()),
        dict(images=GREYS, degrees=8.0, zoom=0.25),
        {"images": (PICTURES,)},
    ),
    "bptt.OneLayerLIF.forward": (
        bptt.OneLayerLIF().forward,
        dict(spikes_in=CURRENTS, weight=WEIGHT),
        {"spikes_in": (FINITE, FLOAT32), "weight": (FINITE,)},
    ),
    "bptt.OneLayerLIF.backward": (
        lambda **k: bptt.OneLayerLIF().backward(tape(), **k),
        dict(grad_rate=torch.ones(3, 3)),
        {"grad_rate": (FINITE, FLOAT32)},
    ),
    "conversion.activation_scales": (
        lambda **k: conversion.activation_scales(relu_network(), **k),
        dict(images=GREYS, percentile=75.0),
        {"images": (PICTURES, FINITE, FLOAT32)},
    ),
    "conversion.convert": (
        lambda **k: conversion.convert(relu_network(), [1.5], **k)(GREYS.expand(4, 3, 1, 28, 28)),
        dict(v_initial=0.25),
        {},
    ),
    "settings.claims.Claim": (
        lambda **k: claims.Claim("x", "x", ("fc",), **k),
        dict(post=1, test_accuracy=92.5, training_accuracy=93.5),
        {},
    ),
    "data.ImageSet": (
        lambda **k: data.ImageSet(**k, source="made up"),
        dict(images=GREYS, labels=torch.tensor([3, 1, 4])),
        {"images": (GREY, FLOAT32), "labels": (LABELS,)},
    ),
    "data.ImageSet.subset": (
        lambda **k: image_set().subset(**k),
        dict(indices=torch.tensor([2, 0])),
        {"indices": (LABELS,)},
    ),
    "data.Batches": (
        lambda **k: list(data.Batches(image_set(), generator=None, **k)),
        dict(batch_size=2, drop_last=True),
        {},
    ),
    "data.make_loader": (
        lambda **k: list(data.make_loader(image_set(), **k)),
        dict(batch_size=2, drop_last=True),
        {},
    ),
    "data.load_mnist": (data.load_mnist, dict(train=False, limit=12), {}),
    "data.split_validation": (
        lambda **k: data.split_validation(image_set(), generator=dice(), **k),
        dict(n=2),
        {},
    ),
    "encoding.poisson_encode": (
        lambda **k: encoding.poisson_encode(**k, generator=dice()),
        dict(images=GREYS, n_steps=3),
        {"images": (GREY,)},
    ),
    "encoding.latency_encode": (
        encoding.latency_encode,
        dict(images=GREYS, n_steps=3),
        {"images": (GREY,)},
    ),
    "encoding.constant_encode": (
        encoding.constant_encode,
        dict(images=GREYS * 3 - 1, n_steps=3),
        {"images": (PICTURES, FINITE)},
    ),
    "encoding.rows_encode": (
        encoding.rows_encode,
        dict(images=GREYS * 3 - 1),
        {"images": (PICTURES, FINITE)},
    ),
    "hidden.DenseSNN": (dense, DENSE, {}),
    "hidden.LeakyReadout": (lambda **k: hidden.LeakyReadout(**k).tau, dict(tau=4.0), {}),
    "forward_forward.goodness.goodness": (ff_goodness.goodness, dict(rate=RATES), {"rate": ()}),
    "forward_forward.goodness.class_goodness": (
        ff_goodness.class_goodness,
        dict(rate=RATES, n_classes=3),
        {"rate": ()},
    ),
    "forward_forward.goodness.forward_forward_loss": (
        ff_goodness.forward_forward_loss,
        dict(g_pos=RATES[0], g_neg=RATES[1], theta=0.5, slope=2.0),
        {"g_pos": (), "g_neg": ()},
    ),
    "forward_forward.goodness.inputs_for": (
        ff_goodness.inputs_for,
        dict(name="inputs", network=nn.Linear(2, 1), inputs=RATES),
        {"inputs": (FINITE,)},
    ),
    "forward_forward.goodness.pictures_for": (
        ff_goodness.pictures_for,
        dict(network=nn.Linear(2, 1), images=GREYS),
        {"images": (PICTURES, FINITE)},
    ),
    "forward_forward.goodness.every_label_loss": (
        ff_goodness.every_label_loss,
        dict(g=RATES, labels=CLASSES, slope=2.0),
        {"g": (), "labels": (LABELS,)},
    ),
    "forward_forward.goodness.normalise_length": (
        ff_goodness.normalise_length,
        dict(inputs=RATES, rms=1.5),
        {"inputs": ()},
    ),
    "forward_forward.labels.overlay_labels": (
        ff_labels.overlay_labels,
        dict(images=GREYS[:2], labels=CLASSES, n_classes=3),
        {"images": (PICTURES,), "labels": (LABELS,)},
    ),
    "forward_forward.labels.overlay_neutral": (
        ff_labels.overlay_neutral,
        dict(images=GREYS, n_classes=4),
        {"images": (PICTURES,)},
    ),
    "forward_forward.labels.with_every_label": (
        ff_labels.with_every_label,
        dict(images=GREYS, n_classes=4),
        {"images": (PICTURES,)},
    ),
    "forward_forward.labels.draw_wrong_labels": (
        lambda **k: ff_labels.draw_wrong_labels(**k, generator=dice()),
        dict(labels=CLASSES, n_classes=3),
        {"labels": (LABELS,)},
    ),
    "forward_forward.labels.draw_likely_wrong_labels": (
        lambda **k: ff_labels.draw_likely_wrong_labels(**k, generator=dice()),
        dict(scores=RATES, labels=CLASSES),
        {"scores": (FINITE,), "labels": (LABELS,)},
    ),
    "settings.ff_experiment.grid_shape": (ff_settings.grid_shape, dict(n_places=12), {}),
    "settings.ff_experiment.FFConfig": (ff_config, {**SHARED, **MOVES, **FORWARD}, {}),
    "settings.ff_experiment.FFConfig, class-wise": (
        lambda **k: ff_config(rule="class-wise", **k),
        dict(hidden=(20,), dense=(10, 30), kernel=7),
        {},
    ),
    "settings.ff_experiment.FFConfig, local": (
        lambda **k: ff_config(rule="class-wise", hidden=(), **k),
        dict(dense=(100,), receptive_field=16),
        {},
    ),
    "settings.ff_experiment.PostConfig": (
        lambda **k: ff_settings.PostConfig("x", "?", **k),
        {**SHARED, **POST, "output_mse": True},
        {},
    ),
    "intervals.accuracy_interval": (
        intervals.accuracy_interval,
        dict(n_correct=3, n_images=4),
        {},
    ),
    "intervals.difference_interval": (
        intervals.difference_interval,
        dict(share=0.75, n_images=4, other=0.5, n_other=8),
        {},
    ),
    "intervals.mcnemar": (intervals.mcnemar, dict(n_only_first=3, n_only_second=9), {}),
    "intervals.paired_difference_interval": (
        intervals.paired_difference_interval,
        dict(n_both=5, n_only_first=3, n_only_second=1, n_images=10),
        {},
    ),
    "metrics.EpochMetrics": (
        metrics.EpochMetrics,
        dict(loss=0.5, n_correct=1, n_images=2, seconds=1.5),
        {},
    ),
    "metrics.Epoch": (
        lambda **k: metrics.Epoch(training=metrics.EpochMetrics(0.5, 1, 2, 1.5), **k),
        dict(number=3),
        {},
    ),
    "neurons.IFParameters": (neurons.IFParameters, {**NEURON, "detach_reset": True}, {}),
    "neurons.LIFParameters": (
        neurons.LIFParameters,
        {**NEURON, "tau": 4.0, "decay_input": False},
        {},
    ),
    "neurons.neuron_step": (
        lambda **k: neurons.neuron_step(neuron=LIF, **k),
        dict(current=CURRENTS[0], v=CURRENTS[1]),
        {"current": (), "v": ()},
    ),
    "neurons.simulate": (
        lambda **k: neurons.simulate(neuron=LIF, **k),
        dict(currents=CURRENTS, v_initial=CURRENTS[1]),
        {"currents": (FINITE,), "v_initial": ()},
    ),
    "operations.energy_pj": (
        operations.energy_pj,
        dict(accumulates=2.5, multiply_accumulates=1.5, accumulate_pj=0.5)
        | dict(multiply_accumulate_pj=4.5),
        {},
    ),
    "operations.counting_operations": (counted, dict(n_images=2), {}),
    "mnist.pictures.like_mnist": (
        pictures.like_mnist,
        dict(picture=1 - GREYS[0, 0].round()),
        {"picture": (GREY,)},
    ),
    "mnist.pictures.otsu": (pictures.otsu, dict(values=RATES), {"values": (FINITE,)}),
    "plotting.plot_potential": (
        plotting.plot_potential,
        dict(charged=RATES[0], spikes=RATES[1], v_threshold=1.5),
        {"charged": (FINITE,), "spikes": (FINITE,)},
    ),
    "plotting.plot_raster": (plotting.plot_raster, dict(spikes=RATES), {"spikes": (FINITE,)}),
    "plotting.plot_images": (
        plotting.plot_images,
        dict(images=GREYS, columns=2),
        {"images": (PICTURES,)},
    ),
    "plotting.plot_confusion": (
        plotting.plot_confusion,
        dict(labels=CLASSES, predictions=CLASSES.flip(0)),
        {"labels": (LABELS,), "predictions": (LABELS,)},
    ),
    "plotting.plot_rates": (plotting.plot_rates, dict(rate=RATES[0], label=2), {"rate": (FINITE,)}),
    "readout.firing_rate": (readout.firing_rate, dict(spikes=RATES), {"spikes": ()}),
    "readout.rate_mse": (
        readout.rate_mse,
        dict(rate=RATES, labels=CLASSES),
        {"rate": (), "labels": (LABELS,)},
    ),
    "readout.rate_cross_entropy": (
        readout.rate_cross_entropy,
        dict(rate=RATES, labels=CLASSES, gain=2.0),
        {"rate": (), "labels": (LABELS,)},
    ),
    "readout.potential_logits": (readout.potential_logits, dict(v=CURRENTS), {"v": ()}),
    "readout.predict": (readout.predict, dict(rate=RATES), {"rate": ()}),
    "records.reproduction.planned_runs": (
        lambda **k: reproduction.planned_runs([claims.CLAIMS["fc"]], **k),
        dict(n_seeds=2),
        {},
    ),
    "records.reproduction.compare_with_claim": (
        reproduction.compare_with_claim,
        dict(share=0.75, n_images=4, claimed=0.5, n_claimed=8),
        {},
    ),
    "records.student.student_factor": (student.student_factor, dict(free=3), {}),
    "records.record.Result": (
        run_record.Result,
        dict(n_correct=1, n_images=2, epoch=3, low=0.25, high=0.75),
        {},
    ),
    "records.record.RunRecord": (record, {**COUNTS, "seed": 3, "seconds": 1.5}, {}),
    "settings.experiment.ExperimentConfig": (config, {**SHARED, **MOVES, **EXPERIMENT}, {}),
    "settings.experiment.ExperimentConfig.training_steps": (
        config(n_steps=4, early_steps=2).training_steps,
        dict(epoch=1),
        {},
    ),
    "surrogate.heaviside": (surrogate.heaviside, dict(x=RATES - 0.5), {"x": (FINITE,)}),
    "surrogate.ATan": (surrogate.ATan, dict(alpha=1.5), {}),
    "surrogate.Sigmoid": (surrogate.Sigmoid, dict(alpha=1.5), {}),
    **{
        f"surrogate.{kind.__name__}.{name}": (getattr(kind(), name), dict(x=RATES), {"x": ()})
        for kind in (surrogate.ATan, surrogate.Sigmoid)
        for name in ("spike", "primitive", "derivative")
    },
    "theory.subthreshold_potential": (
        lambda **k: theory.subthreshold_potential(neuron=LIF, **k),
        dict(current=CURRENTS, n_steps=3),
        {"current": (FINITE,)},
    ),
    "theory.first_spike_step": (
        lambda **k: theory.first_spike_step(neuron=LIF, **k),
        dict(current=CURRENTS),
        {"current": (FINITE,)},
    ),
    "theory.firing_rate_curve": (
        lambda **k: theory.firing_rate_curve(neuron=LIF, **k),
        dict(current=CURRENTS),
        {"current": (FINITE,)},
    ),
    "theory.poisson_rate_interval": (
        theory.poisson_rate_interval,
        dict(probability=RATES, n_steps=4),
        {"probability": (GREY,)},
    ),
    "training.train_epoch": (
        lambda **k: learn(training.train_epoch, **k),
        dict(max_grad_norm=0.5, epoch=2),
        {},
    ),
    "training.fit": (fit, dict(n_epochs=3), {}),
    "training.run_epochs": (run_epochs, dict(n_epochs=2), {}),
}

# Why a public name with such an argument is not called in the table.
LEFT_OUT: dict[str, str] = {
    "hidden.Feedback": "made by DenseSNN, which checks",
    "hidden.Feedback.forward": "a layer inside of DenseSNN, which checks what comes in",
    "hidden.LeakyReadout.single_step_forward": "likewise",
    "hidden.LeakyReadout.multi_step_forward": "likewise",
    "activity.layer_spikes": "hands its sequence to the network, which checks",
    "data.balanced_indices": "called with limits that were checked",
    "bptt.Tape": "made by OneLayerLIF.forward, which checks",
    "data.read_both": "asked by the command line, whose settings have checked both limits",
    "data.read_mnist": "asked by load_mnist and read_both, after their checks",
    "neurons.IFParameters.charge": "the arithmetic of neuron_step, which checks",
    "neurons.LIFParameters.charge": "the arithmetic of neuron_step, which checks",
    "operations.are_spikes": "asked by counting_operations, of what arrives at a layer",
    "operations.Operations.energy_pj": "hands them to operations.energy_pj",
    "operations.arrivals": "asked by counting_operations and read_anytime, likewise",
    "neurons.Trace": "made by simulate, which checks",
}


def tensors_of(arguments: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
