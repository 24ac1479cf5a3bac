"""Every experiment of the book as named settings; no code runs here.

A preset is an :class:`ExperimentConfig` (``settings.experiment``). Variants differ from the
preset they are derived from in the one or two settings written beside them.
"""

from typing import Any

from snnlib.settings.experiment import ExperimentConfig

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
    question="What do the third post's settings give when both of its faults are fixed?",
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
_SOFT: dict[str, Any] = {  # what is over the threshold stays, and potentials are the answer
    **_RECIPE,
    "reset": "subtract",
    "readout": "membrane",
    "loss": "logit_cross_entropy",
}
_TURNED: dict[str, Any] = {"rotate_degrees": 10.0, "zoom": 0.1}
_MOVES: dict[str, Any] = {**_SOFT, **_TURNED, "shift_pixels": 1}
_FIFTH = _FC.but(
    "post5",
    "How far does the fifth post's network get with its own gradient: last step, analog image?",
    claim="last-step-rule",
    batch_size=64,
    epochs=10,
    optimizer="sgd",
    momentum=0.0,
    loss="sum_of_squares",
    weight_std=1.0,
    spike="sigmoid",
    rule="last_step",
)
_QUICK: dict[str, Any] = {"limit": 10_000, "test_limit": 2_000, "epochs": 2}


def _all_presets() -> list[ExperimentConfig]:
    return [*_fully_connected(), *_convolutional(), *_last_step(), *_anytime()]


def _fully_connected() -> list[ExperimentConfig]:
    curve = [
        _FC.but(f"fc-T{n}", f"What accuracy does T = {n} buy?", claim="fc-T", n_steps=n)
        for n in (1, 2, 5, 10, 20, 50, 200)
    ]
    engines = [
        _FC.but(
            f"fc-engine-{engine}",
            f"Does the engine {engine!r} learn like the others, from the same start?",
            claim="engines",
            protocol="honest",
            epochs=5,
            device="cpu",
            engine=engine,
        )
        for engine in ("events", "torch", "spikingjelly")
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
        *engines,
    ]


def _convolutional() -> list[ExperimentConfig]:
    faults = {"conv_steps": "one", "loss": "log_softmax_mse"}
    return [
        _CSNN,
        _CSNN.but("csnn-best", "How far does a better recipe get, honestly?", epochs=20, **_RECIPE),
        _CSNN.but(
            "csnn-warp",
            "With small turns and stretches besides the shifts: does it pass 99.5 %?",
            claim="csnn-best",
            epochs=24,
            **_RECIPE,
            **_TURNED,
        ),
        _CSNN.but(
            "csnn-soft",
            "Does it pass 99.5 % with a soft reset, and an answer read from potentials?",
            claim="csnn-best",
            epochs=20,
            **_SOFT,
        ),
        _CSNN.but(
            "csnn-moves",
            "As csnn-soft, images also turned and stretched but less shifted: does it pass 99.5 %?",
            claim="csnn-best",
            epochs=20,
            **_MOVES,
        ),
        _CSNN.but(
            "csnn-short",
            "Is 99.33 % within reach in half the epochs of the better recipe?",
            claim="csnn-short",
            epochs=10,
            **_RECIPE,
        ),
        _CSNN.but(
            "csnn-short-soft",
            "And with a soft reset and an answer read from potentials?",
            claim="csnn-short",
            epochs=10,
            **_SOFT,
        ),
        _CSNN.but(
            "csnn-short-8",
            "And in eight epochs, which two processor cores finish in a quarter of an hour?",
            claim="csnn-short",
            epochs=8,
            **_SOFT,
        ),
        _CSNN.but(
            "csnn-short-moves",
            "The recipe of csnn-moves in eight epochs, the first four on two steps: how far?",
            claim="csnn-short",
            epochs=8,
            early_steps=2,
            **_MOVES,
        ),
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
            epochs=20,
            **_RECIPE,
        ),
        _SMALL.but(
            "small-conv-soft",
            "And with a soft reset, all else the same?",
            normalise=False,
            reset="subtract",
            epochs=20,
            **_RECIPE,
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


def _last_step() -> list[ExperimentConfig]:
    return [
        _FC.but(
            "fc-last-step",
            "What does the last-step rule cost?",
            claim="last-step-rule",
            batch_size=64,
            epochs=10,
            rule="last_step",
        ),
        _FC.but(
            "fc-bptt",
            "The true gradient through time, all else as in fc-last-step.",
            claim="last-step-rule",
            batch_size=64,
            epochs=10,
        ),
        _FIFTH,
        _FIFTH.but(
            "post5-bptt",
            "The fifth post's soft neurons under true backpropagation through time.",
            rule="bptt",
        ),
    ]


def _anytime() -> list[ExperimentConfig]:
    """Two networks read at every step, and their ordinary twins: same layers, same training."""
    ordinary: dict[str, Any] = {
        "neuron": "relu",
        "encoding": "constant",
        "n_steps": 1,
        "loss": "logit_cross_entropy",
        "anytime_steps": 1,
    }
    early = "How right is it after each step, and how much work is that?"
    fc = _FC.but("fc-anytime", early, claim="anytime", protocol="honest", loss="cross_entropy")
    csnn = _CSNN.but("csnn-16-anytime", early, claim="anytime", channels=16, epochs=6, **_RECIPE)
    plain = "How right is the ordinary network of the same shape, and how much work is that?"
    return [
        fc.but(fc.name, early, anytime_steps=100),
        fc.but("ann-fc", plain, **ordinary),
        csnn.but(csnn.name, early, anytime_steps=16),
        csnn.but("ann-csnn-16", plain, **ordinary),
    ]


PRESETS: dict[str, ExperimentConfig] = {config.name: config for config in _all_presets()}
