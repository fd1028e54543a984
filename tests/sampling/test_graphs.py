"""Nothing in the sampling loop needs the host, so a frame's work can be recorded once and replayed for other clips."""

import itertools

import pytest
import torch
from torch.torch_version import TorchVersion
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from videoar import GeneratorConfig, ScalePyramid, TokenizerConfig, VideoAR, VideoTokenizer, generate
from videoar.errors import UserError
from videoar.generator.conditioning import Condition
from videoar.kernels.linear import plain
from videoar.sampling.graphs import FrameGraphs
from videoar.sampling.guidance import Guidance
from videoar.sampling.raster import sampler_of
from videoar.sampling.request import LatentRequest, SamplingOptions
from videoar.sampling.sampler import LatentSampler
from videoar.sampling.streaming import decode_behind

PYRAMID = ScalePyramid(((1, 1), (2, 2), (3, 4)))
GUIDED = SamplingOptions(Guidance("ucf101", prefix_strength=0.5))


def make_generator(**overrides):
    torch.manual_seed(1)
    model = VideoAR(GeneratorConfig.preset("debug", **overrides)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model


class Recording(TorchDispatchMode):
    """What a CUDA graph does, for CPU tensors: the operations of a function on fixed memory, replayed without it."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    def replay(self):
        for func, args, kwargs, result in self.operations:
            old = [x for x in pytree.tree_leaves(result) if isinstance(x, torch.Tensor)]
            new = [x for x in pytree.tree_leaves(func(*args, **kwargs)) if isinstance(x, torch.Tensor)]
            for a, b in zip(old, new, strict=True):
                if a.data_ptr() != b.data_ptr():  # neither a view nor written in place
                    a.copy_(b)

    @classmethod
    def record(cls, run):
        run()  # as the real one: nothing that run does may depend on how often it is called
        with cls() as recording:
            result = run()
        return recording.replay, result


def bits_of(sampler):
    return [torch.cat([bits.flatten() for bits in frame.bits]) for frame in sampler.frames()]


@pytest.mark.parametrize(
    ("window", "given", "condition", "order"),
    [*itertools.product([0, 1], [0, 1], ["class", "bytes"], ["scales"]), (1, 1, "bytes", "raster")],
)
@torch.no_grad()
def test_a_recorded_sampler_replays_other_clips(window, given, condition, order):
    model = make_generator(window=window, condition=condition, order=order)
    pyramid = PYRAMID if order == "scales" else ScalePyramid((PYRAMID.full,))
    values = [[0, 3], [2, 1]] if condition == "class" else [["a", "bird"], ["some", "b"]]
    prefixes = [torch.randn(2, 16, given, 3, 4) if given else None for _ in values]
    make = sampler_of(model)
    recorded = make(model, LatentRequest(values[0], pyramid, 5, [1, 2], GUIDED, prefixes[0]), Recording.record)
    for clip, (labels, prefix, seeds) in enumerate(zip(values, prefixes, ([1, 2], [7, 4]))):
        asked = LatentRequest(labels, pyramid, 5, seeds, GUIDED, prefix)
        if clip:
            recorded.restart(asked)
        fresh = make(model, asked)
        for ours, theirs in zip(recorded.frames(), fresh.frames(), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours.bits, theirs.bits, strict=True))
            torch.testing.assert_close(ours.latent, theirs.latent)
            assert ours.steps == theirs.steps
    assert sorted(recorded.recorded) == list(range(given, 5))


class Transfers(TorchDispatchMode):
    """Counts operations that touch the CPU while the model lives elsewhere."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in pytree.tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        literal = func is torch.ops.aten.lift_fresh.default  # torch.tensor([...]), which is filled on the CPU
        if literal or any(x.device.type == "cpu" for x in tensors):
            self.found.append(str(func))
        return result


@pytest.mark.parametrize("window", [0, 1])
@torch.no_grad()
def test_a_frame_is_sampled_without_the_host(window):
    """On the meta device no value can be read back, and whatever is made on the CPU and sent over is seen."""
    with torch.device("meta"):
        model = VideoAR(GeneratorConfig.preset("debug", window=window))
    sampler = LatentSampler(model, LatentRequest(torch.zeros(2, dtype=torch.long), PYRAMID, 4, [0, 1], GUIDED))
    for t in range(4):
        sampler.cache.begin_frame(t)
        with Transfers() as transfers:
            sampler._sample_frame(t)
        assert transfers.found == []
    sends = [lambda: torch.zeros(2).to("meta")]
    if TorchVersion(torch.__version__) >= "2.12":  # before, no mode saw torch.tensor
        sends.append(lambda: torch.tensor([1, 2], device="meta"))
    for send in sends:
        with Transfers() as transfers:
            send()
        assert transfers.found, "the check sees what is sent to the device"


@torch.no_grad()
def test_compiled_steps_are_the_steps():
    """One compilation serves all frames and scales (two more: the first step, and single tokens)."""
    plain, compiled, graphs = make_generator(window=2), make_generator(window=2), []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled.compile_steps(backend=count)
    samples = [
        bits_of(LatentSampler(model, LatentRequest([0, 3], PYRAMID, 6, [1, 2], GUIDED))) for model in (plain, compiled)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*samples, strict=True))
    assert len(graphs) <= 3
    assert compiled.state_dict().keys() == plain.state_dict().keys()


