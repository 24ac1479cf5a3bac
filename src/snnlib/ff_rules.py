"""Every way to teach and to ask the layers of a Forward-Forward run, by name."""

from snnlib.ff_backprop import BACKPROP
from snnlib.ff_conv import CLASSWISE
from snnlib.ff_heads import NEUTRAL_HEAD, TWO_PASS
from snnlib.ff_pairs import GOODNESS, Rule

RULES: dict[str, Rule] = {
    "goodness": GOODNESS,
    "two-pass": TWO_PASS,
    "neutral-head": NEUTRAL_HEAD,
    "class-wise": CLASSWISE,
    "bptt": BACKPROP,
}
