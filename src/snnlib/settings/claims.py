"""What the five posts claim, in their own numbers, and which presets repeat it."""

from dataclasses import dataclass
from typing import Any

from snnlib.checks import keep_exact

RANGES: dict[str, dict[str, Any]] = {
    "post": {"least": 1},
    "test_accuracy": {"least": 0, "most": 100},
    "training_accuracy": {"least": 0, "most": 100},
    "quotation": {"empty": True},
}


@dataclass(frozen=True)
class Claim:
    """One claim of a post, or a question of our own; ``post`` is the post that it is about, if any.

    Accuracies are in percent, as the post prints them; ``None`` where it gives
    none. ``presets`` repeat it under each of ``protocols``.
    """

    name: str
    says: str
    presets: tuple[str, ...]
    post: int | None = None
    test_accuracy: float | None = None
    training_accuracy: float | None = None
    protocols: tuple[str, ...] = ("honest",)
    quotation: str = ""

    def __post_init__(self) -> None:
        keep_exact(self, RANGES)

    @property
    def number(self) -> str:
        """The post's number, or that it gives none."""
        return "no number" if self.test_accuracy is None else f"{self.test_accuracy:g} %"


BOTH = ("post", "honest")
_ALL = [
    Claim(
        "fc",
        "A single fully connected layer of spiking neurons reaches 92.89 % within 100 epochs.",
        ("fc",),
        post=1,
        test_accuracy=92.89,
        training_accuracy=93.48,
        protocols=BOTH,
        quotation="100个epochs中最高训练准确率达93.48%，测试集最高准确率92.89%",
    ),
    Claim(
        "fc-b64",
        "The same network trained with a batch of 64; the post shows no accuracy.",
        ("fc-b64",),
        post=2,
        protocols=BOTH,
    ),
    Claim(
        "fc-T",
        "100 time steps are used; nobody says what fewer would cost.",
        ("fc-T1", "fc-T2", "fc-T5", "fc-T10", "fc-T20", "fc-T50", "fc", "fc-T200"),
        post=2,
    ),
    Claim(
        "csnn",
        "The convolutional spiking network reaches 99.33 % within 64 epochs.",
        ("csnn",),
        post=1,
        test_accuracy=99.33,
        training_accuracy=99.99,
        protocols=("post",),  # csnn-best asks honestly, in a third of the time
        quotation="最大测试准确率: 99.33%",
    ),
    Claim(
        "csnn-best",
        "The same network can do better than 99.33 %, honestly measured.",
        ("csnn-best", "csnn-warp", "csnn-soft", "csnn-moves"),
        post=1,
        test_accuracy=99.33,
        training_accuracy=99.99,
    ),
    Claim(
        "csnn-short",
        "99.33 % takes up to 64 epochs; the first post does not say whether fewer would do.",
        ("csnn-short", "csnn-short-soft", "csnn-short-8", "csnn-short-moves"),
        post=1,
        test_accuracy=99.33,
    ),
    Claim(
        "csnn-small",
        "The convolutional network gains much over one layer; the post shows 64 channels only.",
        ("csnn-16",),
        post=1,
    ),
    Claim(
        "small-conv",
        "A small convolutional network reaches 98 %; its log says 97.88 %.",
        ("small-conv", "small-conv-soft", "small-conv-post"),
        post=3,
        test_accuracy=98.0,
        quotation="训练结果最后可以达到测试集98%准确度",
    ),
    Claim(
        "small-conv-faults",
        "The printed code reaches 98 %: convolutions once, log-softmax against a one-hot target.",
        (
            "small-conv-post",
            "small-conv-post-fault",
            "small-conv-conv-once",
            "small-conv-log-softmax",
            "small-conv-softmax",
        ),
        post=3,
        test_accuracy=98.0,
        protocols=("post",),
    ),
    Claim(
        "from-scratch",
        "Neurons written from scratch are compared with SpikingJelly's; no result is given.",
        ("fc-engine-torch", "fc-engine-spikingjelly"),
        post=5,
        quotation="在相同的精度、超参数和网络结构下与SpikingJelly进行精度对比",
    ),
    Claim(
        "last-step-rule",
        "The gradient is taken by backpropagation through time; the code uses the last step alone.",
        ("fc-bptt", "fc-last-step", "post5", "post5-bptt"),
        post=5,
    ),
    Claim(
        "mse-vs-ce",
        "MSE on rates works better in practice than cross-entropy.",
        ("fc", "fc-ce"),
        post=2,
        quotation="使用实际效果更好的MSE损失",
    ),
]
# Forward-Forward, fourth post, rows 1 to 8: test and training accuracy in percent.
_FORWARD_FORWARD = [
    (6.25, 11.0),
    (9.94, 17.2),
    (9.94, 14.1),
    (5.0, 11.0),
    (12.5, 12.5),
    (49.0, 89.1),
    (61.0, 98.5),
    (56.4, 78.79),
]
_ALL += [
    Claim(
        f"ff-{row}",
        f"Row {row} of the Forward-Forward table: {test:g} % test, {training:g} % training.",
        (f"ff-{row}",),
        post=4,
        test_accuracy=test,
        training_accuracy=training,
        protocols=("post",),
    )
    for row, (test, training) in enumerate(_FORWARD_FORWARD, start=1)
]

