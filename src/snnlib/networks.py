"""The posts' networks on SpikingJelly layers: ``[T, N, 1, 28, 28]`` to spikes ``[T, N, 10]``.

A forward pass is one trial: it resets the neurons first, so nobody outside has
to remember to. All layers work in multi-step mode, so the whole network, its
convolutions too, sees every time step.

After it the neurons keep their last potential ``v``, with its gradient, to be read
or regularised. It belongs to the trial, not to the network: it is in no
``state_dict``, the next trial resets it, and a copy of the network
(``copy.deepcopy``, ``pickle``, ``torch.save``, ``AveragedModel``) is at rest.
One trial at a time: threads that work at once need a copy each.
"""

import copy
from typing import Any, cast

from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.base import MemoryModule
from torch import Tensor, nn

from snnlib import checks
from snnlib.checks.layers import CURE, check_step_modes, is_touched, refuse_layer


class SpikingNetwork(nn.Module):
    """Layers in a row, in multi-step mode, reset at the start of each trial.

    ``input_shape`` is what one step of one image looks like.
    """

    input_shape: tuple[int, ...] = (1, 28, 28)

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        functional.set_step_mode(self, "m")

    def forward(self, sequence: Tensor) -> Tensor:
        """Run one trial.

        Args:
            sequence: Spikes or currents, ``[T, N, *input_shape]``.

        Returns:
            Output spikes, ``[T, N, 10]``; potentials or currents where the last do not fire.

        Raises:
            ValueError: ``sequence`` has another shape, holds NaN or infinity, or would have
                to be rounded to the type of the weights; or a layer is in single-step mode.
        """
        check_step_modes(self.layers)
        weight = next(self.parameters(), None)
        dtype = None if weight is None else weight.dtype
        sequence = checks.float_tensor("sequence", sequence, dtype)
        if sequence.dim() < 2 or sequence.shape[2:] != self.input_shape:
            wanted = ", ".join(map(str, ("T", "N", *self.input_shape)))
            raise ValueError(
                f"sequence must be [{wanted}], time first, got {tuple(sequence.shape)}"
            )
        if not sequence.numel():
            raise ValueError(
                "sequence must hold at least one step and one image, "
                f"got T={len(sequence)} and N={sequence.shape[1]}"
            )
        checks.finite("sequence", sequence)
        functional.reset_net(self)
        return self.layers(sequence)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a file is made from: all but the potentials of the last trial."""
        twins: dict[int, nn.Module] = {}
        parts = {name: _at_rest(part, twins) for name, part in self._modules.items()}
        return {**self.__dict__, "_modules": parts}


def _at_rest(part: nn.Module | None, twins: dict[int, nn.Module]) -> nn.Module | None:
    """The module itself, or, if it or a part of it has a state, one beside it without it.

    Both share all that is not state: a potential after a trial hangs on the graph of that
    trial, and Python can copy no such tensor. ``twins`` are those made so far: a module
    that has two names has one twin.
    """
    if part is None or not any(isinstance(inner, MemoryModule) for inner in part.modules()):
        return part
    if id(part) not in twins:
        twin = twins[id(part)] = copy.copy(part)
        twin._modules = {name: _at_rest(inner, twins) for name, inner in part._modules.items()}
        if isinstance(twin, MemoryModule):
            twin._memories = copy.deepcopy(twin._memories_rv)
        if isinstance(twin, neuron.BaseNode):
            twin.v_seq = None
    return twins[id(part)]


def _v_reset(reset: str) -> float | None:
    """Where a spike sends the potential: to 0, or down by the threshold."""
    return None if checks.one_of("reset", reset, ("zero", "subtract")) == "subtract" else 0.0


def _lif(tau: float, reset: str) -> neuron.LIFNode:
    # The surrogate is always named: the library's own default changed between versions.
    tau = checks.number("tau", tau, above=1)
    return neuron.LIFNode(tau=tau, v_reset=_v_reset(reset), surrogate_function=surrogate.ATan())


def _if(reset: str) -> neuron.IFNode:
    return neuron.IFNode(v_reset=_v_reset(reset), surrogate_function=surrogate.ATan())


class FullyConnectedSNN(SpikingNetwork):
    """784 inputs, 10 LIF neurons, no bias: the network of the first two posts.

    ``reset`` is to "zero", or by "subtract"ion of the threshold (what is above it is kept).
    """

    def __init__(self, tau: float = 2.0, *, reset: str = "zero") -> None:
        super().__init__(layer.Flatten(), layer.Linear(28 * 28, 10, bias=False), _lif(tau, reset))


class ConvSNN(SpikingNetwork):
    """Two convolution blocks and two dense ones with IF neurons: the first post's CSNN.

    conv 3x3, batch norm, IF, max pool (14 x 14); the same again (7 x 7); dense to
    16 * channels; dense to 10. With 64 channels: 3136 -> 1024 -> 10.

    ``reset`` as above. With ``last_fires=False`` the last ten neurons only add up: the
    network returns the currents into them, whose sum over time is their potential.
    """

    def __init__(self, channels: int = 64, *, reset: str = "zero", last_fires: bool = True) -> None:
        channels = checks.whole_number("channels", channels, 1)
        last_fires = checks.yes_or_no("last_fires", last_fires)
        super().__init__(
            layer.Conv2d(1, channels, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            _if(reset),
            layer.MaxPool2d(2, 2),
            layer.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            _if(reset),
            layer.MaxPool2d(2, 2),
            layer.Flatten(),
            layer.Linear(channels * 7 * 7, channels * 4 * 4, bias=False),
            _if(reset),
            layer.Linear(channels * 4 * 4, 10, bias=False),
            _if(reset) if last_fires else nn.Identity(),
        )


class SmallConvSNN(SpikingNetwork):
    """10 and 20 channels, then 100 and 10 LIF neurons: the third post's network, done right.

    The post ran its convolutions once and only the dense part T times; here the
    convolutions are inside the time loop. ``reset`` as above.
    """

    def __init__(self, tau: float = 2.0, *, reset: str = "zero") -> None:
        super().__init__(
            layer.Conv2d(1, 10, kernel_size=3, padding=1, bias=False),
            _if(reset),
            layer.MaxPool2d(2, 2),
            layer.Conv2d(10, 20, kernel_size=3, padding=1, bias=False),
            _if(reset),
            layer.MaxPool2d(2, 2),
            layer.Flatten(),
            layer.Linear(20 * 7 * 7, 100, bias=False),
            _lif(tau, reset),
            layer.Linear(100, 10, bias=False),
            _lif(tau, reset),
        )


class NonSpikingNetwork(nn.Module):
    """The ordinary network of the same shape: a ReLU for every spiking neuron, one step.

    The last neurons are left out, so that it answers in logits. It has the weights
    of the network it was made from, under the same names.

    Raises:
        ValueError: The last layer is none of neurons, or neurons lie inside another layer.
    """

    def __init__(self, spiking: nn.Module) -> None:
        super().__init__()
        *layers, last = cast(nn.Sequential, spiking.get_submodule("layers"))
        if not _fires(last):
            raise ValueError(f"spiking must end in a layer of neurons, got {last}")
        self.layers = nn.Sequential(*(nn.ReLU() if _fires(part) else part for part in layers))
        for number, part in enumerate(self.layers):
            if any(_fires(inner) for inner in part.modules()):
                raise ValueError(
                    "spiking must have its neurons in network.layers itself, "
                    f"got some inside of layer {number}, a {type(part).__name__}"
                )

    def forward(self, images: Tensor) -> Tensor:
        """Images ``[N, 1, 28, 28]`` to logits ``[N, 10]``."""
        check_step_modes(self.layers)
        images = checks.image_tensor("images", images, next(self.parameters()).dtype)
        if images.dim() != 4 or images.shape[1:] != (1, 28, 28):
            checks.refuse("images", "[N, 1, 28, 28]", images)
        functional.reset_net(self)  # a dropout of SpikingJelly keeps its mask until then
        return cast(Tensor, self.layers(images[None])[0])


def _fires(part: nn.Module) -> bool:
    """Whether it is a layer of neurons, of any family of SpikingJelly's."""
    return hasattr(part, "surrogate_function")


_FORWARDS = (FullyConnectedSNN.forward, NonSpikingNetwork.forward, nn.Module.forward)


def layers_of(network: nn.Module) -> list[nn.Module]:
    """The layers of a network, or of a plain ``nn.Sequential``, in the order of its own forward.

    Raises:
        ValueError: Its forward may do something else than send the input through them, or
            one of them is in single-step mode.
    """
    row = network if type(network) is nn.Sequential else getattr(network, "layers", None)
    plain = row is network or type(network).forward in _FORWARDS
    plain = plain and type(row) is nn.Sequential
    if not plain or is_touched(network) or is_touched(row):
        raise ValueError(
            "network must send its input through network.layers, an nn.Sequential, and do nothing "
            f"else; {type(network).__name__} has another forward, other layers or a hook; {CURE}"
        )
    assert isinstance(row, nn.Sequential)
    check_step_modes(row)
    found = list(row)  # children() would leave out the second use of a layer
    for number, part in enumerate(found):
        if isinstance(part, neuron.BaseNode) and any(part is other for other in found[:number]):
            refuse_layer(
                number, part, "must be used once: its potential would go on from the first use"
            )
    return found
