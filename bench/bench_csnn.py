"""The convolutional network: the fused pass beside SpikingJelly and other libraries.

    python bench/bench_csnn.py --json csnn.json

Every variant trains the first post's CSNN (64 channels, T = 4, constant
encoding) with SGD; "compiled" means ``torch.compile``. bfloat16 is tried only
where the processor multiplies in it; libraries that are not installed are left out.
"""

import importlib.util
import time
from collections.abc import Callable

import _rounds
import torch
from spikingjelly.activation_based import functional as sj
from torch import Tensor, nn

from snnlib.data import load_mnist
from snnlib.encoding import constant_encode
from snnlib.fast.fused import conv_snn_rate
from snnlib.networks import ConvSNN

N_STEPS = 4
Rate = Callable[[Tensor], Tensor]
OURS, OURS_BF16 = "snnlib fused", "snnlib fused, bfloat16"
MULTI = "SpikingJelly multi-step"


def make_ours(bfloat16: bool) -> tuple[nn.Module, Rate]:
    network = ConvSNN()
    return network, lambda images: conv_snn_rate(network, images, N_STEPS, bfloat16=bfloat16)


def make_spikingjelly(
    mode: str, channels_last: bool, bfloat16: bool, compiled: bool = False
) -> tuple[nn.Module, Rate]:
    network: nn.Module = ConvSNN()
    sj.set_step_mode(network, mode)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    layers = network.get_submodule("layers")
    if compiled:
        layers.compile()

    def rate(images: Tensor) -> Tensor:
        sj.reset_net(network)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            if mode == "m":
                return layers(constant_encode(images, N_STEPS)).mean(0)
            return torch.stack([layers(images) for _ in range(N_STEPS)]).mean(0)

    return network, rate


class StepByStep(nn.Module):
    """The same network, one step at a time, on another library's neurons."""

    def __init__(self, cell: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(1, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)),
                nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)),
                nn.Sequential(nn.Flatten(), nn.Linear(3136, 1024, bias=False)),
                nn.Linear(1024, 10, bias=False),
            ]
        )
        self.cells = nn.ModuleList([cell() for _ in self.blocks])

    def forward(self, images: Tensor) -> Tensor:
        states: list[object] = [None] * 4
        count = torch.zeros(())
        for _ in range(N_STEPS):
            x = images
            for i, (block, cell) in enumerate(zip(self.blocks, self.cells, strict=True)):
                x, states[i] = cell(block(x), states[i])
                if i < 2:
                    x = nn.functional.max_pool2d(x, 2)
            count = count + x
        return count / N_STEPS


def make_snntorch() -> tuple[nn.Module, Rate]:
    import snntorch

    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            spike = snntorch.surrogate.atan(alpha=2.0)
            self.leaky = snntorch.Leaky(beta=1.0, spike_grad=spike, reset_mechanism="zero")

        def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
            return self.leaky(x, torch.zeros_like(x) if state is None else state)

    network = StepByStep(Cell)
    return network, network


def make_norse() -> tuple[nn.Module, Rate]:
    import norse.torch as norse

    network = StepByStep(norse.IAFCell)
    return network, network


def make_sinabs() -> tuple[nn.Module, Rate]:
    import sinabs.activation as activation
    import sinabs.layers

    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            spike, reset = activation.SingleSpike, activation.MembraneReset()
            self.iaf = sinabs.layers.IAF(spike_fn=spike, reset_fn=reset)

        def forward(self, x: Tensor, state: object) -> tuple[Tensor, object]:
            if state is None:
                self.iaf.reset_states()
            return self.iaf(x.unsqueeze(1)).squeeze(1), True

    network = StepByStep(Cell)
    return network, network


MAKERS: dict[str, Callable[[], tuple[nn.Module, Rate]]] = {
    MULTI: lambda: make_spikingjelly("m", False, False),
    "SpikingJelly loop": lambda: make_spikingjelly("s", False, False),
    "SpikingJelly, channels last": lambda: make_spikingjelly("m", True, False),
    "SpikingJelly, channels last, bfloat16": lambda: make_spikingjelly("m", True, True),
    "SpikingJelly, compiled": lambda: make_spikingjelly("m", False, False, compiled=True),
    "SpikingJelly, channels last, compiled": lambda: make_spikingjelly(
        "m", True, False, compiled=True
    ),
    "snnTorch": make_snntorch,
    "Norse": make_norse,
    "sinabs": make_sinabs,
    OURS: lambda: make_ours(False),
    OURS_BF16: lambda: make_ours(True),
}


