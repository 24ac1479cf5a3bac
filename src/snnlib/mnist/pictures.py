"""From a picture of your own to 28 by 28 pixels, made as those of MNIST were made.

The digits of MNIST were scaled so that they fill a square of 20 by 20 pixels, aspect
kept, and placed with their centre of mass at the centre of 28 by 28 pixels (LeCun,
Bottou, Bengio & Haffner 1998, section III-A). A photo of a pen stroke needs its paper
taken away first: :func:`like_mnist` does both, :func:`read_grey` reads the file.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from snnlib.checks import finite, float_tensor, grey_tensor, refuse
from snnlib.checks.files import StrPath, named_path

WORKING_SIZE = 400  # pixels: larger pictures are shrunk first, which also averages their noise
LEAST_SIZE = 8  # pixels
LEAST_CONTRAST = 0.05  # of full brightness: less than that is a blank sheet
CENTRE = 14  # of rows and columns, from 0: MNIST's centres of mass lie within 13.48..14.5


def read_picture(path: StrPath, name: str = "path") -> Tensor:
    """As :func:`snnlib.data.load_picture`; ``name`` is what the user named the file with."""
    grey = read_grey(path, name)
    try:
        return like_mnist(grey)
    except ValueError as error:
        raise ValueError(f"{name} must name a picture of a digit, got {path}: {error}") from error


def read_grey(path: StrPath, name: str = "path") -> Tensor:
    """Brightness of a picture file, ``[H, W]`` float32, 0 black to 1 white.

    Anything that Pillow reads: of an animation the first frame, turned as its EXIF entry
    says; what is transparent lies on white. Of more than 8 bits, the brightest pixel is 1.

    Args:
        path: The file.
        name: What the user named it with, for the refusal.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a folder, damaged, no picture (as SVG and PDF are none), or has more
            pixels than Pillow takes for harmless, 89 million.
    """
    file = named_path(name, path)
    if not file.exists():
        raise FileNotFoundError(f"{name} must name a picture that is there, got {file}")
    if not file.is_file():
        refuse(name, "the name of a picture", str(file), "that is a folder, or no file at all")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _brightness(file)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        allowed = f"a picture of at most {Image.MAX_IMAGE_PIXELS} pixels"
        raise ValueError(f"{name} must name {allowed}, got {file}; make it smaller") from error
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise ValueError(
            f"{name} must name a picture, got {file}, which is damaged or of a kind that cannot "
            "be read here; save it as PNG"
        ) from error


def _brightness(file: Path) -> Tensor:
    with Image.open(file) as picture:
        if picture.format in ("EPS", "WMF"):  # drawings: other programs would have to be run
            raise ValueError("no pixels")
        upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith(("I", "F")):  # 16 or 32 bits
        deep = np.asarray(upright).astype(np.float32).clip(min=0)
        return torch.from_numpy(deep / max(float(deep.max()), 1e-30))
    if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
        ground = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(ground, upright.convert("RGBA"))
    return torch.from_numpy(np.array(upright.convert("L"), np.float32) / 255)


def like_mnist(picture: Tensor) -> Tensor:
    """A digit of any size, dark on light or light on dark, as MNIST would show it.

    1. The ground, say paper under uneven light, is a quadratic surface through the border
       of the picture: its outermost fortieth, fitted by least absolute deviations, so that
       strokes that touch the border hardly count.
    2. What departs from the ground is ink. If more of it is darker than the ground than
       lighter, by the sum of cubes, the digit is dark on light; else it is light on dark.
    3. Ink below a tenth of the full stroke is cut, and below six times the noise of the border
       if that is more, but never above Otsu's threshold. Full strokes become 1.
    4. Rows and columns at the sides with less than a fiftieth of the ink of the fullest are
       dust. The rest is scaled to 20 pixels, antialiased, the brightest pixel to 1 even of a
       thin pen, and its centre of mass placed at pixel (14, 14), counted from 0, to
       within half a pixel: there MNIST has it.

    Args:
        picture: Brightness ``[H, W]`` in [0, 1], at least 8 by 8: a tensor or NumPy array. With
            a margin of ground around the digit, and nothing else in sight.

    Returns:
        ``[1, 28, 28]`` float32 in [0, 1], a light digit on black, on the CPU.

    Raises:
        ValueError: ``picture`` is nothing of that kind, or shows nothing.
    """
    grey = grey_tensor("picture", picture).detach().cpu()
    if grey.dim() != 2 or min(grey.shape) < LEAST_SIZE:
        refuse("picture", f"[H, W], at least {LEAST_SIZE} by {LEAST_SIZE}", picture)
    ink = _ink(_shrunk(grey.float()).double()).float()
    digit = _resized(_cropped(ink), 20)
    return _centred(digit / digit.max())[None]


def _resized(image: Tensor, longer: int) -> Tensor:
    """The image with its longer side so many pixels, aspect kept, antialiased."""
    factor = longer / max(image.shape)
    size = [max(1, round(n * factor)) for n in image.shape]
    resized = F.interpolate(image[None, None], size, mode="bilinear", antialias=True)
    return resized[0, 0].clamp(0, 1)  # a rounding error may lie above


def _shrunk(grey: Tensor) -> Tensor:
    return _resized(grey, WORKING_SIZE) if max(grey.shape) > WORKING_SIZE else grey


def _ink(grey: Tensor) -> Tensor:
    """How much ink each pixel holds, ``[H, W]`` in [0, 1]: steps 1 to 3 of :func:`like_mnist`."""
    border = _border(grey)
    ground = _ground(grey, border)
    excess = grey - ground
    if (excess**3).sum() < 0:  # ink swallows its share of whatever light there is
        excess = -excess / ground.clamp(min=LEAST_CONTRAST)
    ink = excess.clamp(min=0)
    spread = (excess[border] - excess[border].median()).abs().median()
    noise = 1.4826 * float(spread)  # the standard deviation, if the noise is normal
    if ink.max() < max(LEAST_CONTRAST, 6 * noise):
        raise ValueError("nothing in it is clearly darker or lighter than its border")
    threshold = otsu(ink)
    full = float(ink[ink > threshold].quantile(0.95))
    cut = min(max(6 * noise, full / 10), threshold)
    return torch.where(ink > cut, ink / full, 0.0).clamp(max=1)


def _border(grey: Tensor) -> Tensor:
    """True in the outermost fortieth of the shorter side, at least one pixel."""
    height, width = grey.shape
    n = max(1, min(height, width) // 40)
    border = torch.ones(height, width, dtype=torch.bool)
    border[n : height - n, n : width - n] = False
    return border


def _ground(grey: Tensor, border: Tensor) -> Tensor:
    """The quadratic surface nearest to the border, in the sum of absolute deviations.

    Found by least squares, repeated with weights of one over the last deviation.
    """
    y, x = (torch.linspace(-1, 1, n, dtype=grey.dtype) for n in grey.shape)
    y, x = torch.meshgrid(y, x, indexing="ij")
    terms = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], dim=2)
    root = torch.ones_like(grey[border])  # of the weights
    for _ in range(10):
        wanted = (root * grey[border])[:, None]
        coefficients = torch.linalg.lstsq(root[:, None] * terms[border], wanted).solution[:, 0]
        root = (terms[border] @ coefficients - grey[border]).abs().clamp(min=1e-3).rsqrt()
    return terms @ coefficients


def otsu(values: Tensor) -> float:
    """Otsu's threshold: it cuts into two classes of the greatest variance between them.

    With n0 and n1 values in the classes and means m0 and m1, the cut between two of 256 bins
    that maximises n0 n1 (m1 - m0)^2 (Otsu 1979, Eq. 14). The threshold lies midway
    between the means, as it does where values are dense.

    Args:
        values: Any shape, not all equal; a tensor or NumPy array.

    Raises:
        ValueError: ``values`` are no finite numbers, or all equal.
    """
    given = finite("values", float_tensor("values", values)).detach().double().cpu().flatten()
    if not given.numel() or given.min() == given.max():
        refuse("values", "at least two different numbers", values)
    low, high = given.aminmax()
    counts = torch.histc(given, 256, float(low), float(high))
    sums = (counts * (low + (high - low) * (torch.arange(256) + 0.5) / 256)).cumsum(0)
    n0 = counts.cumsum(0)[:-1]
    n1 = counts.sum() - n0
    m0, m1 = sums[:-1] / n0, (sums[-1] - sums[:-1]) / n1
    best = (n0 * n1 * (m1 - m0) ** 2).argmax()
    return float((m0 + m1)[best] / 2)


def _cropped(ink: Tensor) -> Tensor:
    """The part between the first and the last row and column that hold more than dust."""
    parts = []
    for across in (1, 0):
        sums = ink.sum(across)
        held = (sums > sums.max() / 50).nonzero().flatten().tolist()
        parts.append(slice(held[0], held[-1] + 1))
    return ink[parts[0], parts[1]]


def _centred(digit: Tensor) -> Tensor:
    """Place a digit in 28 by 28, whole: its centre of mass at the centre where it fits so."""
    corner = []
    for across, n in zip((1, 0), digit.shape, strict=True):
        mass = digit.sum(across)
        centre = float((mass * torch.arange(n)).sum() / mass.sum())
        corner.append(min(max(round(CENTRE - centre), 0), 28 - n))
    image = torch.zeros(28, 28)
    (top, left), (height, width) = corner, digit.shape
    image[top : top + height, left : left + width] = digit
    return image
