"""The fourth post's Forward-Forward network, with each of its faults behind a switch.

The post trains on one batch of 64 images and reports eight rows. With all switches
on, as by default, this is its code in batched form; each switch turned off fixes one
fault. Chapter 8 tells what each is worth.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.checks.divergence import DivergenceCheck, check_finite_network
from snnlib.data import ImageSet
from snnlib.encoding import poisson_encode
from snnlib.fast.events import poisson_linear_lif
from snnlib.fast.known_layers import is_plain_linear
from snnlib.fast.optimizers import Adam
from snnlib.fast.scan import neuron_scan
from snnlib.forward_forward.goodness import goodness
from snnlib.forward_forward.labels import draw_wrong_labels, overlay_labels
from snnlib.neurons import LIFParameters
from snnlib.readout import firing_rate, predict
from snnlib.surrogate import ATan, Sigmoid

Pair = tuple[Tensor, Tensor, Tensor]  # positive inputs, negative inputs, true labels
PORTION = 250  # images that are answered at a time
DENSE_PORTION = 50  # inputs whose spikes are held at once: so many fit into a cache


def overlay_labels_in_column(images: Tensor, labels: Tensor) -> Tensor:
    """The post's overlay: clear ten pixels of the top row, then write down the left edge.

    It sets ``x[i, 0, label, 0]`` where ``x[i, 0, 0, label]`` was meant, to the
    largest value of the whole batch.
    """
    marked = images.clone()
    marked[:, 0, 0, :10] = 0.0
    marked[torch.arange(len(images), device=images.device), 0, labels, 0] = images.max()
    return marked


def post_loss(
    g_pos: Tensor, g_neg: Tensor, kind: str = "log(2+e^z)", theta: float = 0.35, slope: float = 1.0
) -> Tensor:
    """The post's loss: as written ("linear"), as coded ("log(2+e^z)") or as meant ("softplus")."""
    z = slope * torch.cat([theta - g_pos, g_neg - theta])
    if kind == "linear":
        return z.mean() / slope
    if kind == "log(2+e^z)":
        return torch.log1p(1 + z.exp()).mean() / slope
    return F.softplus(z).mean() / slope


