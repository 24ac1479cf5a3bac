"""Forward-Forward runs by name: settings in, one record out.

``python -m snnlib.ff_experiments ff-good-500 --seeds 3 --device cuda`` runs a
preset and appends its record to the ledger. Everything lives on one device as
tensors; there is no loop over images.
"""

import argparse
import ast
import copy
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib import environment
from snnlib.augment import shift_images
from snnlib.data import ImageSet, load_mnist, split_validation
from snnlib.encoding import poisson_encode
from snnlib.ff_post import POST_PRESETS, PostConfig, PostNetwork, count_correct_post, train_post
from snnlib.forward_forward import (
    ForwardForwardLayer,
    ForwardForwardNetwork,
    Pair,
    draw_likely_wrong_labels,
    draw_wrong_labels,
    first_layer_goodness,
    forward_forward_loss,
    goodness,
    label_goodness,
    overlay_labels,
    train_layers,
)
from snnlib.metrics import Epoch, EpochMetrics, History
from snnlib.neurons import LIFParameters
from snnlib.readout import accuracy_interval, predict
from snnlib.records import Result, RunRecord, append_record
from snnlib.scan import lif_scan
from snnlib.steady import steady_rate


@dataclass(frozen=True)
class FFConfig:
    """Settings of one Forward-Forward run under the honest protocol.

    50,000 images train, 10,000 choose which layers judge, and the test set is
    looked at once, at the end.
    """

    name: str
    question: str
    hidden: tuple[int, ...] = (500, 500)
    n_steps: int = 8
    tau: float = 2.0
    v_threshold: float = 1.0
    length: float = 2.0
    theta: float | None = None  # None: positive against negative, without a threshold
    scale: float = 6.0
    goodness: str = "mean_square"
    gain: float = 20.0
    negatives: str = "likely"  # to the first layer; or "likely-all" to all layers, or "random"
    sharpness: float = 1.0
    together: bool = True  # all layers at once, or one after another
    hand_over: str = "rate"  # or "spikes"
    encoding: str = "constant"  # or "poisson"
    shift_pixels: int = 2
    rotate_degrees: float = 0.0
    zoom: float = 0.0
    epochs: int = 30
    batch_size: int = 250
    lr: float = 2e-3
    averaging: float = 0.0  # decay per step of the averaged weights that are judged; 0 switches off
    n_training: int | None = None
    n_validation: int = 10_000
    claim: str = "forward-forward"
    seed: int = 0
    device: str = "cpu"

    @property
    def neuron(self) -> LIFParameters:
        return LIFParameters(tau=self.tau, v_threshold=self.v_threshold)


def build_network(config: FFConfig) -> ForwardForwardNetwork:
    """Fresh layers 784 - hidden, with weights drawn from the run's seed."""
    neuron = config.neuron
    widths = (784, *config.hidden)
    layers = [
        ForwardForwardLayer(
            n_in,
            n_out,
            config.n_steps,
            lambda currents: lif_scan(currents, neuron),
            lambda current: steady_rate(current, config.n_steps, neuron),
            config.length,
        )
        for n_in, n_out in pairwise(widths)
    ]
    return ForwardForwardNetwork(layers, config.hand_over)


