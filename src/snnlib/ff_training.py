"""Forward-Forward training on tensors that stay on one device: pairs, epochs, scores."""

import copy
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.augment import shift_images
from snnlib.data import ImageSet, load_mnist, split_validation
from snnlib.encoding import poisson_encode
from snnlib.ff_labels import draw_likely_wrong_labels, draw_wrong_labels, overlay_labels
from snnlib.ff_presets import FFConfig
from snnlib.forward_forward import (
    ForwardForwardLayer,
    ForwardForwardNetwork,
    Pair,
    first_layer_goodness,
    forward_forward_loss,
    goodness,
    label_goodness,
    train_layers,
)
from snnlib.readout import predict
from snnlib.scan import lif_scan
from snnlib.steady import steady_rate


def build_network(config: FFConfig) -> ForwardForwardNetwork:
    """Fresh layers 784 - hidden, with weights drawn from the run's seed."""
    neuron = config.neuron
    widths = (784, *config.hidden)
    layers = [
        ForwardForwardLayer(
            n_in,
            n_out,
            config.n_steps,
            lambda currents: lif_scan(currents, neuron),
            lambda current: steady_rate(current, config.n_steps, neuron),
            config.length,
        )
        for n_in, n_out in pairwise(widths)
    ]
    return ForwardForwardNetwork(layers, config.hand_over)


def measure_and_loss(
    config: FFConfig,
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    """Goodness and loss as the settings say."""
    return (
        lambda rate: config.gain * goodness(rate, config.goodness),
        lambda g_pos, g_neg: forward_forward_loss(g_pos, g_neg, config.theta, scale=config.scale),
    )


def warp_images(images: Tensor, degrees: float, zoom: float, generator: torch.Generator) -> Tensor:
    """Turn every image by up to ``degrees`` and stretch it by up to the share ``zoom``."""
    if degrees == 0 and zoom == 0:
        return images
    draw = torch.rand((4, len(images)), generator=generator, device=images.device) * 2 - 1
    angle = draw[0] * (degrees * torch.pi / 180)
    across, down, shear = 1 + zoom * draw[1], 1 + zoom * draw[2], zoom * draw[3]
    zero = torch.zeros_like(angle)
    rows = [
        torch.stack([angle.cos() * across, shear - angle.sin(), zero], dim=1),
        torch.stack([angle.sin(), angle.cos() * down, zero], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False).clamp(0, 1)


def overlay_for(config: FFConfig, generator: torch.Generator) -> Callable[[Tensor, Tensor], Tensor]:
    """How an image and a label become the input of the first layer."""
    if config.encoding == "constant":
        return overlay_labels
    return lambda images, labels: poisson_encode(
        overlay_labels(images, labels), config.n_steps, generator=generator
    ).flatten(2)


def make_pairs(
    network: ForwardForwardNetwork,
    training: ImageSet,
    config: FFConfig,
    generator: torch.Generator,
) -> Iterator[Pair]:
    """One epoch of positive and negative inputs, freshly shuffled, moved and labelled."""
    overlay = overlay_for(config, generator)
    order = torch.randperm(len(training), generator=generator, device=training.labels.device)
    for chosen in order.split(config.batch_size):
        images, labels = training.images[chosen], training.labels[chosen]
        images = shift_images(images, config.shift_pixels, generator=generator)
        images = warp_images(images, config.rotate_degrees, config.zoom, generator)
        wrong = wrong_labels(network, images, labels, config, generator)
        yield overlay(images, labels), overlay(images, wrong)


def wrong_labels(
    network: ForwardForwardNetwork,
    images: Tensor,
    labels: Tensor,
    config: FFConfig,
    generator: torch.Generator,
) -> Tensor:
    """Wrong labels at random, or as the first layer (or all layers) would confuse them."""
    if config.negatives == "random":
        return draw_wrong_labels(labels, generator)
    measure, _ = measure_and_loss(config)
    if config.negatives == "likely":
        layer = cast(ForwardForwardLayer, network.layers[0])
        scores = first_layer_goodness(layer, images, measure=measure)
    else:
        overlay = overlay_for(config, generator)
        scores = label_goodness(network, images, measure=measure, overlay=overlay).sum(dim=0)
    return draw_likely_wrong_labels(scores, labels, generator, config.sharpness)


def count_correct(
    network: ForwardForwardNetwork,
    images: ImageSet,
    config: FFConfig,
    generator: torch.Generator,
) -> list[int]:
    """Right answers when the layers from the k-th upwards judge, for every k."""
    overlay = overlay_for(config, generator)
    rows = (2000 if images.images.is_cuda else 500) if config.encoding == "constant" else 200
    right = torch.zeros(len(network.layers), dtype=torch.int64, device=images.labels.device)
    for part, labels in zip(images.images.split(rows), images.labels.split(rows), strict=True):
        judged = label_goodness(network, part, overlay=overlay)
        for k in range(len(judged)):
            right[k] += (predict(judged[k:].sum(dim=0)) == labels).sum()
    return [int(n) for n in right.tolist()]


def train_ff(
    config: FFConfig,
    training: ImageSet,
    *,
    on_epoch_end: Callable[[ForwardForwardNetwork, list[float], float], object] | None = None,
    minutes: float = float("inf"),
) -> ForwardForwardNetwork:
    """Train a fresh network; hand back it, or its averaged weights if they were asked for.

    ``on_epoch_end`` is given the network to be judged, the loss of each layer
    and the seconds since the start. After ``minutes`` the current epoch is the last.
    """
    generator = torch.Generator(device=config.device).manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(config).to(config.device)
    averaged = copy.deepcopy(network) if config.averaging else network
    measure, loss = measure_and_loss(config)
    begin = time.perf_counter()
    n_batches = -(-len(training) // config.batch_size)
    for only in [None] if config.together else range(len(network.layers)):
        parameters = list((network if only is None else network.layers[only]).parameters())
        optimizer = torch.optim.Adam(parameters, lr=config.lr, fused=config.device != "cpu")
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.lr, total_steps=config.epochs * n_batches
        )

        def after_step(schedule: Any = schedule) -> None:
            schedule.step()
            if config.averaging:
                _follow(averaged, network, config.averaging)

        for _ in range(config.epochs):
            pairs = make_pairs(network, training, config, generator)
            losses = train_layers(
                network, pairs, loss, optimizer, measure=measure, only=only, after_step=after_step
            )
            seconds = time.perf_counter() - begin
            if on_epoch_end is not None:
                on_epoch_end(averaged, losses, seconds)
            if seconds > 60 * minutes:
                return averaged
    return averaged


@torch.no_grad()
def _follow(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Move averaged weights a little towards the current ones."""
    theirs: list[Tensor] = list(network.parameters())
    ours: list[Tensor] = list(averaged.parameters())
    torch._foreach_lerp_(ours, theirs, 1.0 - decay)


def load_sets(config: FFConfig) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Training, validation and test images on the run's device; the split is the same for all."""
    split = torch.Generator().manual_seed(2024)
    training, validation = split_validation(load_mnist(train=True), config.n_validation, split)
    if config.n_training is not None:
        training = training.subset(torch.arange(config.n_training))
    test = load_mnist(train=False)
    device = config.device
    return moved(training, device), moved(validation, device), moved(test, device)


def moved(images: ImageSet, device: str) -> ImageSet:
    """The same images on another device."""
    return ImageSet(images.images.to(device), images.labels.to(device), images.source)
