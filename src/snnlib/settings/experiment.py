"""What a run can be told: every setting, its default, and what is refused; no code runs here."""

from dataclasses import dataclass, replace
from typing import Any, Self

from snnlib.checks import whole_number
from snnlib.settings.setting import MANY, Need, keep_settings, setting

_CONVOLUTIONAL = ("csnn", "small-conv")
# What must be so where another setting has this value; some would be ignored otherwise.
NEEDS: tuple[Need, ...] = (
    # Each engine knows its networks.
    ("engine", "events", "network", ("fc",)),
    ("engine", "events", "encoding", ("poisson",)),
    ("engine", "events", "amp", ("off",)),
    ("engine", "fused", "network", _CONVOLUTIONAL),
    ("engine", "fused", "encoding", ("constant",)),
    ("engine", "fused", "conv_steps", ("all",)),
    # The posts' faults, kept to be measured.
    ("rule", "last_step", "network", ("fc",)),
    ("rule", "last_step", "reset", ("zero",)),
    ("rule", "last_step", "engine", ("auto", "torch")),
    ("spike", "sigmoid", "network", ("fc",)),
    ("spike", "sigmoid", "reset", ("zero",)),
    ("spike", "sigmoid", "engine", ("auto", "torch")),
    ("spike", "sigmoid", "anytime_steps", (None,)),  # spikes are counted, and here are none
    ("conv_steps", "one", "network", _CONVOLUTIONAL),
    ("conv_steps", "one", "encoding", ("constant",)),
    ("conv_steps", "one", "anytime_steps", (None,)),
    ("network", "csnn", "tau", (2.0,)),  # its neurons do not leak
    ("normalise", True, "encoding", ("constant",)),  # grey values leave [0, 1]
    ("readout", "membrane", "network", ("csnn",)),
    ("readout", "membrane", "loss", ("logit_cross_entropy",)),
    ("readout", "membrane", "anytime_steps", (None,)),
    # An ordinary network knows no time, no spikes and none of the faults.
    ("neuron", "relu", "reset", ("zero",)),
    ("neuron", "relu", "readout", ("rate",)),
    ("neuron", "relu", "encoding", ("constant",)),
    ("neuron", "relu", "n_steps", (1,)),
    ("neuron", "relu", "engine", ("auto", "torch")),
    ("neuron", "relu", "conv_steps", ("all",)),
    ("neuron", "relu", "spike", ("step",)),
    ("neuron", "relu", "rule", ("bptt",)),
    ("neuron", "relu", "anytime_steps", (None, 1)),
)


