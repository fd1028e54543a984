import copy
import gc
import itertools
import warnings

import pytest
import torch

from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer, generate
from videoar.bits.bsq import code_of
from videoar.bits.corruption import teacher_forcing
from videoar.bits.residual import advance, context, flatten_bits
from videoar.errors import UserError
from videoar.generator.conditioning import stack
from videoar.losses.bitwise import bitwise_loss
from videoar.sampling.generate import extend, generate_stream
from videoar.sampling.guidance import Guidance, guidance_scale
from videoar.sampling.request import Request

SIZE = (32, 48)
NAMES = ("pong", "breakout", "boxing", "qbert")


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(TokenizerConfig.preset("debug")).eval()
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            if parameter.ndim == 5:  # fresh kernels do not look back in time; a trained tokenizer's do
                parameter.add_(torch.randn_like(parameter) * parameter.std())
    return tokenizer


@pytest.fixture
def generator(tokenizer):
    return _generator(tokenizer)


def _generator(tokenizer, **overrides):
    torch.manual_seed(1)
    settings = {"num_classes": 4, "class_names": NAMES, "tokenizer_fingerprint": tokenizer.fingerprint(), **overrides}
    model = VideoAR(GeneratorConfig.preset("debug", **settings)).eval()
    torch.nn.init.normal_(model.head.weight, std=0.3)
    torch.nn.init.normal_(model.modulation.weight, std=0.1)
    return model


def test_17_frames_at_128_take_30_calls(generator, tokenizer):
    calls = []
    sample = generate(
        generator, tokenizer, ["breakout"], frames=17, size=(128, 128), seed=0, progress=lambda *a: calls.append(a)
    )
    assert sample.steps == 30 and calls[-1] == (30, 30)
    assert sample.video.shape == (1, 3, 17, 128, 128)
    assert sample.video.abs().max() <= 1
    assert [tuple(b.shape[1:4]) for b in sample.bits] == [(5, n, n) for n in (1, 2, 3, 4, 6, 8)]


@pytest.mark.parametrize("guidance", ["ucf101", "none", Guidance("constant", end=2.0, prefix_strength=0.7)])
def test_a_seed_fixes_the_sample_whatever_the_batch(generator, tokenizer, guidance):
    together = generate(generator, tokenizer, list(NAMES), frames=9, size=SIZE, seed=3, guidance=guidance)
    alone = generate(generator, tokenizer, ["boxing"], frames=9, size=SIZE, seed=5, guidance=guidance)
    again = generate(generator, tokenizer, ["boxing"], frames=9, size=SIZE, seed=5, guidance=guidance)
    other = generate(generator, tokenizer, ["boxing"], frames=9, size=SIZE, seed=6, guidance=guidance)
    assert torch.equal(alone.video, again.video)
    assert torch.equal(flatten_bits(together.bits)[2], flatten_bits(alone.bits)[0])
    assert not torch.equal(flatten_bits(other.bits), flatten_bits(alone.bits))


def test_stream_equals_whole(generator, tokenizer):
    whole = generate(generator, tokenizer, ["pong", "qbert"], frames=13, size=SIZE, seed=1, guidance=2.0)
    parts = list(generate_stream(generator, tokenizer, Request(["pong", "qbert"], 13, SIZE, 1, guidance=2.0)))
    assert len(parts) == 4
    assert torch.allclose(torch.cat(parts, dim=2), whole.video, atol=1e-5)


def test_frames_come_while_later_ones_are_sampled(generator, tokenizer):
    done = []
    asked = Request(["pong"], 13, SIZE, guidance="none", progress=lambda *a: done.append(a))
    stream = generate_stream(generator, tokenizer, asked)
    scales = len(tokenizer.pyramid(*SIZE))
    assert [(part.shape[2], done[-1]) for part in stream] == [
        (n, ((t + 1) * scales, 4 * scales)) for t, n in enumerate((1, 4, 4, 4))
    ]


def test_every_scale_has_its_temperature(generator, tokenizer):
    """Near 0 a scale takes the likelier bits; the last temperature holds for all finer scales."""
    options = {"frames": 1, "size": SIZE, "guidance": "none"}
    hot = generate(generator, tokenizer, ["pong"], temperature=1.0, **options).bits
    mixed = generate(generator, tokenizer, ["pong"], temperature=(1.0, 1e-6), **options).bits
    other = generate(generator, tokenizer, ["pong"], temperature=(1.0, 1e-6), seed=7, **options).bits
    assert torch.equal(hot[0], mixed[0]) and not torch.equal(hot[-1], mixed[-1])
    cold = [generate(generator, tokenizer, ["pong"], temperature=1e-6, seed=s, **options).bits for s in (0, 7)]
    assert all(torch.equal(a, b) for a, b in zip(*cold)), "no randomness is left"
    assert not torch.equal(mixed[0], other[0])


