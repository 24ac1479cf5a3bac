"""Images of a run: those that a caller brings, refused if they do not fit, and how they move."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from snnlib.augment import shift_images, warp_images
from snnlib.checks import label_tensor, refuse
from snnlib.data import ImageSet, balanced_indices

N_CLASSES = 10
Move = Callable[[Tensor, torch.Generator], Tensor]


def mover(config: Any) -> Move:
    """How training images ``[N, 1, 28, 28]`` are shifted, rotated and zoomed, at random."""
    shift, degrees, zoom = config.shift_pixels, config.rotate_degrees, config.zoom

    def move(images: Tensor, generator: torch.Generator) -> Tensor:
        images = shift_images(images, shift, generator=generator)
        return warp_images(images, degrees, zoom, generator=generator)

    return move


def describe_sets(**sets: ImageSet | None) -> dict[str, list[Any] | None]:
    """Number and source of the images of a run, which its checkpoint keeps."""
    return {name: None if s is None else [len(s), s.source] for name, s in sets.items()}


def checked_images(
    name: str, given: ImageSet | None, *, least: int = 1, limit: int | None = None
) -> ImageSet | None:
    """The images that a run was given; None stays None.

    That they are grey pictures of 28 x 28 pixels was checked when the set was made.

    Args:
        name: The argument, for the refusal.
        given: Labels are 0 to 9.
        least: How many images the run needs.
        limit: Take at most so many, the classes as equal in number as possible.

    Raises:
        ValueError: It is no ``ImageSet``, holds another class or too few images, or its
            source would leave the record without one.
    """
    if given is None:
        return None
    if not isinstance(given, ImageSet):
        refuse(name, "an ImageSet of snnlib.data", given)
    if len(given) < least:
        raise ValueError(f"{name} must hold at least {least} images for this run, got {len(given)}")
    label_tensor(f"{name}.labels", given.labels, n_classes=N_CLASSES)
    if not given.source.replace(" test set", "").strip():
        refuse(f"{name}.source", "a few words on where the images are from", given.source)
    if given.images.requires_grad:  # a run asks for no gradient of its images
        given = replace(given, images=given.images.detach())
    if limit is None or limit >= len(given):
        return given
    return given.subset(balanced_indices(given.labels, limit))
