"""The fully connected network: the event engine beside SpikingJelly and other libraries.

    python bench/bench_fc.py --json fc.json

Every variant trains 784 -> K on MNIST with Poisson spikes, mean squared error
and Adam. Libraries that are not installed are left out.
"""

import importlib.util
import math
import time
from collections.abc import Callable
from typing import Any

import _rounds
import torch
from spikingjelly.activation_based import functional as sj
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

from snnlib.data import load_mnist
from snnlib.fast.events import poisson_linear_lif
from snnlib.neurons import LIFParameters

Rate = Callable[[Tensor], Tensor]
OURS, LOOP = "snnlib events", "SpikingJelly loop"


def make_ours(n_steps: int, n_outputs: int) -> tuple[list[Tensor], Rate]:
    weight = nn.Linear(784, n_outputs, bias=False).weight
    count = iter(range(10**9))
    return [weight], lambda images: poisson_linear_lif(
        images, weight, n_steps, LIFParameters(), seed=next(count)
    )


def make_spikingjelly(n_steps: int, n_outputs: int, mode: str) -> tuple[list[Tensor], Rate]:
    """``s``: one step at a time, as the posts write it; ``m``: all steps in one call."""
    network = nn.Sequential(
        layer.Flatten(),
        layer.Linear(784, n_outputs, bias=False),
        neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan()),
    )
    sj.set_step_mode(network, mode)

    def rate(images: Tensor) -> Tensor:
        if mode == "m":
            sequence = images.expand(n_steps, *images.shape)
            answer = network((torch.rand(sequence.shape) <= sequence).float()).mean(0)
        else:
            answer = sum(
                network((torch.rand_like(images) <= images).float()) for _ in range(n_steps)
            )
            answer = answer / n_steps
        sj.reset_net(network)
        return answer

    return list(network.parameters()), rate


def make_cells(
    n_steps: int, n_outputs: int, cell: Callable[..., tuple[Tensor, Tensor]], gain: float
) -> tuple[list[Tensor], Rate]:
    """A loop over a library's own LIF cell, ``(current, state) -> (spikes, state)``."""
    linear = nn.Linear(784, n_outputs, bias=False)

    def rate(images: Tensor) -> Tensor:
        flat, state, count = images.flatten(1), None, torch.zeros(())
        for _ in range(n_steps):
            current = linear((torch.rand_like(flat) < flat).float()) * gain
            spikes, state = cell(current, state)
            count = count + spikes
        return count / n_steps

    return list(linear.parameters()), rate


def make_snntorch(n_steps: int, n_outputs: int) -> tuple[list[Tensor], Rate]:
    import snntorch

    leaky = snntorch.Leaky(
        beta=0.5, spike_grad=snntorch.surrogate.atan(alpha=2.0), reset_mechanism="zero"
    )
    return make_cells(
        n_steps,
        n_outputs,
        lambda x, mem: leaky(x, leaky.init_leaky() if mem is None else mem),
        gain=0.5,
    )


def make_norse(n_steps: int, n_outputs: int) -> tuple[list[Tensor], Rate]:
    import norse.torch as norse

    box = norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0)), dt=0.001)
    return make_cells(n_steps, n_outputs, box, gain=1.0)


def make_sinabs(n_steps: int, n_outputs: int) -> tuple[list[Tensor], Rate]:
    import sinabs.activation as activation
    import sinabs.layers

    linear = nn.Linear(784, n_outputs, bias=False)
    lif = sinabs.layers.LIF(
        tau_mem=1 / math.log(2),
        norm_input=True,
        spike_fn=activation.SingleSpike,
        reset_fn=activation.MembraneReset(),
    )

    def rate(images: Tensor) -> Tensor:
        lif.reset_states()
        x = images.flatten(1)[:, None].expand(-1, n_steps, -1)
        return lif(linear((torch.rand(x.shape) < x).float())).mean(1)

    return list(linear.parameters()), rate


