"""Two ideas of the fifth post that are not what they are called, kept to be measured.

The post fires sigmoid(H - v_threshold) instead of a spike, and takes the gradient
from the state after the last step and the analog image:

    dL/dW = (dL/dr * sigmoid'(V[T])) ^T  image

The true gradient, by backpropagation through time, is in chapter 5.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snnlib.neurons import LIFParameters, neuron_step
from snnlib.readout import rate_mse
from snnlib.surrogate import ATan


def soft_step(current: Tensor, v: Tensor, neuron: LIFParameters) -> tuple[Tensor, Tensor]:
    """One step of the post's neuron: a value in (0, 1) in place of a spike, and the next V."""
    charged = neuron.charge(current, v)
    fired = torch.sigmoid(charged - neuron.v_threshold)
    return fired, (1 - fired) * charged + fired * neuron.v_rest


def run_neurons(
    currents: Tensor, neuron: LIFParameters, *, sigmoid: bool = False
) -> tuple[Tensor, Tensor]:
    """Run neurons over all steps: currents ``[T, N, K]`` to rates and last V, each ``[N, K]``."""
    v = torch.full_like(currents[0], neuron.v_rest)
    total = torch.zeros_like(v)
    for current in currents:
        if sigmoid:
            fired, v = soft_step(current, v, neuron)
        else:
            _, fired, v = neuron_step(current, v, neuron, ATan())
        total = total + fired
    return total / len(currents), v


def last_step_rate(
    weight: Tensor, images: Tensor, spikes: Tensor, neuron: LIFParameters, *, sigmoid: bool
) -> Tensor:
    """Rates of one layer whose gradient follows the post's last-step rule.

    Args:
        weight: ``[K, 784]``; the only argument that gets a gradient.
        images: Grey values, ``[N, 784]``.
        spikes: The same images encoded, ``[T, N, 784]``.
        neuron: Constants of the layer.
        sigmoid: Fire the post's sigmoid instead of spikes.

    Returns:
        Rates ``[N, K]``.
    """
    return cast(Tensor, _LastStepRule.apply(weight, images, spikes, neuron, sigmoid))


class _LastStepRule(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, images: Tensor, spikes: Tensor, neuron: Any, sigmoid: bool
    ) -> Tensor:
        rate, v = run_neurons(spikes @ weight.T, neuron, sigmoid=sigmoid)
        ctx.save_for_backward(images, v)
        return rate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        images, v = ctx.saved_tensors
        smooth = torch.sigmoid(v)  # no threshold subtracted: that is the post's rule
        return (grad_outputs[0] * smooth * (1 - smooth)).T @ images, None, None, None, None


def sum_of_squares(rate: Tensor, labels: Tensor) -> Tensor:
    """Half the sum of squares, whose gradient is rate minus target, as the fifth post uses it."""
    return 0.5 * rate.numel() * rate_mse(rate, labels)
