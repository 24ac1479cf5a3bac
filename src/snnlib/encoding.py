"""From grey values to a sequence in time: Poisson (Bernoulli), constant, latency, row by row."""

import torch
from torch import Tensor

from snnlib.checks import grey_tensor, image_tensor, instance, refuse, whole_number


def poisson_encode(
    images: Tensor, n_steps: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Draw spike trains whose rate is the grey value.

    At each step each pixel fires with probability equal to its value,
    independently of all others: Eq. (3.1) of the book. The comparison is strict,
    so a black pixel never fires and a white one always does.

    Args:
        images: Grey values in [0, 1], any shape; a tensor or NumPy array of floating
            point numbers.
        n_steps: Number of time steps T, at least 1.
        generator: Source of randomness, on the device of ``images``.

    Returns:
        Spikes, 0 or 1, ``[T, *images.shape]``, in the type of ``images``.

    Raises:
        ValueError: A value lies outside [0, 1] (a normalised image, or one from 0 to
            255, most often) or is NaN, ``images`` hold whole numbers or no numbers, or
            ``n_steps`` is no whole number of at least 1.
    """
    n_steps = whole_number("n_steps", n_steps, least=1)
    images = grey_tensor("images", images)
    instance("generator", generator, torch.Generator, type(None))
    # Half precision knows too few numbers near 0: dark pixels would fire too often.
    precision = torch.promote_types(images.dtype, torch.float32)
    draws = torch.rand(
        (n_steps, *images.shape), generator=generator, dtype=precision, device=images.device
    )
    return (draws < images).to(images.dtype)


def constant_encode(images: Tensor, n_steps: int) -> Tensor:
    """Show the same image at every step (direct coding), without copying it.

    Args:
        images: Input currents, any shape and range; a tensor or NumPy array of finite
            floating point numbers.
        n_steps: Number of time steps T, at least 1.

    Returns:
        A view ``[T, *images.shape]``; write to a ``.clone()`` of it, never to it.

    Raises:
        ValueError: ``n_steps`` is no whole number of at least 1, or ``images`` hold whole
            numbers, NaN, infinity or no numbers.
    """
    n_steps = whole_number("n_steps", n_steps, least=1)
    images = image_tensor("images", images)
    return images.expand(n_steps, *images.shape)


def latency_encode(images: Tensor, n_steps: int) -> Tensor:
    """Let each pixel fire once, the brighter the earlier (time to first spike).

    A pixel x fires at step (1 - x) * (T - 1), rounded (a half to the even step) and counted
    from 0: white at the first step, the darkest grey at the last. A black pixel never fires.

    Args:
        images: Grey values in [0, 1], any shape; a tensor or NumPy array of floating
            point numbers.
        n_steps: Number of time steps T, at least 1.

    Returns:
        Spikes, 0 or 1, ``[T, *images.shape]``, in the type of ``images``.

    Raises:
        ValueError: A value lies outside [0, 1] or is NaN, ``images`` hold whole numbers or no
            numbers, or ``n_steps`` is no whole number of at least 1.
    """
    n_steps = whole_number("n_steps", n_steps, least=1)
    images = grey_tensor("images", images)
    # Half precision knows too few numbers near 1: some steps would stay empty.
    precision = torch.promote_types(images.dtype, torch.float32)
    fires_at = ((n_steps - 1) * (1 - images.to(precision))).round()
    fires_at[images == 0] = n_steps  # after the last step
    steps = torch.arange(n_steps, device=images.device).view(-1, *[1] * images.dim())
    return (steps == fires_at).to(images.dtype)


def rows_encode(images: Tensor) -> Tensor:
    """Show an image row by row, from the top: time becomes a part of what is seen.

    At step t the grey values of row t are the input currents, and nothing else of the image
    is there; who wants to know the digit has to remember.

    Args:
        images: ``[N, 1, H, W]``, any range; a tensor or NumPy array of finite floating
            point numbers.

    Returns:
        A view ``[H, N, W]``; of MNIST 28 steps of 28 inputs.

    Raises:
        ValueError: ``images`` have another shape, or hold whole numbers, NaN, infinity or no
            numbers.
    """
    images = image_tensor("images", images)
    if images.dim() != 4 or images.shape[1] != 1:
        refuse("images", "[N, 1, H, W]", images)
    return images.squeeze(1).transpose(0, 1)
