"""Poisson images -> Linear -> LIF, computed on the spikes alone.

Most pixels are black and most steps are silent, so a dense simulation mostly
draws random numbers for pixels that cannot fire and multiplies weights by zero.
This engine does neither. Three ideas, each exact:

1. Random numbers are drawn only for pixels that are not black.
2. 64 steps of a pixel are decided together. A pixel fires where a random number
   is below its grey value; compared bit by bit, highest first, most of the 64
   comparisons are settled after two or three bits, all of them after eight or
   so: 8 random words do the work of 64 numbers.
3. A pixel brighter than 1/2 is stored by its *missing* spikes: add its weights
   once as a constant, take them away again where it stays silent.

A pixel's 64 steps are one 64-bit word, kept for the backward pass, where the
gradient of a weight row is a sum over the same few events. The loops are in
``event_bits`` and ``event_kernels``; here are the doors, the autograd function and the threads.
"""

import functools
import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snnlib import checks
from snnlib.fast.kernels import event_bits, event_kernels
from snnlib.fast.kernels.event_bits import STEPS
from snnlib.fast.kernels.event_kernels import Constants
from snnlib.fast.kernels.lanes import LANES, share, split
from snnlib.neurons import check_neuron
from snnlib.surrogate import ATan, Sigmoid, check_surrogate

_CHUNK = 64  # images that share one partial gradient
_log = logging.getLogger(__name__)


class _Words(NamedTuple):
    """The spikes of a batch, as ``event_bits.encode`` leaves them."""

    starts: np.ndarray  # image n owns places starts[n] to starts[n + 1]
    pixels: np.ndarray  # position of each pixel that is not black
    signs: np.ndarray  # -1 for a bright pixel, kept by its missing spikes, else 1
    words: np.ndarray  # 64 steps each


def poisson_linear_lif(
    images: Tensor,
    weight: Tensor,
    n_steps: int,
    neuron: Any,
    *,
    seed: int,
    surrogate: ATan | Sigmoid = ATan(),
    bias: Tensor | None = None,
    first_index: int | None = None,
) -> Tensor:
    """Show Poisson spikes of images to a layer of LIF neurons and count its spikes.

    The result is that of ``firing_rate(simulate(spikes @ weight.T + bias))`` with
    ``spikes = poisson_spikes(images, n_steps, seed=seed)``, and so are its gradients.
    Random numbers depend on ``(seed, image number, pixel)`` alone: any number of
    threads and any split into batches gives the same spikes.

    Args:
        images: Grey values in [0, 1], ``[N, n_pixels]`` or ``[N, ...]``.
        weight: ``[K, n_pixels]``, float32 on the CPU.
        n_steps: Number of time steps T.
        neuron: ``LIFParameters`` or ``IFParameters``.
        seed: Any whole number; another seed gives other spikes.
        surrogate: Slope used for the spikes in the backward pass.
        bias: Constant input, ``[K]``; none if left out.
        first_index: Number of the first image; 0 if left out.

    Returns:
        Rates, spikes per step in [0, 1], ``[N, K]``.

    Raises:
        ValueError: Grey values outside [0, 1], shapes that do not fit, no time step, a
            tensor that is not float32 on the CPU, or, where no gradient is asked for,
            weights that are not finite.
    """
    grey, n_steps = _checked(images, n_steps)
    weight = checks.tensor("weight", weight)
    bias = None if bias is None else checks.tensor("bias", bias)
    check_neuron(neuron)
    check_surrogate(surrogate)
    if weight.dim() != 2 or weight.shape[1] != grey.shape[1]:
        raise ValueError(f"weight must be [K, {grey.shape[1]}], got {tuple(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be [{len(weight)}], got {tuple(bias.shape)}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and (
            tensor.dtype != torch.float32 or not tensor.device.type == "cpu"
        ):
            raise ValueError(
                f"{name} must be float32 on the CPU, got {tensor.dtype} on {tensor.device}"
            )
        if tensor is not None and not tensor.requires_grad:  # as for simulate
            checks.finite(name, tensor)
    _say_so_once()
    words = _encode(grey, n_steps, seed, first_index or 0)
    return cast(Tensor, _EventLayer.apply(weight, bias, words, n_steps, neuron, surrogate))


def poisson_spikes(
    images: Tensor, n_steps: int, *, seed: int, first_index: int | None = None
) -> Tensor:
    """Hand out the very spikes that :func:`poisson_linear_lif` works on.

    Args:
        images: Grey values in [0, 1], ``[N, n_pixels]`` or ``[N, ...]``.
        n_steps: Number of time steps T.
        seed: As in :func:`poisson_linear_lif`.
        first_index: Likewise.

    Returns:
        Spikes, 0 or 1, float32 ``[T, N, n_pixels]``.
    """
    grey, n_steps = _checked(images, n_steps)
    words = _encode(grey, n_steps, seed, first_index or 0)
    spikes = torch.zeros(n_steps, *grey.shape)
    event_bits.unpack(grey.numpy(), n_steps, *words, spikes.numpy())
    return spikes


def _checked(images: Any, n_steps: Any) -> tuple[Tensor, int]:
    """Images as ``[N, n_pixels]`` float32, refused if they have another shape or device."""
    n_steps = checks.whole_number("n_steps", n_steps, 1)
    images = checks.tensor("images", images)
    if not images.is_floating_point():
        images = checks.image_tensor("images", images)  # refuses them
    if images.dim() < 2 or images.device.type != "cpu":
        raise ValueError(
            f"images must be [N, ...] on the CPU, got {tuple(images.shape)} on {images.device}"
        )
    grey = checks.float_tensor("images", images.detach(), torch.float32)
    return grey.flatten(1).contiguous(), n_steps


