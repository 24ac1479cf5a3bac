"""From the settings of a Forward-Forward run to its network, its rule and its training.

Settings end here: what is made knows plain values only.
"""

from functools import partial
from typing import cast

import torch
from torch import nn

from snnlib.data import ImageSet
from snnlib.experiments.images import mover
from snnlib.fast.constant import constant_rate
from snnlib.forward_forward.backprop import BackpropNetwork, BackpropRule
from snnlib.forward_forward.class_wise import ClassWiseRule, make_classwise_layers
from snnlib.forward_forward.heads import NetworkWithReadout, NeutralHeadRule, TwoPassRule
from snnlib.forward_forward.layers import (
    BackpropLayer,
    ScaledInputLayer,
    draw_in_first_layer,
    make_layer,
    make_layers,
)
from snnlib.forward_forward.network import ForwardForwardLayer, ForwardForwardNetwork
from snnlib.forward_forward.pairs import GoodnessRule
from snnlib.forward_forward.rules import Rule
from snnlib.forward_forward.sharing import ALONE, Sharing
from snnlib.forward_forward.training import FFTraining
from snnlib.neurons import LIFParameters
from snnlib.posts.fourth import PostNetwork, PostTraining
from snnlib.settings.ff_experiment import FFConfig, PostConfig


def make_neuron(config: FFConfig) -> LIFParameters | None:
    """The neurons of a run; None for rectifiers."""
    if config.activation == "relu":
        return None
    v_reset = None if config.reset == "subtract" else 0.0
    return LIFParameters(tau=config.tau, v_threshold=config.v_threshold, v_reset=v_reset)


def draws_in_first_layer(config: FFConfig) -> bool:
    """Whether spikes are drawn inside the first layer, and not handed through all of them."""
    return config.encoding == "poisson" and config.pass_on == "rate"


def make_rule(config: FFConfig) -> Rule:
    """How the network of these settings learns and predicts."""
    pairs = GoodnessRule(
        kind=config.goodness,
        gain=config.goodness_gain,
        theta=config.theta,
        slope=config.loss_slope,
        negatives=config.negatives,
        n_drawn=config.n_steps
        if config.encoding == "poisson" and not draws_in_first_layer(config)
        else None,
    )
    rules: dict[str, Rule] = {
        "goodness": pairs,
        "two-pass": TwoPassRule(pairs),
        "neutral-head": NeutralHeadRule(pairs),
        "class-wise": ClassWiseRule(config.goodness, config.goodness_gain),
        "bptt": BackpropRule(),
    }
    return rules[config.rule]


def make_ff_network(config: FFConfig, noise: torch.Generator) -> nn.Module:
    """A fresh network, with weights that the seed of the settings decides, on the CPU.

    Args:
        config: The settings.
        noise: Source of spikes that the first layer draws, on the device of the run.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return _fresh_network(config, noise)


def _fresh_network(config: FFConfig, noise: torch.Generator) -> nn.Module:
    neuron, n_steps, rms = make_neuron(config), config.n_steps, config.input_rms
    if config.rule == "class-wise":
        fast_rate = partial(constant_rate, n_steps=n_steps, neuron=neuron)
        return ForwardForwardNetwork(
            make_classwise_layers(
                config.hidden, config.dense, config.kernel, config.receptive_field, fast_rate
            )
        )
    widths = (784, *config.hidden)
    if config.rule == "bptt":
        layers = make_layers((*widths, 10), neuron, n_steps, rms, BackpropLayer)
        return BackpropNetwork(layers, config.pass_on)
    first = ForwardForwardLayer if config.normalise_images else ScaledInputLayer
    layers = make_layers(widths, neuron, n_steps, rms, first_kind=first)
    if draws_in_first_layer(config):
        layers = draw_in_first_layer(layers, cast(LIFParameters, neuron), noise)
    network = ForwardForwardNetwork(layers, config.pass_on)
    if config.rule == "two-pass":
        return NetworkWithReadout(network, make_layer(config.hidden[-1], 10, neuron, n_steps, rms))
    if config.rule == "neutral-head":
        return NetworkWithReadout(network, nn.Linear(sum(config.hidden), 10))
    return network


def prepare_ff(config: FFConfig, n_training: int, group: Sharing = ALONE) -> FFTraining:
    """A fresh network, with weights drawn from the run's seed, about to begin.

    Raises:
        ValueError: A batch would hold too few images for the rule or for the processes, or
            these would draw other spikes than one.
    """
    _check_batches(config, n_training, group)
    device = config.device
    noise = torch.Generator(device=device).manual_seed(config.seed + 1)

    return FFTraining(
        network=make_ff_network(config, noise).to(device),
        rule=make_rule(config),
        generator=torch.Generator(device=device).manual_seed(config.seed),
        noise=noise,
        n_batches=-(-n_training // config.batch_size),
        epochs=config.epochs,
        batch_size=config.batch_size,
        lr=config.lr,
        layers_at_once=config.layers_at_once,
        move=mover(config),
        portion=200 if config.encoding == "poisson" else 500,
        group=group,
    )


def _check_batches(config: FFConfig, n_training: int, group: Sharing) -> None:
    if 0 < n_training % config.batch_size < group.size:
        raise ValueError(
            f"batch_size must not leave fewer of {n_training} training images in a batch than "
            f"the {group.size} processes that share it, got {config.batch_size}"
        )
    if group.size > 1 and draws_in_first_layer(config):
        raise ValueError(
            f"preset {config.name!r} draws spikes in its first layer, and runs in one process, "
            f"got {group.size}"
        )
    if config.rule == "class-wise" and n_training % config.batch_size == 1:
        raise ValueError(
            f"batch_size must not leave one of {n_training} training images alone in a batch with "
            f"rule='class-wise', got {config.batch_size}"
        )


def make_post_network(config: PostConfig) -> PostNetwork:
    """The network of a row of the post, with weights that its seed decides, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return PostNetwork(
            config.widths,
            n_steps=config.n_steps,
            neuron=LIFParameters(tau=config.tau, v_threshold=config.v_threshold),
            surrogate=config.surrogate,
            goodness=config.goodness,
            prediction=config.prediction,
            shared_state=config.shared_state,
            label_in_column=config.label_in_column,
            pixel_norm=config.pixel_norm,
        )


def prepare_post(config: PostConfig, training: ImageSet) -> PostTraining:
    """A row of the post about to begin."""
    return PostTraining(
        make_post_network(config).to(config.device),
        training,
        torch.Generator(device=config.device).manual_seed(config.seed),
        loss=config.loss,
        theta=config.theta,
        slope=config.loss_slope,
        output_mse=config.output_mse,
        n_updates=config.n_updates,
        batch_size=config.batch_size,
        lr=config.lr,
    )


def train_post(config: PostConfig, training: ImageSet) -> PostNetwork:
    """Train layer after layer, as the post does, and hand back the network."""
    run = prepare_post(config, training)
    for _ in run.network.layers:
        run.learn_layer()
    return run.network
