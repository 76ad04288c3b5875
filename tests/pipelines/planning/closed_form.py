"""Operations of a training step of a small FactorizedUNet by arithmetic: no counter, no network is run.

For two levels, of which the first has spatial attention, and two layers a block. A product of rows × inputs
by inputs × outputs is 2 · rows · inputs · outputs operations, and so is each of its two gradients.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from pipelines.benchmark.model import IMAGE_TOKENS, TEXT_TOKENS, Shape

ADAPTER_TOKENS, ADAPTER_DEPTH, PREDICT_NET_WIDTH, LATENT_CHANNELS = 16, 2, 128, 4


class Product(NamedTuple):
    """A product with weights of `part`; `given` if its input depends on no weight."""

    part: str
    rows: int
    inputs: int
    outputs: int
    given: bool = False


class Attention(NamedTuple):
    """q kᵀ and the weighted sum; keys and values come from weights of `part`, over what is `given` or not."""

    part: str
    queries: int
    keys: int
    channels: int
    given: bool = False


def step_operations(shape: Shape, trained: Collection[str]) -> int:
    """Forward and backward for one clip; `trained`: top-level parts, all but the image model's at least."""
    return sum(_operations(each, trained) for each in _walk(shape))


def _operations(each: Product | Attention, trained: Collection[str]) -> int:
    learns = each.part in trained
    if isinstance(each, Product):
        passes = 1 + learns + (not each.given)
        return 2 * each.rows * each.inputs * each.outputs * passes
    # Two products forward; two to reach the queries, two more to reach keys and values.
    passes = 2 + 2 + 2 * (learns or not each.given)
    return 2 * each.queries * each.keys * each.channels * passes


def _walk(shape: Shape) -> Iterator[Product | Attention]:
    c0, c1 = shape.widths
    fine, coarse = shape.latent_side**2, shape.latent_side**2 // 4
    frames = shape.frames
    yield from _conditions(shape)
    yield _convolution("image", frames * fine, LATENT_CHANNELS, c0, given=True)
    for first in (True, False):
        yield from _place(shape, c0, c0, fine, attends=True, paca=first)
    yield _convolution("image", frames * coarse, c0, c0)  # halves
    for first, inputs in ((True, c0), (False, c1)):
        yield from _place(shape, inputs, c1, coarse, attends=False, paca=first)
    yield from _place(shape, c1, c1, coarse, attends=True, paca=True)  # the middle
    yield from _residual(shape, c1, c1, coarse)
    for first, skip in ((True, c1), (False, c1), (False, c0)):
        yield from _place(shape, c1 + skip, c1, coarse, attends=False, paca=first)
    yield _convolution("image", frames * fine, c1, c1)  # doubles
    for first, inputs in ((True, c1), (False, c0), (False, c0)):
        yield from _place(shape, inputs + c0, c0, fine, attends=True, paca=first)
    yield _convolution("image", frames * fine, c0, LATENT_CHANNELS)
    yield from _predict_net(shape)


def _convolution(part: str, rows: int, inputs: int, outputs: int, given: bool = False) -> Product:
    return Product(part, rows, 9 * inputs, outputs, given)


