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
