"""The Forward-Forward rule for one batch: positive and negative images, and ten labels to judge.

Every rule of learning in this family offers the same three functions, gathered in
a :class:`Rule`; ``training`` does the rest, the same for all of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from snnlib.encoding import poisson_encode
from snnlib.forward_forward.goodness import (
    every_label_loss,
    forward_forward_loss,
    goodness,
)
from snnlib.forward_forward.judging import every_label_rate, first_layer_goodness, label_goodness
from snnlib.forward_forward.labels import (
    draw_likely_wrong_labels,
    draw_wrong_labels,
    overlay_labels,
    with_every_label,
)
from snnlib.forward_forward.layers import build_network, draws_in_first_layer
from snnlib.forward_forward.network import ForwardForwardLayer, ForwardForwardNetwork, learn_from
from snnlib.forward_forward.sharing import ALONE, Sharing, everybodys, ours
from snnlib.readout import predict
from snnlib.settings.ff_experiment import FFConfig


class TrainingBatch(NamedTuple):
    """One batch, and what a rule must know to learn from it.

    ``images`` are ``[N, 1, 28, 28]``, ``labels`` the true ones, ``[N]``. ``generator``
    decides wrong labels, and spikes that are drawn before the first layer. ``only``
    is the one layer that learns; None means all of them. ``group`` are the processes
    that share the batch.
    """

    images: Tensor
    labels: Tensor
    config: FFConfig
    generator: torch.Generator
    only: int | None = None
    group: Sharing = ALONE


class Rule(NamedTuple):
    """How a network is made, how it learns from one batch, and how it answers.

    ``build(config, noise)`` gives fresh weights. ``training_step(network, batch)`` adds
    gradients and hands back the losses, ``[L]``.
    ``predict(network, images, config, noise)`` names labels ``[N]`` in one or more
    ways. If ``choose``, validation images pick the way; else the first one counts.
    """

    build: Callable[[FFConfig, torch.Generator], nn.Module]
    training_step: Callable[[Any, TrainingBatch], Tensor]
    predict: Callable[..., dict[str, Tensor]]
    choose: bool = False

    def learn(
        self,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        config: FFConfig,
        generator: torch.Generator,
        only: int | None = None,
        group: Sharing = ALONE,
    ) -> Tensor:
        """Gradients of a network from one :class:`TrainingBatch`; its losses, ``[L]``."""
        return self.training_step(
            network, TrainingBatch(images, labels, config, generator, only, group)
        )


def measure_and_loss(
    config: FFConfig,
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    """Goodness and loss as the settings say."""
    return (
        lambda rate: config.gain * goodness(rate, config.goodness),
        lambda g_pos, g_neg: forward_forward_loss(g_pos, g_neg, config.theta, scale=config.scale),
    )


def overlay_for(config: FFConfig, generator: torch.Generator) -> Callable[[Tensor, Tensor], Tensor]:
    """How an image and a label become the input of the first layer."""
    if config.encoding == "constant" or draws_in_first_layer(config):
        return overlay_labels
    return lambda images, labels: poisson_encode(
        overlay_labels(images, labels), config.n_steps, generator=generator
    ).flatten(2)


def wrong_labels(network: ForwardForwardNetwork, batch: TrainingBatch) -> Tensor:
    """Wrong labels at random, or as the first layer would confuse them."""
    images, labels, config, generator, *_ = batch
    if config.negatives == "random":
        return draw_wrong_labels(labels, generator)
    measure, _ = measure_and_loss(config)
    layer = cast(ForwardForwardLayer, network.layers[0])
    scores = first_layer_goodness(layer, images, measure=measure)
    # Of a layer that overflows any label will do: it is stopped when its gradients are there.
    scores = scores.nan_to_num().clamp(-1e30, 1e30)
    return draw_likely_wrong_labels(scores, labels, generator)


def learn_pairs(network: ForwardForwardNetwork, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
    """Gradients from one batch, each image once with its own and once with a wrong label.

    Returns:
        The loss of each layer that learns, and what the last of them hands on for our
        share of the images: for positive ones first, ``[2 n, K]``.
    """
    images, labels, config, generator, only, group = batch
    wrong = wrong_labels(network, batch)
    overlay = overlay_for(config, generator)
    positive, negative = overlay(images, labels), overlay(images, wrong)
    both = torch.cat([positive, negative], dim=1 if positive.dim() == 3 else 0)
    measure, loss = measure_and_loss(config)

    def objective(rate: Tensor) -> Tensor:
        rate = everybodys(rate, len(labels), group)
        return loss(*measure(rate).chunk(2))

    return learn_from(network, ours(both, len(labels), group), objective, only)


def learn_every_label(network: ForwardForwardNetwork, batch: TrainingBatch) -> Tensor:
    """Gradients from one batch, each image with all of its labels: the loss of each layer."""
    images, labels, config, generator, only, group = batch
    measure, _ = measure_and_loss(config)

    def objective(rate: Tensor) -> Tensor:
        rate = everybodys(rate, len(labels), group)
        g = measure(rate).view(-1, len(labels)).T
        return every_label_loss(g, labels, scale=config.scale)

    if config.encoding == "constant" and config.hand_over == "rate":
        with torch.set_grad_enabled(only in (None, 0)):
            images = images[group.share(len(labels))]
            rate = every_label_rate(cast(ForwardForwardLayer, network.layers[0]), images)
        return learn_from(network, images, objective, only, first_rate=rate)[0]
    marked = with_every_label(images, overlay_for(config, generator))
    return learn_from(network, ours(marked, len(labels), group), objective, only)[0]


def answers_by_goodness(
    network: ForwardForwardNetwork, images: Tensor, config: FFConfig, noise: torch.Generator
) -> dict[str, Tensor]:
    """The best of ten labels ``[N]``, judged by the layers from the k-th upwards, for every k."""
    judged = label_goodness(
        network,
        images,
        measure=lambda rate: goodness(rate, config.goodness),
        overlay=overlay_for(config, noise),
    )
    return answers_from_layer(judged)


def answers_from_layer(judged: Tensor) -> dict[str, Tensor]:
    """Goodness ``[L, N, n_classes]`` to one answer ``[N]`` for each first judging layer."""
    names = [f"layers from {k}" for k in range(1, len(judged) + 1)]
    return {name: predict(judged[k:].sum(dim=0)) for k, name in enumerate(names)}


def learn_goodness(network: ForwardForwardNetwork, batch: TrainingBatch) -> Tensor:
    """Every layer tells right labels from wrong ones by its goodness."""
    if batch.config.negatives == "every":
        return learn_every_label(network, batch)
    return learn_pairs(network, batch)[0]


GOODNESS = Rule(build_network, learn_goodness, answers_by_goodness, choose=True)
