"""Forward-Forward learning: every layer tells good images from bad ones by itself.

A label is written into the image. With the true label the image is *positive*,
with a wrong one *negative*. Each layer learns, from its own rates alone, to be
busy on positive and quiet on negative images; no error travels back from layer
to layer (Hinton 2022, Sec. 2; for spiking layers Ghader et al. 2025).

The time loop lives elsewhere: a layer is handed the neurons it uses, ``fire``
for spikes and ``steady`` for the rate under a steady current.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.readout import firing_rate, predict

Pair = tuple[Tensor, Tensor]  # positive and negative inputs, equally many


def overlay_labels(images: Tensor, labels: Tensor, n_classes: int = 10) -> Tensor:
    """Write labels into images: of the first ``n_classes`` pixels, one is 1 and the rest 0.

    Args:
        images: ``[N, 1, 28, 28]``, grey values in [0, 1]; left as they are.
        labels: ``[N]``, whole numbers from 0 to ``n_classes - 1``.
        n_classes: How many pixels of the top row the label takes.

    Returns:
        New images, in the shape and type of ``images``.

    Raises:
        ValueError: A label is outside its range, or there are more or fewer labels than images.
    """
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels must be [N] with N={len(images)} images, got {tuple(labels.shape)}"
        )
    one_hot = _one_hot(labels, n_classes).to(images.dtype)
    marked = images.clone()
    marked[:, 0, 0, :n_classes] = one_hot
    return marked


def overlay_neutral(images: Tensor, n_classes: int = 10) -> Tensor:
    """Write "no label": every label pixel is ``1 / n_classes`` (Hinton 2022, Sec. 3.3)."""
    marked = images.clone()
    marked[:, 0, 0, :n_classes] = 1.0 / n_classes
    return marked


def draw_wrong_labels(labels: Tensor, generator: torch.Generator, n_classes: int = 10) -> Tensor:
    """Draw for each label another one, all wrong ones equally likely.

    Args:
        labels: True labels ``[N]``, from 0 to ``n_classes - 1``.
        generator: Source of randomness, on the device of ``labels``.
        n_classes: At least 2.

    Returns:
        Wrong labels ``[N]``; none equals the true one.

    Raises:
        ValueError: There is no wrong label to draw.
    """
    if n_classes < 2:
        raise ValueError(f"n_classes must be at least 2, got {n_classes}")
    step = torch.randint(
        1, n_classes, labels.shape, generator=generator, device=labels.device, dtype=labels.dtype
    )
    return (labels + step) % n_classes


def draw_likely_wrong_labels(
    scores: Tensor, labels: Tensor, generator: torch.Generator, sharpness: float = 1.0
) -> Tensor:
    """Draw wrong labels that the network itself finds plausible ("hard" negatives).

    Args:
        scores: Goodness of every image with every label, ``[N, n_classes]``.
        labels: True labels ``[N]``.
        generator: Source of randomness, on the device of ``scores``.
        sharpness: A label is drawn in proportion to ``exp(sharpness * score)``;
            0 draws all wrong labels alike.

    Returns:
        Wrong labels ``[N]``; none equals the true one.
    """
    true = _one_hot(labels, scores.shape[1]).bool()
    chance = torch.softmax((sharpness * scores).masked_fill(true, -torch.inf), dim=1)
    return torch.multinomial(chance, 1, generator=generator).squeeze(1)


def goodness(rate: Tensor, kind: str = "mean_square") -> Tensor:
    """How busy a layer is: the mean over its neurons of the squared rate, or of the rate.

    For one single time step a rate is 0 or 1 and both kinds are the same.

    Args:
        rate: ``[N, ...]``, spikes per step; everything after N belongs to one image.
        kind: ``"mean_square"``, Eq. (8.2) of the book, or ``"mean"``.

    Returns:
        ``[N]``, between 0 and 1.

    Raises:
        ValueError: ``kind`` is unknown.
    """
    if kind not in ("mean_square", "mean"):
        raise ValueError(f"kind must be mean_square or mean, got {kind!r}")
    flat = rate.flatten(1)
    return (flat.square() if kind == "mean_square" else flat).mean(dim=1)


def forward_forward_loss(
    g_pos: Tensor, g_neg: Tensor, theta: float | None = None, *, scale: float = 1.0
) -> Tensor:
    """Push goodness up for positive and down for negative images.

    With a threshold ``theta`` each image is judged alone, Eq. (8.4) of the book
    (Hinton 2022, Eq. 1):

        softplus(scale * (theta - g_pos)) / scale + softplus(scale * (g_neg - theta)) / scale.

    Without one, an image is judged against itself with another label, Eq. (8.5)
    (Lee & Song 2023, SymBa, Eq. 4): softplus(-scale * (g_pos - g_neg)) / scale.

    Args:
        g_pos: Goodness of positive images ``[N]``.
        g_neg: Goodness of the negative images ``[N]``, in the same order.
        theta: The goodness that separates good from bad, or None.
        scale: How sharply the loss bends; rates are small numbers, so 1 is nearly a straight line.

    Returns:
        A scalar; the mean over all N differences, or all 2 N images.
    """
    if theta is None:
        return F.softplus(-scale * (g_pos - g_neg)).mean() / scale
    return F.softplus(scale * torch.cat([theta - g_pos, g_neg - theta])).mean() / scale


def normalise_length(inputs: Tensor, length: float = 2.0) -> Tensor:
    """Keep the direction of an input vector and forget its length.

    A layer must not pass on how good it found the image, or the next one would
    only have to copy it (Hinton 2022, Sec. 2.1). Spike trains are scaled by
    the length of their rate vector, the same at every step.

    Args:
        inputs: Rates or grey values ``[N, F]``, or spike trains ``[T, N, F]``.
        length: Wanted root mean square of each vector.

    Returns:
        The scaled inputs; an input of zeros stays zero.
    """
    rates = inputs.mean(dim=0) if inputs.dim() == 3 else inputs
    present = rates.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    return inputs * (length * rates.shape[-1] ** 0.5 / present)


class ForwardForwardLayer(nn.Module):
    """A linear map and LIF neurons over T steps, behind a normalised, detached input.

    Args:
        in_features: Width of the input; images are flattened.
        out_features: Number of neurons K.
        n_steps: Time steps T for which a steady input is shown.
        fire: The neurons: currents ``[T, N, K]`` to spikes ``[T, N, K]``.
        steady: A faster way to the rate when all steps are alike: current
            ``[N, K]`` to rate ``[N, K]``; left out, the rate is counted from ``fire``.
        length: Root mean square of the normalised input.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        n_steps: int,
        fire: Callable[[Tensor], Tensor],
        steady: Callable[[Tensor], Tensor] | None = None,
        length: float = 2.0,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.n_steps = n_steps
        self.fire = fire
        self.steady = steady
        self.length = length

    def current(self, inputs: Tensor) -> Tensor:
        """Input current: ``[N, ...]`` to ``[N, K]``, or a spike train to ``[T, N, K]``."""
        inputs = inputs.detach()  # nothing below this layer learns from it
        if inputs.dim() != 3:
            inputs = inputs.flatten(1)
        return cast(Tensor, self.linear(normalise_length(inputs, self.length)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Spikes ``[T, N, K]`` for images or rates ``[N, ...]`` or a spike train ``[T, N, F]``."""
        current = self.current(inputs)
        if current.dim() == 2:
            current = current.expand(self.n_steps, *current.shape)
        return self.fire(current)

    def rate(self, inputs: Tensor) -> Tensor:
        """Rates ``[N, K]``, by the fast way where there is one."""
        if inputs.dim() != 3:
            return self.rate_of(self.current(inputs))
        return firing_rate(self(inputs))

    def rate_of(self, current: Tensor) -> Tensor:
        """Rates under a steady current of any shape, by the fast way where there is one."""
        if self.steady is not None:
            return self.steady(current)
        return firing_rate(self.fire(current.expand(self.n_steps, *current.shape)))


class ForwardForwardNetwork(nn.Module):
    """A stack of layers that never learn from each other.

    Args:
        layers: From the image upwards.
        hand_over: What a layer gives the next: its ``"rate"``, shown as a steady
            current, or its ``"spikes"``, step by step.
    """

    def __init__(self, layers: Sequence[nn.Module], hand_over: str = "rate") -> None:
        super().__init__()
        if hand_over not in ("rate", "spikes"):
            raise ValueError(f"hand_over must be rate or spikes, got {hand_over!r}")
        self.layers = nn.ModuleList(layers)
        self.hand_over = hand_over

    def step(self, layer: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The rate of one layer, with its gradient, and what the next layer is given, without."""
        if self.hand_over == "rate":
            rate = layer.rate(inputs)  # type: ignore[operator]
            return rate, rate.detach()
        spikes = layer(inputs)
        return firing_rate(spikes), spikes.detach()

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Rates of every layer, each ``[N, K]``; a gradient in one never reaches another."""
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

    Each layer's backward pass runs, and its graph is freed, before the next
    layer computes anything: memory does not grow with depth.

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
        ValueError: ``pairs`` is empty.
    """
    history: list[Tensor] = []
    for positive, negative in pairs:
        both = torch.cat([positive, negative], dim=1 if positive.dim() == 3 else 0)
        optimizer.zero_grad(set_to_none=True)
        history.append(_learn_from(network, both, loss, measure, only))
        optimizer.step()
        if after_step is not None:
            after_step()
    if not history:
        raise ValueError("pairs must hold at least one pair, got none")
    return cast(list[float], torch.stack(history).mean(dim=0).tolist())


def _learn_from(
    network: ForwardForwardNetwork,
    inputs: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    measure: Callable[[Tensor], Tensor],
    only: int | None,
) -> Tensor:
    """Gradients of every layer (or one) for one batch: positives first, negatives after."""
    losses = []
    for number, layer in enumerate(network.layers):
        learns = only is None or number == only
        with torch.set_grad_enabled(learns):
            rate, inputs = network.step(layer, inputs)
            if learns:
                value = loss(*measure(rate).chunk(2))
                value.backward()
                losses.append(value.detach())
        if number == only:
            break
    return torch.stack(losses)


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
    rates = network(_with_every_label(images, overlay, n_classes))
    judged = torch.stack([measure(rate) for rate in rates])
    return judged.view(len(rates), n_classes, len(images)).transpose(1, 2)


@torch.no_grad()
def first_layer_goodness(
    layer: "ForwardForwardLayer",
    images: Tensor,
    *,
    measure: Callable[[Tensor], Tensor] = goodness,
    n_classes: int = 10,
) -> Tensor:
    """Goodness that the first layer finds with every label, ``[N, n_classes]``, the quick way.

    All labels light one pixel, so the length of the input is the same for all
    and the current of label k is that of the unlabelled image plus one column
    of weights: one matrix product serves all ten.
    """
    marked = overlay_labels(images, torch.zeros_like(images[:, 0, 0, 0], dtype=torch.int64))
    size = layer.length * marked[0].numel() ** 0.5 / marked.flatten(1).norm(dim=1, keepdim=True)
    columns = layer.linear.weight[:, :n_classes].T  # [n_classes, K]
    change = (columns - columns[0])[:, None, :] * size  # [n_classes, N, K]
    return (
        measure(layer.rate_of(layer.current(marked) + change).flatten(0, 1))
        .view(n_classes, len(images))
        .T
    )


def classify_by_goodness(
    network: ForwardForwardNetwork, images: Tensor, *, first_layer: int = 0, n_classes: int = 10
) -> Tensor:
    """The label with which the network finds an image best: ``[N, ...]`` to ``[N]``.

    Goodness is summed from ``first_layer`` upwards: the layer next to the image
    often judges badly, and Hinton (2022, Sec. 3.3) leaves it out.
    """
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
    output neurons no class, so it works only if something else has taught them.
    """
    rate = network(_with_every_label(images, overlay, n_classes))[-1]
    return predict(rate.view(n_classes, len(images), -1).sum(dim=0))


def _with_every_label(
    images: Tensor, overlay: Callable[[Tensor, Tensor], Tensor], n_classes: int
) -> Tensor:
    """All images with label 0, then all with label 1, and so on: ``[n_classes * N, ...]``."""
    labels = torch.arange(n_classes, device=images.device).repeat_interleave(len(images))
    return overlay(images.repeat(n_classes, *[1] * (images.dim() - 1)), labels)


def _one_hot(labels: Tensor, n_classes: int) -> Tensor:
    # Built by comparison: unlike F.one_hot it asks the GPU for nothing, so nothing waits.
    if labels.device.type == "cpu" and len(labels):
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= n_classes:
            raise ValueError(f"labels must lie in 0..{n_classes - 1}, got {low} to {high}")
    return labels[:, None] == torch.arange(n_classes, device=labels.device)
