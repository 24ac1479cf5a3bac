"""Ten labels are tried, and the layers' goodness judges them."""

from collections.abc import Callable

import torch
from torch import Tensor

from snnlib import checks
from snnlib.fast.known_layers import is_plain_linear
from snnlib.forward_forward.goodness import goodness, pictures_for
from snnlib.forward_forward.labels import overlay_labels, with_every_label
from snnlib.forward_forward.network import ForwardForwardLayer, ForwardForwardNetwork
from snnlib.readout import predict


@torch.no_grad()
def label_goodness(
    network: ForwardForwardNetwork,
    images: Tensor,
    *,
    measure: Callable[[Tensor], Tensor] = goodness,
    overlay: Callable[[Tensor, Tensor], Tensor] = overlay_labels,
    n_classes: int = 10,
) -> Tensor:
    """Goodness that each layer finds in images with every label in turn: ``[L, N, n_classes]``."""
    images = pictures_for(network, images)
    rates = network(with_every_label(images, overlay, n_classes))
    judged = torch.stack([measure(rate) for rate in rates])
    return judged.view(len(rates), n_classes, len(images)).transpose(1, 2)


def every_label_rate(layer: ForwardForwardLayer, images: Tensor, n_classes: int = 10) -> Tensor:
    """Rates of the first layer for ``with_every_label(images)``, the quick way.

    All labels light one pixel, so the length of the input is the same for all and the
    current of label k is that of label 0, less one column of weights and plus another: one
    matrix product serves all, there and back; not if the linear map does more than multiply.
    Rates are ``[n_classes * N, K]``.
    """
    if not is_plain_linear(layer.linear):
        return layer.rate(with_every_label(images, n_classes=n_classes))
    marked = overlay_labels(images, torch.zeros_like(images[:, 0, 0, 0], dtype=torch.int64))
    current = layer.current(marked)
    columns = layer.linear.weight[:, :n_classes].T  # [n_classes, K]
    change = (columns - columns[0])[:, None, :] * layer.scale_of(marked)  # [n_classes, N, K]
    return layer.rate_of(current + change).flatten(0, 1)


@torch.no_grad()
def first_layer_goodness(
    layer: ForwardForwardLayer,
    images: Tensor,
    *,
    measure: Callable[[Tensor], Tensor] = goodness,
    n_classes: int = 10,
) -> Tensor:
    """Goodness that the first layer finds with every label, ``[N, n_classes]``."""
    return measure(every_label_rate(layer, images, n_classes)).view(n_classes, len(images)).T


def classify_by_goodness(
    network: ForwardForwardNetwork, images: Tensor, *, first_layer: int = 0, n_classes: int = 10
) -> Tensor:
    """The label with which the network finds an image best: ``[N, ...]`` to ``[N]``.

    Goodness is summed from ``first_layer`` upwards, which must be there: the layer next to the
    image often judges badly, and Hinton (2022, Sec. 3.3) leaves it out.
    """
    first_layer = checks.whole_number("first_layer", first_layer, 0, len(network.layers) - 1)
    judged = label_goodness(network, images, n_classes=n_classes)
    return predict(judged[first_layer:].sum(dim=0))


@torch.no_grad()
def classify_by_rate(
    network: ForwardForwardNetwork,
    images: Tensor,
    *,
    overlay: Callable[[Tensor, Tensor], Tensor] = overlay_labels,
    n_classes: int = 10,
) -> Tensor:
    """The busiest neuron of the last layer, its rate summed over all labels: ``[N]``.

    This is the fourth post's first way to predict. Forward-Forward gives the
    output neurons no class, so it works only if something else has trained them.
    """
    images = pictures_for(network, images)
    rate = network(with_every_label(images, overlay, n_classes))[-1]
    return predict(rate.view(n_classes, len(images), -1).sum(dim=0))
