import pytest
import torch

from videoar.errors import UserError
from videoar.sampling.guidance import Guidance, guidance_scale, guide


def test_ucf101_schedule_is_the_papers():
    """First scale 1 → 5 over frames, then linear within each frame up to 10 (Appendix A)."""
    g = Guidance.of("ucf101")
    assert [guidance_scale(g, t, 0, 5, 6) for t in range(5)] == [1, 2, 3, 4, 5]
    assert [guidance_scale(g, t, 5, 5, 6) for t in range(5)] == [10] * 5
    assert guidance_scale(g, 4, 1, 5, 6) == 6 and guidance_scale(g, 0, 1, 5, 6) == pytest.approx(1 + 9 / 5)


def test_text_schedule_falls_along_both_axes_together():
    g = Guidance.of("text")
    assert guidance_scale(g, 0, 0, 5, 6) == 5 and guidance_scale(g, 4, 5, 5, 6) == 3
    assert guidance_scale(g, 4, 0, 5, 6) == 4 and guidance_scale(g, 0, 5, 5, 6) == 4


def test_constant_none_and_single_frames():
    assert guidance_scale(Guidance.of(2.5), 3, 2, 5, 6) == 2.5
    assert guidance_scale(Guidance.of("3"), 0, 0, 1, 1) == 3
    assert guidance_scale(Guidance.of("none"), 3, 2, 5, 6) == 1
    assert guidance_scale(Guidance.of("ucf101"), 0, 0, 1, 1) == 1
    assert not Guidance.of(1.0).guided and not Guidance.of(None).guided and Guidance.of(1.5).guided


def test_guide_combines_the_rows():
    conditional, null, corrupted = torch.randn(3, 2, 4, 8, dtype=torch.float64)
    g = Guidance("constant", end=3.0, prefix_strength=0.5)
    out = guide(torch.cat([conditional, null, corrupted]), 2, g, 3.0)
    assert torch.allclose(out, null + 3 * (conditional - null) + 0.5 * (conditional - corrupted))
    only_prefix = Guidance("none", prefix_strength=0.5)
    out = guide(torch.cat([conditional, corrupted]), 2, only_prefix, 1.0)
    assert torch.allclose(out, conditional + 0.5 * (conditional - corrupted))


def test_bad_guidance_is_refused():
    with pytest.raises(UserError, match="strong"):
        Guidance.of("strong")
    with pytest.raises(UserError, match="prefix_flip"):
        Guidance(prefix_flip=0.9)