def _conditions(shape: Shape) -> Iterator[Product | Attention]:
    c0, c1 = shape.widths
    embedding, width, queries = 4 * c0, shape.context_dim, ADAPTER_TOKENS
    fine = shape.latent_side**2
    yield Product("image", 1, c0, embedding, given=True)  # time: both layers come before any other part
    yield Product("image", 1, embedding, embedding, given=True)
    for part in ("fps_embedding", "motion_score_embedding"):
        yield Product(part, 1, c0, embedding, given=True)
        yield Product(part, 1, embedding, embedding)
    yield Product("frame_embedding", shape.frames, c0, embedding, given=True)
    yield Product("frame_embedding", 1, width, embedding, given=True)
    yield Product("frame_embedding", shape.frames, embedding, embedding)
    yield _convolution("image_conv_in", fine, LATENT_CHANNELS + 1, c0, given=True)
    yield _convolution("image_pyramid", fine, LATENT_CHANNELS, c0, given=True)
    yield _convolution("image_pyramid", fine // 4, c0, c1)
    yield Product("resampler", IMAGE_TOKENS, width, width, given=True)
    for _ in range(ADAPTER_DEPTH):
        seen = IMAGE_TOKENS + queries
        yield Product("resampler", queries, width, width)
        yield Product("resampler", seen, width, 2 * width)
        yield Attention("resampler", queries, seen, width)
        yield Product("resampler", queries, width, width)
        yield Product("resampler", queries, width, 4 * width)
        yield Product("resampler", queries, 4 * width, width)


def _place(
    shape: Shape, inputs: int, c: int, pixels: int, *, attends: bool, paca: bool
) -> Iterator[Product | Attention]:
    yield from _residual(shape, inputs, c, pixels)
    if attends:
        yield from _spatial(shape, c, pixels)
    rows = shape.frames * pixels
    if paca:
        yield Product("paca", rows, c, 2 * c)  # queries and output
        yield Product("paca", pixels, c, 2 * c)  # keys and values, of one image
        yield Attention("paca", rows, pixels, c)
    yield from _temporal(shape, c, pixels)


def _residual(shape: Shape, inputs: int, c: int, pixels: int) -> Iterator[Product]:
    rows = shape.frames * pixels
    yield _convolution("image", rows, inputs, c)
    yield Product("image", shape.frames, 4 * shape.widths[0], c)
    yield _convolution("image", rows, c, c)
    if inputs != c:
        yield Product("image", rows, inputs, c)


def _spatial(shape: Shape, c: int, pixels: int) -> Iterator[Product | Attention]:
    rows, width = shape.frames * pixels, shape.context_dim
    yield Product("image", rows, c, 2 * c)  # in and out
    yield Product("image", rows, c, 4 * c)  # self-attention: queries, keys, values, output
    yield Attention("image", rows, pixels, c)
    yield Product("image", rows, c, 2 * c)  # text: queries, output
    yield Product("image", TEXT_TOKENS, width, 2 * c, given=True)
    yield Attention("image", rows, TEXT_TOKENS, c, given=True)
    yield Product("decoupled_attention", ADAPTER_TOKENS, width, 2 * c)
    yield Attention("decoupled_attention", rows, ADAPTER_TOKENS, c)
    yield Product("image", rows, c, 8 * c)  # gated feed-forward
    yield Product("image", rows, 4 * c, c)


def _temporal(shape: Shape, c: int, pixels: int) -> Iterator[Product | Attention]:
    part, rows = "temporal_modules", shape.frames * pixels
    yield Product(part, rows, 3 * c, c)  # over three frames
    yield Product(part, shape.frames, 4 * shape.widths[0], 2 * c)
    yield Product(part, rows, c, c)
    yield Product(part, rows, c, 4 * c)  # attention along time, with its output
    yield Attention(part, rows, shape.frames, c)
    yield Product(part, rows, c, 2 * c)  # motion caption: queries, output
    yield Product(part, TEXT_TOKENS, shape.context_dim, 2 * c, given=True)
    yield Attention(part, rows, TEXT_TOKENS, c, given=True)
    yield Product(part, rows, c, 8 * c)  # feed-forward, there and back


def _predict_net(shape: Shape) -> Iterator[Product]:
    part, width, fine = "flow_predictor", PREDICT_NET_WIDTH, shape.latent_side**2
    c0, c1 = shape.widths
    yield Product(part, shape.frames * fine // 4, c1, width)
    yield Product(part, shape.frames * fine, c0, width)
    pairs = (shape.frames - 1) * fine
    yield _convolution(part, pairs, 2 * width, width)
    yield _convolution(part, pairs, width, width)
    yield _convolution(part, pairs, width, 2)
