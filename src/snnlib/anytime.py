"""Reading a network early: how right it is after each step, and how much it worked for that.

A spiking network has an answer at every step: the class that has fired most so
far. The longer it runs, the better the answer, and the more spikes it costs.
Work is counted at the connections between layers, as ``operations`` says. This file knows
the book's networks, whose input is multiplied once for all steps if it is the same at each.
"""

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
from snnlib.operations import are_spikes, arrivals, energy_pj, fan_out
from snnlib.readout import evaluation_mode, predict

Encode = Callable[[Tensor], Tensor]


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
        if spiking and not are_spikes(x):
            raise ValueError(
                f"{name} must be reached by spikes, 0 or 1, to count operations; {layer}"
            )
        arrived = arrivals(x if spiking else x[:1], self.fan_out[name])
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
