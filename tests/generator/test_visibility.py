import pytest
import torch

from videoar import GeneratorConfig, ScalePyramid, VideoAR
from videoar.generator.attention import DenseAttend
from videoar.generator.visibility import SequenceIds, dense_mask, draw_frame_keep


def _slow(pyramid, frames, prefix, window, sinks, lengths, keep):
    """The sentence of DESIGN.md, pair by pair."""
    tokens = [("prefix", i, 0) for i in range(prefix)]
    for t in range(frames):
        for k, n in enumerate(pyramid.lengths):
            tokens += [("video", t, k)] * n
    mask = torch.zeros(len(lengths), len(tokens), len(tokens), dtype=torch.bool)
    for b, length in enumerate(lengths):
        for i, (kind, t, k) in enumerate(tokens):
            for j, (other, s, m) in enumerate(tokens):
                if other == "prefix":
                    mask[b, i, j] = s < length
                elif kind == "video":
                    near = window == 0 or s >= t - window or s < sinks
                    mask[b, i, j] = (s == t and m <= k) or (s < t and near and bool(keep[b, t, s]))
    return mask


@pytest.mark.parametrize(("window", "sinks"), [(0, 0), (1, 0), (2, 1)])
def test_dense_mask_equals_the_sentence(pyramid, window, sinks):
    keep = draw_frame_keep(2, 4, 0.5, torch.Generator().manual_seed(0))
    ids = SequenceIds.build(pyramid, 4, 3)
    mask = dense_mask(ids, ids, window, sinks, torch.tensor([3, 1]), keep)
    assert torch.equal(mask[:, 0], _slow(pyramid, 4, 3, window, sinks, [3, 1], keep))


def test_frame_keep_drops_at_the_stated_rate():
    keep = draw_frame_keep(200, 10, 0.3, torch.Generator().manual_seed(0))
    assert abs(keep.float().mean().item() - 0.7) < 0.01


@pytest.mark.parametrize("random_mask", [False, True])
@pytest.mark.parametrize("lengths", [None, [4, 2]])
def test_flex_equals_dense(pyramid, random_mask, lengths, monkeypatch):
    """The same outputs through FlexAttention's block mask, also when only the contents of the mask change."""
    from videoar.generator import flex as module

    monkeypatch.setattr(module, "_compiled", lambda: module.flex_attention)  # the compiler takes a minute
    monkeypatch.setattr(module, "BLOCK", 16)  # so that there are full blocks, empty ones and others
    ids = SequenceIds.build(pyramid, 5, 4)
    length = ids.frame.shape[0]
    flex = module.FlexAttend(ids, batch=2, window=3)
    prefix = None if lengths is None else torch.tensor(lengths)
    for seed in range(2):
        q, k, v = torch.randn(3, 2, 2, length, 16, generator=torch.Generator().manual_seed(seed))
        keep = draw_frame_keep(2, 5, 0.5, torch.Generator().manual_seed(seed)) if random_mask else None
        with torch.no_grad():
            ours = flex.set(prefix, keep)(0, q, k, v)
        dense = DenseAttend(dense_mask(ids, ids, 3, 0, prefix, keep))(0, q, k, v)
        assert torch.allclose(ours, dense, atol=1e-5)


def test_flex_refuses_gradients_on_cpu(pyramid):
    from videoar.generator.flex import FlexAttend

    ids = SequenceIds.build(pyramid, 1, 1)
    q = torch.randn(1, 1, ids.frame.shape[0], 16, requires_grad=True)
    with pytest.raises(RuntimeError, match="no backward pass on CPU"):
        FlexAttend(ids, batch=1)(0, q, q, q)


@pytest.mark.parametrize(("prefix", "window", "sinks"), [(1, 0, 0), (128, 2, 1), (130, 0, 0)])
def test_flex_blocks_are_those_of_torch(prefix, window, sinks):
    """`create_block_mask` makes the same of all pairs at once."""
    from torch.nn.attention.flex_attention import create_block_mask

    from videoar.generator.flex import FlexAttend

    ids = SequenceIds.build(ScalePyramid.default(8, 8), 5, prefix)
    length = ids.frame.shape[0]
    flex = FlexAttend(ids, 2, window, sinks)
    expected = create_block_mask(flex.plain.mask_mod, None, None, length, length, device="cpu")
    for name in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices", "q_num_blocks", "q_indices"):
        assert torch.equal(getattr(flex.plain, name), getattr(expected, name)), name
    flex.set(torch.tensor([1, 1]), None)
    assert flex.mask.full_kv_num_blocks.sum() > 0, "prompts leave blocks full that hold no prompt"


def test_flex_built_in_a_validation_serves_training(pyramid):
    """`trainer.validate` and then `fit`, as in a notebook: nothing of it is an inference tensor."""
    from videoar.generator.flex import FlexAttend

    with torch.inference_mode():
        flex = FlexAttend(SequenceIds.build(pyramid, 2, 1), batch=1)
    flex.set(torch.tensor([1]), torch.ones(1, 2, 2, dtype=torch.bool))
    for mask in (flex.plain, flex.with_prompts, flex.general):
        held = [cell.cell_contents for cell in mask.mask_mod.__closure__]
        tensors = [x for x in (mask.kv_indices, mask.q_indices, *held) if isinstance(x, torch.Tensor)]
        assert len(tensors) > 2 and not any(x.is_inference() for x in tensors)


def test_compiled_blocks_with_flex_are_one_graph_for_all_layers():
    """No graph break, and no layer nor forward pass has a graph of its own."""
    model, graphs = VideoAR(GeneratorConfig.preset("debug", depth=2, attention="flex")), []
    pyramid = ScalePyramid(((1, 1), (2, 2)))

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    for block in model.blocks:
        block.compile(backend=count, fullgraph=True)
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(1, 2 * pyramid.length, model.config.context_features), [0], pyramid, 2)
    assert len(graphs) == 1