def test_conditions_are_prepared_once():
    model = make_generator()
    condition = model.condition([1, 2])
    prepared = model.prepared(condition)
    tokens, frame = torch.randn(2, PYRAMID.length, model.config.context_features), slice(0, PYRAMID.length)
    with torch.no_grad():
        plain, fast = (
            model.step(tokens, c, model.new_cache(c, PYRAMID, 1), PYRAMID, 0, frame) for c in (condition, prepared)
        )
    assert torch.equal(plain, fast)
    blank = pytree.tree_map(torch.zeros_like, prepared.modulation)
    other = Condition(torch.randn(2, 1, 64), None, torch.randn(2, 64), blank)
    with torch.no_grad():
        other.overwrite(prepared)
    pairs = zip(pytree.tree_leaves(other.modulation), pytree.tree_leaves(prepared.modulation), strict=True)
    assert torch.equal(other.tokens, condition.tokens) and all(torch.equal(a, b) for a, b in pairs)


@torch.no_grad()
def test_prompts_of_any_length_share_one_recording_and_few_are_kept(monkeypatch):
    monkeypatch.setattr(FrameGraphs, "record", staticmethod(Recording.record))
    model, graphs = make_generator(condition="bytes"), FrameGraphs(keep=2)
    samplers = []
    for seed, prompt in enumerate(["a", "a longer prompt", "bird"]):
        asked = LatentRequest([prompt], PYRAMID, 2, [seed], GUIDED)
        samplers.append(graphs.sampler(model, asked))
        assert all(map(torch.equal, bits_of(samplers[-1]), bits_of(LatentSampler(model, asked))))
    assert samplers[0] is samplers[1] is samplers[2]
    for frames in (3, 2, 4):
        last = graphs.sampler(model, LatentRequest(["a"], PYRAMID, frames, [0], GUIDED))
    assert list(graphs._samplers.values()) == [samplers[0], last], "the one used longest ago is let go"
    with pytest.raises(ValueError, match="keep must be at least 1"):
        FrameGraphs(keep=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_graphs_without_a_gpu_are_refused():
    tokenizer = VideoTokenizer(TokenizerConfig.preset("debug"))
    with pytest.raises(UserError, match="CUDA graphs need a CUDA device"):
        generate(make_generator(), tokenizer, [0], frames=1, size=(32, 32), graphs=FrameGraphs())


@torch.no_grad()
def test_decoding_behind_is_decoding():
    tokenizer, latent = VideoTokenizer(TokenizerConfig.preset("debug")), torch.randn(1, 16, 3, 2, 2)
    parts = list(decode_behind(tokenizer, latent.split(1, dim=2)))
    assert [part.shape[2] for part in parts] == [1, 4, 4]
    assert torch.equal(torch.cat(parts, dim=2), tokenizer.decode(latent))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.no_grad()
def test_graphs_on_a_gpu():
    """Graphs give the samples of the plain loop, for a second clip too, and the loop never waits for the GPU."""
    tokenizer = VideoTokenizer(TokenizerConfig.preset("debug")).cuda().eval()
    model, graphs = make_generator().cuda(), FrameGraphs()
    for labels, seed in (([0, 3], 0), ([2, 1], 5), ([2, 1], 6)):
        plain = generate(model, tokenizer, labels, frames=13, size=(64, 64), seed=seed)
        fast = generate(model, tokenizer, labels, frames=13, size=(64, 64), seed=seed, graphs=graphs)
        assert all(torch.equal(a, b) for a, b in zip(plain.bits, fast.bits))
        torch.testing.assert_close(plain.video, fast.video, atol=1e-4, rtol=1e-4)
    sampler = LatentSampler(model, LatentRequest([0, 1], PYRAMID, 4, [0, 1], GUIDED))
    list(sampler.frames())
    sampler.restart(LatentRequest([1, 2], PYRAMID, 4, [3, 4], GUIDED))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for t in range(4):
            sampler.cache.begin_frame(t)
            sampler._sample_frame(t)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_blocks_compiled_for_training_are_sampled_with_plain_layers():
    """`loop.compile` compiles every block; packed weights are no constants of its graph, and inductor refuses them."""
    model = make_generator()
    condition = model.condition([0])
    model.blocks[0].compile(backend="eager")
    assert model.new_cache(condition, PYRAMID, 1).linear is plain
