"""Adam and SGD as in torch, from a start that is three seconds shorter.

The first optimizer of a process makes torch import its compiler, ``torch._dynamo`` with
sympy and a thousand modules: the methods of ``torch.optim.Optimizer`` are wrapped so that
a compiler would leave them alone. Nothing here is compiled. So these classes take the same
methods from inside the wrapper; state, numbers and types are those of torch.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch

_Torch = torch.optim.Optimizer


class _Unwrapped:
    """The methods of every optimizer, each as written; where none is wrapped, the same ones."""

    add_param_group: Any = inspect.unwrap(_Torch.add_param_group)
    zero_grad: Any = inspect.unwrap(_Torch.zero_grad)
    state_dict: Any = inspect.unwrap(_Torch.state_dict)
    load_state_dict: Any = inspect.unwrap(_Torch.load_state_dict)


class Adam(_Unwrapped, torch.optim.Adam):
    """``torch.optim.Adam`` (Kingma and Ba 2015), bit for bit; not for ``torch.compile``."""

    step: Callable[..., Any] = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class SGD(_Unwrapped, torch.optim.SGD):
    """``torch.optim.SGD``, bit for bit; not for ``torch.compile``."""

    step: Callable[..., Any] = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))
