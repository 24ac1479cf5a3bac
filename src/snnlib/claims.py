"""What the five posts claim, in their own numbers, and which presets repeat it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One claim of a post, or a question of our own; ``post`` is the post that it is about, if any.

    Accuracies are in percent, as the post prints them; ``None`` where it gives
    none. ``presets`` repeat it under each of ``protocols``; ``minutes`` is what one
    run costs on two CPU cores, roughly.
    """

    name: str
    post: int | None
    says: str
    test_accuracy: float | None
    training_accuracy: float | None
    presets: tuple[str, ...]
    protocols: tuple[str, ...] = ("post", "honest")
    minutes: float = 5.0
    quotation: str = ""

    @property
    def number(self) -> str:
        """The post's number, or that it gives none."""
        return "no number" if self.test_accuracy is None else f"{self.test_accuracy:g} %"


_ALL = [
    Claim(
        "fc",
        1,
        "A single fully connected layer of spiking neurons reaches 92.89 % within 100 epochs.",
        92.89,
        93.48,
        ("fc",),
        quotation="100个epochs中最高训练准确率达93.48%，测试集最高准确率92.89%",
    ),
    Claim(
        "fc-b64",
        2,
        "The same network trained with a batch of 64; the post shows no accuracy.",
        None,
        None,
        ("fc-b64",),
    ),
    Claim(
        "fc-T",
        2,
        "100 time steps are used; nobody says what fewer would cost.",
        None,
        None,
        ("fc-T1", "fc-T2", "fc-T5", "fc-T10", "fc-T20", "fc-T50", "fc", "fc-T200"),
        ("honest",),
    ),
    Claim(
        "csnn",
        1,
        "The convolutional spiking network reaches 99.33 % within 64 epochs.",
        99.33,
        99.99,
        ("csnn",),
        minutes=115.0,
        quotation="最大测试准确率: 99.33%",
    ),
    Claim(
        "csnn-best",
        1,
        "The same network can do better than 99.33 %, honestly measured.",
        99.33,
        99.99,
        ("csnn-best",),
        ("honest",),
        minutes=32.0,
    ),
    Claim(
        "csnn-small",
        1,
        "The convolutional network gains much over one layer; the post shows 64 channels only.",
        None,
        None,
        ("csnn-16",),
        ("honest",),
        minutes=10.0,
    ),
    Claim(
        "small-conv",
        3,
        "A small convolutional network reaches 98 %; its log says 97.88 %.",
        98.0,
        None,
        ("small-conv", "small-conv-post"),
        ("honest",),
        minutes=20.0,
        quotation="训练结果最后可以达到测试集98%准确度",
    ),
    Claim(
        "small-conv-faults",
        3,
        "The printed code reaches 98 %: convolutions once, log-softmax against a one-hot target.",
        98.0,
        None,
        (
            "small-conv-post",
            "small-conv-post-fault",
            "small-conv-conv-once",
            "small-conv-log-softmax",
            "small-conv-softmax",
        ),
        ("post",),
        minutes=10.0,
    ),
    Claim(
        "from-scratch",
        5,
        "Neurons written from scratch are compared with SpikingJelly's; no result is given.",
        None,
        None,
        ("fc-engine-torch", "fc-engine-spikingjelly"),
        ("honest",),
        minutes=8.0,
        quotation="在相同的精度、超参数和网络结构下与SpikingJelly进行精度对比",
    ),
    Claim(
        "last-step-rule",
        5,
        "The gradient is taken by backpropagation through time; the code uses the last step alone.",
        None,
        None,
        ("fc-bptt", "fc-last-step", "post5", "post5-bptt"),
        ("honest",),
        minutes=9.0,
    ),
    Claim(
        "mse-vs-ce",
        2,
        "MSE on rates works better in practice than cross-entropy.",
        None,
        None,
        ("fc", "fc-ce"),
        ("honest",),
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
        4,
        f"Row {row} of the Forward-Forward table: {test:g} % test, {training:g} % training.",
        test,
        training,
        (f"ff-{row}",),
        ("post",),
    )
    for row, (test, training) in enumerate(_FORWARD_FORWARD, start=1)
]

_FAULTS = ("state", "softplus", "label", "norm", "scale")
_ALL += [
    Claim(
        "ff-faults",
        4,
        "What each fault of the Forward-Forward code costs: row 8 with them mended one at a time.",
        56.4,
        78.79,
        (
            *("ff-mend-none", "ff-mend-updates", "ff-mend-images", "ff-mend-all"),
            *(f"ff-{side}-{fault}" for side in ("mend", "keep") for fault in _FAULTS),
            "ff-keep-images",
        ),
        ("post",),
    ),
    Claim(
        "ff-good",
        4,
        "Forward-Forward with spikes, every fault mended and an honest test.",
        56.4,
        78.79,
        ("ff-good-500", "ff-long-500"),
        ("honest",),
        minutes=10.0,
    ),
]

_ALL += [
    Claim(
        "engines",
        None,
        "Three engines, the same network: they learn alike, whoever computes the time steps.",
        None,
        None,
        ("fc-engine-events", "fc-engine-torch", "fc-engine-spikingjelly"),
        ("honest",),
        minutes=6.0,
    ),
]

_ALL += [
    Claim(
        "anytime",
        None,
        "A spiking network can answer early, and saves energy against an ordinary one.",
        None,
        None,
        ("fc-anytime", "ann-fc", "csnn-16-anytime", "ann-csnn-16"),
        ("honest",),
        minutes=6.0,
    ),
]

_ALL += [
    Claim(
        "ff-compare",
        None,
        "The same layers by Forward-Forward, by BPTT, and without spikes: what does each give?",
        None,
        None,
        ("ff-good-500", "ff-vs-bptt", "ff-relu-500", "ff-relu-2000"),
        ("honest",),
        minutes=12.0,
    ),
    Claim(
        "ff-two-pass",
        4,
        "Hidden layers learn good from bad, the last one digits; two passes do instead of ten.",
        None,
        None,
        ("ff-two-pass", "ff-goodness-10", "ff-neutral-head"),
        ("honest",),
        minutes=6.0,
    ),
    Claim(
        "ff-poisson",
        None,
        "Forward-Forward works on Poisson spikes as well.",
        None,
        None,
        ("ff-poisson",),
        ("honest",),
        minutes=13.0,
    ),
    Claim(
        "ff-conv",
        None,
        "Convolutions learn with local gradients only, by goodness of each class.",
        None,
        None,
        ("ff-conv",),
        ("honest",),
        minutes=40.0,
    ),
]

CLAIMS: dict[str, Claim] = {claim.name: claim for claim in _ALL}
