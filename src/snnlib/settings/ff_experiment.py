"""What a Forward-Forward run can be told: settings, defaults, refusals; no code runs here."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from snnlib.checks import whole_number
from snnlib.settings.experiment import keep_settings
from snnlib.settings.needs import Need, check_needs

FF_CHOICES: dict[str, tuple[str, ...]] = {
    "rule": ("goodness", "two-pass", "neutral-head", "class-wise", "bptt"),
    "cell": ("lif", "relu"),
    "goodness": ("mean_square", "mean"),
    "negatives": ("likely", "random", "every"),
    "hand_over": ("rate", "spikes"),
    "encoding": ("constant", "poisson"),
    "reset": ("hard", "soft"),
}


POST_CHOICES: dict[str, tuple[str, ...]] = {
    "surrogate": ("atan", "sigmoid"),
    "loss": ("linear", "log(2+e^z)", "softplus"),
    "goodness": ("mean_square", "mean"),
    "prediction": ("goodness", "rate"),
}
# What a number may be, in the words of ``checks``; of the others any finite one will do.
FF_RANGES: dict[str, dict[str, Any]] = {
    "hidden": {"least": 1},
    "dense": {"least": 1},
    "n_steps": {"least": 1},
    "tau": {"above": 1},
    "v_threshold": {"above": 0},
    "length": {"above": 0},
    "scale": {"above": 0},
    "gain": {"above": 0},
    "shift_pixels": {"least": 0, "most": 27},
    "rotate_degrees": {"least": 0, "most": 180},
    "zoom": {"least": 0, "below": 1},
    "epochs": {"least": 1},
    "batch_size": {"least": 1},
    "lr": {"above": 0},
    "n_training": {"least": 1},
    "n_validation": {"least": 1},
    "receptive_field": {"least": 1, "most": 28},
    "seed": {"least": 0, "most": 2**62},
}
POST_RANGES: dict[str, dict[str, Any]] = {
    "widths": {"least": 1},
    "n_updates": {"least": 1},
    **{name: FF_RANGES[name] for name in ("scale", "n_training", "batch_size", "n_steps")},
    **{name: FF_RANGES[name] for name in ("tau", "v_threshold", "lr", "seed")},
}


def grid_shape(n_places: int) -> tuple[int, int]:
    """Rows and columns of a grid of so many places, as square as their number allows."""
    n_places = whole_number("n_places", n_places, least=1)
    n_rows = max(n for n in range(1, math.isqrt(n_places) + 1) if n_places % n == 0)
    return n_rows, n_places // n_rows


@dataclass(frozen=True)
class FFConfig:
    """Settings of one Forward-Forward run under the honest protocol.

    50,000 images train, 10,000 choose which layers judge, and the test set is
    looked at once, at the end. Numbers may come from NumPy or PyTorch, and ``hidden``
    and ``dense`` be lists; stored are Python's own numbers, and tuples.

    Raises:
        ValueError: A setting is of another type, outside its range (see ``FF_RANGES`` and
            ``FF_CHOICES``), or does not go with another one.
    """

    name: str
    question: str
    hidden: tuple[int, ...] = (500, 500)
    n_steps: int = 8
    tau: float = 2.0
    v_threshold: float = 1.0
    reset: str = "hard"  # or "soft": a spike takes the threshold off, and the rest stays
    length: float = 2.0
    theta: float | None = None  # None: positive against negative, without a threshold
    scale: float = 6.0
    goodness: str = "mean_square"
    gain: float = 20.0
    # One wrong label, "likely" to the first layer or at "random"; or "every" one at once.
    negatives: str = "likely"
    together: bool = True  # all layers at once, or one after another
    hand_over: str = "rate"  # or "spikes"
    encoding: str = "constant"  # or "poisson"
    normalise_images: bool = True  # each brought to ``length``, or all stretched by one factor
    shift_pixels: int = 2
    rotate_degrees: float = 0.0
    zoom: float = 0.0
    epochs: int = 30
    batch_size: int = 250
    lr: float = 2e-3
    n_validation: int = 10_000
    rule: str = "goodness"  # how it learns and judges; see FF_CHOICES
    cell: str = "lif"  # or "relu", without time
    # For the rule "class-wise", whose ``hidden`` layers are convolutions; there may be none:
    kernel: int = 5  # width of a convolution
    dense: tuple[int, ...] = ()  # dense layers above the convolutions
    # Without convolutions: side of the square of pixels that a neuron of the first layer sees.
    receptive_field: int | None = None
    claim: str = "forward-forward"
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        keep_settings(self, FF_RANGES, FF_CHOICES)
        self._check_widths()
        check_needs(self, NEEDS)
        self._check_sight()

    def _check_widths(self) -> None:
        """Refuse layers that cannot be made, or that ten classes cannot share."""
        class_wise = self.rule == "class-wise"
        if not self.hidden and not (class_wise and self.dense):
            hint = " (or dense)" if class_wise else ""
            raise ValueError(
                f"hidden{hint} must name the width of one layer at least, got {self.hidden!r}"
            )
        for name in ("hidden", "dense") if class_wise else ():
            if any(width % 10 for width in getattr(self, name)):
                raise ValueError(
                    f"{name} must be whole numbers, multiples of 10, for ten classes, "
                    f"got {getattr(self, name)!r}"
                )
        if class_wise and self.batch_size < 2:
            raise ValueError(
                "batch_size must be at least 2 with rule='class-wise', whose layers compare the "
                f"images of a batch, got {self.batch_size}"
            )

    def _check_sight(self) -> None:
        """Refuse neurons that see more than the image, or together less of it."""
        kernel, field = self.kernel, self.receptive_field
        if not (kernel % 2 and 1 <= kernel <= 27):
            raise ValueError(f"kernel must be an odd whole number from 1 to 27, got {kernel}")
        if not self.hidden and kernel != FFConfig.kernel:
            raise ValueError(
                f"kernel must be {FFConfig.kernel} without convolutions in hidden, got {kernel}"
            )
        if field is None:
            return
        if self.hidden:
            raise ValueError(
                f"hidden must be () with a receptive_field of {field}, got {self.hidden!r}"
            )
        rows, columns = grid_shape(self.dense[0] // 10)
        if rows * field < 28:
            raise ValueError(
                "receptive_field must be large enough for the squares of a class, here "
                f"{rows} by {columns}, to cover all 28 by 28 pixels, got {field}"
            )

    @property
    def n_epochs(self) -> int:
        """Epochs in all; one layer after another, each has its own."""
        alone = 1 if self.together else len(self.hidden) + len(self.dense)
        return self.epochs * alone


def _unread(rule: str, *names: str) -> Iterator[Need]:
    """Settings that a rule never looks at, though one might think so, keep their defaults."""
    defaults = {field.name: field.default for field in fields(FFConfig)}
    return (("rule", rule, name, (defaults[name],)) for name in names)


_CONVOLUTIONS = ("kernel", "dense", "receptive_field")
# What must be so where another setting has this value, or the record would tell an untruth.
NEEDS: tuple[Need, ...] = (
    *_unread("goodness", *_CONVOLUTIONS),
    *_unread("two-pass", *_CONVOLUTIONS, "hand_over"),
    *_unread("neutral-head", *_CONVOLUTIONS, "hand_over"),
    *_unread("bptt", *_CONVOLUTIONS, "encoding", "goodness", "theta"),
    *_unread("class-wise", "encoding", "cell", "hand_over", "theta", "scale", "length"),
    *_unread("class-wise", "negatives"),
    ("reset", "soft", "cell", ("lif",)),
    ("encoding", "poisson", "cell", ("lif",)),
    ("normalise_images", False, "rule", ("goodness",)),
    ("normalise_images", False, "encoding", ("constant",)),
    ("negatives", "every", "rule", ("goodness",)),
    ("negatives", "every", "theta", (None,)),
    ("together", False, "rule", ("goodness", "class-wise")),  # of layers without a head
)


@dataclass(frozen=True)
class PostConfig:
    """Settings of one row of the post's table; the defaults are row 8 with all its faults.

    Raises:
        ValueError: A setting is of another type or outside its range (see ``POST_RANGES``
            and ``POST_CHOICES``), or ``widths`` do not lead to classes.
    """

    name: str
    question: str
    widths: tuple[int, ...] = (784, 500, 10)
    v_threshold: float = 0.45
    theta: float = 0.35
    surrogate: str = "atan"  # or "sigmoid"
    loss: str = "log(2+e^z)"  # or "linear" or "softplus"
    goodness: str = "mean_square"
    prediction: str = "goodness"  # or "rate"
    output_mse: bool = False  # the last layer learns labels by MSE instead
    shared_state: bool = True  # positive and negative images take turns on one membrane
    label_in_column: bool = True  # label written down the left edge instead of along the top
    pixel_norm: bool = True  # each pixel divided by its own length, spike frames by theirs
    scale: float = 1.0
    n_training: int = 64
    n_updates: int = 100
    batch_size: int = 64
    n_steps: int = 100
    tau: float = 2.0
    lr: float = 1e-3
    claim: str = "forward-forward of the post"
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        keep_settings(self, POST_RANGES, POST_CHOICES)
        if len(self.widths) < 2:
            raise ValueError(
                f"widths must be those of the input and of one layer at least, got {self.widths!r}"
            )
        if (self.output_mse or self.prediction == "rate") and self.widths[-1] < 10:
            raise ValueError(
                "widths must end in at least 10, a neuron per class, with output_mse=True or "
                f"prediction='rate', got {self.widths!r}"
            )