def measure_and_loss(
    config: FFConfig,
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    """Goodness and loss as the settings say."""
    return (
        lambda rate: config.gain * goodness(rate, config.goodness),
        lambda g_pos, g_neg: forward_forward_loss(g_pos, g_neg, config.theta, scale=config.scale),
    )


def warp_images(images: Tensor, degrees: float, zoom: float, generator: torch.Generator) -> Tensor:
    """Turn every image by up to ``degrees`` and stretch it by up to the share ``zoom``."""
    if degrees == 0 and zoom == 0:
        return images
    draw = torch.rand((4, len(images)), generator=generator, device=images.device) * 2 - 1
    angle = draw[0] * (degrees * torch.pi / 180)
    across, down, shear = 1 + zoom * draw[1], 1 + zoom * draw[2], zoom * draw[3]
    zero = torch.zeros_like(angle)
    rows = [
        torch.stack([angle.cos() * across, shear - angle.sin(), zero], dim=1),
        torch.stack([angle.sin(), angle.cos() * down, zero], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False).clamp(0, 1)


def overlay_for(config: FFConfig, generator: torch.Generator) -> Callable[[Tensor, Tensor], Tensor]:
    """How an image and a label become the input of the first layer."""
    if config.encoding == "constant":
        return overlay_labels
    return lambda images, labels: poisson_encode(
        overlay_labels(images, labels), config.n_steps, generator=generator
    ).flatten(2)


def make_pairs(
    network: ForwardForwardNetwork,
    training: ImageSet,
    config: FFConfig,
    generator: torch.Generator,
) -> Iterator[Pair]:
    """One epoch of positive and negative inputs, freshly shuffled, moved and labelled."""
    overlay = overlay_for(config, generator)
    order = torch.randperm(len(training), generator=generator, device=training.labels.device)
    for chosen in order.split(config.batch_size):
        images, labels = training.images[chosen], training.labels[chosen]
        images = shift_images(images, config.shift_pixels, generator=generator)
        images = warp_images(images, config.rotate_degrees, config.zoom, generator)
        wrong = wrong_labels(network, images, labels, config, generator)
        yield overlay(images, labels), overlay(images, wrong)


def wrong_labels(
    network: ForwardForwardNetwork,
    images: Tensor,
    labels: Tensor,
    config: FFConfig,
    generator: torch.Generator,
) -> Tensor:
    """Wrong labels at random, or as the first layer (or all layers) would confuse them."""
    if config.negatives == "random":
        return draw_wrong_labels(labels, generator)
    measure, _ = measure_and_loss(config)
    if config.negatives == "likely":
        layer = cast(ForwardForwardLayer, network.layers[0])
        scores = first_layer_goodness(layer, images, measure=measure)
    else:
        overlay = overlay_for(config, generator)
        scores = label_goodness(network, images, measure=measure, overlay=overlay).sum(dim=0)
    return draw_likely_wrong_labels(scores, labels, generator, config.sharpness)


def count_correct(
    network: ForwardForwardNetwork,
    images: ImageSet,
    config: FFConfig,
    generator: torch.Generator,
) -> list[int]:
    """Right answers when the layers from the k-th upwards judge, for every k."""
    overlay = overlay_for(config, generator)
    rows = (2000 if images.images.is_cuda else 500) if config.encoding == "constant" else 200
    right = torch.zeros(len(network.layers), dtype=torch.int64, device=images.labels.device)
    for part, labels in zip(images.images.split(rows), images.labels.split(rows), strict=True):
        judged = label_goodness(network, part, overlay=overlay)
        for k in range(len(judged)):
            right[k] += (predict(judged[k:].sum(dim=0)) == labels).sum()
    return [int(n) for n in right.tolist()]


def train_ff(
    config: FFConfig,
    training: ImageSet,
    *,
    on_epoch_end: Callable[[ForwardForwardNetwork, list[float], float], object] | None = None,
    minutes: float = float("inf"),
) -> ForwardForwardNetwork:
    """Train a fresh network; hand back it, or its averaged weights if they were asked for.

    ``on_epoch_end`` is given the network to be judged, the loss of each layer
    and the seconds since the start. After ``minutes`` the current epoch is the last.
    """
    generator = torch.Generator(device=config.device).manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(config).to(config.device)
    averaged = copy.deepcopy(network) if config.averaging else network
    measure, loss = measure_and_loss(config)
    begin = time.perf_counter()
    n_batches = -(-len(training) // config.batch_size)
    for only in [None] if config.together else range(len(network.layers)):
        parameters = list((network if only is None else network.layers[only]).parameters())
        optimizer = torch.optim.Adam(parameters, lr=config.lr, fused=config.device != "cpu")
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.lr, total_steps=config.epochs * n_batches
        )

        def after_step(schedule: Any = schedule) -> None:
            schedule.step()
            if config.averaging:
                _follow(averaged, network, config.averaging)

        for _ in range(config.epochs):
            pairs = make_pairs(network, training, config, generator)
            losses = train_layers(
                network, pairs, loss, optimizer, measure=measure, only=only, after_step=after_step
            )
            seconds = time.perf_counter() - begin
            if on_epoch_end is not None:
                on_epoch_end(averaged, losses, seconds)
            if seconds > 60 * minutes:
                return averaged
    return averaged


@torch.no_grad()
def _follow(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Move averaged weights a little towards the current ones."""
    theirs: list[Tensor] = list(network.parameters())
    ours: list[Tensor] = list(averaged.parameters())
    torch._foreach_lerp_(ours, theirs, 1.0 - decay)


def load_sets(config: FFConfig) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Training, validation and test images on the run's device; the split is the same for all."""
    split = torch.Generator().manual_seed(2024)
    training, validation = split_validation(load_mnist(train=True), config.n_validation, split)
    if config.n_training is not None:
        training = training.subset(torch.arange(config.n_training))
    test = load_mnist(train=False)
    device = config.device
    return _moved(training, device), _moved(validation, device), _moved(test, device)


def run_ff(
    config: FFConfig,
    *,
    on_epoch_end: Callable[[Epoch], object] | None = None,
    minutes: float = float("inf"),
    look_at_test: bool = True,
) -> tuple[ForwardForwardNetwork, RunRecord]:
    """Train on 50,000 images, let 10,000 choose the judging layers, look at the test set once.

    Returns:
        The network and its record. Per epoch the record holds the mean loss,
        the hits on 1,000 training images and on the validation images, all
        layers judging. Without a look at the test set the result is validation's.
    """
    training, validation, test = load_sets(config)
    sample = training.subset(torch.arange(min(1000, len(training))))
    generator = torch.Generator(device=config.device).manual_seed(config.seed + 1)
    history = History()
    begin = time.perf_counter()

    def watch(network: ForwardForwardNetwork, losses: list[float], seconds: float) -> None:
        hits = count_correct(network, sample, config, generator)[0]
        learnt = EpochMetrics(sum(losses) / len(losses), hits, len(sample), seconds)
        hits = count_correct(network, validation, config, generator)[0]
        checked = EpochMetrics(learnt.loss, hits, len(validation), 0.0)
        history.epochs.append(Epoch(len(history) + 1, learnt, {"validation": checked}))
        if on_epoch_end is not None:
            on_epoch_end(history.epochs[-1])

    network = train_ff(config, training, on_epoch_end=watch, minutes=minutes)
    on_validation = count_correct(network, validation, config, generator)
    first_layer = on_validation.index(max(on_validation))
    judged = test if look_at_test else validation
    hits_by_layer = count_correct(network, judged, config, generator)
    n_planned = config.epochs * (1 if config.together else len(network.layers))
    stopped = f"stopped by its time limit after {len(history)} of {n_planned} epochs"
    record = RunRecord(
        claim=config.claim,
        preset=config.name,
        question=config.question,
        settings=asdict(config),
        protocol="honest",
        seed=config.seed,
        data_source=test.source.replace(" test set", ""),
        n_training=len(training),
        n_validation=len(validation),
        n_test=len(judged),
        history=history.to_dict(),
        last=None,
        best_on_test=None,
        validation_selected=_result(hits_by_layer[first_layer], len(judged), len(history)),
        seconds=time.perf_counter() - begin,
        notes="" if len(history) == n_planned else stopped,
        extra={
            "first_layer": first_layer,
            "n_correct_validation_from_layer": on_validation,
            "looked_at_test": look_at_test,
        },
        **_stamp(config, "honest"),
    )
    return network, record


def _result(n_correct: int, n_images: int, epoch: int) -> Result:
    return Result(n_correct, n_images, epoch, *accuracy_interval(n_correct, n_images))


def run_post(config: PostConfig) -> tuple[PostNetwork, RunRecord]:
    """Train as the post does, on ``n_training`` images drawn by the seed, and test on all 10,000.

    The record's extras hold the hits among the training images (at most 1,000)
    and among the first 64 test images, which is all that the post looked at.
    """
    pick = torch.Generator().manual_seed(config.seed)
    whole, test = load_mnist(train=True), load_mnist(train=False)
    chosen = torch.randperm(len(whole), generator=pick)[: config.n_training]
    training, test = _moved(whole.subset(chosen), config.device), _moved(test, config.device)
    history: list[dict[str, Any]] = []
    begin = time.perf_counter()

    def note(number: int, losses: list[float]) -> None:
        seconds = time.perf_counter() - begin
        learnt = {"first_loss": losses[0], "loss": losses[-1], "seconds": seconds}
        history.append({"number": number + 1, "training": learnt})

    network = train_post(config, training, on_layer_end=note)
    generator = torch.Generator(device=config.device).manual_seed(config.seed + 1)
    few = training.subset(torch.arange(min(1000, len(training))))
    n_learnt = count_correct_post(network, few, generator)
    n_first = count_correct_post(network, test.subset(torch.arange(64)), generator)
    result = _result(count_correct_post(network, test, generator), len(test), len(history))
    record = RunRecord(
        claim=config.claim,
        preset=config.name,
        question=config.question,
        settings=asdict(config),
        protocol="post",
        seed=config.seed,
        data_source=test.source.replace(" test set", ""),
        n_training=len(training),
        n_validation=0,
        n_test=len(test),
        history=history,
        last=result,
        best_on_test=result,
        validation_selected=None,
        seconds=time.perf_counter() - begin,
        extra={
            "n_correct_training": n_learnt,
            "n_training_looked_at": len(few),
            "n_correct_first_64_test": n_first,
        },
        **_stamp(config, "post"),
    )
    return network, record


def _stamp(config: FFConfig | PostConfig, protocol: str) -> dict[str, Any]:
    """When, where and with which code; apart from ``experiments``, to do without SpikingJelly."""
    commit, dirty = environment.commit()
    now = datetime.now(UTC)
    return {
        "id": f"{config.name}-{protocol}-s{config.seed}-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}",
        "versions": environment.versions(),
        "commit": commit,
        "dirty": dirty,
        "device": environment.device_name(config.device),
        "threads": torch.get_num_threads(),
        "finished": now.isoformat(timespec="seconds"),
    }


def run_ff_experiment(
    config: FFConfig | PostConfig,
    *,
    on_epoch_end: Callable[[Epoch], object] | None = None,
    minutes: float = float("inf"),
    look_at_test: bool = True,
) -> RunRecord:
    """Run a configuration of either kind and describe it; the record is not yet written."""
    config = replace(config, device=_pick_device(config.device))
    if config.device != "cpu":
        torch.set_float32_matmul_precision("high")
    if isinstance(config, PostConfig):
        return run_post(config)[1]
    return run_ff(config, on_epoch_end=on_epoch_end, minutes=minutes, look_at_test=look_at_test)[1]


def _pick_device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def _moved(images: ImageSet, device: str) -> ImageSet:
    return ImageSet(images.images.to(device), images.labels.to(device), images.source)


_GOOD = FFConfig("ff-good-500", "How good is 784-500-500 with local gradients only?")
GOOD_PRESETS: dict[str, FFConfig] = {
    c.name: c
    for c in [
        _GOOD,
        replace(_GOOD, name="ff-good", hidden=(2000, 2000), epochs=150),
    ]
}
FF_PRESETS: dict[str, FFConfig | PostConfig] = {**POST_PRESETS, **GOOD_PRESETS}


def main(words: list[str] | None = None) -> None:
    """Run presets with several seeds and append their records: the long runs of chapter 8."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(FF_PRESETS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds of each")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ledger", default=None, help="file to append to; the package's own")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="time limit of all")
    parser.add_argument("--no-test", action="store_true", help="judge on validation images only")
    parser.add_argument("--set", nargs="*", default=[], metavar="SETTING=VALUE")
    options = parser.parse_args(words)
    begin = time.perf_counter()
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.names:
            left = options.minutes - (time.perf_counter() - begin) / 60
            if left <= 0:
                print(f"{name} seed {seed}: no time left", flush=True)
                continue
            changes = dict(_setting(text) for text in options.set)
            config = replace(FF_PRESETS[name], seed=seed, device=options.device, **changes)
            record = run_ff_experiment(
                config,
                on_epoch_end=_print_epoch,
                minutes=left,
                look_at_test=not options.no_test,
            )
            append_record(record, options.ledger)
            print(
                f"{name} {options.set} seed {seed}: {record.result}, {record.seconds:.0f} s "
                f"{record.notes} {record.extra}",
                flush=True,
            )


def _print_epoch(epoch: Epoch) -> None:
    learnt, checked = epoch.training, epoch.evaluation["validation"]
    print(
        f"  epoch {epoch.number}: loss {learnt.loss:.4f}, training {learnt.accuracy:.2%}, "
        f"validation {checked.accuracy:.2%}, {learnt.seconds:.0f} s",
        flush=True,
    )


def _setting(text: str) -> tuple[str, Any]:
    name, value = text.split("=", 1)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


if __name__ == "__main__":
    main()
