"""What a run can be told: every setting, its default, and what is refused; no code runs here."""

from dataclasses import dataclass, replace
from typing import Any, Self

from snnlib.checks import keep_exact, one_of, refuse, whole_number
from snnlib.settings.needs import Need, check_needs

CHOICES: dict[str, tuple[str, ...]] = {
    "network": ("fc", "csnn", "small-conv"),
    "protocol": ("post", "honest"),
    "encoding": ("poisson", "constant"),
    "optimizer": ("adam", "sgd"),
    "schedule": ("none", "one_cycle"),
    "loss": (
        "mse",
        "cross_entropy",
        "logit_cross_entropy",
        "log_softmax_mse",
        "softmax_mse",
        "sum_of_squares",
    ),
    "engine": ("auto", "events", "fused", "scan", "torch", "spikingjelly"),
    "amp": ("off", "bfloat16"),
    "neuron": ("spiking", "relu"),
    "reset": ("hard", "soft"),
    "readout": ("rate", "potential"),
    "conv_steps": ("all", "one"),
    "spike": ("step", "soft"),
    "rule": ("bptt", "last_step"),
}


# What a number may be, in the words of ``checks``; of the others any finite one will do.
RANGES: dict[str, dict[str, Any]] = {
    "n_steps": {"least": 1},
    "early_steps": {"least": 1},
    "tau": {"above": 1},
    "channels": {"least": 1},
    "epochs": {"least": 1},
    "batch_size": {"least": 1},
    "lr": {"above": 0},
    "momentum": {"least": 0, "below": 1},
    "max_grad_norm": {"above": 0},
    "weight_std": {"above": 0},
    "shift_pixels": {"least": 0, "most": 27},
    "rotate_degrees": {"least": 0, "most": 180},
    "zoom": {"least": 0, "below": 1},
    "anytime_steps": {"least": 1},
    "limit": {"least": 12, "most": 60_000},
    "test_limit": {"least": 1, "most": 10_000},
    "seed": {"least": 0, "most": 2**62},
}
# Far beyond every use; what is above would need years, or sizes that overflow.
CEILINGS: dict[str, int] = {
    **dict.fromkeys(("n_steps", "early_steps", "anytime_steps"), 1_000_000),
    **dict.fromkeys(("channels", "hidden", "dense", "widths"), 1_000_000),
}


def keep_settings(
    config: Any, ranges: dict[str, dict[str, Any]], choices: dict[str, tuple[str, ...]]
) -> None:
    """Store all settings as Python's own values; refuse those of another type or range by name."""
    keep_exact(config, ranges)
    for name, most in CEILINGS.items():
        given = getattr(config, name, None) or ()
        if max(given if isinstance(given, tuple) else (given,), default=0) > most:
            refuse(name, f"at most {most}", given)
    for name, allowed in choices.items():
        one_of(name, getattr(config, name), allowed)


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
    ("rule", "last_step", "reset", ("hard",)),
    ("rule", "last_step", "engine", ("auto", "torch")),
    ("spike", "soft", "network", ("fc",)),
    ("spike", "soft", "reset", ("hard",)),
    ("spike", "soft", "engine", ("auto", "torch")),
    ("spike", "soft", "anytime_steps", (None,)),  # spikes are counted, and here are none
    ("conv_steps", "one", "network", _CONVOLUTIONAL),
    ("conv_steps", "one", "encoding", ("constant",)),
    ("conv_steps", "one", "anytime_steps", (None,)),
    ("network", "csnn", "tau", (2.0,)),  # its neurons do not leak
    ("normalise", True, "encoding", ("constant",)),  # grey values leave [0, 1]
    ("readout", "potential", "network", ("csnn",)),
    ("readout", "potential", "loss", ("logit_cross_entropy",)),
    ("readout", "potential", "anytime_steps", (None,)),
    # An ordinary network knows no time, no spikes and none of the faults.
    ("neuron", "relu", "reset", ("hard",)),
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
        ``reset="soft"`` takes the threshold off at a spike instead of setting the
        potential to 0. ``readout="potential"`` lets the last neurons of the CSNN add
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
        with the one-hot target. ``spike="soft"`` puts a sigmoid where the spike
        should be. ``rule="last_step"`` takes the gradient from the last step alone.

    Raises:
        ValueError: A setting is of another type, outside its range (see ``RANGES``, ``CEILINGS``
            and ``CHOICES``), or does not go with another one.
    """

    name: str
    claim: str
    question: str
    network: str = "fc"
    protocol: str = "post"
    encoding: str = "poisson"
    n_steps: int = 100
    early_steps: int | None = None
    tau: float = 2.0
    channels: int = 64
    epochs: int = 100
    batch_size: int = 128
    drop_last: bool = True
    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    schedule: str = "none"
    loss: str = "mse"
    max_grad_norm: float | None = None
    weight_std: float | None = None
    shift_pixels: int = 0
    rotate_degrees: float = 0.0
    zoom: float = 0.0
    normalise: bool = False
    neuron: str = "spiking"
    reset: str = "hard"
    readout: str = "rate"
    anytime_steps: int | None = None
    conv_steps: str = "all"
    spike: str = "step"
    rule: str = "bptt"
    limit: int | None = None
    test_limit: int | None = None
    seed: int = 0
    device: str = "auto"
    engine: str = "auto"
    amp: str = "off"

    def __post_init__(self) -> None:
        keep_settings(self, RANGES, CHOICES)
        if self.early_steps is not None and self.early_steps >= self.n_steps:
            raise ValueError(
                f"early_steps must be less than n_steps={self.n_steps}, got {self.early_steps}"
            )
        if self.early_steps is not None and self.epochs < 2:
            raise ValueError(
                f"epochs must be at least 2 with early_steps={self.early_steps}, got {self.epochs}"
            )
        check_needs(self, NEEDS)
        answers_in_logits = self.neuron == "relu" or self.readout == "potential"
        if self.loss == "logit_cross_entropy" and not answers_in_logits:
            raise ValueError(
                "loss='logit_cross_entropy' needs logits, and so neuron='relu' or "
                "readout='potential'"
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
