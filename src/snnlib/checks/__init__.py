"""What guards every door: arguments, files that a user names, networks that diverge."""

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
