"""What guards every door: you may take as read that an argument is what its docstring says.

In the order of reading:

    arguments   numbers, words and tensors: exact ones are accepted, others refused by name
    files       what a path means, and what is never overwritten
    layers      which layers may be taken apart
    loops       what a loop over batches may be given, and get back
    divergence  whether a network still consists of numbers
"""

from snnlib.checks.arguments import (
    finite,
    float_tensor,
    grey_tensor,
    image_tensor,
    instance,
    keep_exact,
    label_tensor,
    number,
    one_of,
    refuse,
    tensor,
    text,
    told,
    whole_number,
    yes_or_no,
)

__all__ = [
    "finite",
    "float_tensor",
    "grey_tensor",
    "image_tensor",
    "instance",
    "keep_exact",
    "label_tensor",
    "number",
    "one_of",
    "refuse",
    "tensor",
    "text",
    "told",
    "whole_number",
    "yes_or_no",
]