class PostNetwork(nn.Module):
    """The post's layers: Poisson encoder, linear map without bias, LIF, T steps each.

    Args:
        widths: From the 784 pixels to the output neurons.
        n_steps: Time steps T.
        neuron: The neurons of all layers.
        surrogate: ``"atan"`` or ``"sigmoid"``.
        goodness: ``"mean_square"`` or ``"mean"`` of the rates.
        prediction: By the ``"goodness"`` of all layers, or the output neurons' ``"rate"``.
        shared_state: Positive and negative images take turns on one membrane.
        label_in_column: The label is written down the left edge instead of along the top.
        pixel_norm: Each pixel is divided by its own length, spike frames by theirs.
    """

    def __init__(
        self,
        widths: Sequence[int] = (784, 500, 10),
        *,
        n_steps: int = 100,
        neuron: LIFParameters = LIFParameters(v_threshold=0.45),
        surrogate: str = "atan",
        goodness: str = "mean_square",
        prediction: str = "goodness",
        shared_state: bool = True,
        label_in_column: bool = True,
        pixel_norm: bool = True,
    ) -> None:
        super().__init__()
        self.n_steps, self.neuron, self.surrogate = n_steps, neuron, surrogate
        self.goodness, self.prediction = goodness, prediction
        self.shared_state, self.pixel_norm = shared_state, pixel_norm
        self.overlay = overlay_labels_in_column if label_in_column else overlay_labels
        pairs = pairwise(widths)
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairs)

    def currents(self, number: int, rates: Tensor, generator: torch.Generator) -> Tensor:
        """Encode rates ``[N, F]`` anew as spikes, normalise, and weigh: ``[T, N, K]``."""
        spikes = poisson_encode(rates, self.n_steps, generator=generator)
        if not self.pixel_norm:
            length = 2.0 * rates.shape[1] ** 0.5
            spikes = spikes * (length / rates.norm(dim=1, keepdim=True).clamp_min(1e-6))
        elif number == 0:
            spikes = spikes / (spikes + 1e-4)  # the length of one pixel is the pixel
        else:
            spikes = spikes / (spikes.norm(dim=2, keepdim=True) + 1e-4)
        return cast(Tensor, self.layers[number](spikes))

    def fire(self, currents: Tensor) -> Tensor:
        slope = ATan() if self.surrogate == "atan" else Sigmoid()
        return neuron_scan(currents, self.neuron, slope)

    def pair_of_rates(
        self, number: int, positive: Tensor, negative: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Rates of one layer for positive and negative inputs, ``[N, K]`` each."""
        good = self.currents(number, positive, generator)
        bad = self.currents(number, negative, generator)
        if self.shared_state:
            # Taking turns on one membrane is one run of 2 T steps: +, -, +, -, ...
            turns = self.fire(torch.stack([good, bad], dim=1).flatten(0, 1))
            return firing_rate(turns[0::2]), firing_rate(turns[1::2])
        spikes = self.fire(torch.cat([good, bad], dim=1))
        both = firing_rate(spikes)
        return both[: len(positive)], both[len(positive) :]

    @torch.no_grad()
    def up_to(
        self, number: int, positive: Tensor, negative: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """What layer ``number`` is given, as the layers below answer now."""
        for below in range(number):
            positive, negative = self.pair_of_rates(below, positive, negative, generator)
        return positive, negative

    def forward(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        """As :meth:`rates`; what learns is asked layer by layer, by :meth:`pair_of_rates`."""
        return self.rates(images, generator)

    @torch.no_grad()
    def rates(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Rates of all layers while it predicts: one stream of images, ``[N, K]`` each."""
        rates = [images.flatten(1)]
        for number in range(len(self.layers)):
            layer = self.layers[number]
            plain = is_plain_linear(layer) and layer.bias is None and images.is_cpu
            if plain and number == 0 and self.pixel_norm and layer.weight.dtype == torch.float32:
                rates.append(self._first_rates_on_cpu(rates[0], generator))
                continue
            parts = rates[-1].split(DENSE_PORTION)
            found = [firing_rate(self.fire(self.currents(number, p, generator))) for p in parts]
            rates.append(torch.cat(found))
        return rates[1:]

    def _first_rates_on_cpu(self, rates: Tensor, generator: torch.Generator) -> Tensor:
        """What ``currents`` and ``fire`` give for spikes of one size, by the event engine."""
        weight = cast(Tensor, self.layers[0].weight) / (1 + 1e-4)
        seed = int(torch.randint(2**31, (), generator=generator))
        return poisson_linear_lif(rates, weight, self.n_steps, self.neuron, seed=seed)


class PostTraining:
    """Layer after layer, ``n_updates`` steps each, as the post trains.

    With a single batch, positive and negative images stay the same ones and a
    layer hands on the rates of its last update. With more images, wrong labels
    are drawn anew and lower layers answer each batch with their finished weights.
    """

    def __init__(
        self,
        network: PostNetwork,
        training: ImageSet,
        generator: torch.Generator,
        *,
        loss: str = "log(2+e^z)",
        theta: float = 0.35,
        slope: float = 1.0,
        output_mse: bool = False,
        n_updates: int = 100,
        batch_size: int = 64,
        lr: float = 1e-3,
    ) -> None:
        self.network, self.training, self.generator = network, training, generator
        self.loss = partial(post_loss, kind=loss, theta=theta, slope=slope)
        self.output_mse, self.n_updates = output_mse, n_updates
        self.batch_size, self.lr = batch_size, lr
        self.n_done = 0  # layers
        self.order = torch.empty(0, dtype=torch.int64)  # of the pass through the images
        self.position = 0  # in it
        self.pair: Pair | None = None  # the one batch there is, as the layer below hands it on
        if len(training) <= batch_size:
            self.pair = self._next_pair()

    def _next_pair(self) -> Pair:
        """Positive inputs, negative inputs and true labels of the next batch, without end."""
        labels = self.training.labels
        if self.position >= len(self.order):
            n = len(labels)
            self.order = torch.randperm(n, generator=self.generator, device=labels.device)
            self.position = 0
        chosen = self.order[self.position : self.position + self.batch_size]
        self.position += self.batch_size
        pictures, true = self.training.images[chosen], labels[chosen]
        overlay = self.network.overlay
        wrong = draw_wrong_labels(true, self.generator)
        return overlay(pictures, true).flatten(1), overlay(pictures, wrong).flatten(1), true

    def learn_layer(self) -> list[float]:
        """Train the next layer; the loss of each of its updates.

        Raises:
            FloatingPointError: A gradient or a weight is not finite.
        """
        number, network = self.n_done, self.network
        optimizer = Adam(network.layers[number].parameters(), lr=self.lr)
        losses = []
        check = DivergenceCheck(network, optimizer, f"layer {number + 1}")
        for _ in range(self.n_updates):
            positive, negative, labels = self.pair or self._next_pair()
            if self.pair is None:
                positive, negative = network.up_to(number, positive, negative, self.generator)
            rates = network.pair_of_rates(number, positive, negative, self.generator)
            loss = self._layer_loss(number, rates, labels)
            optimizer.zero_grad()
            loss.backward()
            check.gradients(positive, loss)
            with check.step():
                optimizer.step()
            check.weights(positive)
            losses.append(loss.detach())
        check.finish()
        if self.pair is not None:
            self.pair = rates[0].detach(), rates[1].detach(), labels
        self.n_done += 1
        return cast(list[float], torch.stack(losses).tolist())

    def _layer_loss(self, number: int, rates: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        network = self.network
        if self.output_mse and number == len(network.layers) - 1:
            return F.mse_loss(rates[0], F.one_hot(labels, rates[0].shape[1]).to(rates[0]))
        return self.loss(*(goodness(rate, network.goodness) for rate in rates))

    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which :meth:`load` goes on bit for bit."""
        return {
            "network": self.network.state_dict(),
            "generator": self.generator.get_state(),
            "n_done": self.n_done,
            "order": self.order,
            "position": self.position,
            "pair": None if self.pair is None else list(self.pair),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Put a fresh training where a stored one was between two layers."""
        self.network.load_state_dict(state["network"])
        self.generator.set_state(state["generator"])
        self.n_done, self.position = state["n_done"], state["position"]
        device = self.training.labels.device
        self.order = state["order"].to(device)
        if state["pair"] is not None:
            self.pair = cast(Pair, tuple(part.to(device) for part in state["pair"]))


@torch.no_grad()
def predict_post(network: PostNetwork, images: Tensor, generator: torch.Generator) -> Tensor:
    """Predict by goodness or by the busiest output neuron, over ten labels: ``[N]``."""
    labels = torch.arange(10, device=images.device).repeat_interleave(len(images))
    rates = network.rates(network.overlay(images.repeat(10, 1, 1, 1), labels), generator)
    if network.prediction == "rate":
        return predict(rates[-1].view(10, len(images), -1).sum(dim=0))
    judged = torch.stack([goodness(rate, network.goodness) for rate in rates]).sum(dim=0)
    return predict(judged.view(10, len(images)).T)


def correct_post(network: PostNetwork, images: ImageSet, generator: torch.Generator) -> Tensor:
    """Whether each image is predicted correctly, ``[N]``, in portions that fit into memory.

    Raises:
        ValueError: ``network`` holds NaN or infinity.
    """
    check_finite_network(network)
    parts = images.images.split(PORTION)
    return torch.cat([predict_post(network, part, generator) for part in parts]) == images.labels


def count_correct_post(network: PostNetwork, images: ImageSet, generator: torch.Generator) -> int:
    """How many images are predicted correctly; as :func:`correct_post`."""
    return int(correct_post(network, images, generator).sum())
