"""Networks with hidden layers, which may be recurrent and may learn their time constant.

A hidden layer of n LIF neurons gets, at each step, currents from the layer below and,
if it is recurrent, from its own spikes of the step before:

    X[t] = W x[t] + U S[t-1],    S[-1] = 0

It then charges, fires and resets as in chapter 2. Its time constant tau is a setting,
or, with ``learn_tau``, one number per layer that is learnt with the weights,

    1 / tau = sigmoid(w)    (Fang et al. 2021, ICCV, Eq. 7),

which keeps tau above 1 whatever w becomes.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

from snnlib.checks import number, one_of, refuse, whole_number, yes_or_no
from snnlib.networks import SpikingNetwork


class LeakyReadout(neuron.LIFNode):
    """LIF neurons without a threshold: they integrate, leak, and never fire.

    Currents ``[T, N, K]`` to potentials of the same shape, V[t] = V[t-1] + (X[t] - V[t-1]) / tau,
    from rest at 0. Any other setting of a LIF neuron is as in SpikingJelly.
    """

    def __init__(self, tau: float = 2.0) -> None:
        tau = number("tau", tau, above=1)
        slope = surrogate.ATan()  # never asked: a threshold at infinity has slope 0
        super().__init__(tau, v_threshold=math.inf, surrogate_function=slope, store_v_seq=True)

    def single_step_forward(self, x: Tensor) -> Tensor:
        """One step: currents ``[N, K]`` to potentials."""
        super().single_step_forward(x)
        return self.v

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        """All steps: currents ``[T, N, K]`` to potentials."""
        super().multi_step_forward(x_seq)
        return self.v_seq


class Feedback(nn.Module):
    """U in the first equation above: adds what the last spikes send back, ``x + U y``."""

    def __init__(self, n_neurons: int) -> None:
        super().__init__()
        self.matrix = nn.Linear(n_neurons, n_neurons, bias=False)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Spikes ``y`` of the step before and currents ``x``, both ``[N, n]``, to currents."""
        return x + self.matrix(y)


class DenseSNN(SpikingNetwork):
    """Dense layers of LIF neurons without bias: ``sizes[0]`` inputs, hidden layers, classes.

    Args:
        sizes: Neurons per layer, the inputs first. With 784 inputs a step is an image
            ``[1, 28, 28]``, with n others it is ``[n]``: 28 for :func:`rows_encode`.
        tau: Membrane time constant of all layers in steps, above 1.
        recurrent: Whether each hidden layer gets its own spikes of the step before.
        learn_tau: Whether each layer learns its time constant, from ``tau`` on.
        decay_input: Whether a neuron divides its input by tau, as in Eq. (2.3). Without, a
            longer memory does not make it weaker, so that weights fit more than one tau.
        readout_tau: If given, the last neurons never fire: the network returns their
            potentials, which leak with this time constant. See ``readout.potential_logits``.
        reset: To "zero", or by "subtract"ion of the threshold, the rest is kept.
        weight_scale: The weights begin at this many times PyTorch's, which are too weak for
            a threshold of 1: with MNIST no hidden neuron would fire before it has learnt to.

    Raises:
        ValueError: An argument is none of that.
    """

    def __init__(
        self,
        sizes: Sequence[int] = (784, 128, 10),
        tau: float = 2.0,
        *,
        recurrent: bool = False,
        learn_tau: bool = False,
        decay_input: bool = True,
        readout_tau: float | None = None,
        reset: str = "zero",
        weight_scale: float = 1.0,
    ) -> None:
        n_inputs, *widths = _sizes(sizes)
        tau = number("tau", tau, above=1)
        recurrent = yes_or_no("recurrent", recurrent)
        learn_tau = yes_or_no("learn_tau", learn_tau)
        decay_input = yes_or_no("decay_input", decay_input)
        v_reset = None if one_of("reset", reset, ("zero", "subtract")) == "subtract" else 0.0
        weight_scale = number("weight_scale", weight_scale, above=0)
        parts: list[nn.Module] = [layer.Flatten()]
        for rank, (before, width) in enumerate(itertools.pairwise([n_inputs, *widths]), 1):
            nodes: nn.Module = _lif(tau, learn_tau, decay_input, v_reset)
            if recurrent and rank < len(widths):
                nodes = layer.ElementWiseRecurrentContainer(nodes, Feedback(width))
            parts += [layer.Linear(before, width, bias=False), nodes]
        if readout_tau is not None:
            parts[-1] = LeakyReadout(number("readout_tau", readout_tau, above=1))
        super().__init__(*parts)
        self.input_shape = (1, 28, 28) if n_inputs == 28 * 28 else (n_inputs,)
        with torch.no_grad():
            for matrix in self.parameters():
                if matrix.dim() == 2:
                    matrix.mul_(weight_scale)

    def time_constants(self) -> list[float]:
        """The time constant of each layer of neurons, in steps, as it is now."""
        nodes = (part for part in self.modules() if isinstance(part, neuron.BaseNode))
        return [
            1 / node.w.sigmoid().item()
            if isinstance(node, neuron.ParametricLIFNode)
            else float(node.tau)
            for node in nodes
        ]


def _sizes(sizes: Sequence[int]) -> list[int]:
    """Inputs and neurons per layer, of one layer at least."""
    if isinstance(sizes, str) or not isinstance(sizes, Sequence) or len(sizes) < 2:
        refuse("sizes", "a tuple of two whole numbers at least, inputs first", sizes)
    return [whole_number("sizes", size, 1) for size in sizes]


def _lif(tau: float, learn_tau: bool, decay_input: bool, v_reset: float | None) -> neuron.BaseNode:
    kind = neuron.ParametricLIFNode if learn_tau else neuron.LIFNode
    return kind(tau, decay_input, v_reset=v_reset, surrogate_function=surrogate.ATan())
