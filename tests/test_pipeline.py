"""The pipeline: both networks as one object, pixels in any form, and uploads to a hub that answers on this machine."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from videoar import (
    GeneratorConfig,
    TokenizerConfig,
    VideoAR,
    VideoARPipeline,
    VideoTokenizer,
    generate,
    load_models,
)
from videoar.errors import UserError
from videoar.sampling.given import as_clips
from videoar.training.generator_module import GeneratorModule

SIZE = (32, 48)


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(TokenizerConfig.preset("debug"))
    config = GeneratorConfig.preset(
        "debug", class_names=("a", "b", "c", "d"), size=SIZE, tokenizer_fingerprint=tokenizer.fingerprint()
    )
    return VideoARPipeline(VideoAR(config), tokenizer)


def test_sampling_has_the_models_own_size_and_gives_pictures_and_a_file(pipeline, tmp_path):
    sample = pipeline(["b", 3], frames=5, seed=1)
    assert sample.video.shape == (2, 3, 5, *SIZE)
    assert [len(video) for video in sample.frames] == [5, 5] and sample.frames[0][0].size == (48, 32)
    assert torch.equal(sample.video, generate(pipeline.generator, pipeline.tokenizer, ["b", 3], frames=5, seed=1).video)
    assert pipeline(["b"], frames=1, size=(32, 32)).video.shape[-2:] == (32, 32)
    sample.save(tmp_path / "one.mp4", index=1)
    assert (tmp_path / "one.mp4").stat().st_size > 0
    with pytest.raises(UserError, match="as a list"):
        pipeline("b")


def test_saved_loaded_moved_and_counted(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "m")
    again = VideoARPipeline.from_pretrained(tmp_path / "m")
    assert torch.equal(again(["a"], frames=5).video, pipeline(["a"], frames=5).video)
    generator, tokenizer = load_models(tmp_path / "m")
    assert again.num_parameters() == sum(p.numel() for net in (generator, tokenizer) for p in net.parameters())
    assert again.device.type == "cpu" and again.dtype == torch.float32 and "32x48" in repr(again)
    half = VideoARPipeline.from_pretrained(tmp_path / "m", dtype=torch.bfloat16)
    assert half.dtype == half.tokenizer.dtype == torch.bfloat16 and half.to(torch.float32).dtype == torch.float32


@pytest.mark.parametrize("wrong", ["torch_dtype", "device_map", "window"])
def test_unknown_keywords_are_refused_by_name(pipeline, tmp_path, wrong):
    pipeline.save_pretrained(tmp_path)
    for kind in (VideoARPipeline, VideoAR, VideoTokenizer):
        with pytest.raises(TypeError, match=wrong):
            kind.from_pretrained(tmp_path, **{wrong: 2})
    with pytest.raises(TypeError, match="repo_id"):
        pipeline.tokenizer.save_pretrained(tmp_path / "t", repo_id="me/it")
    with pytest.raises(TypeError, match="repo_id"):
        pipeline.save_pretrained(tmp_path / "p", repo_id="me/it")


def test_a_runs_folder_is_a_pipeline(tmp_path, fit, clips, pipeline):
    pipeline.tokenizer.save_pretrained(tmp_path / "tokenizer")
    module = GeneratorModule(GeneratorConfig.preset("debug"), str(tmp_path / "tokenizer"))
    trainer = fit(module, clips(1, size=32))
    trainer.save_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    loaded = VideoARPipeline.from_pretrained(tmp_path / "run")
    assert loaded.generator.fingerprint() == load_models(tmp_path / "run")[0].fingerprint()
    with pytest.raises(TypeError, match="revision only make sense for a model of the hub"):
        VideoARPipeline.from_pretrained(tmp_path / "run", revision="main")
    with pytest.raises(UserError, match="load_models reads the folder of a run"):
        VideoAR.from_pretrained(tmp_path / "run")
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="a run that has no checkpoint yet"):
        VideoARPipeline.from_pretrained(tmp_path / "begun")


def test_a_checkpoint_given_to_from_pretrained_is_named(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"")
    for path in (tmp_path / "x.ckpt", "runs/x.ckpt"):
        with pytest.raises(UserError, match=r"x\.ckpt is a training checkpoint: videoar.load_models"):
            VideoAR.from_pretrained(path)


def test_every_form_of_pixels_means_the_same():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)
    images = [Image.fromarray(frame) for frame in frames]
    floats = torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 127.5 - 1
    assert as_clips(floats).shape == (1, 3, 5, *SIZE)
    for form in (frames, torch.from_numpy(frames), torch.from_numpy(frames).permute(3, 0, 1, 2), frames[None], images):
        assert torch.equal(as_clips(form), floats[None])
    for form in (frames[0], images[0], images[:1], images[0].convert("RGBA"), floats[:, 0]):
        assert torch.equal(as_clips(form), floats[None, :, :1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.full((3, 8, 8), 255.0), "lie in .-1, 1., got values from 255"),
        (torch.full((3, 8, 8), float("nan")), "lie in .-1, 1."),
        (torch.zeros(3, 8, 8, dtype=torch.long), "uint8 from 0 to 255 or floats"),
        (torch.zeros(4, 8, 8), r"is \[3, H, W\]"),
        (torch.zeros(8, 8), r"is \[3, H, W\]"),
        ([], "PIL images of one size"),
        ("picture.png", "a tensor, an array, a PIL image"),
    ],
)
def test_other_pixels_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        as_clips(given)


def test_zero_to_one_is_asked_about(caplog):
    as_clips(torch.rand(3, 8, 8))
    assert "is this [0, 1]?" in caplog.text


def test_a_picture_of_another_size_is_fitted_and_a_prefix_of_bytes_refused_only_where_it_is_wrong(pipeline):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8))
    assert pipeline(["a"], frames=5, prefix=picture).video.shape == (1, 3, 5, *SIZE)
    fitting = picture.resize((48, 32))
    given = pipeline(["a"], frames=5, prefix=fitting)
    assert torch.equal(given.video, pipeline(["a"], frames=5, prefix=as_clips(fitting)).video)
    with pytest.raises(UserError, match="float pixels lie in"):
        pipeline(["a"], frames=5, prefix=as_clips(fitting).add(1).mul(127.5))


class Hub(BaseHTTPRequestHandler):
    """The part of the Hugging Face hub's interface that an upload needs; keeps the files it was sent."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        address = f"http://{self.headers['Host']}"
        if self.path == "/api/repos/create":
            answer = {"url": f"{address}/me/{json.loads(body)['name']}"}
        elif self.path == "/api/validate-yaml":
            answer = {"errors": [], "warnings": []}
        elif "/preupload/" in self.path:
            files = [{**f, "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]]
            answer = {"files": files}
        else:
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            answer = {"commitUrl": f"{address}/me/m/commit/1", "commitOid": "1", "success": True}
        self._answer(answer)

    def do_GET(self):
        self._answer({"id": "me/m", "sha": "0" * 40, "siblings": []})

    def _answer(self, content):
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    yield server
    server.shutdown()


def test_one_upload_holds_both_networks_and_a_card(pipeline, hub, tmp_path):
    address = pipeline.save_pretrained(tmp_path / "m", push_to_hub=True, repo_id="me/m", token="hf_x")
    assert address.endswith("/me/m/commit/1")
    for name, content in hub.files.items():
        (tmp_path / "got" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "got" / name).write_bytes(content)
    again = VideoARPipeline.from_pretrained(tmp_path / "got")
    assert again.generator.fingerprint() == pipeline.generator.fingerprint()
    card = (tmp_path / "got" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: videoar\n") and 'from_pretrained("me/m")' in card and "32x48" in card


def test_one_network_is_uploaded_too(pipeline, hub):
    assert pipeline.tokenizer.push_to_hub("me/m", token="hf_x").endswith("/commit/1")
    assert {"README.md", "config.json", "model.safetensors"} <= hub.files.keys()


def test_a_hub_that_refuses_is_one_clear_error(pipeline, hub, monkeypatch):
    monkeypatch.setattr(Hub, "do_POST", lambda self: self.send_error(401))
    with pytest.raises(UserError, match="me/m could not be uploaded to the hub"):
        pipeline.push_to_hub("me/m", token="hf_x")
