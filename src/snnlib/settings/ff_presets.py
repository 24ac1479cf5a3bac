"""Every Forward-Forward experiment of the book as named settings; no code runs here."""

from dataclasses import replace
from typing import Any

from snnlib.settings.ff_experiment import FFConfig, PostConfig


def _row(number: int, note: str, **settings: Any) -> PostConfig:
    question = f"Row {number} of the fourth post: {note}. What does it reach on all test images?"
    return PostConfig(f"ff-{number}", question, **settings)


# Rows 1-2 use the loss as the post writes it, since the note of row 3 says that its loss
# was changed to "log(1+exp)", which is what the code calls log1p(1 + exp(z)).
_FIRST = dict(widths=(784, 10), v_threshold=0.5, theta=0.5, prediction="rate")
ROWS = [
    _row(1, "mean goodness", goodness="mean", loss="linear", surrogate="sigmoid", **_FIRST),
    _row(2, "mean square", loss="linear", surrogate="sigmoid", **_FIRST),
    _row(3, "log(1+exp), as it says", surrogate="sigmoid", **_FIRST),
    _row(4, "ATan, mean", goodness="mean", **_FIRST | {"v_threshold": 0.45}),
    _row(5, "ATan, mean square", **_FIRST | {"v_threshold": 0.45}),
    _row(6, "MSE output layer", v_threshold=0.5, theta=0.5, output_mse=True, prediction="rate"),
    _row(7, "MSE output layer, theta 0.35", output_mse=True, prediction="rate"),
    _row(8, "predicted by goodness"),
]

FIXES: dict[str, dict[str, Any]] = {
    "state": {"shared_state": False},
    "softplus": {"loss": "softplus"},
    "label": {"label_in_column": False},
    "norm": {"pixel_norm": False},
    "scale": {"loss_slope": 20.0},
    "updates": {"n_updates": 500},
    "images": {"n_updates": 500, "n_training": 60_000},
}


def _ablation() -> list[PostConfig]:
    """Row 8 with one fault fixed, with all fixed, and all fixed but one."""
    # 20 steps are the default of the post's script; 100 would tell the same five times slower.
    row = replace(ROWS[7], name="ff-mend-none", n_steps=20)
    everything = {k: v for fix in FIXES.values() for k, v in fix.items()}
    runs = [row]
    for name, fix in FIXES.items():
        question = f"Row 8 with one fault fixed ({name}): what is it worth alone?"
        runs.append(replace(row, name=f"ff-mend-{name}", question=question, **fix))
        if name == "updates":
            continue  # it is part of "images"
        kept = everything | {key: getattr(row, key) for key in fix if key != "n_updates"}
        question = f"All faults of row 8 fixed but one ({name}): what does it cost?"
        runs.append(replace(row, name=f"ff-keep-{name}", question=question, **kept))
    question = "All faults of row 8 fixed together: where does the post's network get?"
    runs.append(replace(row, name="ff-mend-all", question=question, **everything))
    return runs


POST_PRESETS = {config.name: config for config in [*ROWS, *_ablation()]}


_MOVES: dict[str, Any] = dict(shift_pixels=1, rotate_degrees=10.0, zoom=0.1)
_GOOD = FFConfig("ff-good-500", "How good is 784-500-500 with local gradients only?")


def _variant(claim: str, name: str, question: str, **settings: Any) -> FFConfig:
    """``ff-good-500`` with other settings: same images, split and, if not said, epochs."""
    return replace(_GOOD, claim=claim, name=name, question=question, **settings)


# Each class owns neurons of every layer, and no label is in the picture.
_CLASS: dict[str, Any] = dict(rule="class-wise", goodness_gain=40.0, batch_size=100, lr=5e-3)
_CONV: dict[str, Any] = dict(hidden=(20, 80), dense=(500,), n_steps=4, **_CLASS)
GOOD_PRESETS: dict[str, FFConfig] = {
    c.name: c
    for c in [
        _GOOD,
        replace(
            _GOOD,
            name="ff-long-500",
            question="Three times the epochs and a softer loss: does 784-500-500 reach 98 %?",
            epochs=100,
            loss_slope=3.0,
        ),
        replace(
            _GOOD,
            name="ff-long-1000",
            question="The softer loss, 100 epochs and twice the neurons: does it reach 99 %?",
            hidden=(1000, 1000),
            epochs=100,
            loss_slope=3.0,
        ),
        replace(
            _GOOD,
            name="ff-long-poisson",
            question="ff-long-500 on Poisson spikes, as many steps: do random numbers still help?",
            encoding="poisson",
            epochs=100,
            loss_slope=3.0,
        ),
        _variant(
            "ff-every",
            "ff-every-1000",
            "Every wrong label at once, 60 epochs, twice the neurons: does it reach 99 %?",
            hidden=(1000, 1000),
            negatives="every",
            epochs=60,
        ),
        _variant(
            "ff-class",
            "ff-class-1000",
            "Twice the neurons, 60 epochs, turned and stretched, soft reset: does it reach 99 %?",
            hidden=(),
            dense=(1000, 1000),
            reset="subtract",
            epochs=60,
            **_CLASS,
            **_MOVES,
        ),
        _variant(
            "ff-conv",
            "ff-local",
            "As ff-class-1000, but 1960 neurons see 12 x 12 pixels each: does it reach 99.4 %?",
            hidden=(),
            dense=(1960, 1000),
            receptive_field=12,
            reset="subtract",
            epochs=60,
            **_CLASS,
            **_MOVES,
        ),
        _variant(
            "ff-conv",
            "ff-conv-moves",
            "A soft reset, eight steps, images also turned and stretched: does it reach 99.4 %?",
            **{**_CONV, **_MOVES, "n_steps": 8, "reset": "subtract"},
        ),
    ]
}


