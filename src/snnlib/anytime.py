"""Reading a network early: how right it is after each step, and how much it worked for that.

A spiking network has an answer at every step: the class that has fired most so
far. The longer it runs, the better the answer, and the more spikes it costs.
Work is counted where it happens, at the connections between layers:

    synaptic operation     a spike arrives at a connection, and its weight is added
    multiply-accumulate    a number arrives, is multiplied by the weight, and added

Both counts are exact; a convolution has fewer connections at its borders. The
energy that they stand for is an estimate, see :func:`energy_pj`.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor, nn

from snnlib import checks
from snnlib.checks.divergence import check_finite_network
from snnlib.checks.layers import check_countable, first_layer_in_time
from snnlib.encoding import constant_encode
from snnlib.networks import layers_of
from snnlib.readout import evaluation_mode, predict

# One 32-bit floating-point operation in 45 nm at 0.9 V, in picojoules: Horowitz
# (2014), "Computing's energy problem", ISSCC, Fig. 1.1.9.
ADD_PJ, MULTIPLY_PJ = 0.9, 3.7

Encode = Callable[[Tensor], Tensor]


def energy_pj(accumulates: float, multiply_accumulates: float) -> float:
    """Estimate the energy of the arithmetic at the connections, in picojoules.

    An addition costs 0.9 pJ and a multiplication 3.7 pJ (32-bit floating point,
    45 nm: Horowitz 2014, Fig. 1.1.9), so a multiply-accumulate costs 4.6 pJ.

    Left out: reading weights and potentials from memory, which costs more than the
    arithmetic on most machines; the neurons' own updates (leak, threshold, reset);
    drawing random numbers; finding out who spiked, and sending it there. An
    estimate compares networks, it does not predict what a socket delivers.

    Args:
        accumulates: Synaptic operations.
        multiply_accumulates: Likewise of numbers.
    """
    accumulates = checks.number("accumulates", accumulates, least=0)
    multiply_accumulates = checks.number("multiply_accumulates", multiply_accumulates, least=0)
    return ADD_PJ * accumulates + (ADD_PJ + MULTIPLY_PJ) * multiply_accumulates


def fan_out(layer: nn.Module, shape: Iterable[int]) -> Tensor:
    """Count the connections that leave each input of a layer.

    With all weights 1 and no bias, the sum over all outputs grows by exactly that
    number per unit of one input; so it is the gradient of that sum.

    Args:
        layer: A convolution or a dense layer.
        shape: Shape of one input, without time and batch: ``(C, H, W)`` or ``(n,)``.

    Returns:
        Whole numbers in that shape, float64 on the CPU; padding is no input.

    Raises:
        ValueError: ``layer`` has no weights to count, or takes no input of that shape.
    """
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        raise ValueError(f"layer must be a convolution or a dense layer, got {layer}")
    shape = [checks.whole_number("shape", size, 1) for size in shape]
    ones = copy.deepcopy(layer).to("cpu", torch.float64)
    nn.init.ones_(ones.weight)
    if ones.bias is not None:
        nn.init.zeros_(ones.bias)
    image = torch.zeros(1, *shape, dtype=torch.float64, requires_grad=True)
    forward: Any = nn.Linear.forward if isinstance(layer, nn.Linear) else nn.Conv2d.forward
    with torch.enable_grad():  # the plain forward: no time, whatever the library adds
        try:
            total = forward(ones, image).sum()
        except RuntimeError as error:
            raise ValueError(f"shape must be one that {layer} takes, got {shape}") from error
    return torch.autograd.grad(total, image)[0][0].round()


@dataclass
class Reading:
    """A network read after each of T steps; lists hold one value per step, from step 1.

    Layers of weights are called ``conv1``, ``conv2``, ..., ``dense1``, ...; neurons
    by the layer that feeds them; Poisson spikes of the image ``input``. All counts
    but ``n_correct`` and ``n_images`` are means per image; those in lists add up over
    time. ``connections`` is what the ordinary network of the same shape computes:
    one multiply-accumulate per connection.
    """

    n_images: int = 0
    n_correct: list[int] = field(default_factory=list)
    spikes: dict[str, list[float]] = field(default_factory=dict)
    synaptic_operations: dict[str, list[float]] = field(default_factory=dict)
    multiply_accumulates: dict[str, float] = field(default_factory=dict)
    nonzero_multiply_accumulates: dict[str, float] = field(default_factory=dict)
    connections: dict[str, int] = field(default_factory=dict)
    neurons: dict[str, int] = field(default_factory=dict)

    @property
    def accuracy(self) -> list[float]:
        """Share of images right after each step, in [0, 1]."""
        return [n / self.n_images for n in self.n_correct]

    @property
    def energy_pj(self) -> list[float]:
        """Estimated energy per image up to each step; numbers are multiplied once, at step 1."""
        at_once = sum(self.multiply_accumulates.values())
        layers = self.synaptic_operations.values()
        return [
            energy_pj(sum(counts[t] for counts in layers), at_once)
            for t in range(len(self.n_correct))
        ]

    @property
    def spikes_per_connection(self) -> list[float]:
        """Mean spikes up to each step at a connection of those layers that see spikes.

        A layer that the grey image enters multiplies as its ordinary twin does, so it
        is left out on both sides; without a layer that sees spikes all are 0.
        """
        layers = self.synaptic_operations
        n = sum(self.connections[name] for name in layers)
        steps = range(len(self.n_correct))
        return [sum(counts[t] for counts in layers.values()) / max(n, 1) for t in steps]

    @property
    def ordinary_energy_pj(self) -> float:
        """Estimated energy per image of the ordinary network of the same shape."""
        return energy_pj(0, sum(self.connections.values()))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; ``Reading(**stored)`` is the inverse."""
        return asdict(self)


