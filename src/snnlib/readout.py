"""From output spikes to rates, losses, predictions and an honest accuracy."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.checks import float_tensor, label_tensor, number, one_of, refuse


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode meanwhile; each of its layers gets back its own mode."""
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for part, mode in modes:  # a norm may be frozen while the rest learns
            part.training = mode


def firing_rate(spikes: Tensor) -> Tensor:
    """Mean over time: spikes ``[T, N, K]`` to rates ``[N, K]``, spikes per step in [0, 1].

    Args:
        spikes: A tensor or NumPy array, time first; 0 and 1, or False and True.

    Raises:
        ValueError: ``spikes`` hold no step or are no numbers.
    """
    given = float_tensor("spikes", spikes)
    if given.dim() < 1 or len(given) == 0:
        refuse("spikes", "time first, with at least one step", given)
    return given.mean(dim=0)


def potential_logits(v: Tensor, over_time: str = "mean") -> Tensor:
    """Logits of neurons that never fire, ``[T, N, K]`` to ``[N, K]``: the membrane readout.

    They go to ``torch.nn.functional.cross_entropy``, or to :func:`predict`.

    Args:
        v: Potentials, time first; a tensor or NumPy array.
        over_time: "mean" of all steps, the "last" one, or the "max".

    Raises:
        ValueError: ``v`` is not ``[T, N, K]``, or ``over_time`` is another word.
    """
    one_of("over_time", over_time, ("mean", "last", "max"))
    v = float_tensor("v", v)
    if v.dim() != 3 or len(v) == 0:
        refuse("v", "[T, N, K], time first, with at least one step", v)
    if over_time == "last":
        return v[-1]
    return v.mean(dim=0) if over_time == "mean" else v.amax(dim=0)


def rate_mse(rate: Tensor, labels: Tensor) -> Tensor:
    """Mean squared distance of rates from the one-hot target.

    The target asks the neuron of the true class to fire at every step and all
    others to keep silent: Eq. (6.2) of the book.

    Args:
        rate: ``[N, K]``, spikes per step; a tensor or NumPy array.
        labels: ``[N]``, whole numbers of any type from 0 to K-1; a tensor or NumPy array.

    Returns:
        A scalar, the mean over all N times K entries.

    Raises:
        ValueError: The shapes do not fit, or a label is not one of K classes.
    """
    rate, labels = _checked(rate, labels)
    target = F.one_hot(labels, rate.shape[1]).to(rate.dtype)
    return F.mse_loss(rate, target)


def rate_cross_entropy(rate: Tensor, labels: Tensor, *, gain: float = 10.0) -> Tensor:
    """Cross-entropy of a softmax over ``gain * rate``; Eq. (6.3) of the book.

    Rates lie in [0, 1], too narrow a range for a confident softmax, so they are
    stretched by ``gain`` first.

    Args:
        rate: ``[N, K]``, spikes per step; a tensor or NumPy array.
        labels: ``[N]``, whole numbers of any type from 0 to K-1; a tensor or NumPy array.
        gain: Logits per unit of rate, greater than 0.

    Returns:
        A scalar in nats, the mean over images.

    Raises:
        ValueError: ``gain`` is not positive, the shapes do not fit, or a label is
            not one of K classes.
    """
    gain = number("gain", gain, above=0)
    rate, labels = _checked(rate, labels)
    return F.cross_entropy(gain * rate, labels)


def predict(rate: Tensor) -> Tensor:
    """The class whose neuron fires most, ``[N, K]`` to ``[N]``; ties go to the lowest number.

    Args:
        rate: Spikes per step; a tensor or NumPy array. NaN is not looked for: a training
            step cannot wait for that, see ``snnlib.training``.

    Raises:
        ValueError: ``rate`` is not ``[N, K]``; spikes go through :func:`firing_rate` first.
    """
    return _rates(rate).argmax(dim=1)  # torch returns the first of equal maxima


def _rates(rate: Tensor) -> Tensor:
    rates = float_tensor("rate", rate)
    return rates if rates.dim() == 2 else refuse("rate", "[N, K], spikes per step", rates)


def _checked(rate: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Refuse what PyTorch would stretch, or stumble over, without naming it."""
    rates = _rates(rate)
    return rates, label_tensor("labels", labels, *rates.shape)
