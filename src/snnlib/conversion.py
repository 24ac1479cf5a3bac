"""From a trained ReLU network to a spiking one: the rate of a neuron takes the place of a number.

An integrate-and-fire neuron that is reset by subtraction and sees the constant input x,
in thresholds, has fired floor(T * x) times after T steps, for x from 0 to 1: its rate
is a ReLU with a ceiling, in steps of 1/T. So a ReLU network turns into a spiking one once
its activations lie in [0, 1], which a scale for each layer does. They come from data.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

from snnlib import checks
from snnlib.checks.layers import is_touched, refuse_layer
from snnlib.readout import evaluation_mode

# What answers to a mean over time with the mean of its answers, and its class for [T, N, ...].
_OVER_TIME: dict[type, type] = {
    nn.Linear: layer.Linear,
    nn.Conv2d: layer.Conv2d,
    nn.AvgPool2d: layer.AvgPool2d,
    nn.Flatten: layer.Flatten,
}
_WEIGHTS = (nn.Linear, nn.Conv2d)
_IDLE = (nn.Identity, nn.Dropout, nn.Dropout2d)  # do nothing in evaluation mode
_CURES = {
    "MaxPool": "the maximum of rates is not the rate of a maximum; AvgPool2d can be",
    "BatchNorm": "torch.nn.utils.fusion.fuse_conv_bn_eval puts it into the layer before",
}


@torch.no_grad()
def activation_scales(
    network: nn.Sequential, images: Tensor, percentile: float = 99.9
) -> list[float]:
    """Measure how large the activations of a ReLU network are: one scale for each ReLU.

    The largest activation of any image would do (Diehl et al. 2015, Algorithm 2), but it is
    rare, and all others would fire little for it; so a percentile is taken, and the few
    activations above it saturate at one spike per step (Rueckauer et al. 2017, section 2.2.2).

    Args:
        network: Trained; layers as in :func:`convert`. It is used in evaluation mode.
        images: Training images as the network takes them, ``[N, ...]``; some hundred will do.
        percentile: Share of the activations of a layer, zeros among them, that stay at or
            below its scale, in percent, above 0 and at most 100.

    Returns:
        The scales lambda, in the order of the ReLUs, in the units of their activations.

    Raises:
        ValueError: The percentile of a layer is 0: hardly any of its units is ever active;
            or there is a layer that cannot be converted.
    """
    percentile = checks.number("percentile", percentile, above=0, most=100)
    row = _checked(network)
    x = checks.image_tensor("images", images, next(row.parameters()).dtype)
    scales = []
    with evaluation_mode(row):
        for number, part in enumerate(row):
            x = part(x)
            if type(part) is nn.ReLU:
                rank = math.ceil(percentile / 100 * x.numel())
                scales.append(x.flatten().kthvalue(rank).values.item())
                if not scales[-1] > 0:
                    cure = "a larger percentile, or other images, may reach an active unit"
                    refuse_layer(number, part, f"has {percentile:g} % of zeros", cure)
    return scales


@torch.no_grad()
def convert(
    network: nn.Sequential, scales: Sequence[float], v_initial: float = 0.0
) -> nn.Sequential:
    """Convert a trained ReLU network into integrate-and-fire neurons, with the same weights.

    Each ReLU becomes IF neurons with threshold 1 and reset by subtraction. Weights and
    biases of layer l are rescaled, so that a neuron fires at the rate of its activation
    divided by the scale of its layer (Rueckauer et al. 2017, section 2.2.2):

        W_l -> W_l * lambda_{l-1} / lambda_l,        b_l -> b_l / lambda_l,

    where lambda_0 = 1: the images enter as constant input, the same at every step. What
    follows the last ReLU stays a current, whose mean over time estimates the outputs of
    ``network``: a membrane readout. For a readout by rate, hand in
    ``nn.Sequential(*network, nn.ReLU())``, so that the outputs fire, too.

    Args:
        network: Layers in a row: ``Linear`` and ``Conv2d``, with or without bias, ``ReLU``,
            ``AvgPool2d``, ``Flatten``, ``Identity``, and dropout, which is left out. A pool
            before its ReLU adds up currents; behind it it makes fractions out of spikes.
        scales: A positive number for each ReLU, from :func:`activation_scales`.
        v_initial: Potential of all neurons before the first step, from 0 to below the threshold
            of 1. With 0.5 the number of spikes is T * x rounded instead of rounded down, and
            about half as many steps are as good (Bu et al. 2022).

    Returns:
        SpikingJelly layers in multi-step mode, ``[T, N, ...]`` to ``[T, N, K]``. Reset them
        before each batch of images: ``functional.reset_net(converted)``.

    Raises:
        ValueError: A layer cannot be converted, as max pooling; ``scales`` are too few, too
            many, or not positive; ``v_initial`` is not in [0, 1).
    """
    row = _checked(network)
    checks.instance("scales", scales, list, tuple)
    scales = [checks.number("scales", scale, above=0) for scale in scales]
    n_relus = sum(type(part) is nn.ReLU for part in row)
    if len(scales) != n_relus:
        checks.refuse("scales", f"one number for each of {n_relus} ReLUs", scales)
    v_initial = checks.number("v_initial", v_initial, least=0, below=1)
    remaining, scale = iter(scales), 1.0
    parts: list[Any] = []
    weights: Any = None
    for part in row:
        if type(part) is nn.ReLU:
            scale = next(remaining)
            for parameter in weights.parameters():
                parameter.div_(scale)
            parts.append(_neurons(v_initial))
        elif type(part) in _OVER_TIME:
            parts.append(_over_time(part))
        if type(part) in _WEIGHTS:
            weights = parts[-1]
            weights.weight.mul_(scale)  # of what a spike that arrives stands for
            scale = 1.0
    return nn.Sequential(*parts).eval()


def _neurons(v_initial: float) -> neuron.IFNode:
    """Integrate-and-fire neurons with reset by subtraction and threshold 1."""
    node = neuron.IFNode(v_reset=None, surrogate_function=surrogate.ATan(), step_mode="m")
    node.set_reset_value("v", v_initial)
    node.reset()
    return node


def _over_time(part: nn.Module) -> Any:
    """The layer as one of SpikingJelly's, which takes ``[T, N, ...]``; its weights are copied.

    Those are PyTorch's own with a step mode. A new one would draw weights first, and so change
    all random numbers that come later.
    """
    twin: Any = copy.deepcopy(part)
    twin.__class__ = _OVER_TIME[type(part)]
    twin.step_mode = "m"
    return twin


def _checked(network: nn.Sequential) -> nn.Sequential:
    """The network, if all its layers can be converted; others are refused by number."""
    if type(network) is not nn.Sequential or is_touched(network):
        checks.refuse("network", "an nn.Sequential without hooks", type(network).__name__)
    to_scale = False
    for number, part in enumerate(network):
        if type(part) not in (*_OVER_TIME, *_IDLE, nn.ReLU) or is_touched(part):
            cures = (cure for kind, cure in _CURES.items() if kind in type(part).__name__)
            refuse_layer(number, part, "cannot be converted exactly", next(cures, ""))
        if type(part) is nn.ReLU and not to_scale:
            refuse_layer(number, part, "must have a Linear or a Conv2d of its own before it", "")
        to_scale = type(part) in _WEIGHTS or (to_scale and type(part) is not nn.ReLU)
    if not any(True for _ in network.parameters()):
        checks.refuse("network", "a row of layers with weights", network)
    return network