@torch.no_grad()
def read_anytime(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    n_steps: int,
    encode: Encode | None = None,
) -> Reading:
    """Run a network once, read it after every step, and count all its work.

    The reading at step t is that of ``firing_rate(spikes[:t])``; silence and ties go
    to the lowest class. Evaluation mode is used meanwhile, as in ``evaluate``.

    Args:
        network: One of ``snnlib.networks``; of an ``NonSpikingNetwork``, with one step,
            the logits are read and every layer multiplies.
        batches: Pairs of images ``[N, 1, 28, 28]``, as they enter, and labels.
        n_steps: Number of time steps T.
        encode: Images to spikes ``[T, N, 1, 28, 28]``. Left out, the image enters as
            the same currents at every step, and the first layer multiplies once.

    Returns:
        Accuracies and counts after each step.

    Raises:
        ValueError: ``n_steps`` is below 1, ``batches`` is empty, ``encode`` returns
            another number of steps, or ``network`` holds NaN or infinity.
    """
    n_steps = checks.whole_number("n_steps", n_steps, 1)
    check_finite_network(network)
    tally = _Tally(n_steps)
    with evaluation_mode(network):
        for images, labels in batches:
            images = checks.image_tensor("images", images)
            labels = checks.label_tensor("labels", labels, len(images))
            if not len(images):
                continue
            x = constant_encode(images, 1) if encode is None else encode(images)
            name = "images" if encode is None else "encode(images)"
            x = checks.float_tensor(name, x, next(network.parameters()).dtype)
            tally.show(network, x, labels, spiking=encode is not None)
    return tally.reading()


class _Tally:
    """Sums over images; float64 holds every whole number that can occur."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps, self.n_images = n_steps, 0
        self.correct = torch.zeros(n_steps, dtype=torch.int64)
        self.fan_out: dict[str, Tensor] = {}
        self.neurons: dict[str, int] = {}
        self.spikes: dict[str, Tensor] = {}
        self.added: dict[str, Tensor] = {}
        self.multiplied: dict[str, Tensor] = {}

    def show(self, network: nn.Module, x: Tensor, labels: Tensor, *, spiking: bool) -> None:
        """Send a batch through the layers, counting before each layer and behind each neuron."""
        if spiking and len(x) != self.n_steps:
            raise ValueError(f"encode must return n_steps={self.n_steps} steps, got {len(x)}")
        name, numbers = "input", Counter[str]()
        if spiking:
            self._count_spikes(name, x)
        layers = layers_of(network)
        check_countable(layers)
        begin = first_layer_in_time(layers)
        for number, layer in enumerate(layers):
            if number == begin:
                x = x.expand(self.n_steps, *x.shape[1:])
            if isinstance(layer, nn.Conv2d | nn.Linear):
                kind = "dense" if isinstance(layer, nn.Linear) else "conv"
                numbers[kind] += 1
                name = f"{kind}{numbers[kind]}"
                self._count_arrivals(name, layer, x, spiking)
            if isinstance(layer, BaseNode):
                layer.reset()
                x, spiking = layer(x), True
                self.neurons[name] = x[0, 0].numel()
                self._count_spikes(name, x)
            else:
                x = layer(x)
        self._judge(x, labels)

    def _count_spikes(self, name: str, x: Tensor) -> None:
        # Half precision would round the sums.
        _add(self.spikes, name, x.flatten(2).sum(2, dtype=_precise(x)).cpu().double().sum(1))

    def _count_arrivals(self, name: str, layer: nn.Module, x: Tensor, spiking: bool) -> None:
        """Each spike, or number that is not 0, arrives at every connection of its place."""
        if name not in self.fan_out:
            self.fan_out[name] = fan_out(layer, x.shape[2:])
        active = x != 0
        if spiking and not torch.equal(active.to(x.dtype), x):
            raise ValueError(
                f"{name} must be reached by spikes, 0 or 1, to count operations; {layer}"
            )
        arrived = active.sum(1).cpu().double().flatten(1) @ self.fan_out[name].flatten()
        arrived = arrived if spiking else arrived[:1]
        _add(self.added if spiking else self.multiplied, name, arrived)

    def _judge(self, x: Tensor, labels: Tensor) -> None:
        """Read out after each step: what has fired most so far?"""
        if len(x) != self.n_steps:
            raise ValueError(f"n_steps must be 1 without spiking neurons, got {self.n_steps}")
        checks.label_tensor("labels", labels, n_classes=x.shape[-1])
        predicted = predict(x.cumsum(0, dtype=_precise(x)).flatten(0, 1)).unflatten(0, x.shape[:2])
        self.correct += (predicted == labels).sum(1).cpu()
        self.n_images += len(labels)

    def reading(self) -> Reading:
        """Means per image; what lies in time, added up over time."""
        if self.n_images == 0:
            raise ValueError("batches must hold at least one batch, got none")
        connections = {name: int(fan.sum()) for name, fan in self.fan_out.items()}
        return Reading(
            n_images=self.n_images,
            n_correct=self.correct.tolist(),
            spikes=self._over_time(self.spikes),
            synaptic_operations=self._over_time(self.added),
            multiply_accumulates={name: connections[name] for name in self.multiplied},
            nonzero_multiply_accumulates={
                name: total.item() / self.n_images for name, total in self.multiplied.items()
            },
            connections=connections,
            neurons=self.neurons,
        )

    def _over_time(self, totals: dict[str, Tensor]) -> dict[str, list[float]]:
        return {name: (t.cumsum(0) / self.n_images).tolist() for name, t in totals.items()}


def _precise(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _add(totals: dict[str, Tensor], name: str, more: Tensor) -> None:
    totals[name] = totals[name] + more.cpu() if name in totals else more.cpu()