@dataclass(frozen=True)
class ExperimentConfig:
    """All settings of one run.

    Numbers may come from NumPy or PyTorch; stored are Python's own.

    Training:
        ``protocol`` is ``"post"`` (all 60,000 images to learn from, best epoch
        picked on the test set) or ``"honest"`` (50,000 and 10,000 for validation;
        the test set is looked at once). ``limit`` and ``test_limit`` take only so
        many training and test images. ``shift_pixels`` moves each training image
        at random by up to so many pixels; ``rotate_degrees`` and ``zoom`` turn and
        stretch it, see ``snnlib.augment``. ``normalise`` subtracts 0.1307 and
        divides by 0.3081, as the third post did. With ``early_steps`` it learns from
        so few time steps in the first half of the epochs (rounded down); later, and
        whenever it is measured, it takes ``n_steps``. ``schedule`` moves the learning
        rate after each batch; with ``"one_cycle"``, ``lr`` is its peak.

    Network:
        ``neuron="relu"`` makes it the ordinary network of the same shape: one step,
        rectifiers, logits at the end; ``loss="logit_cross_entropy"`` goes with it.
        ``reset="subtract"`` takes the threshold off at a spike instead of setting the
        potential to 0. ``readout="membrane"`` lets the last neurons of the CSNN add
        up without ever firing; their potential after T steps, divided by T, is the
        logit.
        ``anytime_steps`` reads the finished network after each of so many steps and
        counts its work, see ``snnlib.anytime``; the record keeps it as
        ``extra["anytime"]``.

    Machine:
        ``device`` is ``"auto"`` or a name for ``torch.device``. ``engine`` is how
        the time steps are computed, see ``snnlib.experiments.engines``. ``amp`` runs the
        forward pass in half precision.

    Faults of the posts, off by default:
        ``conv_steps="one"`` runs the convolutions for one step only.
        ``loss="log_softmax_mse"`` and ``"softmax_mse"`` compare (log-)softmax
        with the one-hot target. ``spike="sigmoid"`` puts a sigmoid where the spike
        should be. ``rule="last_step"`` takes the gradient from the last step alone.

    Raises:
        ValueError: A setting is of another type, outside its range, or does not go with
            another one.
    """

    name: str
    claim: str
    question: str
    network: str = setting("fc", choices=("fc", "csnn", "small-conv"))
    protocol: str = setting(
        "post",
        choices=("post", "honest"),
        flags=("--protocol",),
        help="how the reported epoch is picked",
    )
    encoding: str = setting("poisson", choices=("poisson", "constant"))
    n_steps: int = setting(
        100, least=1, at_most=MANY, flags=("-T", "--n-steps"), help="time steps per image"
    )
    early_steps: int | None = setting(None, least=1, at_most=MANY)
    tau: float = setting(
        2.0, above=1, flags=("-tau", "--tau"), help="membrane time constant, in steps"
    )
    channels: int = setting(64, least=1, at_most=MANY)
    epochs: int = setting(
        100, least=1, flags=("-epochs", "--epochs"), help="passes over the training images"
    )
    batch_size: int = setting(128, least=1, flags=("-b", "--batch-size"), help="images per batch")
    drop_last: bool = True
    optimizer: str = setting(
        "adam", choices=("adam", "sgd"), flags=("-opt", "--optimizer"), help="adam or sgd"
    )
    lr: float = setting(
        1e-3, above=0, flags=("-lr", "--lr"), help="learning rate, or its peak under one_cycle"
    )
    momentum: float = setting(
        0.9, least=0, below=1, flags=("-momentum", "--momentum"), help="for sgd"
    )
    schedule: str = setting(
        "none",
        choices=("none", "one_cycle"),
        flags=("--schedule",),
        help="how the learning rate moves",
    )
    loss: str = setting(
        "mse",
        choices=(
            "mse",
            "cross_entropy",
            "logit_cross_entropy",
            "log_softmax_mse",
            "softmax_mse",
            "sum_of_squares",
        ),
        flags=("--loss",),
        help="what is made small",
    )
    max_grad_norm: float | None = setting(
        None, above=0, flags=("--max-grad-norm",), help="shorten longer gradients to this"
    )
    weight_std: float | None = setting(None, above=0)
    shift_pixels: int = setting(0, least=0, most=27)
    rotate_degrees: float = setting(0.0, least=0, most=180)
    zoom: float = setting(0.0, least=0, below=1)
    normalise: bool = False
    neuron: str = setting("spiking", choices=("spiking", "relu"))
    reset: str = setting("zero", choices=("zero", "subtract"))
    readout: str = setting("rate", choices=("rate", "membrane"))
    anytime_steps: int | None = setting(None, least=1, at_most=MANY)
    conv_steps: str = setting("all", choices=("all", "one"))
    spike: str = setting("step", choices=("step", "sigmoid"))
    rule: str = setting("bptt", choices=("bptt", "last_step"))
    limit: int | None = setting(
        None, least=12, most=60_000, flags=("--limit",), help="use only so many training images"
    )
    test_limit: int | None = setting(
        None, least=1, most=10_000, flags=("--test-limit",), help="use only so many test images"
    )
    seed: int = setting(
        0, least=0, most=2**62, flags=("--seed",), help="decides weights, order, spikes and split"
    )
    device: str = setting(
        "auto", flags=("-device", "--device"), help="auto, cpu, cuda, cuda:0, mps ..."
    )
    engine: str = setting(
        "auto",
        choices=("auto", "events", "fused", "scan", "torch", "spikingjelly"),
        flags=("--engine",),
        help="who computes the time steps",
    )
    amp: str = setting("off", choices=("off", "bfloat16"))

    def __post_init__(self) -> None:
        keep_settings(self, NEEDS)
        if self.early_steps is not None and self.early_steps >= self.n_steps:
            raise ValueError(
                f"early_steps must be less than n_steps={self.n_steps}, got {self.early_steps}"
            )
        if self.early_steps is not None and self.epochs < 2:
            raise ValueError(
                f"epochs must be at least 2 with early_steps={self.early_steps}, got {self.epochs}"
            )
        answers_in_logits = self.neuron == "relu" or self.readout == "membrane"
        if self.loss == "logit_cross_entropy" and not answers_in_logits:
            raise ValueError(
                "loss='logit_cross_entropy' needs logits, and so neuron='relu' or "
                "readout='membrane'"
            )

    @property
    def n_epochs(self) -> int:
        """Epochs in all."""
        return self.epochs

    def training_steps(self, epoch: int) -> int:
        """Time steps from which it learns in this epoch, counted from 1."""
        epoch = whole_number("epoch", epoch, least=1)
        early = self.early_steps is not None and epoch <= self.epochs // 2
        return self.early_steps if early and self.early_steps else self.n_steps

    def but(self, name: str, question: str, **changes: Any) -> Self:
        """A variant under a new name that differs in the given settings."""
        return replace(self, name=name, question=question, **changes)
