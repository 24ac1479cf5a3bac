"""Every experiment of the book as named settings; no code runs here.

A preset is an :class:`ExperimentConfig`. Variants differ from the preset they
are derived from in the one or two settings written beside them.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

CHOICES: dict[str, tuple[str, ...]] = {
    "network": ("fc", "csnn", "small-conv"),
    "protocol": ("post", "honest"),
    "encoding": ("poisson", "constant"),
    "optimizer": ("adam", "sgd"),
    "schedule": ("none", "cosine", "one_cycle"),
    "loss": ("mse", "cross_entropy", "log_softmax_mse", "softmax_mse", "sum_of_squares"),
    "engine": ("auto", "events", "fused", "scan", "torch", "spikingjelly"),
    "amp": ("off", "bfloat16", "float16"),
    "conv_steps": ("all", "one"),
    "spike": ("step", "soft"),
    "rule": ("bptt", "last_step"),
}


@dataclass(frozen=True)
class ExperimentConfig:
    """All settings of one run.

    Training:
        ``protocol`` is ``"post"`` (all 60,000 images to learn from, best epoch
        picked on the test set) or ``"honest"`` (50,000 and 10,000 for validation;
        the test set is looked at once). ``limit`` and ``test_limit`` take only so
        many training and test images. ``shift_pixels`` moves each training image
        at random by up to so many pixels. ``normalise`` subtracts 0.1307 and
        divides by 0.3081, as the third post did. ``schedule`` moves the learning
        rate after each batch; with ``"one_cycle"``, ``lr`` is its peak.

    Machine:
        ``device`` is ``"auto"`` or a name for ``torch.device``. ``engine`` is how
        the time steps are computed, see ``snnlib.engines``. ``amp`` runs the
        forward pass in half precision.

    Faults of the posts, off by default:
        ``conv_steps="one"`` runs the convolutions for one step only.
        ``loss="log_softmax_mse"`` and ``"softmax_mse"`` compare (log-)softmax
        with the one-hot target. ``spike="soft"`` puts a sigmoid where the spike
        should be. ``rule="last_step"`` takes the gradient from the last step alone.
    """

    name: str
    claim: str
    question: str
    network: str = "fc"
    protocol: str = "post"
    encoding: str = "poisson"
    n_steps: int = 100
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
    normalise: bool = False
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
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        least = {"n_steps": 1, "channels": 1, "epochs": 1, "batch_size": 1, "limit": 12}
        for name, low in {**least, "test_limit": 1, "seed": 0, "shift_pixels": 0}.items():
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= low):
                raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}")
        for name in ("lr", "max_grad_norm", "weight_std"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0, got {value}")
        if not self.tau > 1:
            raise ValueError(f"tau must be greater than 1 step, got {self.tau}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        self._check_combinations()

    def _check_combinations(self) -> None:
        fc_only = {"rule": "last_step", "spike": "soft", "engine": "events"}
        for name, value in fc_only.items():
            if getattr(self, name) == value and self.network != "fc":
                raise ValueError(f"{name}={value!r} needs network='fc', got {self.network!r}")
        if self.engine == "fused" and (self.network != "csnn" or self.conv_steps == "one"):
            raise ValueError("engine='fused' needs network='csnn' and conv_steps='all'")
        if self.conv_steps == "one" and (self.network == "fc" or self.encoding != "constant"):
            raise ValueError("conv_steps='one' needs convolutions and encoding='constant'")
        if self.engine == "events" and self.encoding != "poisson":
            raise ValueError(f"engine='events' needs encoding='poisson', got {self.encoding!r}")
        if self.normalise and self.encoding == "poisson":
            raise ValueError("normalise=True leaves [0, 1] and cannot go with encoding='poisson'")

    def but(self, name: str, question: str, **changes: Any) -> Self:
        """A variant under a new name that differs in the given settings."""
        return replace(self, name=name, question=question, **changes)


_FC = ExperimentConfig(
    name="fc",
    claim="fc",
    question="Does one layer of ten LIF neurons reach 92.89 % in 100 epochs (first post)?",
)
_CSNN = ExperimentConfig(
    name="csnn",
    claim="csnn",
    question="Does the convolutional network reach 99.33 % in 64 epochs (first post)?",
    network="csnn",
    encoding="constant",
    n_steps=4,
    epochs=64,
    optimizer="sgd",
    lr=0.1,
)
_SMALL = ExperimentConfig(
    name="small-conv-post",
    claim="small-conv",
    question="What do the third post's settings give when both of its faults are mended?",
    network="small-conv",
    encoding="constant",
    n_steps=8,
    epochs=10,
    batch_size=512,
    drop_last=False,
    lr=1e-2,
    normalise=True,
)
_RECIPE: dict[str, Any] = {
    "protocol": "honest",
    "optimizer": "adam",
    "lr": 2e-3,
    "schedule": "one_cycle",
    "shift_pixels": 2,
    "batch_size": 128,
    "drop_last": True,
}
_FIFTH = _FC.but(
    "post5",
    "How far does the fifth post's network get with its own gradient: last step, analog image?",
    claim="last-step-rule",
    batch_size=64,
    optimizer="sgd",
    momentum=0.0,
    loss="sum_of_squares",
    weight_std=1.0,
    spike="soft",
    rule="last_step",
)
_QUICK: dict[str, Any] = {"limit": 10_000, "test_limit": 2_000, "epochs": 2}


def _all_presets() -> list[ExperimentConfig]:
    return [*_fully_connected(), *_convolutional(), *_from_scratch()]


def _fully_connected() -> list[ExperimentConfig]:
    curve = [
        _FC.but(f"fc-T{n}", f"What accuracy do {n} time steps buy?", claim="fc-T", n_steps=n)
        for n in (1, 2, 5, 10, 20, 50, 200)
    ]
    return [
        _FC,
        _FC.but("fc-quick", "Does it learn, in seconds?", n_steps=20, **_QUICK),
        _FC.but("fc-b64", "And with the second post's batch of 64?", claim="fc-b64", batch_size=64),
        _FC.but(
            "fc-ce",
            "Is MSE on rates really better than cross-entropy, as the second post says?",
            claim="mse-vs-ce",
            loss="cross_entropy",
        ),
        *curve,
    ]


def _convolutional() -> list[ExperimentConfig]:
    faults = {"conv_steps": "one", "loss": "log_softmax_mse"}
    return [
        _CSNN,
        _CSNN.but("csnn-best", "How far does a better recipe get, honestly?", epochs=20, **_RECIPE),
        _CSNN.but(
            "csnn-16",
            "How far does a quarter of the channels get, in minutes and honestly?",
            claim="csnn-small",
            channels=16,
            epochs=6,
            **_RECIPE,
        ),
        _CSNN.but("csnn-quick", "Does it learn, in a minute?", channels=16, **_QUICK),
        _SMALL.but(
            "small-conv",
            "Does the small network, its convolutions inside the time loop, pass 99 %, honestly?",
            normalise=False,
            **{**_RECIPE, "epochs": 20},
        ),
        _SMALL,
        _SMALL.but(
            "small-conv-quick", "Does it learn, in seconds?", **{**_QUICK, "batch_size": 64}
        ),
        _SMALL.but(
            "small-conv-post-fault",
            "What does the code that the third post printed really give?",
            **faults,
        ),
        _SMALL.but(
            "small-conv-conv-once",
            "What does it cost to run the convolutions for one step only?",
            conv_steps="one",
        ),
        _SMALL.but(
            "small-conv-log-softmax",
            "What does it cost to compare log-softmax with a one-hot target?",
            loss="log_softmax_mse",
        ),
        _SMALL.but(
            "small-conv-softmax",
            "Does the softmax that the third post's log points to explain its 98 %?",
            conv_steps="one",
            loss="softmax_mse",
            epochs=5,
        ),
    ]


def _from_scratch() -> list[ExperimentConfig]:
    scratch = {"claim": "from-scratch", "batch_size": 64, "epochs": 20}
    return [
        _FC.but(
            "fc-scratch",
            "Do our own neurons learn as SpikingJelly's do, from the same start?",
            engine="torch",
            **scratch,
        ),
        _FC.but(
            "fc-library",
            "The same run with SpikingJelly's neurons.",
            engine="spikingjelly",
            **scratch,
        ),
        _FC.but(
            "fc-last-step",
            "What does the last-step rule cost, all else as in fc-b64?",
            claim="last-step-rule",
            batch_size=64,
            rule="last_step",
        ),
        _FIFTH,
        _FIFTH.but(
            "post5-bptt",
            "The fifth post's soft neurons under true backpropagation through time.",
            rule="bptt",
        ),
    ]


PRESETS: dict[str, ExperimentConfig] = {config.name: config for config in _all_presets()}
