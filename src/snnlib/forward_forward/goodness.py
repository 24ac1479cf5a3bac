"""What a Forward-Forward layer strives for: goodness, the loss on it, and inputs without it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.checks import (
    finite,
    float_tensor,
    image_tensor,
    label_tensor,
    number,
    one_of,
    refuse,
    whole_number,
)

KINDS = ("mean_square", "mean")


def goodness(rate: Tensor, kind: str = "mean_square") -> Tensor:
    """How busy a layer is: the mean over its neurons of the squared rate, or of the rate.

    For one single time step a rate is 0 or 1 and both kinds are the same.

    Args:
        rate: ``[N, ...]``, spikes per step; everything after N belongs to one image. A
            tensor or NumPy array.
        kind: ``"mean_square"``, Eq. (8.2) of the book, or ``"mean"``.

    Returns:
        ``[N]``, between 0 and 1.

    Raises:
        ValueError: ``kind`` is unknown, or ``rate`` is no array of rates.
    """
    one_of("kind", kind, KINDS)
    rate = _rates("rate", rate, 2)
    flat = rate.flatten(1)
    return (flat.square() if kind == "mean_square" else flat).mean(dim=1)


def class_goodness(rate: Tensor, kind: str = "mean_square", n_classes: int = 10) -> Tensor:
    """Goodness of every class, where each class owns an equal share of the channels.

    The label then need not be in the image: a layer is asked to be busy in the
    channels of the true class and quiet in all others (Papachristodoulou et al.
    2024, Sec. 3.2).

    Args:
        rate: ``[N, C, ...]``, spikes per step; the first ``C / n_classes`` channels
            belong to class 0, the next ones to class 1, and so on.
        kind: As in :func:`goodness`.
        n_classes: A divisor of C.

    Returns:
        ``[N, n_classes]``.

    Raises:
        ValueError: The channels cannot be shared equally, or ``kind`` is unknown.
    """
    n_classes = whole_number("n_classes", n_classes, least=1)
    rate = _rates("rate", rate, 2)
    n_images, n_channels = rate.shape[:2]
    if n_channels % n_classes:
        raise ValueError(
            f"rate must have a multiple of n_classes={n_classes} channels, got {n_channels}"
        )
    groups = rate.reshape(n_images * n_classes, -1)
    return goodness(groups, kind).view(n_images, n_classes)


def forward_forward_loss(
    g_pos: Tensor, g_neg: Tensor, theta: float | None = None, *, slope: float = 1.0
) -> Tensor:
    """Push goodness up for positive and down for negative images.

    With a threshold ``theta`` each image is judged alone, Eq. (8.3) of the book
    (Hinton 2022, Eq. 1):

        softplus(slope * (theta - g_pos)) / slope + softplus(slope * (g_neg - theta)) / slope.

    Without one, an image is judged against itself with another label, Eq. (13.2)
    (Lee & Song 2023, SymBa, Eq. 4): softplus(-slope * (g_pos - g_neg)) / slope.

    Args:
        g_pos: Goodness of positive images ``[N]``.
        g_neg: Goodness of the negative images ``[N]``, in the same order.
        theta: The goodness that separates good from bad, or None.
        slope: How sharply the loss bends; rates are small numbers, so 1 is nearly a straight line.

    Returns:
        A scalar; the mean over all N differences, or all 2 N images.

    Raises:
        ValueError: The two are not equally many, ``slope`` is not positive, or ``theta``
            is no number.
    """
    g_pos, g_neg = _rates("g_pos", g_pos, 0), _rates("g_neg", g_neg, 0)
    if g_pos.shape != g_neg.shape:
        raise ValueError(f"g_neg must be {list(g_pos.shape)} as g_pos, got {list(g_neg.shape)}")
    slope = number("slope", slope, above=0)
    if theta is None:
        return F.softplus(-slope * (g_pos - g_neg)).mean() / slope
    theta = number("theta", theta)
    return F.softplus(slope * torch.cat([theta - g_pos, g_neg - theta])).mean() / slope


def every_label_loss(g: Tensor, labels: Tensor, *, slope: float = 1.0) -> Tensor:
    """Push goodness up with the true label and down with all wrong ones at once.

    Eq. (13.5) of the book: log(1 + sum over wrong labels of exp(-slope * (g_true - g_wrong)))
    / slope, which is the cross-entropy of a softmax over ``slope * g``. With one wrong
    label it is :func:`forward_forward_loss` without a threshold.

    Args:
        g: Goodness of every image with every label, ``[N, n_classes]``.
        labels: The true ones, ``[N]``.
        slope: How sharply the loss bends.

    Returns:
        A scalar, the mean over the images.

    Raises:
        ValueError: Images and labels are not equally many, a label is out of range (looked
            for on a CPU only), or ``slope`` is not positive.
    """
    slope = number("slope", slope, above=0)
    g = _rates("g", g, 2)
    # The range is left to the loss: to read the labels, a step on a GPU would have to wait.
    labels = label_tensor("labels", labels, len(g), g.shape[1] if g.device.type == "cpu" else None)
    return F.cross_entropy(slope * g, labels) / slope


def normalise_length(inputs: Tensor, rms: float = 2.0) -> Tensor:
    """Keep the direction of an input vector and forget its length.

    A layer must not pass on how good it found the image, or the next one would
    only have to copy it (Hinton 2022, Sec. 2.1). Spike trains are scaled by
    the length of their rate vector, the same at every step.

    Args:
        inputs: Rates or grey values ``[N, F]``, or spike trains ``[T, N, F]``.
        rms: Wanted root mean square of each vector.

    Returns:
        The scaled inputs; an input of zeros stays zero.

    Raises:
        ValueError: ``inputs`` have another shape, or ``rms`` is not positive.
    """
    rms = number("rms", rms, above=0)
    inputs = float_tensor("inputs", inputs)
    if inputs.dim() not in (2, 3):
        refuse("inputs", "[N, F] or [T, N, F]", inputs)
    rates = inputs.mean(dim=0) if inputs.dim() == 3 else inputs
    present = rates.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    return inputs * (rms * rates.shape[-1] ** 0.5 / present)


def _rates(name: str, rate: Tensor, least_axes: int) -> Tensor:
    rates = float_tensor(name, rate)
    return rates if rates.dim() >= least_axes else refuse(name, "[N, ...]", rates)


def inputs_for(name: str, network: nn.Module, inputs: Tensor) -> Tensor:
    """Inputs of a network in the type of its weights, all finite."""
    weight = next(network.parameters(), None)
    dtype = None if weight is None else weight.dtype
    return finite(name, float_tensor(name, inputs, dtype))


def pictures_for(network: nn.Module, images: Tensor) -> Tensor:
    """Images in the type of the weights; whether they are finite its forward asks."""
    weight = next(network.parameters(), None)
    return image_tensor("images", images, None if weight is None else weight.dtype)
