import pytest
import torch

from modeling.temporal import TemporalConvolution

SIZE = (4, 5)


def convolution(**settings):
    module = TemporalConvolution(8, 6, **settings)
    torch.nn.init.normal_(module.project_out.weight)
    return module


def reach(module):
    """Frames, rows and columns that the middle pixel of the middle frame is seen from."""
    x = torch.randn(1, 5, 20, 8, requires_grad=True)
    embedding = torch.randn(1, 5, 6)
    module(x, embedding, SIZE)[0, 2, 1 * 5 + 2].sum().backward()
    seen = x.grad[0].abs().amax(-1).unflatten(1, SIZE) > 0  # (T, h, w)
    return [sorted({int(i) for i in where}) for where in seen.nonzero(as_tuple=True)]


@pytest.mark.parametrize(
    ("kernel", "spatial_kernel", "frames", "rows", "columns"),
    [(3, 1, [1, 2, 3], [1], [2]), (3, 3, [1, 2, 3], [0, 1, 2], [1, 2, 3]), (5, 1, [0, 1, 2, 3, 4], [1], [2])],
)
def test_a_temporal_convolution_reaches_as_far_as_its_kernel(kernel, spatial_kernel, frames, rows, columns):
    module = convolution(kernel=kernel, spatial_kernel=spatial_kernel)
    assert reach(module) == [frames, rows, columns]


def test_each_frame_of_a_temporal_convolution_is_steered_by_its_own_embedding():
    module, x, embedding = (
        convolution(kernel=3, spatial_kernel=1),
        torch.randn(1, 3, 20, 8),
        torch.randn(1, 3, 6),
    )
    other = embedding.clone()
    other[:, 1] += 1
    changed = (module(x, embedding, SIZE) - module(x, other, SIZE)).abs().amax((0, 2, 3)) > 1e-3
    assert changed.tolist() == [False, True, False]


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="odd"):
        TemporalConvolution(8, 6, kernel=3, spatial_kernel=2)