def _encode(grey: Tensor, n_steps: int, seed: int, first_index: int) -> _Words:
    """Draw the spikes of a batch."""
    seed = checks.whole_number("seed", seed)
    first_index = checks.whole_number("first_index", first_index, 0, 2**63 - 1 - len(grey))
    n_images, n_blocks = len(grey), -(-n_steps // STEPS)
    starts = np.empty(n_images + 1, np.int64)
    if event_bits.count_grey(grey.numpy(), starts):
        low, high = (bound.item() for bound in torch.aminmax(grey))
        raise ValueError(f"images must hold grey values in [0, 1], got {low:g} to {high:g}")
    total = int(starts[-1])
    words = _Words(
        starts,
        np.empty(total, np.int64),
        np.empty(total, np.float32),
        np.empty(total * n_blocks, np.uint64),
    )
    key = np.uint64(seed % 2**64)
    _share(
        n_images,
        lambda chunk, first, last: event_bits.encode(
            grey.numpy(), n_steps, key, first_index, *words, first, last
        ),
    )
    return words


class _EventLayer(torch.autograd.Function):
    """Weights and words to rates; the words travel to the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        bias: Tensor | None,
        words: _Words,
        n_steps: int,
        neuron: Any,
        surrogate: ATan | Sigmoid,
    ) -> Tensor:
        n_images, n_outputs = len(words.starts) - 1, len(weight)
        constants = _constants(neuron, surrogate)
        grouped = _in_groups(weight)
        offsets = np.zeros(len(grouped) * LANES, np.float32)
        if bias is not None:
            offsets[:n_outputs] = bias.detach().numpy()
        keep = any(ctx.needs_input_grad)
        rates = torch.empty(n_images, len(offsets))
        history = torch.empty(len(offsets) * n_images * n_steps if keep else 0)
        _share(
            n_images,
            lambda chunk, first, last: event_kernels.forward(
                grouped.numpy(), offsets, n_steps, constants, *words,
                rates.numpy(), history.numpy(), first, last,
            ),
        )  # fmt: skip
        ctx.save_for_backward(history)
        ctx.settings = weight.shape, words, n_steps, constants, surrogate
        return rates[:, :n_outputs].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (history,) = ctx.saved_tensors
        (n_outputs, n_pixels), words, n_steps, constants, surrogate = ctx.settings
        n_groups, n_chunks = -(-n_outputs // LANES), len(split(len(words.starts) - 1, _CHUNK))
        grad_rates = torch.zeros(len(grad_outputs[0]), n_groups * LANES)
        grad_rates[:, :n_outputs] = grad_outputs[0]
        slopes = history[:0]
        if not constants.alpha > 0:
            slopes = surrogate.derivative(history - float(constants.v_threshold))
        weights = torch.zeros(n_chunks, n_groups, n_pixels * LANES)
        offsets = torch.zeros(n_chunks, n_groups * LANES)
        _share(
            len(grad_rates),
            lambda chunk, first, last: event_kernels.backward(
                grad_rates.numpy(), history.numpy(), slopes.numpy(), n_steps, constants, *words,
                weights[chunk].numpy(), offsets[chunk].numpy(), first, last,
            ),
        )  # fmt: skip
        grad_weight = weights.sum(0).view(n_groups, n_pixels, LANES).transpose(1, 2)
        grad_weight = grad_weight.reshape(-1, n_pixels)[:n_outputs]
        grad_bias = offsets.sum(0)[:n_outputs] if ctx.needs_input_grad[1] else None
        return grad_weight, grad_bias, None, None, None, None


def _in_groups(weight: Tensor) -> Tensor:
    """``[K, n_pixels]`` to ``[n_groups, n_pixels * 16]``, filled up with silent neurons."""
    n_outputs, n_pixels = weight.shape
    padded = torch.zeros(-(-n_outputs // LANES) * LANES, n_pixels)
    padded[:n_outputs] = weight.detach()
    return padded.view(-1, LANES, n_pixels).transpose(1, 2).reshape(-1, n_pixels * LANES)


def _constants(neuron: Any, surrogate: ATan | Sigmoid) -> Constants:
    """Plain numbers for the kernels; no leak is an endless time constant."""
    tau = getattr(neuron, "tau", math.inf)
    decay_input = bool(getattr(neuron, "decay_input", False))
    gain, leak = neuron.gain_and_leak
    return Constants(
        tau=np.float32(tau),
        v_threshold=np.float32(neuron.v_threshold),
        v_rest=np.float32(0.0 if neuron.v_reset is None else neuron.v_reset),
        gain=np.float32(gain),
        leak=np.float32(leak),
        alpha=np.float32(surrogate.alpha if isinstance(surrogate, ATan) else 0.0),
        decay_input=decay_input,
        hard_reset=neuron.v_reset is not None,
        detach_reset=bool(neuron.detach_reset),
    )


def _share(n_images: int, work: Callable[[int, int, int], object]) -> None:
    share(split(n_images, _CHUNK), torch.get_num_threads(), work)


@functools.cache
def _say_so_once() -> None:
    if not event_kernels.forward.signatures and not _is_compiled(event_kernels.forward):
        _log.info(
            "event kernels: compiled on first use, which takes a minute, and loaded from then on"
        )


def _is_compiled(kernel: Any) -> bool:
    """Whether numba kept a kernel on disk, for this Python and not before its source changed."""
    source = Path(kernel.py_func.__code__.co_filename)
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    name = f"{source.stem}.{kernel.py_func.__qualname__}-*.{python}.nbi"
    kept = Path(kernel.stats.cache_path or source.parent).glob(name)
    return any(index.stat().st_mtime >= source.stat().st_mtime for index in kept)
