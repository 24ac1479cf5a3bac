"""Convolutions and dense layers on spikes: add the weights of those that fired, multiply nothing.

A product with spikes is a sum: of all weight rows, those are added up whose input
fired. Over a few time steps much of that sum is the same again and again, since
neurons that are driven hard fire at every step and many others fire once. So
inputs are sorted by what they do in four steps (``sparse_kernels``), and the weights
of all that do the same are added up once.

The gradient of the weights is the same sum the other way round: for every input
the gradients of the steps at which it fired. Only the gradient of the spikes
themselves is dense, since silent neurons have a surrogate slope too; it stays an
ordinary product.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snnlib import checks
from snnlib.fast.kernels import sparse_kernels
from snnlib.fast.kernels.lanes import LANES, check_float32, share, split
from snnlib.fast.kernels.sparse_kernels import CODES, TILE, Shape

_GROUP = 4  # steps that are looked at together
_CHUNK = 8  # frames


def spike_conv2d(spikes: Tensor, weight: Tensor) -> Tensor:
    """Convolve spikes with zeros around the image, as ``conv2d(..., padding=k // 2)``.

    Args:
        spikes: 0 or 1, channels last, ``[T, N, H, W, C]``, on the CPU, of any type.
        weight: ``[K, C, k, k]`` with odd k; see :func:`fits`.

    Returns:
        Currents ``[T, N, H, W, K]``, differentiable in both arguments.

    Raises:
        ValueError: The shapes do not go together, or not with :func:`fits`, ``spikes`` are
            something else than 0 or 1, or a tensor is not float32 on the CPU.
    """
    return spike_conv2d_unchecked(_spikes(spikes), weight)


def spike_conv2d_unchecked(spikes: Tensor, weight: Tensor) -> Tensor:
    """As :func:`spike_conv2d`, for float32 that is known to be 0 or 1: to look takes a while."""
    weight = checks.tensor("weight", weight)
    if spikes.dim() != 5 or weight.dim() != 4 or spikes.shape[-1] != weight.shape[1]:
        raise ValueError(
            "spikes must be [T, N, H, W, C] and weight [K, C, k, k], "
            f"got {tuple(spikes.shape)} and {tuple(weight.shape)}"
        )
    if not fits(weight):
        raise ValueError(
            f"weight must have K a multiple of {TILE}, C of {LANES}, and an odd square window, "
            f"got {tuple(weight.shape)}"
        )
    check_float32(spikes=spikes, weight=weight)
    return cast(Tensor, _SpikeConvolution.apply(spikes, weight))


def spike_linear(spikes: Tensor, weight: Tensor) -> Tensor:
    """Multiply spikes ``[T, N, C]`` with ``weight [K, C]``: currents ``[T, N, K]``.

    A dense layer is a convolution with a window of one over a column of N positions.

    Raises:
        ValueError: As :func:`spike_conv2d`.
    """
    return spike_linear_unchecked(_spikes(spikes), weight)


def spike_linear_unchecked(spikes: Tensor, weight: Tensor) -> Tensor:
    """As :func:`spike_linear`, for float32 that is known to be 0 or 1."""
    weight = checks.tensor("weight", weight)
    if spikes.dim() != 3 or weight.dim() != 2:
        raise ValueError(
            "spikes must be [T, N, C] and weight [K, C], "
            f"got {tuple(spikes.shape)} and {tuple(weight.shape)}"
        )
    column = spikes[:, None, :, None]
    return spike_conv2d_unchecked(column, weight[:, :, None, None])[:, 0, :, 0]


def _spikes(spikes: Tensor) -> Tensor:
    """Spikes in float32; the kernels use them as bits, so nothing but 0 and 1 may reach them."""
    spikes = checks.float_tensor("spikes", spikes, torch.float32)
    fired = (spikes.detach() != 0).to(torch.float32)
    return (
        spikes if torch.equal(fired, spikes.detach()) else checks.refuse("spikes", "0 or 1", spikes)
    )


def fits(weight: Tensor) -> bool:
    """Whether the kernels take a weight of this shape: K full tiles, C full lanes, odd window."""
    outputs, channels, height, width = (*weight.shape, 1, 1)[:4]
    return outputs % TILE == 0 and channels % LANES == 0 and height == width and height % 2 == 1


class _SpikeConvolution(torch.autograd.Function):
    """Remembers which channels fired, not the spikes themselves: a quarter of their memory."""

    @staticmethod
    def forward(ctx: Any, spikes: Tensor, weight: Tensor) -> Tensor:
        out = torch.empty(*spikes.shape[:-1], len(weight))
        table = _in_tiles(weight.detach()).view(-1).numpy()
        events = []
        for begin, shape in _groups(spikes.shape, weight.shape):
            steps = slice(begin, begin + shape.n_steps)
            channels, ends = _encode(spikes[steps], shape)
            events += [channels, ends]
            target = out[steps].view(-1).numpy()
            _share(shape, _adder(sparse_kernels.forward, channels, ends, table, shape, target))
        ctx.save_for_backward(weight, *events)
        ctx.shape = spikes.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        weight, *events = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()
        grad_spikes = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_spikes = _grad_spikes(grad, weight)
        if ctx.needs_input_grad[1]:
            groups = _groups(ctx.shape, weight.shape)
            tiles = [
                _grad_weight(grad[begin : begin + shape.n_steps], shape, *pair)
                for (begin, shape), pair in zip(groups, _pairs(events), strict=True)
            ]
            total = tiles[0] if len(tiles) == 1 else torch.stack(tiles).sum(0)
            grad_weight = _from_tiles(total, weight.shape)
        return grad_spikes, grad_weight


def _groups(spikes: torch.Size, weight: torch.Size) -> Iterator[tuple[int, Shape]]:
    """The first step and the sizes of each group of up to four steps."""
    n_steps, n_frames, height, width, channels = spikes
    for begin in range(0, n_steps, _GROUP):
        length = min(_GROUP, n_steps - begin)
        yield begin, Shape(length, n_frames, height, width, channels, weight[0], weight[-1])


def _pairs(events: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(events[::2], events[1::2], strict=True)


def _in_tiles(weight: Tensor) -> Tensor:
    """``[K, C, k, k]`` to ``[K / 64, k * k, C, 64]``."""
    return weight.flatten(2).unflatten(0, (-1, TILE)).permute(0, 3, 2, 1).contiguous()


def _from_tiles(tiles: Tensor, shape: torch.Size) -> Tensor:
    return tiles.permute(0, 3, 2, 1).reshape(shape)


def _encode(spikes: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Channels sorted by code and where each code's run ends, for every position."""
    n_rows = shape.n_frames * shape.height * shape.width
    channels = torch.empty(n_rows * shape.channels + LANES, dtype=torch.int32)
    ends = torch.empty(n_rows * CODES, dtype=torch.int32)
    arrays = [x.numpy() for x in (spikes.contiguous().view(-1), channels, ends)]
    share(
        split(n_rows, 64),
        torch.get_num_threads(),
        lambda part, first, last: sparse_kernels.encode(arrays[0], shape, *arrays[1:], first, last),
    )
    return channels, ends


def _grad_spikes(grad: Tensor, weight: Tensor) -> Tensor:
    """The dense part: each current hands its gradient back to all inputs that it sees."""
    if weight.shape[-1] == 1:
        return grad @ weight.flatten(1)
    maps = grad.flatten(0, 1).permute(0, 3, 1, 2)
    # The spikes are not needed for their own gradient; an empty tensor of their shape will do.
    shape = (len(maps), weight.shape[1], *maps.shape[2:])
    unread = torch.empty(shape, memory_format=torch.channels_last)
    back = torch.ops.aten.convolution_backward(
        maps, unread, weight.contiguous(memory_format=torch.channels_last), None,
        [1, 1], [weight.shape[-1] // 2] * 2, [1, 1], False, [0, 0], 1, [True, False, False],
    )[0]  # fmt: skip
    return cast(Tensor, back.permute(0, 2, 3, 1).unflatten(0, grad.shape[:2]))


def _grad_weight(grad: Tensor, shape: Shape, channels: Tensor, ends: Tensor) -> Tensor:
    """Gradient of the weights in tiles, from one group of steps."""
    n_tiles, taps = shape.outputs // TILE, shape.window**2
    n_parts = 1 if shape.n_frames == 1 else len(split(shape.n_frames, _CHUNK))
    sums = torch.zeros(n_parts, n_tiles * taps * shape.channels * TILE)
    events = channels.numpy(), ends.numpy()
    gradient = grad.view(-1).numpy()

    def work(part: int, first: int, last: int, first_tile: int, last_tile: int) -> None:
        target = sums[part % n_parts].numpy()
        sparse_kernels.weight_gradient(
            *events, gradient, shape, target, first, last, first_tile, last_tile
        )

    _share(shape, work)
    total = sums[0] if n_parts == 1 else sums.sum(0)
    return total.view(n_tiles, taps, shape.channels, TILE)


Work = Callable[[int, int, int, int, int], object]


def _adder(
    kernel: Any, channels: Tensor, ends: Tensor, table: np.ndarray[Any, Any], shape: Shape, out: Any
) -> Work:
    events = channels.numpy(), ends.numpy()
    return lambda part, *bounds: kernel(*events, table, shape, out, *bounds)


def _share(shape: Shape, work: Work) -> None:
    """Share frames among threads; a single frame (a dense layer) is shared by its tiles."""
    n_tiles = shape.outputs // TILE
    if shape.n_frames != 1:  # perhaps none at all
        parts = split(shape.n_frames, _CHUNK)
        share(
            parts,
            torch.get_num_threads(),
            lambda part, first, last: work(part, first, last, 0, n_tiles),
        )
    else:
        parts = split(n_tiles, 1, n_most=torch.get_num_threads())
        share(
            parts, torch.get_num_threads(), lambda part, first, last: work(part, 0, 1, first, last)
        )
