"""Chunked = whole for any chunking, with a state whose size does not depend on the length."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from videoar import TokenizerConfig, VideoTokenizer
from videoar.tokenizer.layers import Stream


def cuts(length):
    """Chunk sizes that add up to `length`."""
    return st.sets(st.integers(1, length - 1)).map(
        lambda at: [b - a for a, b in zip([0, *sorted(at)], [*sorted(at), length])]
    )


@settings(max_examples=12, deadline=None)
@given(chunks=cuts(17))
def test_encode_stream_equals_encode(tokenizer, clip, chunks):
    with torch.no_grad():
        whole = tokenizer.encode(clip)
    pieces = list(tokenizer.encode_stream(clip.split(chunks, dim=2)))
    assert torch.equal(torch.cat(pieces, dim=2), whole)
    assert_close(whole, tokenizer.encode(clip).detach(), atol=1e-5, rtol=0)


@settings(max_examples=12, deadline=None)
@given(chunks=cuts(5))
def test_decode_stream_equals_decode(tokenizer, clip, chunks):
    with torch.no_grad():
        latent = tokenizer.quantize(tokenizer.encode(clip)).latent
        whole = tokenizer.decode(latent)
    pieces = list(tokenizer.decode_stream(latent.split(chunks, dim=2)))
    assert [piece.shape[2] for piece in pieces] == [1, 4, 4, 4, 4]
    assert torch.equal(torch.cat(pieces, dim=2), whole)
    assert_close(whole, tokenizer.decoder(latent).clamp(-1, 1).detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("chunks", "after"),
    [([1, 2, 3, 7, 4], [1, 1, 2, 4, 5]), ([5, 4, 8], [2, 3, 5]), ([3, 14], [1, 5])],
)
def test_latents_come_as_soon_as_their_frames_are_there(tokenizer, clip, chunks, after):
    given, read = [], []

    def source():
        for chunk in clip.split(chunks, dim=2):
            read.append(len(given))
            yield chunk

    for latent in tokenizer.encode_stream(source()):
        given.append(latent)
    assert [*read[1:], len(given)] == after


@pytest.mark.parametrize("ratio", [(), (1,), (0, 1)])
def test_every_temporal_ratio_streams(make_tokenizer, clip, ratio):
    tokenizer = make_tokenizer(temporal_stages=ratio)
    pieces = torch.cat(list(tokenizer.encode_stream(clip.split(3, dim=2))), dim=2)
    assert pieces.shape[2] == 1 + 16 // tokenizer.config.temporal_ratio
    assert_close(pieces, tokenizer.encode(clip).detach(), atol=1e-5, rtol=0)
    frames = torch.cat(list(tokenizer.decode_stream(pieces.split(2, dim=2))), dim=2)
    assert_close(frames, tokenizer.decode(pieces).detach(), atol=1e-5, rtol=0)


def test_an_image_tokenizer_streams_frame_by_frame(make_tokenizer, clip):
    tokenizer = make_tokenizer(temporal_kernel=1, temporal_stages=())
    latent = torch.cat(list(tokenizer.encode_stream(clip.split(3, dim=2))), dim=2)
    assert_close(latent[:, :, 7:8], tokenizer.encode(clip[:, :, 7:8]).detach(), atol=1e-5, rtol=0)
    video = torch.cat(list(tokenizer.decode_stream(latent.split(2, dim=2))), dim=2)
    assert_close(video[:, :, 7:8], tokenizer.decode(latent[:, :, 7:8]).detach(), atol=1e-5, rtol=0)


def test_two_streams_of_one_model_do_not_meet(tokenizer, clip):
    other = clip.flip(2)
    first, second = (tokenizer.encode_stream(video.split(1, dim=2)) for video in (clip, other))
    mixed = list(zip(first, second))
    with torch.no_grad():
        assert torch.equal(torch.cat([a for a, _ in mixed], dim=2), tokenizer.encode(clip))
        assert torch.equal(torch.cat([b for _, b in mixed], dim=2), tokenizer.encode(other))


@torch.no_grad()
def test_state_does_not_grow_with_the_length(tokenizer, clip):
    def state_bytes(network, pieces):
        stream = Stream()
        sizes = []
        for piece in pieces:
            network(piece, stream)
            sizes.append(sum(tail.untyped_storage().nbytes() for tail in stream._tails.values()))
        return sizes

    pixels = [clip[:, :, :1], *clip[:, :, 1:].split(4, dim=2)]
    latents = tokenizer.encode(clip).split(1, dim=2)
    for network, pieces in ((tokenizer.encoder, pixels), (tokenizer.decoder, latents)):
        sizes = state_bytes(network, pieces)
        assert len(set(sizes)) == 1 and sizes[0] > 0


def test_a_video_that_ends_between_latents_is_refused(tokenizer, clip):
    stream = tokenizer.encode_stream(clip[:, :, :7].split(3, dim=2))
    assert next(stream).shape[2] == 1
    with pytest.raises(ValueError, match=r"1 \+ 4n frames, got 7"):
        list(stream)


def test_a_chunk_of_another_size_is_refused(tokenizer, clip):
    with pytest.raises(ValueError, match="follows chunks of"):
        list(tokenizer.encode_stream([clip, clip[..., :16]]))


def test_forward_hooks_act_in_inference():
    tokenizer = VideoTokenizer(TokenizerConfig.preset("debug")).eval()
    seen = []
    tokenizer.encoder.register_forward_hook(lambda module, given, out: seen.append("encoder"))
    tokenizer.decoder.register_forward_hook(lambda module, given, out: seen.append("decoder"))
    with torch.no_grad():
        tokenizer.reconstruct(torch.rand(1, 3, 5, 32, 32) * 2 - 1)
    assert seen == ["encoder", "encoder", "decoder", "decoder"]  # one latent frame after the other
