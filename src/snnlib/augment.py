"""Small random changes to training images that leave their meaning alone."""

import torch
import torch.nn.functional as F
from torch import Tensor


def shift_images(
    images: Tensor, n_pixels: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Move each image by up to ``n_pixels`` in both directions; black comes in from the edge.

    Args:
        images: ``[N, 1, H, W]``.
        n_pixels: Largest shift; every whole number of pixels is equally likely.
        generator: Source of randomness; on the CPU, or on the device of ``images``.

    Returns:
        Shifted images in the shape of ``images``.

    Raises:
        ValueError: ``n_pixels`` is negative.
    """
    if n_pixels < 0:
        raise ValueError(f"n_pixels must be at least 0, got {n_pixels}")
    if n_pixels == 0:
        return images
    n_images, _, height, width = images.shape
    at = images.device if generator is None else generator.device
    start = torch.randint(2 * n_pixels + 1, (2, n_images, 1), generator=generator, device=at)
    down, right = start.to(images.device)
    rows = down + torch.arange(height, device=images.device)
    columns = right + torch.arange(width, device=images.device)
    image = torch.arange(n_images, device=images.device)[:, None, None]
    padded = F.pad(images, [n_pixels] * 4)[:, 0]
    return padded[image, rows[:, :, None], columns[:, None, :]].unsqueeze(1)


def warp_images(
    images: Tensor,
    degrees: float,
    zoom: float,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Turn, stretch and slant each image a little; black comes in from the edge.

    Args:
        images: ``[N, 1, H, W]``, grey values in [0, 1].
        degrees: Largest turn, to either side.
        zoom: Largest stretch of width and of height, and largest slant: 0.1 is a tenth.
        generator: Source of randomness; on the CPU, or on the device of ``images``.

    Returns:
        Warped images in the shape of ``images``; the same ones if nothing is asked for.

    Raises:
        ValueError: ``degrees`` is negative, or ``zoom`` outside [0, 1).
    """
    if not degrees >= 0:
        raise ValueError(f"degrees must be at least 0, got {degrees}")
    if not 0 <= zoom < 1:
        raise ValueError(f"zoom must lie in [0, 1), got {zoom}")
    if degrees == 0 and zoom == 0:
        return images
    at = images.device if generator is None else generator.device
    draw = torch.rand((4, len(images)), generator=generator, device=at).to(images.device) * 2 - 1
    angle = draw[0] * (degrees * torch.pi / 180)
    across, down, slant = 1 + zoom * draw[1], 1 + zoom * draw[2], zoom * draw[3]
    zero = torch.zeros_like(angle)
    rows = [
        torch.stack([angle.cos() * across, slant - angle.sin(), zero], dim=1),
        torch.stack([angle.sin(), angle.cos() * down, zero], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False).clamp(0, 1)
