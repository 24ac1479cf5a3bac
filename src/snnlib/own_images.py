"""Images that a caller brings to a run, refused before anything is computed if they do not fit."""

import torch

from snnlib import checks
from snnlib.data import ImageSet

SHAPE = (1, 28, 28)
N_CLASSES = 10


def fitting(name: str, given: ImageSet | None, *, grey: bool, least: int = 1) -> ImageSet | None:
    """The images that a run was given, ready for it; None stays None.

    Args:
        name: The argument, for the refusal.
        given: ``[N, 1, 28, 28]`` floating point, labels 0 to 9, and a word on their source.
        grey: Whether grey values serve as firing probabilities, so that they must lie in [0, 1].
        least: How many images the run needs.

    Raises:
        ValueError: Another shape, type or class than wanted, a value that is no number,
            too few images, or no source.
    """
    if given is None:
        return None
    if not isinstance(given, ImageSet):
        checks.refuse(name, "an ImageSet of snnlib.data", given)
    pictures = checks.tensor(f"{name}.images", given.images)
    if pictures.dim() != 4 or pictures.shape[1:] != SHAPE:
        wanted = "one grey channel of 28 x 28 pixels each, [N, 1, 28, 28]"
        checks.refuse(f"{name}.images", wanted, pictures, _cure(tuple(pictures.shape)))
    if len(pictures) < least:
        raise ValueError(f"{name} must hold at least {least} images for this run, got {len(given)}")
    check = checks.grey_tensor if grey else checks.image_tensor
    images = check(f"{name}.images", pictures, torch.float32)
    labels = checks.label_tensor(f"{name}.labels", given.labels, len(images), N_CLASSES)
    if not isinstance(given.source, str) or not given.source.replace(" test set", "").strip():
        checks.refuse(f"{name}.source", "a few words on where the images are from", given.source)
    return ImageSet(images, labels, given.source)


def _cure(shape: tuple[int, ...]) -> str:
    """What brings images of a shape into the one wanted, where that is plain."""
    if len(shape) == 3 and shape[1:] == SHAPE[1:]:
        return ".unsqueeze(1) adds the channel"
    if len(shape) != 4:
        return ""
    steps = [".mean(1, keepdim=True) makes colours grey"] if shape[1] == 3 else []
    if shape[2:] != SHAPE[1:]:
        steps.append("torch.nn.functional.interpolate(images, (28, 28)) changes their size")
    return " and ".join(steps)
