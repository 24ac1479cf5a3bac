"""Forward-Forward learning: every layer tells good images from bad ones by itself.

A label is written into the image. With the true label the image is *positive*,
with a wrong one *negative*. Each layer learns, from its own rates alone, to be
busy on positive and quiet on negative images; no error travels back from layer
to layer (Hinton 2022, Sec. 2; for spiking layers Ghader et al. 2025).

The time loop lives elsewhere: a layer is handed the neurons it uses, ``fire``
for spikes and ``fast_rate`` for the rate under a constant input.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from spikingjelly.activation_based.functional import reset_net
from torch import Tensor, nn

from snnlib import checks
from snnlib.checks.divergence import DivergenceCheck
from snnlib.forward_forward.goodness import (
    goodness,
    inputs_for,
    normalise_length,
)
from snnlib.readout import firing_rate

Pair = tuple[Tensor, Tensor]  # positive and negative inputs, equally many


class ForwardForwardLayer(nn.Module):
    """A linear map and LIF neurons over T steps, behind a normalised, detached input.

    Args:
        in_features: Width of the input; images are flattened.
        out_features: Number of neurons K.
        n_steps: Time steps T for which a constant input is shown.
        fire: The neurons: currents ``[T, N, K]`` to spikes ``[T, N, K]``, each time from rest.
        fast_rate: A faster way to the rate when all steps are alike: current ``[N, K]`` to rate
            ``[N, K]``; without it, or with another ``fire`` or ``n_steps``, ``fire`` is counted.
        input_rms: Root mean square of the normalised input.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        n_steps: int,
        fire: Callable[[Tensor], Tensor],
        fast_rate: Callable[[Tensor], Tensor] | None = None,
        input_rms: float = 2.0,
    ) -> None:
        super().__init__()
        in_features = checks.whole_number("in_features", in_features, 1)
        out_features = checks.whole_number("out_features", out_features, 1)
        self.linear = nn.Linear(in_features, out_features)
        self.n_steps = checks.whole_number("n_steps", n_steps, 1)
        self.fire = fire
        self.fast_rate = fast_rate
        self.fast_rate_is_for = fire, self.n_steps
        self.input_rms = checks.number("input_rms", input_rms, above=0)

    def current(self, inputs: Tensor) -> Tensor:
        """Input current: ``[N, ...]`` to ``[N, K]``, or a spike train to ``[T, N, K]``."""
        return self.weigh(inputs.detach())  # nothing below this layer learns from it

    def weigh(self, inputs: Tensor) -> Tensor:
        """The current with its gradient downwards: normalised inputs times the weights."""
        if inputs.dim() != 3:
            inputs = inputs.flatten(1)
        if (width := getattr(self.linear, "in_features", None)) not in (None, inputs.shape[-1]):
            raise ValueError(
                f"inputs must be [N, ...] of {width} numbers each, or [T, N, {width}], "
                f"got {list(inputs.shape)}"
            )
        return cast(Tensor, self.linear(normalise_length(inputs, self.input_rms)))

    def scale_of(self, inputs: Tensor) -> Tensor:
        """By how much ``weigh`` stretches each of ``[N, ...]``, ``[N, 1]``."""
        n_features = inputs[0].numel()
        return self.input_rms * n_features**0.5 / inputs.flatten(1).norm(dim=1, keepdim=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """Spikes ``[T, N, K]`` for images or rates ``[N, ...]`` or a spike train ``[T, N, F]``."""
        current = self.current(inputs)
        if current.dim() == 2:
            current = current.expand(self.n_steps, *current.shape)
        return self._spikes(current)

    def _spikes(self, current: Tensor) -> Tensor:
        """From rest, and no potential is left behind, which no copy could be made of."""
        if not isinstance(self.fire, nn.Module):
            return self.fire(current)
        if getattr(self.fire, "step_mode", "m") != "m":
            raise ValueError(
                f"fire must have step_mode='m', all steps in one call, got {self.fire}"
            )
        reset_net(self.fire)
        spikes = cast(Tensor, self.fire(current))
        reset_net(self.fire)
        return spikes

    def rate(self, inputs: Tensor) -> Tensor:
        """Rates ``[N, K]``, by the fast way where there is one."""
        if inputs.dim() != 3:
            return self.rate_of(self.current(inputs))
        return firing_rate(self(inputs))

    def rate_of(self, current: Tensor) -> Tensor:
        """Rates under a constant input of any shape, by the fast way where there is one."""
        if self.fast_rate is not None and self.fast_rate_is_for == (self.fire, self.n_steps):
            return self.fast_rate(current)
        return firing_rate(self._spikes(current.expand(self.n_steps, *current.shape)))


class ForwardForwardNetwork(nn.Module):
    """A stack of layers that never learn from each other.

    Layers that pass on rates are asked for their ``rate``, others are called: a hook on a whole
    layer hears calls only. One on the network, or on a layer's linear map, hears all of them.

    Args:
        layers: From the image upwards.
        pass_on: What a layer gives the next: its ``"rate"``, shown as a constant
            input, or its ``"spikes"``, step by step.
    """

    def __init__(self, layers: Sequence[nn.Module], pass_on: str = "rate") -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.pass_on = checks.one_of("pass_on", pass_on, ("rate", "spikes"))

    def step(self, layer: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The rate of one layer, with its gradient, and what the next layer is given, without."""
        if self.pass_on == "rate":
            rate = layer.rate(inputs)  # type: ignore[operator]
            return rate, rate.detach()
        spikes = layer(inputs)
        return firing_rate(spikes), spikes.detach()

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Rates of every layer, each ``[N, K]``; a gradient in one never reaches another.

        Raises:
            ValueError: ``inputs`` are no finite numbers, or not exact in the type of the weights.
        """
        inputs = inputs_for("inputs", self, inputs)
        rates = []
        for layer in self.layers:
            rate, inputs = self.step(layer, inputs)
            rates.append(rate)
        return rates


def train_layers(
    network: ForwardForwardNetwork,
    pairs: Iterable[Pair],
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    measure: Callable[[Tensor], Tensor] = goodness,
    only: int | None = None,
    after_step: Callable[[], object] | None = None,
) -> list[float]:
    """Go once through the pairs; every layer takes its own step on each.

    Each layer's graph is freed before the next one computes: memory does not grow with depth.

    Args:
        network: The layers; their parameters are the optimizer's.
        pairs: Positive and negative inputs, ``[N, ...]`` or spike trains ``[T, N, F]`` each.
        loss: Goodness of both, ``[N]`` and ``[N]``, to a scalar.
        optimizer: Steps once per pair.
        measure: Goodness: rates ``[2 N, K]`` to ``[2 N]``.
        only: Train this layer alone, those below it as they are; all at once if left out.
        after_step: Called after each step, a learning-rate schedule for instance.

    Returns:
        The mean loss of each trained layer.

    Raises:
        FloatingPointError: A gradient, a parameter or a running statistic is not finite.
        ValueError: ``pairs`` is empty, or holds inputs that are not finite or do not match.
    """
    if only is not None:
        only = checks.whole_number("only", only, 0, len(network.layers) - 1)

    def learn(good: Tensor, bad: Tensor) -> Tensor:
        positive = inputs_for("positive inputs", network, good)
        negative = inputs_for("negative inputs", network, bad)
        if positive.shape != negative.shape:
            raise ValueError(
                "positive and negative inputs must have one shape, "
                f"got {list(positive.shape)} and {list(negative.shape)}"
            )
        both = torch.cat([positive, negative], dim=1 if positive.dim() == 3 else 0)
        return learn_from(network, both, lambda rate: loss(*measure(rate).chunk(2)), only)[0]

    return train_batches(network, pairs, learn, optimizer, after_step=after_step)


def train_batches(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    learn: Callable[..., Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    after_backward: Callable[[nn.Module], object] | None = None,
    after_step: Callable[[], object] | None = None,
    stage: str = "",
) -> list[float]:
    """The loop of every layer-wise rule, and of its every run: gradients, then a step, per batch.

    Args:
        network: The layers; their parameters are the optimizer's.
        batches: What ``learn`` is given, batch after batch.
        learn: Adds the gradients of one batch, and hands back the losses ``[L]``.
        optimizer: Steps once per batch.
        after_backward: Called with ``network`` once its gradients are there.
        after_step: Called after each step.
        stage: Said if the run diverges, ``"epoch 3"`` for instance.

    Returns:
        The mean of each loss.

    Raises:
        FloatingPointError: A gradient, a parameter or a running statistic is not finite.
        ValueError: ``batches`` is empty.
    """
    history: list[Tensor] = []
    check = DivergenceCheck(network, optimizer, stage)
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        history.append(learn(*batch))
        if after_backward is not None:
            after_backward(network)
        check.gradients(batch[0], history[-1])
        with check.step():
            optimizer.step()
        check.weights(batch[0])
        if after_step is not None:
            after_step()
    check.finish()
    if not history:
        raise ValueError("pairs must hold at least one pair, got none")
    return cast(list[float], torch.stack(history).mean(dim=0).tolist())


def learn_from(
    network: ForwardForwardNetwork,
    inputs: Tensor,
    objective: Callable[[Tensor], Tensor],
    only: int | None = None,
    *,
    first_rate: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradients of every layer (or one) for one batch; no optimizer steps here.

    Args:
        network: The layers; their gradients are added to.
        inputs: ``[N, ...]`` or spike trains ``[T, N, F]``.
        objective: What a layer makes small: its rates ``[N, ...]`` to a scalar.
        only: The one layer that learns; all of them if left out.
        first_rate: What the first layer answers, if a quicker way has found it; then ``inputs``
            is not looked at. For layers that hand on their rate and nothing else.

    Returns:
        The losses of the layers that learn, and what the last of them hands on.
    """
    losses = []
    for number, layer in enumerate(network.layers):
        learns = only is None or number == only
        with torch.set_grad_enabled(learns):
            if number == 0 and first_rate is not None:
                rate, inputs = first_rate, first_rate.detach()
            else:
                rate, inputs = network.step(layer, inputs)
            if learns:
                value = objective(rate)
                if value.requires_grad:  # else the weights of this layer are frozen
                    value.backward()
                losses.append(value.detach())
        if number == only:
            break
    return torch.stack(losses), inputs
