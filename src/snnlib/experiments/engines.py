"""How a network answers: from images to rates, by one of several engines.

All engines share one set of weights, that of the SpikingJelly network, and
differ in who computes the time steps:

    spikingjelly  the library's own layers, every layer at every step
    torch         our own neurons (``snnlib.neurons``) under plain autograd
    scan          all steps of a neuron layer in one pass (``snnlib.fast.scan``)
    events        only the spikes, on a CPU (``snnlib.fast.events``), for ``fc``
    fused         norm, neuron and pool in one pass, on a CPU (``snnlib.fast.fused``), for ``csnn``
                  and ``small-conv``
    auto          the fastest of these that fits the network and the device
"""

import functools
import importlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from snnlib import checks
from snnlib.anytime import Reading, read_anytime
from snnlib.checks.layers import first_layer_in_time
from snnlib.encoding import constant_encode, poisson_encode
from snnlib.fast.known_layers import dense_layer, knows, parameters_of, surrogate_of
from snnlib.fast.walks import RUNNERS, run_layers
from snnlib.networks import ConvSNN, FullyConnectedSNN, NonSpikingNetwork, SmallConvSNN, layers_of
from snnlib.neurons import LIFParameters
from snnlib.posts.fifth import last_step_rate, run_neurons
from snnlib.readout import firing_rate
from snnlib.settings.experiment import ExperimentConfig
from snnlib.training import Respond

logger = logging.getLogger(__name__)

MNIST_MEAN, MNIST_STD = 0.1307, 0.3081


@dataclass
class EncoderState:
    """The randomness of an encoder: a generator, and a count of the images it has served.

    The count numbers the images for engines whose random numbers depend on
    (seed, image number) instead of on the order of calls. Where several processes
    share a batch, ``before`` and ``after`` are the numbers of its images that
    others answer; every image gets the spikes that it would get in one process.
    """

    generator: torch.Generator
    seed: int = 0
    n_served: int = 0
    before: int = 0
    after: int = 0

    def restart(self, seed: int) -> None:
        """Begin a new stream; the same seed gives the same stream."""
        self.generator.manual_seed(seed)
        self.seed, self.n_served = seed, 0

    def serve(self, n_images: int) -> int:
        """Count ``n_images`` more (and those of others), and return the number of our first."""
        first = self.n_served + self.before
        self.n_served = first + n_images + self.after
        return first

    def encode(self, images: Tensor, n_steps: int) -> Tensor:
        """Poisson spikes ``[T, *images.shape]``, drawn for the whole batch; ours are kept."""
        if not self.before and not self.after:
            return poisson_encode(images, n_steps, generator=self.generator)
        whole = images.new_zeros(self.before + len(images) + self.after, *images.shape[1:])
        ours = slice(self.before, self.before + len(images))
        whole[ours] = images
        return poisson_encode(whole, n_steps, generator=self.generator)[:, ours]


