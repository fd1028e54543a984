import pytest
import torch

from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer, generate
from videoar.bits.corruption import teacher_forcing
from videoar.bits.residual import flatten_bits
from videoar.errors import UserError
from videoar.losses.bitwise import bitwise_loss
from videoar.sampling.generate import extend, generate_stream
from videoar.sampling.guidance import Guidance
from videoar.sampling.sampler import SamplingOptions

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
    options = SamplingOptions(Guidance.of(2.0))
    parts = list(
        generate_stream(generator, tokenizer, ["pong", "qbert"], frames=13, size=SIZE, seed=1, options=options)
    )
    assert len(parts) == 4
    assert torch.allclose(torch.cat(parts, dim=2), whole.video, atol=1e-5)


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


def test_sampling_follows_the_same_contexts_as_training(generator, tokenizer):
    """Greedy bits, fed back through teacher forcing, are the bits the model finds most likely."""
    sample = generate(generator, tokenizer, ["pong"], frames=9, size=SIZE, greedy=True, guidance="none")
    pyramid = tokenizer.pyramid(*SIZE)
    from videoar.bits.bsq import code_of
    from videoar.bits.residual import advance, context

    seen_before = torch.zeros(1, 16, 1, *pyramid.full)
    tokens = []
    for t in range(3):
        seen = torch.zeros_like(seen_before)
        for k in range(len(pyramid)):
            tokens.append(context(seen_before if k == 0 else seen, pyramid, k).flatten(2).transpose(1, 2))
            seen = advance(seen, code_of(sample.bits[k][:, t : t + 1]).movedim(-1, 1), pyramid)
        seen_before = seen
    with torch.no_grad():
        logits = generator(torch.cat(tokens, dim=1), ["pong"], pyramid, 3)
    assert torch.equal(logits > 0, flatten_bits(sample.bits))


def test_window_keeps_memory_constant(tokenizer):
    from videoar.sampling.generate import sample_latents

    model = _generator(tokenizer, window=2, sinks=1)
    rooms = []
    for frames in (17, 65):
        sampler = sample_latents(
            model, tokenizer, ["pong"], frames=frames, size=SIZE, seed=0, options=SamplingOptions(greedy=True)
        )
        count = sum(1 for _ in sampler.frames())
        assert count == 1 + (frames - 1) // 4
        rooms.append(sampler.cache.keys[0].shape[2])
    assert rooms[0] == rooms[1]


def test_extension_goes_on_from_the_last_frames(generator, tokenizer):
    options = SamplingOptions(Guidance.of("none"))
    parts = list(
        extend(generator, tokenizer, ["pong"], seconds=3, fps=8, shot=13, overlap=5, size=SIZE, seed=0, options=options)
    )
    video = torch.cat(parts, dim=2)
    assert video.shape[2] == 24
    first = generate(generator, tokenizer, ["pong"], frames=13, size=SIZE, seed=0, guidance="none").video
    assert torch.allclose(video[:, :, :13], first, atol=1e-5)
    second = generate(
        generator, tokenizer, ["pong"], frames=13, size=SIZE, seed=10_007, guidance="none", prefix=video[:, :, 8:13]
    ).video
    assert torch.allclose(video[:, :, 13:21], second[:, :, 5:], atol=1e-4)


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


def test_bad_input_is_one_clear_error(generator, tokenizer):
    def refuse(message, condition=("pong",), **options):
        options = {"frames": 9, "size": SIZE, **options}
        with pytest.raises(UserError, match=message):
            generate(generator, tokenizer, list(condition), **options)

    refuse(r"16 frames are not 1 \+ 4·n; use 13 or 17", frames=16)
    refuse("32x40 pixels are not multiples of 16", size=(32, 40))
    refuse("unknown class 'zork'", condition=("zork",))
    refuse("outside 0 … 3", condition=(4,))
    refuse("leaves nothing to sample", prefix=torch.zeros(3, 9, *SIZE))
    refuse("4 frames are not", prefix=torch.zeros(3, 4, *SIZE))
    refuse("for a clip of 32x48", prefix=torch.zeros(3, 32, 32))
    refuse("2 clips for 1 samples", prefix=torch.zeros(2, 3, 1, *SIZE))
    refuse("guidance 'much'", guidance="much")


def test_a_tokenizer_that_does_not_belong_is_refused(generator, tokenizer):
    torch.manual_seed(9)
    other = VideoTokenizer(TokenizerConfig.preset("debug"))
    with pytest.raises(UserError, match="their bits mean different things"):
        generate(generator, other, ["pong"], frames=9, size=SIZE)
    wide = VideoAR(GeneratorConfig.preset("debug", latent_dim=8))
    with pytest.raises(UserError, match="do not belong together"):
        generate(wide, tokenizer, [0], frames=9, size=SIZE)
