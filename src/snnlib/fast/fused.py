"""The CSNN on a CPU: BatchNorm, integrate-and-fire over T steps and max pool in one pass.

Computed layer by layer, the first block writes and reads back twelve tensors
the size of all its neurons at all steps. Three things make that unnecessary:

1. The image is the same at every step, so the first convolution and its
   BatchNorm are needed once, not T times.
2. Norm, neuron and pool look at one 2 x 2 window only. Walking through time
   inside the window, nothing but its pooled spikes has to be written.
3. On the way back the potentials are computed again instead of remembered: that
   costs a few additions, remembering them costs a trip to memory.

Channels lie side by side in memory (channels-last), so that sixteen of them can
be handled at a time (``lanes``). The loops are in ``fused_kernels``.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from snnlib import checks
from snnlib.fast.kernels import fused_kernels
from snnlib.fast.kernels.fused_kernels import Layout, Neuron
from snnlib.fast.kernels.lanes import LANES, check_float32, share, split
from snnlib.fast.known_layers import Block, blocks_of, parameters_of, surrogate_of
from snnlib.fast.scan import neuron_scan
from snnlib.fast.sparse import fits, spike_conv2d_unchecked, spike_linear_unchecked
from snnlib.neurons import IFParameters
from snnlib.surrogate import ATan

_CHUNK = 8  # images
_IN_CACHE = 16  # images
_NO_NORM = (1.0, 0.0, 0.0, 1.0)  # weight, bias, mean and variance that change nothing


def conv_snn_rate(
    network: nn.Module, images: Tensor, n_steps: int, *, bfloat16: bool = False
) -> Tensor:
    """Answer a batch as ``firing_rate(network(constant_encode(images)))`` does.

    Args:
        network: A ``ConvSNN`` or ``SmallConvSNN`` on the CPU; its weights, running
            statistics and train or eval mode are used (and updated) as by its own
            forward.
        images: ``[N, 1, 28, 28]``, exact in float32, finite.
        n_steps: Number of time steps T.
        bfloat16: Multiply in bfloat16, keep everything else in float32. Changes
            the results slightly; fast only where the processor can do it.

    Returns:
        Rates, ``[N, 10]``, differentiable in all weights of the network; potentials per
        step if its last neurons do not fire.

    Raises:
        ValueError: A layer is not as in those networks; its number and class are told. Or
            there is no image, and the network is in train mode.
    """
    images = checks.image_tensor("images", images, torch.float32)
    if images.dim() != 4 or images.shape[1:] != (1, 28, 28):
        checks.refuse("images", "[N, 1, 28, 28]", images)
    n_steps = checks.whole_number("n_steps", n_steps, 1)
    bfloat16 = checks.yes_or_no("bfloat16", bfloat16)
    blocks, dense = blocks_of(network)
    precision = torch.bfloat16 if bfloat16 else torch.float32
    # Nothing to remember and no statistics of a batch: few images at a time stay in the cache.
    of_batch = any(norm is not None and _takes_batch_statistics(norm) for _, norm, _ in blocks)
    at_once = len(images) if of_batch or torch.is_grad_enabled() else _IN_CACHE
    parts = [
        _convolutional_blocks(blocks, part, n_steps, precision) for part in images.split(at_once)
    ]
    spikes = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    spikes = spikes.permute(0, 1, 4, 2, 3).flatten(2)  # the dense layers count channels first
    for layer, node in dense:
        currents = _dense(spikes, layer.weight, precision)
        if isinstance(node, nn.Identity):  # the last neurons only add up
            return currents.mean(0)
        neuron = parameters_of(node)
        spikes = neuron_scan(currents, neuron, surrogate_of(node))
    return spikes.mean(0)


def _convolutional_blocks(
    blocks: list[Block], images: Tensor, n_steps: int, precision: torch.dtype
) -> Tensor:
    """Spikes ``[T, N, H, W, C]`` behind the last pool; a norm after a convolution is optional."""
    spikes: Tensor | None = None
    for convolution, norm, node in blocks:
        weight, surrogate = convolution.weight, surrogate_of(node)
        assert isinstance(surrogate, ATan)
        if spikes is None:
            currents = _first_convolution(images, weight, precision)
        else:
            currents = _convolution(spikes, weight, precision)
        spikes = norm_if_pool(currents, norm, parameters_of(node), n_steps, surrogate)
    assert spikes is not None
    return spikes


def norm_if_pool(
    currents: Tensor, norm: Any, neuron: Any, n_steps: int, surrogate: ATan = ATan()
) -> Tensor:
    """BatchNorm, integrate and fire over T steps, then 2 x 2 max pool.

    Args:
        currents: Output of a convolution, channels last: ``[T, N, H, W, C]``, or
            ``[1, N, H, W, C]`` if it is the same at every step. H and W are even.
        norm: An ``nn.BatchNorm2d``; its mode and running statistics are respected.
            ``None`` for currents that go into the neurons as they are.
        neuron: ``IFParameters``.
        n_steps: Number of time steps T.
        surrogate: Slope used for the spikes in the backward pass.

    Returns:
        Spikes ``[T, N, H/2, W/2, C]``, differentiable in ``currents`` and in the
        norm's weight and bias.

    Raises:
        ValueError: ``currents`` has another shape or type, ``norm`` does not fit, or
            ``neuron`` leaks; or a norm that learns is shown no image.
    """
    currents = checks.tensor("currents", currents)
    n_steps = checks.whole_number("n_steps", n_steps, 1)
    if currents.dim() != 5 or currents.shape[0] not in (1, n_steps):
        raise ValueError(
            f"currents must be [1 or {n_steps}, N, H, W, C], got {tuple(currents.shape)}"
        )
    if type(neuron) is not IFParameters:
        raise ValueError(f"neuron must be IFParameters, without a leak, got {neuron!r}")
    if not isinstance(surrogate, ATan):
        raise ValueError(f"surrogate must be ATan(...), got {surrogate!r}")
    check_float32(currents=currents)
    if currents.shape[2] % 2 or currents.shape[3] % 2:
        raise ValueError(f"currents must have even H and W, got {tuple(currents.shape)}")
    channels = currents.shape[-1]
    if norm is not None:
        _check_norm(norm, currents)
    if norm is None:
        weight, bias, mean, variance = (currents.new_full((channels,), x) for x in _NO_NORM)
        eps = 0.0
    else:
        weight, bias, eps = norm.weight, norm.bias, norm.eps
        if weight is None:  # affine=False
            weight, bias = (currents.new_full((channels,), x) for x in _NO_NORM[:2])
        mean, variance = _statistics(currents.detach(), norm, n_steps)
    missing = -channels % LANES
    if missing:  # silent channels fill the last sixteen
        currents = functional.pad(currents, (0, missing))
        weight, bias, mean = (functional.pad(x, (0, missing)) for x in (weight, bias, mean))
        variance = functional.pad(variance, (0, missing), value=1.0)
    inverse_std = (variance + eps).rsqrt()
    batch_statistics = norm is not None and _takes_batch_statistics(norm)
    spikes = _NormIfPool.apply(
        currents.contiguous(), weight, bias, mean, inverse_std, neuron, surrogate, n_steps,
        batch_statistics,
    )  # fmt: skip
    return cast(Tensor, spikes[..., :channels] if missing else spikes)


def _check_norm(norm: Any, currents: Tensor) -> None:
    """Refuse a norm of another kind or width, and statistics of no image at all."""
    channels = currents.shape[-1]
    if not isinstance(norm, nn.BatchNorm2d) or norm.num_features != channels:
        checks.refuse("norm", f"None or an nn.BatchNorm2d of {channels} channels", norm)
    if norm.training and not currents.shape[1]:
        raise ValueError("images must be at least 1 while the network learns, got none")


def _first_convolution(images: Tensor, weight: Tensor, precision: torch.dtype) -> Tensor:
    """Convolve one-channel images, straight into channels-last order ``[1, N, H, W, C]``."""
    patches = functional.unfold(images, 3, padding=1).transpose(1, 2).flatten(0, 1)
    # Row by row in memory, or the weight's gradient takes a far slower product.
    maps = patches.to(precision) @ weight.flatten(1).T.to(precision).contiguous()
    return maps.to(torch.float32).unflatten(0, (1, len(images), *images.shape[2:]))


def _convolution(spikes: Tensor, weight: Tensor, precision: torch.dtype) -> Tensor:
    """Convolve spikes ``[T, N, H, W, C]``; in float32 by adding the weights of those that fired."""
    if precision == torch.float32 and fits(weight):
        return spike_conv2d_unchecked(spikes, weight)
    maps = functional.conv2d(
        spikes.flatten(0, 1).permute(0, 3, 1, 2).to(precision),
        weight.to(precision, memory_format=torch.channels_last),
        padding=1,
    )
    return maps.permute(0, 2, 3, 1).to(torch.float32).unflatten(0, spikes.shape[:2])


def _dense(spikes: Tensor, weight: Tensor, precision: torch.dtype) -> Tensor:
    if precision == torch.float32 and fits(weight):
        return spike_linear_unchecked(spikes, weight)
    return functional.linear(spikes.to(precision), weight.to(precision)).to(torch.float32)


def _takes_batch_statistics(norm: Any) -> bool:
    return norm.training or norm.running_mean is None


def _statistics(currents: Tensor, norm: Any, n_steps: int) -> tuple[Tensor, Tensor]:
    """Mean and variance that BatchNorm uses; in training its running ones move along."""
    if not _takes_batch_statistics(norm):
        return norm.running_mean, norm.running_var
    mean, variance = _moments(currents)
    if norm.training and norm.running_mean is not None:
        norm.num_batches_tracked += 1
        count = norm.num_batches_tracked.item()
        pace = 1.0 / count if norm.momentum is None else norm.momentum
        # A repeated step counts T times, as it does for the layer-by-layer network.
        n_values = currents[0, ..., 0].numel() * n_steps
        norm.running_mean.lerp_(mean, pace)
        norm.running_var.lerp_(variance * n_values / max(n_values - 1, 1), pace)
    return mean, variance


def _moments(currents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel, by the law of total variance over the frames."""
    channels, n_frames = currents.shape[-1], currents.shape[0] * currents.shape[1]
    if channels % LANES:
        variance, mean = torch.var_mean(currents.flatten(0, -2), dim=0, correction=0)
        return mean, variance
    flat = currents.contiguous().view(-1).numpy()
    means, squares = np.empty((2, n_frames * channels), np.float32)
    n_positions = currents.shape[2] * currents.shape[3]
    _share(
        n_frames,
        lambda part, first, last: fused_kernels.moments(
            flat, n_positions, channels, means, squares, first, last
        ),
    )
    each_mean = torch.from_numpy(means).view(n_frames, channels).double()
    each_variance = torch.from_numpy(squares).view(n_frames, channels).double()
    variance, mean = torch.var_mean(each_mean, dim=0, correction=0)
    return mean.float(), (variance + each_variance.mean(0)).float()