_TRIED = (
    "base mean threshold soft random all every label peer layerwise spikes "
    "T4 T16 T50 tau4 low high still near wide deep"
)
_FAULTS = ("state", "softplus", "label", "norm", "scale")
_ALL += [
    Claim(
        "ff-faults",
        "What each fault of the Forward-Forward code costs: row 8 with them fixed one at a time.",
        (
            *("ff-mend-none", "ff-mend-updates", "ff-mend-images", "ff-mend-all"),
            *(f"ff-{side}-{fault}" for side in ("mend", "keep") for fault in _FAULTS),
            "ff-keep-images",
        ),
        post=4,
        test_accuracy=56.4,
        training_accuracy=78.79,
        protocols=("post",),
    ),
    Claim(
        "ff-good",
        "Forward-Forward with spikes, every fault fixed and an honest test.",
        ("ff-good-500", "ff-long-500", "ff-long-1000", "ff-long-poisson"),
        post=4,
        test_accuracy=56.4,
        training_accuracy=78.79,
    ),
    Claim(
        "ff-every",
        "Each layer weighs the true label against all nine wrong ones at once, not against one.",
        ("ff-every-500", "ff-every-1000", "ff-every-relu", "ff-good-500", "ff-vs-bptt"),
    ),
    Claim(
        "engines",
        "Three engines, the same network: they learn alike, whoever computes the time steps.",
        ("fc-engine-events", "fc-engine-torch", "fc-engine-spikingjelly"),
    ),
    Claim(
        "anytime",
        "A spiking network can answer early, and saves energy against an ordinary one.",
        ("fc-anytime", "ann-fc", "csnn-16-anytime", "ann-csnn-16"),
    ),
    Claim(
        "ff-compare",
        "The same layers by Forward-Forward, by BPTT, and without spikes: what does each give?",
        ("ff-good-500", "ff-vs-bptt", "ff-relu-500", "ff-relu-2000"),
    ),
    Claim(
        "ff-two-pass",
        "Hidden layers learn good from bad, the last one digits; two passes do instead of ten.",
        ("ff-two-pass", "ff-goodness-10", "ff-neutral-head"),
        post=4,
    ),
    Claim(
        "ff-poisson",
        "Forward-Forward works on Poisson spikes as well.",
        ("ff-poisson", "ff-steady-16", "ff-alike-16"),
    ),
    Claim(
        "ff-tried",
        "What the literature offers Forward-Forward, one change at a time, 8 epochs each.",
        tuple(f"ff-try-{name}" for name in _TRIED.split()),
    ),
    Claim(
        "ff-conv",
        "Convolutions, or neurons that see a part of the image, learn by goodness of each class.",
        ("ff-conv", "ff-conv-moves", "ff-local"),
    ),
    Claim(
        "ff-class",
        "Dense layers whose neurons belong to classes: one pass trains, one predicts.",
        ("ff-class-500", "ff-class-1000", "ff-every-500", "ff-vs-bptt"),
    ),
]

CLAIMS: dict[str, Claim] = {claim.name: claim for claim in _ALL}
