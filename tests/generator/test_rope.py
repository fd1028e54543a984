import torch

from videoar import ScalePyramid
from videoar.generator.rope import prefix_positions, rotate, rotations, video_positions

PYRAMID = ScalePyramid(((1, 1), (2, 2), (3, 3)))
K = 12


def _slow_1d_rope(x, index):
    """Native 1D RoPE in complex arithmetic: channel pair (j, j + K/2) turns by index·10000^(−2j/K)."""
    pairs = x.shape[-1] // 2
    frequency = 10000.0 ** (-2 * torch.arange(pairs, dtype=torch.float64) / x.shape[-1])
    turned = torch.complex(x[..., :pairs], x[..., pairs:]) * torch.exp(1j * index[:, None] * frequency)
    return torch.cat([turned.real, turned.imag], dim=-1)


def test_text_alone_is_native_1d_rope():
    x = torch.randn(2, 3, 20, K, dtype=torch.float64)
    cos, sin = rotations(prefix_positions(20), K, "multiscale_temporal_rope")
    assert torch.allclose(rotate(x.float(), cos, sin).double(), _slow_1d_rope(x, torch.arange(20.0)), atol=1e-4)


def _scores(q, k, at_q, at_k):
    rq, rk = (rotations(torch.tensor([p], dtype=torch.float32), K, "multiscale_temporal_rope") for p in (at_q, at_k))
    return (rotate(q, *rq) * rotate(k, *rk)).sum(-1)


def test_scores_depend_on_offsets_only():
    q, k = torch.randn(1, 1, 1, K), torch.randn(1, 1, 1, K)
    near = _scores(q, k, (3.0, 1.0, 2.0), (1.0, 0.0, 1.0))
    shifted = _scores(q, k, (13.0, 11.0, 12.0), (11.0, 10.0, 11.0))
    assert torch.allclose(near, shifted, atol=1e-5)


def test_time_is_seen_and_space_is_the_same_in_every_frame():
    """Moving a key in time changes the score; moving query and key to another frame together does not."""
    q, k = torch.randn(1, 1, 1, K), torch.randn(1, 1, 1, K)
    assert not torch.allclose(_scores(q, k, (5, 1, 1), (4, 1, 1)), _scores(q, k, (5, 1, 1), (3, 1, 1)), atol=1e-3)
    assert torch.allclose(_scores(q, k, (5, 1, 2), (5, 0, 1)), _scores(q, k, (2, 1, 2), (2, 0, 1)), atol=1e-5)
    positions = video_positions(PYRAMID, 4).reshape(4, PYRAMID.length, 3)
    assert (positions[:, :, 1:] == positions[:1, :, 1:]).all(), "h and w do not change from frame to frame"
    assert positions[:, 0, 0].tolist() == [0, 1, 2, 3]


def test_every_axis_gets_high_and_low_frequencies():
    for axis in range(3):
        position = torch.zeros(1, 3)
        position[0, axis] = 1.0
        _, sin = rotations(position, 48, "multiscale_temporal_rope")
        used = sin[0, :24].nonzero()[:, 0]
        assert len(used) == 8 and used[0] < 3 and used[-1] > 20


def test_rope2d_ignores_time():
    one = rotations(torch.tensor([[0.0, 1.0, 2.0]]), K, "rope2d")
    other = rotations(torch.tensor([[9.0, 1.0, 2.0]]), K, "rope2d")
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