def _share(n_frames: int, work: Callable[[int, int, int], object]) -> None:
    share(split(n_frames, _CHUNK), torch.get_num_threads(), work)


class _NormIfPool(torch.autograd.Function):
    """The fused pass and its way back; remembers the convolution's output only."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        inverse_std: Tensor,
        neuron: Any,
        surrogate: ATan,
        n_steps: int,
        batch_statistics: bool,
    ) -> Tensor:
        scale = weight * inverse_std
        shift = bias - mean * scale
        repeated = len(x) == 1 and n_steps > 1
        n_frames, height, width, channels = x.shape[1:]
        layout = Layout(n_steps, n_frames, height, width, channels, repeated)
        constants = Neuron(
            np.float32(neuron.v_threshold),
            np.float32(0.0 if neuron.v_reset is None else neuron.v_reset),
            np.float32(surrogate.alpha),
            neuron.v_reset is not None,
            bool(neuron.detach_reset),
        )
        spikes = torch.empty(n_steps, n_frames, height // 2, width // 2, channels)
        arrays = [tensor.view(-1).numpy() for tensor in (x, scale, shift, spikes)]
        _share(
            n_frames,
            lambda part, first, last: fused_kernels.forward(
                *arrays[:3], layout, constants, arrays[3], first, last
            ),
        )
        ctx.save_for_backward(x, scale, shift, mean, inverse_std)
        ctx.settings = layout, constants, batch_statistics
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        layout, constants, batch_statistics = ctx.settings
        saved = ctx.saved_tensors
        grad_x, sums = torch.empty_like(saved[0]), torch.zeros(2, layout.n_frames, layout.channels)
        arrays = [tensor.view(-1).numpy() for tensor in (*saved, grad_x, *sums)]
        grad_spikes = grad_outputs[0].contiguous().view(-1).numpy()
        _share(
            layout.n_frames,
            lambda part, first, last: fused_kernels.backward(
                *arrays[:5], layout, constants, grad_spikes, *arrays[5:], first, last
            ),
        )
        grad_bias, grad_weight = sums.double().sum(1).float()
        _finish(saved, grad_x, grad_bias, grad_weight, batch_statistics)
        return grad_x, grad_weight, grad_bias, None, None, None, None, None, None


def _finish(
    saved: tuple[Tensor, ...],
    grad_x: Tensor,
    grad_bias: Tensor,
    grad_weight: Tensor,
    batch_statistics: bool,
) -> None:
    """Carry the gradient through the norm; fixed statistics have no gradient of their own."""
    x, scale, _, mean, inverse_std = saved
    count = x[..., 0].numel()
    share_of_batch = 1.0 / count if batch_statistics else 0.0
    constants = (
        mean,
        scale,
        grad_bias * share_of_batch,
        grad_weight * inverse_std * share_of_batch,
    )
    arrays = [tensor.view(-1).numpy() for tensor in (x, grad_x, *constants)]
    channels = x.shape[-1]
    share(
        split(count, 4096),
        torch.get_num_threads(),
        lambda part, first, last: fused_kernels.norm_backward(*arrays, channels, first, last),
    )
