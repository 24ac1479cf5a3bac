"""What a Forward-Forward run can be told: settings, defaults, refusals; no code runs here."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

from snnlib.checks import whole_number
from snnlib.settings.setting import MANY, Need, check_needs, keep_settings, setting


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
        ValueError: A setting is of another type, outside its range, or does not go
            with another one.
    """

    name: str
    question: str
    hidden: tuple[int, ...] = setting((500, 500), least=1, at_most=MANY)
    n_steps: int = setting(8, least=1, at_most=MANY)
    tau: float = setting(2.0, above=1)
    v_threshold: float = setting(1.0, above=0)
    reset: str = setting("zero", choices=("zero", "subtract"))
    input_rms: float = setting(2.0, above=0)
    theta: float | None = None  # None: positive against negative, without a threshold
    loss_slope: float = setting(6.0, above=0)
    goodness: str = setting("mean_square", choices=("mean_square", "mean"))
    goodness_gain: float = setting(20.0, above=0)
    # One wrong label, "likely" to the first layer or at "random"; or "every" one at once.
    negatives: str = setting("likely", choices=("likely", "random", "every"))
    layers_at_once: bool = True  # all layers at once, or one after another
    pass_on: str = setting("rate", choices=("rate", "spikes"))
    encoding: str = setting("constant", choices=("constant", "poisson"))
    normalise_images: bool = True  # each brought to ``input_rms``, or all stretched by one factor
    shift_pixels: int = setting(2, least=0, most=27)
    rotate_degrees: float = setting(0.0, least=0, most=180)
    zoom: float = setting(0.0, least=0, below=1)
    epochs: int = setting(30, least=1)
    batch_size: int = setting(250, least=1)
    lr: float = setting(2e-3, above=0)
    n_validation: int = setting(10_000, least=1)
    # How it learns and judges.
    rule: str = setting(
        "goodness", choices=("goodness", "two-pass", "neutral-head", "class-wise", "bptt")
    )
    activation: str = setting("lif", choices=("lif", "relu"))
    # For the rule "class-wise", whose ``hidden`` layers are convolutions; there may be none:
    kernel: int = 5  # width of a convolution
    dense: tuple[int, ...] = setting(
        (), least=1, at_most=MANY
    )  # dense layers above the convolutions
    # Without convolutions: side of the square of pixels that a neuron of the first layer sees.
    receptive_field: int | None = setting(None, least=1, most=28)
    claim: str = "forward-forward"
    seed: int = setting(0, least=0, most=2**62)
    device: str = "cpu"

    def __post_init__(self) -> None:
        keep_settings(self)
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
        alone = 1 if self.layers_at_once else len(self.hidden) + len(self.dense)
        return self.epochs * alone


def _unread(rule: str, *names: str) -> Iterator[Need]:
    """Settings that a rule never looks at, though one might think so, keep their defaults."""
    defaults = {field.name: field.default for field in fields(FFConfig)}
    return (("rule", rule, name, (defaults[name],)) for name in names)


_CONVOLUTIONS = ("kernel", "dense", "receptive_field")
# What must be so where another setting has this value, or the record would tell an untruth.
NEEDS: tuple[Need, ...] = (
    *_unread("goodness", *_CONVOLUTIONS),
    *_unread("two-pass", *_CONVOLUTIONS, "pass_on"),
    *_unread("neutral-head", *_CONVOLUTIONS, "pass_on"),
    *_unread("bptt", *_CONVOLUTIONS, "encoding", "goodness", "theta"),
    *_unread("class-wise", "encoding", "activation", "pass_on", "theta", "loss_slope", "input_rms"),
    *_unread("class-wise", "negatives"),
    ("reset", "subtract", "activation", ("lif",)),
    ("encoding", "poisson", "activation", ("lif",)),
    ("normalise_images", False, "rule", ("goodness",)),
    ("normalise_images", False, "encoding", ("constant",)),
    ("negatives", "every", "rule", ("goodness",)),
    ("negatives", "every", "theta", (None,)),
    ("layers_at_once", False, "rule", ("goodness", "class-wise")),  # of layers without a head
)


@dataclass(frozen=True)
class PostConfig:
    """Settings of one row of the post's table; the defaults are row 8 with all its faults.

    Raises:
        ValueError: A setting is of another type or outside its range, or ``widths`` do
            not lead to classes.
    """

    name: str
    question: str
    widths: tuple[int, ...] = setting((784, 500, 10), least=1, at_most=MANY)
    v_threshold: float = setting(0.45, above=0)
    theta: float = 0.35
    surrogate: str = setting("atan", choices=("atan", "sigmoid"))
    loss: str = setting("log(2+e^z)", choices=("linear", "log(2+e^z)", "softplus"))
    goodness: str = setting("mean_square", choices=("mean_square", "mean"))
    prediction: str = setting("goodness", choices=("goodness", "rate"))
    output_mse: bool = False  # the last layer learns labels by MSE instead
    shared_state: bool = True  # positive and negative images take turns on one membrane
    label_in_column: bool = True  # label written down the left edge instead of along the top
    pixel_norm: bool = True  # each pixel divided by its own length, spike frames by theirs
    loss_slope: float = setting(1.0, above=0)
    n_training: int = setting(64, least=1)
    n_updates: int = setting(100, least=1)
    batch_size: int = setting(64, least=1)
    n_steps: int = setting(100, least=1, at_most=MANY)
    tau: float = setting(2.0, above=1)
    lr: float = setting(1e-3, above=0)
    claim: str = "forward-forward of the post"
    seed: int = setting(0, least=0, most=2**62)
    device: str = "cpu"

    def __post_init__(self) -> None:
        keep_settings(self)
        if len(self.widths) < 2:
            raise ValueError(
                f"widths must be those of the input and of one layer at least, got {self.widths!r}"
            )
        if (self.output_mse or self.prediction == "rate") and self.widths[-1] < 10:
            raise ValueError(
                "widths must end in at least 10, a neuron per class, with output_mse=True or "
                f"prediction='rate', got {self.widths!r}"
            )
