"""Two losses of the third post that compare a (log-)softmax of rates with 0 and 1."""

import torch.nn.functional as F
from torch import Tensor

from snnlib.readout import rate_mse


def log_softmax_mse(rate: Tensor, labels: Tensor) -> Tensor:
    """The third post's printed loss: its target 1 can never be reached, since log p <= 0."""
    return rate_mse(F.log_softmax(rate, dim=1), labels)


def softmax_mse(rate: Tensor, labels: Tensor) -> Tensor:
    """The loss that the third post's log points to: of rates in [0, 1], p stays below 0.24."""
    return rate_mse(F.softmax(rate, dim=1), labels)
