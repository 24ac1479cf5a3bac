"""Small random changes to training images that leave their meaning alone."""

import torch
import torch.nn.functional as F
from torch import Tensor

from snnlib.checks import image_tensor, instance, number, refuse, whole_number


def _checked(images: Tensor, generator: torch.Generator | None) -> Tensor:
    instance("generator", generator, torch.Generator, type(None))
    images = image_tensor("images", images, unread=True)  # a step on a GPU must not wait
    if images.dim() != 4 or images.shape[1] != 1:
        refuse("images", "[N, 1, H, W]", images)
    return images


def shift_images(
    images: Tensor, n_pixels: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Move each image by up to ``n_pixels`` in both directions; black comes in from the edge.

    Args:
        images: ``[N, 1, H, W]``; a tensor or NumPy array of floating point numbers.
        n_pixels: Largest shift, less than H and W; every whole number is equally likely.
        generator: Source of randomness; on the CPU, or on the device of ``images``.

    Returns:
        Shifted images in the shape of ``images``.

    Raises:
        ValueError: ``n_pixels`` is no whole number of at least 0, or would move an image
            out of sight, or ``images`` have another shape or hold whole numbers.
    """
    n_pixels = whole_number("n_pixels", n_pixels, least=0)
    images = _checked(images, generator)
    if n_pixels == 0:
        return images
    n_images, _, height, width = images.shape
    if n_pixels >= min(height, width):
        refuse("n_pixels", f"less than {min(height, width)}, the side of an image", n_pixels)
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
        images: ``[N, 1, H, W]``, grey values in [0, 1]; a tensor or NumPy array.
        degrees: Largest turn, to either side, up to 180.
        zoom: Largest stretch of width and of height, and largest slant: 0.1 is a tenth.
        generator: Source of randomness; on the CPU, or on the device of ``images``.

    Returns:
        Warped images in the shape of ``images``; the same ones if nothing is asked for.

    Raises:
        ValueError: ``degrees`` is outside [0, 180], ``zoom`` outside [0, 1), or ``images`` have
            another shape or hold whole numbers.
    """
    degrees = number("degrees", degrees, least=0, most=180)
    zoom = number("zoom", zoom, least=0, below=1)
    images = _checked(images, generator)
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
