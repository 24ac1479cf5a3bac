"""Every way to teach and to ask the layers of a Forward-Forward run, by name."""

from snnlib.forward_forward.backprop import BACKPROP
from snnlib.forward_forward.class_wise import CLASSWISE
from snnlib.forward_forward.heads import NEUTRAL_HEAD, TWO_PASS
from snnlib.forward_forward.pairs import GOODNESS, Rule

RULES: dict[str, Rule] = {
    "goodness": GOODNESS,
    "two-pass": TWO_PASS,
    "neutral-head": NEUTRAL_HEAD,
    "class-wise": CLASSWISE,
    "bptt": BACKPROP,
}
