"""The flags of the command line and the settings they stand for."""

import argparse
import os
import textwrap
from dataclasses import fields, replace
from types import NoneType
from typing import Any, get_args, get_type_hints

import snnlib
from snnlib.checks import yes_or_no
from snnlib.checks.files import check_readable_name, check_writable, is_store, named_path
from snnlib.settings.claims import CLAIMS
from snnlib.settings.experiment import ExperimentConfig
from snnlib.settings.ff_presets import FF_PRESETS
from snnlib.settings.presets import PRESETS

# The settings of a run that have a flag, in the order of the help.
_SETTINGS = {f.name: f for f in fields(ExperimentConfig) if f.metadata.get("flags")}
_TYPES = get_type_hints(ExperimentConfig)

# Where the user names a place: option, its usual spelling, whether it is a folder.
_PLACES = [
    ("out_dir", "--out-dir", True),
    ("data_dir", "--data-dir", True),
    ("tensorboard", "--tensorboard", True),
    ("ledger", "--ledger", False),
    ("resume", "-resume", False),
    ("json", "--json", False),
]

_TRAIN_HELP = """\
Train one preset and print one line per epoch. The settings below can be changed
by a flag, others by a preset of your own; the spellings of the posts work too:

  snnlib train fc-quick                      a small run, to see it work
  snnlib train fc -T 50 -b 64 -epochs 20     the first post's network, changed
  snnlib train csnn-best --seed 3            a better recipe, honestly tested
  snnlib train fc -resume runs/fc-post-s0.ckpt
  torchrun --nproc-per-node=2 -m snnlib train fc     two processes share each batch

Presets:
"""

_PREDICT_HELP = """\
Recognise digits in pictures of yours with trained weights of the package. Draw one
digit, with a margin around it and nothing else in sight. Shown are the picture as the
network gets it, and the rates of its ten output neurons, in spikes per step.
"""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "snnlib",
        description="Spiking neural networks on MNIST: train, repeat the posts' claims, look up.",
        epilog="Start with: snnlib doctor, then snnlib train fc-quick, then snnlib reproduce",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"snnlib {snnlib.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = _adder(commands)
    examined = add("doctor", "is everything installed as it should be?")
    examined.add_argument("--thorough", action="store_true", help="load torch in any case")
    _add_train(
        add("train", "train a preset", _TRAIN_HELP + _wrapped(", ".join({**PRESETS, **FF_PRESETS})))
    )
    _add_reproduce(add("reproduce", "repeat the claims of the posts"))
    shown = add("ledger", "show every recorded run")
    shown.add_argument("--json", action="store_true", help="one line of JSON per run")
    shown.add_argument("--ledger", metavar="FILE", help="another ledger than the package's")
    _add_bench(add("bench", "compare speed with other libraries"))
    _add_predict(add("predict", "recognise digits in pictures of yours", _PREDICT_HELP))
    return parser


def _adder(commands: Any) -> Any:
    def add(name: str, help_text: str, text: str = "") -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(
            name,
            help=help_text,
            description=text or help_text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(command=name)
        return command

    return add


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 79, break_on_hyphens=False)


def _add_train(command: argparse.ArgumentParser) -> None:
    command.add_argument("preset", metavar="PRESET")
    for name, its in _SETTINGS.items():
        kind = next(k for k in (get_args(_TYPES[name]) or (_TYPES[name],)) if k is not NoneType)
        told = its.metadata
        limited = {"choices": told["choices"]} if told["choices"] else {"type": kind}
        command.add_argument(*told["flags"], dest=name, help=told["help"], **limited)
    command.add_argument("-amp", "--amp", action="store_true", help="forward pass in bfloat16")
    command.add_argument("-j", type=int, help="accepted for old habits; does nothing")
    command.add_argument("-data-dir", "--data-dir", help="a folder with, or for, MNIST/raw")
    command.add_argument("-resume", "--resume", metavar="FILE", help="go on from a checkpoint")
    command.add_argument("--continue", dest="go_on", action="store_true", help="resume if possible")
    command.add_argument("--tensorboard", metavar="DIR", help="write curves for TensorBoard")
    _add_places(command)


def _add_reproduce(command: argparse.ArgumentParser) -> None:
    offer = (
        f"{', '.join(CLAIMS)}; or one preset of a claim; "
        "with :post or :honest behind it, only that protocol"
    )
    command.add_argument("claims", nargs="*", metavar="CLAIM", help=offer)
    command.add_argument("--list", action="store_true", help="every claim, its number and ours")
    command.add_argument("--all", action="store_true", help="every claim that lacks a run")
    command.add_argument("--seeds", type=int, default=1, help="how many seeds of each run")
    command.add_argument("--jobs", type=int, default=1, help="so many runs side by side")
    command.add_argument("-device", "--device", help="auto, cpu, cuda, cuda:0, mps ...")
    _add_places(command)


def _add_bench(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rounds", type=int, default=7, help="turns of each variant (7)")
    command.add_argument("--json", metavar="FILE", help="write the figures here as well")
    command.add_argument("--keep", action="store_true", help="make them the figures of the book")
    command.add_argument("words", nargs="*", help=argparse.SUPPRESS)  # the older spelling


def _add_predict(command: argparse.ArgumentParser) -> None:
    command.add_argument("pictures", nargs="+", metavar="PICTURE", help="PNG, JPEG, ...")
    command.add_argument("--preset", default="csnn-best", help="whose weights (csnn-best)")
    command.add_argument("-q", "--quiet", action="store_true", help="only a line per picture")
    command.add_argument("--json", action="store_true", help="one line of JSON per picture")


def _add_places(command: argparse.ArgumentParser) -> None:
    command.add_argument("-out-dir", "--out-dir", default="runs", help="for checkpoints (runs)")
    command.add_argument("-save-model", "--save-model", action="store_true", help="keep weights")
    command.add_argument("--ledger", metavar="FILE", help="where the record goes")


def with_flags(config: Any, options: argparse.Namespace) -> Any:
    """The settings of a preset with those flags that were given."""
    given = {name: getattr(options, name, None) for name in _SETTINGS}
    changes = {name: value for name, value in given.items() if value is not None}
    if yes_or_no("amp", getattr(options, "amp", None) or False):
        changes["amp"] = "bfloat16"
    known = {f.name for f in fields(config)}
    if strange := sorted(set(changes) - known):
        flags = {name: its.metadata["flags"][-1] for name, its in _SETTINGS.items()}
        told = ", ".join(f"{flags.get(name, '--amp')} {changes[name]}" for name in strange)
        offer = ", ".join(flag for name, flag in flags.items() if name in known)
        raise ValueError(f"preset {config.name!r} cannot be told {told}; it takes {offer}")
    return replace(config, **changes)


def name_places(options: argparse.Namespace) -> None:
    """Put the home folder for ``~`` in every path, and refuse what names no such place."""
    for option, flag, is_folder in _PLACES:
        value = getattr(options, option, None)
        knows_stores = option == "tensorboard" and is_store(value)
        if isinstance(value, str) and not knows_stores:
            place = named_path(flag, value, folder=is_folder)
            setattr(options, option, os.fspath(place))
            if option == "tensorboard":
                check_readable_name(flag, place)
                check_writable(flag, place / "events.out.tfevents")