def available() -> list[str]:
    """The variants that this machine and its installed libraries can run."""
    libraries = {"snnTorch": "snntorch", "Norse": "norse", "sinabs": "sinabs"}
    has_bf16 = {"avx512_bf16", "amx_bf16"} & set(_rounds.machine()["instructions"])
    return [
        name
        for name in MAKERS
        if (has_bf16 or "bfloat16" not in name)
        and (name not in libraries or importlib.util.find_spec(libraries[name]) is not None)
    ]


def make_step(name: str, images: Tensor, train: bool = True) -> _rounds.Step:
    """A training step, or one inference, on one batch."""
    torch.manual_seed(0)
    network, rate = MAKERS[name]()
    if not train:
        settle(network, rate, images)
    network.train(train)
    target = torch.eye(10)[torch.arange(len(images)) % 10]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)

    def step() -> None:
        if not train:
            with torch.no_grad():
                rate(images)
            return
        optimizer.zero_grad()
        nn.functional.mse_loss(rate(images).float(), target).backward()
        optimizer.step()

    return step


def settle(network: nn.Module, rate: Rate, images: Tensor) -> None:
    """Let BatchNorm's running statistics be those of the images.

    With the statistics of a fresh network hardly any neuron fires, and a program
    that skips silence would look faster than it is.
    """
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # an average over all batches, of which there is one
    with torch.no_grad():
        rate(images)


def main() -> None:
    options = _rounds.arguments(__doc__)
    _rounds.one_thread()
    images = load_mnist(train=True, limit=500).images[:128]
    if options.memory:
        small, full = (make_step(options.memory, images[:n]) for n in (2, 128))
        print(_rounds.peak_mebibytes(full, small))
        return
    rows, details = [], {}
    names = available()
    ours = OURS_BF16 if OURS_BF16 in names else OURS
    goals = {"training": (4.5, 2.2), "inference": (7, 3.5)}
    for what, (goal, best_goal) in goals.items():
        title = f"CSNN {what}, T=4, batch 128"
        if options.only is None or options.only in title:
            steps = {name: make_step(name, images, what == "training") for name in names}
            result = _rounds.alternate(steps, 128, options.rounds)
            details[title] = result
            peers = [name for name in names if name not in (OURS, OURS_BF16)]
            figure = _rounds.compare(result, ours, [MULTI])
            rows.append(_rounds.row(f"{title} ({ours})", goal, figure))
            figure = _rounds.compare(result, ours, peers)
            rows.append(_rounds.row(f"{title}, fastest peer", best_goal, figure))
    if options.only is None or "memory" in options.only:
        mebibytes = {name: _rounds.memory_of(name) for name in (MULTI, ours)}
        ratio = mebibytes[MULTI] / mebibytes[ours]
        figure = {"against": MULTI, "median": ratio, "min": ratio, "max": ratio}
        rows.append(_rounds.row("CSNN training, peak memory", 6, figure, mebibytes=mebibytes))
    what = "CSNN training, two threads over one (wall time)"
    if options.only is None or options.only in what:
        rows.append(_rounds.row(what, 1.6, two_threads(ours, images, options.rounds)))
    _rounds.report(rows, details, options.json)


def two_threads(name: str, images: Tensor, rounds: int) -> dict[str, object]:
    """Our own step with two threads against one, by the clock on the wall."""
    step = make_step(name, images)

    def on(n_threads: int) -> _rounds.Step:
        def run() -> None:
            torch.set_num_threads(n_threads)
            step()

        return run

    result = _rounds.alternate(
        {"one thread": on(1), "two threads": on(2)}, len(images), rounds, clock=time.perf_counter
    )
    torch.set_num_threads(1)
    return _rounds.compare(result, "two threads", ["one thread"])


if __name__ == "__main__":
    main()