# Hinton (2022): rectifiers, mean of squares against a threshold, no time. The input is
# longer than for spikes: a rectifier has no threshold of its own to come over.
_RELU: dict[str, Any] = dict(
    activation="relu", n_steps=1, input_rms=4.0, theta=2.0, loss_slope=1.0, goodness_gain=1.0
)
COMPARED_PRESETS: dict[str, FFConfig] = {
    c.name: c
    for c in [
        _variant(
            "ff-compare",
            "ff-vs-bptt",
            "The same spiking layers, trained by BPTT: how good?",
            rule="bptt",
        ),
        _variant(
            "ff-compare",
            "ff-relu-500",
            "Forward-Forward without spikes, 784-500-500: how good?",
            **_RELU,
        ),
        _variant(
            "ff-compare",
            "ff-relu-2000",
            "Forward-Forward without spikes, 784-2000-2000: how good?",
            hidden=(2000, 2000),
            **_RELU,
        ),
        _variant(
            "ff-every",
            "ff-every-500",
            "Every wrong label at once, 784-500-500: what is it worth?",
            negatives="every",
        ),
        _variant(
            "ff-every",
            "ff-every-relu",
            "Every wrong label at once, without spikes, 784-500-500: what do spikes cost?",
            negatives="every",
            **{**_RELU, "theta": None},
        ),
        _variant(
            "ff-two-pass",
            "ff-two-pass",
            "A last layer that learns digits: are two passes as good as ten?",
            rule="two-pass",
        ),
        _variant(
            "ff-two-pass", "ff-goodness-10", "Goodness over ten labels: what do ten passes buy?"
        ),
        _variant(
            "ff-two-pass",
            "ff-neutral-head",
            "A neutral label and a linear map on top: is one pass as good as ten?",
            rule="neutral-head",
        ),
        _variant(
            "ff-poisson",
            "ff-poisson",
            "The same layers on Poisson spikes: what does it reach, and what does it cost?",
            encoding="poisson",
            n_steps=16,
        ),
        _variant(
            "ff-poisson",
            "ff-steady-16",
            "As many steps as ff-poisson, of a steady image: is it the steps that help?",
            n_steps=16,
        ),
        _variant(
            "ff-poisson",
            "ff-alike-16",
            "As ff-steady-16, all images stretched alike, as spikes are: is it the length?",
            n_steps=16,
            normalise_images=False,
        ),
        _variant(
            "ff-conv",
            "ff-conv",
            "Convolutions and a dense layer, each learning alone: how good?",
            **_CONV,
        ),
        _variant(
            "ff-class",
            "ff-class-500",
            "Neurons that belong to classes, 784-500-500, no label in the picture: how good?",
            hidden=(),
            dense=(500, 500),
            **_CLASS,
        ),
    ]
}
# What the literature offers, one change at a time, in a quarter of the epochs.
_TRIED: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("The recipe itself in 8 epochs: what must an idea beat?", {}),
    "mean": ("Goodness from rates instead of squared rates?", {"goodness": "mean"}),
    "threshold": ("Each image against a threshold (Hinton 2022)?", {"theta": 2.0}),
    "soft": ("A loss that bends half as sharply?", {"loss_slope": 3.0}),
    "random": ("Wrong labels at random?", {"negatives": "random"}),
    "every": ("Every wrong label at once?", {"negatives": "every"}),
    "layerwise": ("One layer after the other, 8 epochs each?", {"layers_at_once": False}),
    "spikes": ("Spikes handed up step by step instead of rates?", {"pass_on": "spikes"}),
    "T4": ("Half the time steps?", {"n_steps": 4}),
    "T16": ("Twice the time steps?", {"n_steps": 16}),
    "T50": ("Six times the time steps?", {"n_steps": 50}),
    "tau4": ("A slower membrane?", {"tau": 4.0}),
    "low": ("Half the threshold?", {"v_threshold": 0.5}),
    "high": ("Twice the threshold?", {"v_threshold": 2.0}),
    "still": ("Images that are not shifted?", {"shift_pixels": 0}),
    "near": ("Shifts of one pixel at most?", {"shift_pixels": 1}),
    "wide": ("Twice the neurons?", {"hidden": (1000, 1000)}),
    "deep": ("A third layer?", {"hidden": (500, 500, 500)}),
}
TRIED_PRESETS: dict[str, FFConfig] = {
    f"ff-try-{name}": _variant("ff-tried", f"ff-try-{name}", question, epochs=8, **settings)
    for name, (question, settings) in _TRIED.items()
}
# Ideas that were tried, lost and are in no chapter: their records stay, their code is in the
# commit that is named here.
RETIRED = dict.fromkeys(("ff-try-all", "ff-try-label", "ff-try-peer"), "ae2e60d4")
FF_PRESETS: dict[str, FFConfig | PostConfig] = {
    **POST_PRESETS,
    **GOOD_PRESETS,
    **COMPARED_PRESETS,
    **TRIED_PRESETS,
}
