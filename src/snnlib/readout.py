"""From output spikes to rates, losses, predictions and an honest accuracy."""

import torch
import torch.nn.functional as F
from torch import Tensor

from snnlib.intervals import accuracy_interval, difference_interval

__all__ = [
    "accuracy_interval",
    "difference_interval",
    "firing_rate",
    "predict",
    "rate_cross_entropy",
    "rate_mse",
]


def firing_rate(spikes: Tensor) -> Tensor:
    """Mean over time: spikes ``[T, N, K]`` to rates ``[N, K]``, spikes per step in [0, 1].

    Raises:
        ValueError: ``spikes`` hold no step or are no floating point numbers.
    """
    if spikes.dim() < 1 or len(spikes) == 0 or not spikes.is_floating_point():
        raise ValueError(
            "spikes must be floating point, time first, with at least one step, "
            f"got {_told(spikes)}"
        )
    return spikes.mean(dim=0)


def rate_mse(rate: Tensor, labels: Tensor) -> Tensor:
    """Mean squared distance of rates from the one-hot target.

    The target asks the neuron of the true class to fire at every step and all
    others to keep silent: Eq. (6.2) of the book.

    Args:
        rate: ``[N, K]``, spikes per step.
        labels: ``[N]``, whole numbers from 0 to K-1.

    Returns:
        A scalar, the mean over all N times K entries.

    Raises:
        ValueError: The shapes do not fit, or a label is not one of K classes.
    """
    _check_labels(rate, labels)
    target = F.one_hot(labels, rate.shape[1]).to(rate.dtype)
    return F.mse_loss(rate, target)


def rate_cross_entropy(rate: Tensor, labels: Tensor, *, gain: float = 10.0) -> Tensor:
    """Cross-entropy of a softmax over ``gain * rate``; Eq. (6.3) of the book.

    Rates lie in [0, 1], too narrow a range for a confident softmax, so they are
    stretched by ``gain`` first.

    Args:
        rate: ``[N, K]``, spikes per step.
        labels: ``[N]``, whole numbers from 0 to K-1.
        gain: Logits per unit of rate, greater than 0.

    Returns:
        A scalar in nats, the mean over images.

    Raises:
        ValueError: ``gain`` is not positive, the shapes do not fit, or a label is
            not one of K classes.
    """
    if not gain > 0:
        raise ValueError(f"gain must be greater than 0, got {gain}")
    _check_labels(rate, labels)
    return F.cross_entropy(gain * rate, labels)


def predict(rate: Tensor) -> Tensor:
    """The class whose neuron fires most, ``[N, K]`` to ``[N]``; ties go to the lowest number.

    Raises:
        ValueError: ``rate`` is not ``[N, K]``; spikes go through :func:`firing_rate` first.
    """
    if rate.dim() != 2:
        raise ValueError(f"rate must be [N, K], spikes per step, got {_told(rate)}")
    return rate.argmax(dim=1)  # torch returns the first of equal maxima


def _told(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {list(tensor.shape)}"


def _check_labels(rate: Tensor, labels: Tensor) -> None:
    """Refuse what PyTorch would stretch, or stumble over, without naming it."""
    if rate.dim() != 2:
        raise ValueError(f"rate must be [N, K], got {_told(rate)}")
    if labels.shape != rate.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(f"labels must be int64 of shape [{len(rate)}], got {_told(labels)}")
    if len(labels) and not (labels.min() >= 0 and labels.max() < rate.shape[1]):
        low, high = labels.min().item(), labels.max().item()
        raise ValueError(f"labels must lie in 0..{rate.shape[1] - 1}, got {low} to {high}")