def make_by_hand(n_steps: int, n_outputs: int, compiled: bool) -> tuple[list[Tensor], Rate]:
    """A loop that needs no library, and the same with its step through ``torch.compile``.

    The step is compiled, not the loop: unrolled, twenty steps took minutes to
    compile and ran slower than without.
    """
    linear, spike = nn.Linear(784, n_outputs, bias=False), surrogate.ATan()

    def step(x: Tensor, weight: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        h = v + (nn.functional.linear((torch.rand_like(x) <= x).float(), weight) - v) / 2.0
        spikes = spike(h - 1.0)
        return spikes, h * (1 - spikes)

    advance = torch.compile(step) if compiled else step

    def rate(images: Tensor) -> Tensor:
        flat, count = images.flatten(1), torch.zeros(len(images), n_outputs)
        v = torch.zeros(len(images), n_outputs)
        for _ in range(n_steps):
            spikes, v = advance(flat, linear.weight, v)
            count = count + spikes
        return count / n_steps

    return list(linear.parameters()), rate


MAKERS: dict[str, Callable[[int, int], tuple[list[Tensor], Rate]]] = {
    OURS: make_ours,
    LOOP: lambda t, k: make_spikingjelly(t, k, "s"),
    "SpikingJelly multi-step": lambda t, k: make_spikingjelly(t, k, "m"),
    "snnTorch": make_snntorch,
    "Norse": make_norse,
    "sinabs": make_sinabs,
    "PyTorch by hand": lambda t, k: make_by_hand(t, k, False),
    "PyTorch by hand, compiled step": lambda t, k: make_by_hand(t, k, True),
}


def available() -> list[str]:
    """The variants whose library is installed."""
    names = {"snnTorch": "snntorch", "Norse": "norse", "sinabs": "sinabs"}
    return [v for v in MAKERS if v not in names or importlib.util.find_spec(names[v]) is not None]


def make_step(
    name: str, images: Tensor, n_steps: int = 100, n_outputs: int = 10, train: bool = True
) -> _rounds.Step:
    """A training step, or one inference, on one batch."""
    torch.manual_seed(0)
    parameters, rate = MAKERS[name](n_steps, n_outputs)
    target = torch.eye(n_outputs)[torch.arange(len(images)) % 10]
    optimizer = torch.optim.Adam(parameters, fused=True)

    def step() -> None:
        if not train:
            with torch.no_grad():
                rate(images)
            return
        optimizer.zero_grad()
        nn.functional.mse_loss(rate(images), target).backward()
        optimizer.step()

    return step


def main() -> None:
    options = _rounds.arguments(__doc__)
    _rounds.one_thread()
    images = load_mnist(train=True, limit=2000).images
    if options.memory:
        small, full = (make_step(options.memory, images[:n]) for n in (2, 128))
        print(_rounds.peak_mebibytes(full, small))
        return
    rows, details = [], {}

    def wanted(what: str) -> bool:
        return options.only is None or options.only in what

    def measure(what: str, goal: float, names: list[str], batch: int, **settings: Any) -> None:
        if not wanted(what):
            return
        steps = {name: make_step(name, images[:batch], **settings) for name in names}
        result = _rounds.alternate(steps, batch, options.rounds)
        details[what] = result
        rows.append(_rounds.row(what, goal, _rounds.compare(result, OURS, [names[0]])))
        if len(names) > 2:
            figure = _rounds.compare(result, OURS, names[:1] + names[2:])
            rows.append(_rounds.row(f"{what}, fastest peer", 25, figure))

    pair, everybody = [LOOP, OURS], [LOOP, OURS, *available()[2:]]
    measure("FC training, T=100, batch 128", 30, everybody, 128)
    measure("FC training, T=100, batch 512", 40, everybody, 512)
    measure("FC inference, T=100, batch 128", 45, pair, 128, train=False)
    measure("FC training, T=400, batch 128", 55, pair, 128, n_steps=400)
    measure("784-500 layer, training, T=100, batch 128", 8, pair, 128, n_outputs=500)
    if wanted("memory"):
        mebibytes = {name: _rounds.memory_of(name) for name in pair}
        ratio = mebibytes[LOOP] / mebibytes[OURS]
        figure = {"against": LOOP, "median": ratio, "min": ratio, "max": ratio}
        rows.append(_rounds.row("FC training, peak memory", 4, figure, mebibytes=mebibytes))
    for batch in (128, 512):
        what = f"FC training, batch {batch}, two threads over one (wall time)"
        if wanted(what):
            rows.append(_rounds.row(what, 1.4, two_threads(images[:batch], options.rounds)))
    _rounds.report(rows, details, options.json)


def two_threads(images: Tensor, rounds: int) -> dict[str, object]:
    """Our own step with two threads against one, by the clock on the wall."""
    step = make_step(OURS, images)

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