def make_network(config: ExperimentConfig) -> nn.Module:
    """Build the network with the initial weights that ``config.seed`` decides, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network: nn.Module
        if config.network == "fc":
            network = FullyConnectedSNN(config.tau, reset=config.reset)
        elif config.network == "csnn":
            fires = config.readout == "rate"
            network = ConvSNN(config.channels, reset=config.reset, last_fires=fires)
        else:
            network = SmallConvSNN(config.tau, reset=config.reset)
        if config.weight_std is not None:
            for weight in network.parameters():
                nn.init.normal_(weight, std=config.weight_std)
    return NonSpikingNetwork(network) if config.neuron == "relu" else network


def choose_engine(
    config: ExperimentConfig, device: torch.device, network: nn.Module | None = None
) -> str:
    """Name the engine that ``config`` gets on ``device``.

    Args:
        config: The settings.
        device: Where the network is.
        network: If given, ``"auto"`` is the fastest engine that knows all its layers.

    Raises:
        ValueError: The engine asked for does not run on that device, or is not installed.
    """
    if config.spike == "sigmoid" or config.rule == "last_step" or config.neuron == "relu":
        return "torch"
    fast = {"fc": "events", "csnn": "fused", "small-conv": "fused"}[config.network]
    if config.engine == "auto":
        precisions = ("off", "bfloat16") if fast == "fused" else ("off",)
        fits = device.type == "cpu" and config.amp in precisions and config.conv_steps == "all"
        fits = fits and (config.encoding == "poisson") == (fast == "events")
        if fits and (reason := _reason_not(fast)):
            _say_once(f"engine='auto' takes 'scan' in place of {fast!r}: {reason}")
            fits = False
        fast = fast if fits else "scan"
        takes = (engine for engine in (fast, "scan") if network is None or knows(engine, network))
        return next(takes, "spikingjelly")
    if config.engine in ("events", "fused"):
        if device.type != "cpu":
            raise ValueError(f"engine={config.engine!r} runs on a CPU only, got device={device}")
        if reason := _reason_not(config.engine):
            raise ValueError(f"engine={config.engine!r} does not run here: {reason}")
    return config.engine


def make_respond(
    config: ExperimentConfig, network: nn.Module, noise: EncoderState, engine: str
) -> Respond:
    """Join encoder, network and readout: images ``[N, 1, 28, 28]`` to rates ``[N, 10]``.

    Where the last neurons only add up (``readout="membrane"``), the mean over time is their
    potential per step instead of a rate; all engines treat both alike.

    Args:
        config: The settings.
        network: From :func:`make_network`, on the device of the images to come.
        noise: Where the encoder's randomness comes from.
        engine: From :func:`choose_engine`.

    Returns:
        The function. Once per batch it refuses images that are not finite, of another
        shape, or not exact in the type of the weights.
    """
    answer = _answer(config, network, noise, engine)

    def respond(images: Tensor) -> Tensor:
        shown = checks.tensor("images", images)
        if engine != "events":  # which looks at every pixel itself
            shown = checks.image_tensor("images", shown, next(network.parameters()).dtype)
        if shown.dim() != 4 or shown.shape[1:] != (1, 28, 28) or not len(shown):
            checks.refuse("images", "[N, 1, 28, 28] with N of at least 1", shown)
        if engine in ("events", "fused"):
            functional.reset_net(network)  # no potential of an earlier trial is left to be read
        return answer(shown)

    return respond


def _answer(
    config: ExperimentConfig, network: nn.Module, noise: EncoderState, engine: str
) -> Respond:
    if config.neuron == "relu":
        return lambda images: network(normalised(config, images))
    if config.rule == "last_step" or config.spike == "sigmoid":
        return _respond_as_the_fifth_post(config, network, noise)
    if engine == "events":
        return _respond_on_events(config, network, noise)
    if engine == "fused":
        return _respond_fused(config, network)
    return _respond_by_layers(config, network, noise, engine)


def first_stepwise_layer(config: ExperimentConfig, network: nn.Module, engine: str) -> int:
    """The layer from which on every time step is computed.

    SpikingJelly computes all of them. The others start at the first neurons,
    since what comes before sees the same image at every step. With the third
    post's fault, time begins only behind the convolutions.
    """
    layers = layers_of(network)
    if config.conv_steps == "one":
        flat = [i for i, layer in enumerate(layers) if "Flatten" in type(layer).__name__]
        if not flat:
            raise ValueError("network must have a Flatten layer for conv_steps='one', got none")
        return flat[0]
    return 0 if engine == "spikingjelly" else first_layer_in_time(layers)


def _respond_by_layers(
    config: ExperimentConfig, network: nn.Module, noise: EncoderState, engine: str
) -> Respond:
    own_forward = engine == "spikingjelly" and config.conv_steps == "all"

    def respond(images: Tensor) -> Tensor:
        if config.encoding == "poisson":
            x = noise.encode(images, config.n_steps)
        else:
            x = constant_encode(normalised(config, images), 1)
        if own_forward:
            return firing_rate(network(x.expand(config.n_steps, *x.shape[1:])))
        begin = first_stepwise_layer(config, network, engine)
        functional.reset_net(network)
        return firing_rate(
            run_layers(layers_of(network), x, RUNNERS[engine], config.n_steps, begin)
        )

    return respond


def _respond_on_events(
    config: ExperimentConfig, network: nn.Module, noise: EncoderState
) -> Respond:
    from snnlib.fast.events import poisson_linear_lif

    def respond(images: Tensor) -> Tensor:
        dense, node = dense_layer(network)
        neuron, surrogate = parameters_of(node), surrogate_of(node)
        return poisson_linear_lif(
            images, dense.weight, config.n_steps, neuron, seed=noise.seed, surrogate=surrogate,
            bias=dense.bias, first_index=noise.serve(len(images)),
        )  # fmt: skip

    return respond


def _respond_fused(config: ExperimentConfig, network: nn.Module) -> Respond:
    from snnlib.fast.fused import conv_snn_rate

    def respond(images: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):  # the engine lowers precision by itself
            return conv_snn_rate(
                network,
                normalised(config, images),
                config.n_steps,
                bfloat16=config.amp == "bfloat16",
            )

    return respond


def _respond_as_the_fifth_post(
    config: ExperimentConfig, network: nn.Module, noise: EncoderState
) -> Respond:
    sigmoid = config.spike == "sigmoid"

    def respond(images: Tensor) -> Tensor:
        dense, node = dense_layer(network)
        weight, neuron = dense.weight, parameters_of(node)
        if dense.bias is not None or neuron != LIFParameters(tau=config.tau):
            raise ValueError(
                f"network must be one Linear without bias and LIF neurons of tau={config.tau} for "
                f"spike='sigmoid' or rule='last_step', got {dense} and {neuron}"
            )
        assert isinstance(neuron, LIFParameters)
        flat = images.flatten(1)
        spikes = noise.encode(flat, config.n_steps)
        if config.rule == "last_step":
            return last_step_rate(weight, flat, spikes, neuron, sigmoid=sigmoid)
        return run_neurons(spikes @ weight.T, neuron, sigmoid=sigmoid)[0]

    return respond


def normalised(config: ExperimentConfig, images: Tensor) -> Tensor:
    """Images as they enter the network: moved and scaled if the settings say so."""
    return (images - MNIST_MEAN) / MNIST_STD if config.normalise else images


def _reason_not(engine: str) -> str:
    """Why the fast engine cannot run here; empty if it can."""
    try:
        importlib.import_module(f"snnlib.fast.{engine}")
    except ImportError as error:
        return str(error)
    return ""


@functools.cache
def _say_once(text: str) -> None:
    logger.warning(text)


def reading_of(
    config: ExperimentConfig,
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    engine: str,
    seed: int,
) -> Reading:
    """Read the network of an experiment for ``config.anytime_steps`` steps.

    The encoder draws the spikes that an evaluation with this engine and seed sees.
    """
    assert config.anytime_steps is not None
    n_steps = config.anytime_steps
    noise = EncoderState(torch.Generator(next(network.parameters()).device))
    noise.restart(seed)

    def encode(images: Tensor) -> Tensor:
        if engine != "events":
            return noise.encode(images, n_steps)
        from snnlib.fast.events import poisson_spikes

        first = noise.serve(len(images))
        spikes = poisson_spikes(images, n_steps, seed=seed, first_index=first)
        return spikes.unflatten(2, images.shape[1:])

    shown = ((normalised(config, images), labels) for images, labels in batches)
    return read_anytime(network, shown, n_steps, encode if config.encoding == "poisson" else None)
