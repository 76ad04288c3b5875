"""Classifier-free guidance with one scale for the text and one for the image."""

from typing import NamedTuple

import torch


class Branch(NamedTuple):
    """One evaluation of the model per sampling step: which conditions it sees, and its weight in the sum."""

    text: bool
    image: bool
    weight: float


def guidance_branches(scale_text: float, scale_image: float, *, has_image: bool) -> list[Branch]:
    """The branches of ε = ε(∅, ∅) + s_image (ε(∅, i) − ε(∅, ∅)) + s_text (ε(t, i) − ε(∅, i)).

    Text means both texts, which training drops together. The first branch sees everything; branches of
    weight 0 are left out, so an image scale of 1 costs two evaluations and both scales at 1 cost one.
    """
    branches = [Branch(True, has_image, scale_text)]
    if has_image:
        branches += [Branch(False, True, scale_image - scale_text), Branch(False, False, 1 - scale_image)]
    else:
        branches += [Branch(False, False, 1 - scale_text)]
    return [branch for index, branch in enumerate(branches) if index == 0 or branch.weight != 0]


def guide(predictions: list[torch.Tensor], branches: list[Branch], rescale: float) -> torch.Tensor:
    """Weighted sum of the branches' predictions (B, …), its deviation brought towards the first branch's.

    rescale φ: x ← φ x σ(x_full)/σ(x) + (1 − φ) x, per sample (Lin et al., arXiv 2305.08891, eq. 15–16).
    """
    if len(branches) == 1:
        return predictions[0]
    guided = sum(
        (b.weight * p for b, p in zip(branches, predictions, strict=True)), torch.zeros_like(predictions[0])
    )
    if rescale == 0:
        return guided
    dimensions = tuple(range(1, guided.ndim))
    ratio = predictions[0].std(dimensions, keepdim=True) / guided.std(dimensions, keepdim=True)
    return guided * (rescale * ratio + (1 - rescale))
