"""From grey values to spike trains: Poisson (Bernoulli) and constant encoding."""

import torch
from torch import Tensor


def poisson_encode(
    images: Tensor, n_steps: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Draw spike trains whose rate is the grey value.

    At each step each pixel fires with probability equal to its value,
    independently of all others: Eq. (3.1) of the book. The comparison is strict,
    so a black pixel never fires and a white one always does.

    Args:
        images: Grey values in [0, 1], any shape.
        n_steps: Number of time steps T, at least 1.
        generator: Source of randomness, on the device of ``images``.

    Returns:
        Spikes, 0 or 1, ``[T, *images.shape]``, in the type of ``images``.

    Raises:
        ValueError: A value lies outside [0, 1] (a normalised image, most often),
            or ``n_steps`` is below 1.
    """
    _check_steps(n_steps)
    _check_grey_values(images)
    draws = torch.rand(
        (n_steps, *images.shape), generator=generator, dtype=images.dtype, device=images.device
    )
    return (draws < images).to(images.dtype)


def constant_encode(images: Tensor, n_steps: int) -> Tensor:
    """Show the same image at every step (direct coding), without copying it.

    Args:
        images: Input currents, any shape and range.
        n_steps: Number of time steps T, at least 1.

    Returns:
        A view ``[T, *images.shape]``; write to a ``.clone()`` of it, never to it.

    Raises:
        ValueError: ``n_steps`` is below 1.
    """
    _check_steps(n_steps)
    return images.expand(n_steps, *images.shape)


def _check_steps(n_steps: int) -> None:
    if not isinstance(n_steps, int):
        raise ValueError(f"n_steps must be a whole number, got {n_steps!r}")
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, got {n_steps}")


def _check_grey_values(images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise ValueError(f"images must be a torch tensor, got {type(images).__name__}")
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point in [0, 1], got {images.dtype}")
    if images.numel() == 0:
        return
    low, high = images.aminmax()
    if low.isnan():
        raise ValueError("images must lie in [0, 1], got NaN")
    if low < 0 or high > 1:
        raise ValueError(
            f"images must lie in [0, 1] to serve as firing probabilities, "
            f"got values from {low.item():.4g} to {high.item():.4g}; "
            f"leave out the normalisation step"
        )