@pytest.mark.parametrize("given", [1, 5])
def test_given_frames_come_back_as_the_tokenizer_sees_them(generator, tokenizer, given):
    clip = torch.rand(3, given, *SIZE) * 2 - 1
    prefix = clip[:, 0] if given == 1 else clip
    sample = generate(generator, tokenizer, ["pong", "qbert"], frames=13, size=SIZE, prefix=prefix, guidance=2.0)
    assert torch.allclose(sample.video[0, :, :given], tokenizer.reconstruct(clip[None])[0], atol=1e-5)
    n = 1 + (given - 1) // 4
    assert sample.steps == n + (4 - n) * len(tokenizer.pyramid(*SIZE))
    free = generate(generator, tokenizer, ["pong", "qbert"], frames=13, size=SIZE, guidance=2.0)
    assert not torch.equal(free.bits[-1][:, n:], sample.bits[-1][:, n:]), "later frames depend on the given ones"


@pytest.mark.parametrize(
    ("window", "given", "guidance"), list(itertools.product([0, 1], [0, 1, 5], ["none", 2.0, "ucf101"]))
)
@torch.no_grad()
def test_sampling_follows_the_same_contexts_as_training(tokenizer, window, given, guidance):
    """Greedy bits, fed back through teacher forcing and guidance, are the bits the model finds most likely."""
    model, pyramid, frames = _generator(tokenizer, window=window), tokenizer.pyramid(*SIZE), 4
    prefix = torch.rand(3, given, *SIZE) * 2 - 1 if given else None
    sample = generate(model, tokenizer, ["pong"], 13, SIZE, greedy=True, guidance=guidance, prefix=prefix)
    seen_before = torch.zeros(1, 16, 1, *pyramid.full)
    tokens = []
    for t in range(frames):
        seen = torch.zeros_like(seen_before)
        for k in range(len(pyramid)):
            shown = context(seen, seen_before, pyramid, k, model.config.temporal_context)
            tokens.append(shown.flatten(2).transpose(1, 2))
            seen = advance(seen, code_of(sample.bits[k][:, t : t + 1]).movedim(-1, 1), pyramid)
        seen_before = seen
    both = stack([model.condition(["pong"]), model.null(1)])
    logits, null = model(torch.cat(tokens, dim=1).repeat(2, 1, 1), both, pyramid, frames).chunk(2)
    schedule = Guidance.of(guidance)
    gamma = [guidance_scale(schedule, t, k, frames, len(pyramid)) for t in range(frames) for k in range(len(pyramid))]
    gamma = torch.tensor(gamma).repeat_interleave(torch.tensor(pyramid.lengths * frames))[:, None]
    guided = null + gamma * (logits - null)
    free = slice((1 + (given - 1) // 4 if given else 0) * pyramid.length, None)
    assert torch.equal((guided > 0)[:, free], flatten_bits(sample.bits)[:, free])


def test_window_keeps_memory_constant(tokenizer):
    from videoar.sampling.generate import sample_latents

    model = _generator(tokenizer, window=2, sinks=1)
    rooms = []
    for frames in (17, 65):
        sampler = sample_latents(model, tokenizer, Request(["pong"], frames, SIZE, greedy=True))
        count = sum(1 for _ in sampler.frames())
        assert count == 1 + (frames - 1) // 4
        rooms.append(sampler.cache.keys[0].shape[2])
    assert rooms[0] == rooms[1]


def test_extension_goes_on_from_the_last_frames(generator, tokenizer):
    asked = Request(["pong"], 13, SIZE, guidance="none")
    parts = list(extend(generator, tokenizer, asked, seconds=3, fps=8, overlap=5))
    video = torch.cat(parts, dim=2)
    assert video.shape[2] == 24
    first = generate(generator, tokenizer, ["pong"], frames=13, size=SIZE, seed=0, guidance="none").video
    assert torch.allclose(video[:, :, :13], first, atol=1e-5)
    second = generate(
        generator, tokenizer, ["pong"], frames=13, size=SIZE, seed=10_007, guidance="none", prefix=video[:, :, 8:13]
    ).video
    assert torch.allclose(video[:, :, 13:21], second[:, :, 5:], atol=1e-4)


def _live_bytes():
    """Memory of all tensors that live, each storage once."""
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storages = [x.untyped_storage() for x in gc.get_objects() if type(x) is torch.Tensor and not x.is_mkldnn]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def test_twenty_seconds_need_no_more_memory_than_three(tokenizer):
    """Multi-shot extension holds one shot: its cache, the decoder's state and the frames it re-encodes."""
    model, asked = _generator(tokenizer, window=2, sinks=1), Request(["pong"], 17, SIZE, guidance="none")
    live, frames = [], 0
    for part in extend(model, tokenizer, asked, seconds=20, fps=8, overlap=5):
        frames += part.shape[2]
        live.append((frames, _live_bytes()))
    assert frames == 160
    assert max(size for at, size in live) <= 1.02 * max(size for at, size in live if at <= 24)


@pytest.mark.slow
def test_overfit_one_clip_and_sample_it_back(tokenizer):
    """A generator that has learned one clip's bits samples them back: at least 99 % right (invariant 7)."""
    torch.manual_seed(1)
    model = VideoAR(GeneratorConfig.preset("debug"))
    clip = torch.rand(1, 3, 9, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pyramid = tokenizer.pyramid(32, 32)
    with torch.no_grad():
        forced = teacher_forcing(tokenizer.encode(clip), pyramid)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    model.train()
    for _ in range(300):
        logits = model(forced.tokens, [1], pyramid, 3)
        loss = bitwise_loss(logits, forced.targets, pyramid, 3).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    sample = generate(model.eval(), tokenizer, [1], frames=9, size=(32, 32), seed=0, guidance="none")
    right = (flatten_bits(sample.bits) == forced.targets).float().mean().item()
    assert right >= 0.99, right
    truth = tokenizer.reconstruct(clip)
    assert (sample.video - truth).abs().mean() < 0.1 * truth.std()


def test_half_precision_keeps_its_pair(tokenizer):
    """A rounded tokenizer has another fingerprint, but it is the same tokenizer."""
    small = VideoTokenizer(tokenizer.config).eval()
    small.load_state_dict(tokenizer.state_dict())
    model = _generator(tokenizer).bfloat16()
    sample = generate(model, small.bfloat16(), ["pong"], frames=5, size=SIZE)
    assert sample.video.shape == (1, 3, 5, *SIZE) and sample.video.isfinite().all()


def test_a_tokenizer_that_changed_is_noticed(generator, tokenizer):
    changing = copy.deepcopy(tokenizer)
    assert generate(generator, changing, ["pong"], frames=1, size=SIZE).steps
    with torch.no_grad():
        changing.decoder.conv_out.bias += 1
    with pytest.raises(UserError, match="their bits mean different things"):
        generate(generator, changing, ["pong"], frames=1, size=SIZE)


def test_bad_input_is_one_clear_error(generator, tokenizer):
    def refuse(message, condition=("pong",), **options):
        options = {"frames": 9, "size": SIZE, **options}
        with pytest.raises(UserError, match=message):
            condition = condition if isinstance(condition, str) else list(condition)
            generate(generator, tokenizer, condition, **options)

    refuse(r"16 frames are not 1 \+ 4·n; use 13 or 17", frames=16)
    refuse("32x40 pixels are not multiples of 16", size=(32, 40))
    refuse("unknown class 'zork'", condition=("zork",))
    refuse("outside 0 … 3", condition=(4,))
    refuse("leaves nothing to sample", prefix=torch.zeros(3, 9, *SIZE))
    refuse("4 frames are not", prefix=torch.zeros(3, 4, *SIZE))
    refuse("for a clip of 32x48", prefix=torch.zeros(3, 32, 32))
    refuse("2 clips for 1 samples", prefix=torch.zeros(2, 3, 1, *SIZE))
    refuse("guidance 'much'", guidance="much")
    refuse(r"must be positive, got \[1.0, 0\]", temperature=(1.0, 0))
    refuse(r"a list, one a sample: \['pong'\]", condition="pong")
    refuse("there is nothing to sample", condition=())
    refuse("frames must be a whole number from 1 to 100,000, got 1000000001", frames=10**9 + 1)
    refuse("frames must be a whole number", frames=5.0)
    refuse("a side of size must be a whole number from 1 to 16,384", size=(10**9, 16))
    refuse(r"size must be \(height, width\), got 16", size=16)
    refuse("keys and values of 24999 frames need .* GB of memory", frames=99_993, size=(1024, 1024))
    for seed in (-1, 2**80, 1.5, [-1], "one"):
        refuse("seed must be a whole number from 0 to 4,294,967,295", seed=seed)


def test_a_tokenizer_that_does_not_belong_is_refused(generator, tokenizer):
    torch.manual_seed(9)
    other = VideoTokenizer(TokenizerConfig.preset("debug"))
    with pytest.raises(UserError, match="their bits mean different things"):
        generate(generator, other, ["pong"], frames=9, size=SIZE)
    wide = VideoAR(GeneratorConfig.preset("debug", latent_dim=8))
    with pytest.raises(UserError, match="do not belong together"):
        generate(wide, tokenizer, [0], frames=9, size=SIZE)
