import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from videoar.data.files import VIDEO_SUFFIXES
from videoar.data.folders import file_name_of, folder_of_class, read_folder
from videoar.data.layout import write_bad_files
from videoar.data.readers import open_video
from videoar.data.writers import write_lossless
from videoar.errors import UserError
from videoar.evaluation.clips import frame_indices
from videoar.evaluation.evaluate import evaluate
from videoar.evaluation.folders import Skips, VideoFolder, class_of, pair_names
from videoar.evaluation.plan import Options
from videoar.evaluation.protocol import Protocol, names
from videoar.evaluation.report import better_of
from videoar.metrics.features.atari import AtariFeatures
from videoar.metrics.features.base import FeatureNet, weights_sha256
from videoar.metrics.frechet import Moments, frechet_distance
from videoar.metrics.preprocess import from_bytes
from videoar.metrics.vbench.registry import make_dimensions

Folder = Callable[..., Path]
PLAIN = Protocol("plain", frames=None)


def net(calls: list[int] | None = None) -> FeatureNet:
    """Mean and spread of every channel; counts the videos it saw."""
    module = nn.Identity()

    def forward(module: nn.Module, video: Tensor) -> Tensor:
        if calls is not None:
            calls.append(len(video))
        return torch.cat([video.mean((2, 3, 4)), video.std((2, 3, 4))], dim=1)

    return FeatureNet("stand-in", module, forward, 6, None, "none", 2, weights_sha256(module))


def decoded(folder: Path, frames: int | None = None) -> list[np.ndarray]:
    out = []
    for path in sorted(folder.glob("*.mp4")):
        reader = open_video(path, "pyav")
        out.append(reader.get(range(frames or len(reader))).numpy().astype(np.float64) / 255)
    return out


# ---- protocols ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_every_named_protocol_loads(name: str) -> None:
    protocol = Protocol.load(name)
    assert protocol.name == name and protocol.description
    assert len(protocol.digest()) == 12


def test_the_named_protocols_of_the_issue_are_there() -> None:
    assert {"plain", "atari", "videoar", "styleganv", "latte", "larp", "tats", "magvit"} <= set(names())


def test_which_way_a_metric_gets_better() -> None:
    assert better_of("bit_usage/dead_bits/scale_1") == better_of("fvd") == "lower"
    assert better_of("moving_ratio") == "nearer 1" and better_of("accuracy/all") == better_of("psnr") == "higher"


def test_overrides_and_mistakes(tmp_path: Path) -> None:
    base = Protocol.load("videoar")
    changed = base.with_({"frames": 17})
    assert changed.frames == 17 and changed.digest() != base.digest()
    assert base.with_({"description": "other words"}).digest() == base.digest()
    assert base.with_({"size": 64}).size == (64, 64)
    for change, said in (
        ({"frame": 17}, "unknown protocol key 'frame'"),
        ({"frames": 0}, "frames must be a whole number from 1"),
        ({"crop": "x"}, "crop"),
    ):
        with pytest.raises(UserError, match=said):
            base.with_(change)
    with pytest.raises(UserError, match="there are atari"):
        Protocol.load("nobody")
    own = tmp_path / "mine.yaml"
    own.write_text("frames: 9\nsize: [64, 64]\n")
    assert Protocol.load(str(own)).size == (64, 64)


def test_which_frames_a_clip_has() -> None:
    protocol = Protocol("p", frames=4, stride=2)
    assert frame_indices(9, protocol, True, "a.mp4") == [0, 2, 4, 6]
    assert frame_indices(9, protocol, False, "a.mp4") == [0, 1, 2, 3]
    assert frame_indices(9, protocol.with_({"generated": "like_real"}), False, "a.mp4") == [0, 2, 4, 6]
    assert frame_indices(9, protocol.with_({"start": "centre"}), True, "a.mp4") == [1, 3, 5, 7]
    random = protocol.with_({"start": "random", "generated": "like_real"})
    picks = [frame_indices(40, random, True, f"{i}.mp4") for i in range(20)]
    assert len({p[0] for p in picks}) > 5 and all(p[-1] < 40 for p in picks)
    assert picks[3] == frame_indices(40, random, False, "3.gif"), "a twin begins where its original does"
    assert frame_indices(9, Protocol("p", frames=None, stride=2), True, "a") == [0, 2, 4, 6, 8]
    with pytest.raises(ValueError, match="6 frames, 4 at stride 2"):
        frame_indices(6, protocol, True, "a.mp4")


# ---- folders -----------------------------------------------------------------------------------------------


def test_folder_lists_recursively_and_prefers_video_to_gif(tmp_path: Path, folder: Folder) -> None:
    root = folder("clips")
    shutil.copytree(root, root / "pong")
    (root / "v00.gif").write_bytes(b"x")
    (root / "alone.gif").write_bytes(b"x")
    (root / "notes.json").write_text("{}")
    assert VideoFolder(root).names == (
        "alone.gif", "pong/v00.mp4", "pong/v01.mp4", "pong/v02.mp4", "v00.mp4", "v01.mp4", "v02.mp4",
    )  # fmt: skip
    (root / "testlist01.txt").write_text("v01.mp4 3\npong/v02.mp4\n")
    listed = VideoFolder(root / "testlist01.txt")
    assert listed.names == ("pong/v02.mp4", "v01.mp4") and listed.path == root
    (root / "testlist01.txt").write_text("gone.mp4 3\n")
    with pytest.raises(UserError, match=r"1 are missing, e\.g\. 'gone.mp4'"):
        VideoFolder(root / "testlist01.txt")


def test_links_to_a_file_and_gifs_of_videos_are_no_further_videos(tmp_path: Path, folder: Folder, caplog) -> None:
    root = folder("clips", count=2)
    (root / "a_link.mp4").hardlink_to(root / "v00.mp4")
    (root / "z_link.mp4").symlink_to(root / "v01.mp4")
    for name in ("v00.gif", "grid.gif", "alone.gif"):
        (root / name).write_bytes(name.encode())
    (root / "samples.json").write_text("{}")
    kept = ("a_link.mp4", "alone.gif", "v01.mp4")
    assert VideoFolder(root).names == kept
    assert "left out 2 links to files that are there: v00.mp4, z_link.mp4" in caplog.text
    assert tuple(Path(item.path).name for item in read_folder(root, VIDEO_SUFFIXES)) == kept


def test_what_the_check_found_bad_is_no_video(folder: Folder) -> None:
    root = folder("clips", count=3)
    write_bad_files(root, {"v01.mp4": "a copy of v00.mp4"})
    assert VideoFolder(root).names == ("v00.mp4", "v02.mp4")


@pytest.mark.parametrize("name", ["red square", "Größe/2", "a" * 80])
def test_files_of_a_class_are_known_as_sample_writes_them(name: str) -> None:
    classes = ("blue", name)
    assert class_of(f"{file_name_of(name)}_00012.mp4", classes) == 1
    assert class_of(f"x/{folder_of_class('blue')}/0.mp4", classes) == 0 and class_of("blue2_0.mp4", classes) == -1


def test_choice_of_videos_is_seeded(folder: Folder) -> None:
    root = VideoFolder(folder("clips", count=6, frames=2, size=(16, 16)))
    first = Protocol("p", videos=3, select="first")
    assert root.chosen(first) == root.names[:3]
    random = [root.chosen(Protocol("p", videos=3, seed=seed)) for seed in (0, 0, 1, 2)]
    assert random[0] == random[1] and len(set(random)) > 1 and all(len(set(r)) == 3 for r in random)
    assert root.chosen(Protocol("p", videos=9)) == root.names


def test_names_pair_or_say_why() -> None:
    assert pair_names(["a/x.avi", "b.mp4"], ["b.mp4", "a/x.mp4"]) == [("a/x.avi", "a/x.mp4"), ("b.mp4", "b.mp4")]
    with pytest.raises(UserError, match=r"2 real and 1 generated videos, 1 only real, 0 only generated, e\.g\. 'b'"):
        pair_names(["a.mp4", "b.mp4"], ["a.mp4"])


def test_empty_and_missing_folders(tmp_path: Path, folder: Folder) -> None:
    (tmp_path / "empty").mkdir()
    for path, said in ((tmp_path / "empty", "no videos in"), (tmp_path / "none", "no folder at")):
        with pytest.raises(UserError, match=said):
            evaluate([path], folder("real"), PLAIN)


def test_skips_pass_their_limit() -> None:
    skips = Skips(expected=10, limit=0.1)
    skips.add("a", "bad")
    with pytest.raises(UserError, match=r"2 of 10 videos cannot be used, more than 10%.*b: worse"):
        skips.add("b", "worse")


# ---- numbers -----------------------------------------------------------------------------------------------


def test_paired_numbers_are_those_of_the_decoded_files(folder: Folder) -> None:
    real, fake = folder("real", seed=1), folder("fake", seed=1, noise=0.1)
    report = evaluate([fake], real, PLAIN, metrics=["psnr", "temporal_difference", "fvd"], features=net())
    pairs = list(zip(decoded(real), decoded(fake)))
    psnr = np.mean([-10 * np.log10(((a - b) ** 2).mean((1, 2, 3))) for a, b in pairs])
    moved = np.mean([np.abs(np.diff(a, axis=0) - np.diff(b, axis=0)).mean() for a, b in pairs])
    values = report.values()
    assert values["psnr"][0] == pytest.approx(psnr, abs=1e-3)
    assert values["temporal_difference"][0] == pytest.approx(moved, abs=1e-5)
    sides = [
        torch.cat([net()(from_bytes(torch.from_numpy(v * 255).round().byte())) for v in decoded(f)])
        for f in (real, fake)
    ]
    expected = frechet_distance(Moments.of(sides[0]), Moments.of(sides[1]))
    assert values["fvd"][0] == pytest.approx(float(expected), rel=1e-6)
    assert report.runs[0].counts == {"real": 3, "fake": 3, "real_found": 3, "fake_found": 3}


def test_a_folder_against_itself_is_ideal(folder: Folder) -> None:
    real = folder("real", count=4, size=(64, 64), frames=9)
    report = evaluate([real], real, PLAIN, features=net(), dimensions=make_dimensions(["temporal_flickering"]))
    values = {name: value for name, (value, _) in report.values().items()}
    assert values["fvd"] <= 1e-6
    assert values["psnr"] == 100 and values["ssim"] == pytest.approx(1)
    assert values["temporal_difference"] == 0 and values["motion_ratio"] == pytest.approx(1)
    assert values["moving_psnr"] == 100 and values["moving_ratio"] == 1
    assert set(report.unavailable) <= {"lpips"}


def sprites(root: Path, names: list[str], level: float, size: int = 4) -> Path:
    """Lossless clips of 5 frames in which a grey square on black goes from left to right."""
    for name in names:
        video = torch.full((3, 5, 32, 32), -1.0)
        for t in range(5):
            video[:, t, 8 : 8 + size, 6 * t : 6 * t + size] = level
        write_lossless(root / f"{name}.mkv", video, fps=8)
    return root


def test_what_moves_is_measured_by_class(tmp_path: Path) -> None:
    real = sprites(tmp_path / "real", ["pong/a", "pong/b", "up_n_down/a"], 1.0)
    fake = sprites(tmp_path / "fake", ["pong/a", "pong/b"], 0.6)  # the sprite is off by 0.2 of the range
    sprites(fake, ["up_n_down/a"], 1.0, size=2)  # three quarters of the sprite are missing
    report = evaluate([fake], real, PLAIN, metrics=["moving_psnr", "moving_ratio"])
    pong, cars = -10 * np.log10(0.2**2), -10 * np.log10(0.75)
    assert report.by_class()["moving_psnr"] == pytest.approx({"pong": pong, "up_n_down": cars}, abs=0.01)
    assert report.by_class()["moving_ratio"] == pytest.approx({"pong": 1, "up_n_down": 0.25})
    values = {name: value for name, (value, _) in report.values().items()}
    assert values == pytest.approx({"moving_psnr": (pong + cars) / 2, "moving_ratio": 0.625}, abs=0.01)
    assert "| class | moving_psnr | moving_ratio |" in report.markdown()
    assert "| up_n_down | 1.2494 | 0.2500 |" in report.markdown()
    assert "24 of 255 levels" in report.card()["moving"]


def test_motion_of_samples_that_have_no_counterpart(tmp_path: Path) -> None:
    real = sprites(tmp_path / "real", ["pong/a", "pong/b", "up_n_down/a"], 1.0)
    seeds = [
        sprites(tmp_path / name, ["pong_000000", "up_n_down_000001"], 1.0, size) for name, size in (("s", 4), ("t", 2))
    ]
    report = evaluate(seeds, real, PLAIN, metrics=["moving_ratio"])
    assert [run.values["moving_ratio"] for run in report.runs] == pytest.approx([1, 0.25])
    assert report.by_class() == {"moving_ratio": pytest.approx({"pong": 0.625, "up_n_down": 0.625})}
    assert report.runs[0].counts == {"fake": 2, "fake_found": 2, "real": 3, "real_found": 3}
    unnamed = sprites(tmp_path / "u", ["0"], 1.0)
    report = evaluate([unnamed], real, PLAIN, metrics=["moving_ratio"])
    assert report.values()["moving_ratio"][0] == 1 and report.by_class() == {}
    with pytest.raises(UserError, match="moving_ratio: the protocol takes clips of one frame"):
        evaluate([unnamed], real, PLAIN.with_({"frames": 1}), metrics=["moving_ratio"])


def test_fvd_of_files_that_do_not_pair(folder: Folder) -> None:
    real, fake = folder("real", count=5), folder("fake", count=4, seed=9)
    with pytest.warns(UserWarning, match="5 real and 4 generated"):
        report = evaluate([fake], real, PLAIN, features=net())
    assert set(report.values()) == {"fvd", "moving_ratio"}
    assert "do not pair by name" in report.unavailable["psnr"]
    assert "unequal counts: 5 real, 4 generated" in report.deviations[0]
    with pytest.raises(UserError, match="psnr: the files do not pair by name: 5 real and 4 generated"):
        evaluate([fake], real, PLAIN, metrics=["psnr"])
    with pytest.raises(UserError, match="nothing can be compared"):
        evaluate([fake], real, PLAIN)


def test_clips_of_other_frames_are_not_compared_pixel_by_pixel(folder: Folder) -> None:
    real = folder("real", frames=9)
    centre = Protocol("p", frames=3, start="centre")
    with pytest.raises(UserError, match="psnr: the protocol takes real clips from other frames"):
        evaluate([real], real, centre, metrics=["psnr"])
    like = centre.with_({"generated": "like_real"})
    assert evaluate([real], real, like, metrics=["psnr"]).values()["psnr"][0] == 100


def test_resolutions(folder: Folder) -> None:
    real, fake = folder("real", size=(32, 40)), folder("fake", size=(64, 80))
    with pytest.raises(UserError, match="real frames are 32x40, generated 64x80; set size"):
        evaluate([fake], real, PLAIN, metrics=["psnr"])
    report = evaluate([fake], real, PLAIN.with_({"size": [24, 24]}), metrics=["psnr", "ssim"])
    assert report.values()["psnr"][0] > 20


def test_corrupt_and_short_files_are_counted_and_listed(folder: Folder) -> None:
    real, fake = folder("real", count=6, frames=5), folder("fake", count=6, frames=5, noise=0.05)
    (fake / "v01.mp4").write_bytes(b"no video")
    report = evaluate([fake], real, PLAIN, metrics=["psnr"], options=Options(max_skipped=0.2))
    run = report.runs[0]
    assert run.counts["fake"] == 5 and list(run.skipped) == ["v01.mp4"] and "v01.mp4" in run.skipped["v01.mp4"]
    assert any("1 files" in line for line in report.deviations) and "v01.mp4" in report.markdown()
    with pytest.raises(UserError, match="1 of 6 videos cannot be used, more than 5%"):
        evaluate([fake], real, PLAIN, metrics=["psnr"])
    with pytest.raises(UserError, match="5 frames, 7 at stride 1 are needed"):
        evaluate([real], real, PLAIN.with_({"frames": 7}), metrics=["psnr"])


def test_one_frame_and_short_clips_are_refused_before_reading(folder: Folder) -> None:
    real = folder("real", frames=1)
    with pytest.raises(UserError, match="stand-in needs clips of at least 2 frames, the protocol takes 1"):
        evaluate([real], real, Protocol("p", frames=1), metrics=["fvd"], features=net())
    with pytest.raises(UserError, match="clips of one frame"):
        evaluate([real], real, Protocol("p", frames=1), metrics=["temporal_difference"])
    with pytest.raises(UserError, match="unknown metric 'sharp'"):
        evaluate([real], real, PLAIN, metrics=["sharp"])
    with pytest.raises(UserError, match="fvd: needs a feature net"):
        evaluate([real], real, PLAIN, metrics=["fvd"])


def test_several_seeds_give_mean_and_deviation_from_one_pass_over_the_real_set(folder: Folder) -> None:
    real, fakes = folder("real", count=8), [folder(f"seed{i}", count=8, seed=20 + i) for i in range(3)]
    for i, fake in enumerate(fakes):
        for path in list(fake.iterdir()):
            path.rename(fake / f"sample{i}_{path.name}")
    calls: list[int] = []
    report = evaluate(fakes, real, Protocol("p", frames=None, runs=3), features=net(calls), metrics=["fvd"])
    runs = [run.values["fvd"] for run in report.runs]
    assert report.values()["fvd"] == (pytest.approx(np.mean(runs)), pytest.approx(np.std(runs, ddof=1)))
    assert sum(calls) == 8 + 3 * 8 and not report.deviations


def test_deviations_from_a_protocol_are_told(folder: Folder) -> None:
    real = folder("real", count=8)
    protocol = Protocol("p", frames=None, videos=10, features="i3d", runs=2)
    report = evaluate([real], real, protocol, metrics=["fvd"], features=net())
    told = "; ".join(report.deviations)
    for part in (
        "8 real videos",
        "8 fake videos",
        "the protocol has 10",
        "averages 2",
        "stand-in, the protocol has i3d",
    ):
        assert part in told
    assert "NOT followed" in report.markdown() and not report.card()["follows_protocol"]


def test_cache_of_the_real_set(tmp_path: Path, folder: Folder) -> None:
    real, fake = folder("real", count=8), folder("fake", count=7, seed=5)
    options = Options(cache=tmp_path / "cache")
    first: list[int] = []
    value = evaluate([fake], real, PLAIN, metrics=["fvd"], features=net(first), options=options).values()["fvd"]
    second: list[int] = []
    again = evaluate([fake], real, PLAIN, metrics=["fvd"], features=net(second), options=options).values()["fvd"]
    assert again == value and sum(first) == 15 and sum(second) == 7
    third: list[int] = []
    evaluate([fake], real, PLAIN.with_({"frames": 3}), metrics=["fvd"], features=net(third), options=options)
    assert sum(third) == 15, "another protocol has other statistics"
    (real / "v00.mp4").touch()
    fourth: list[int] = []
    evaluate([fake], real, PLAIN, metrics=["fvd"], features=net(fourth), options=options)
    assert sum(fourth) == 15, "a changed file has other statistics"


def test_the_held_out_clips_are_a_choice_of_the_real_side(tmp_path: Path, folder: Folder) -> None:
    root = folder("clips", count=12)
    held = [VideoFolder(root, split).names for split in ("train", "val")]
    assert sorted(held[0] + held[1]) == list(VideoFolder(root).names) and 0 < len(held[1]) < len(held[0])
    report = evaluate([root], VideoFolder(root, "val"), PLAIN, metrics=["moving_ratio"])
    assert report.runs[0].counts["real_found"] == len(held[1])


def test_report_files(tmp_path: Path, folder: Folder) -> None:
    real, fake = folder("real"), folder("fake", noise=0.1)
    report = evaluate([fake], real, PLAIN, metrics=["psnr", "drift"], dimensions=make_dimensions())
    assert report.real_curves["contrast"] != report.runs[0].curves["contrast"] and "psnr" not in report.real_curves
    assert len(report.real_curves["contrast"]) == len(report.runs[0].curves["contrast"])
    report.notes["guidance"] = "5"
    written = {path.name for path in report.write(tmp_path / "out")}
    assert written == {"metrics.json", "metrics.md", "drift.png"} == {p.name for p in (tmp_path / "out").iterdir()}
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    card = content["card"]
    assert card["protocol"]["name"] == "plain" and card["notes"] == {"guidance": "5"} and len(card["commit"]) >= 7
    assert {"torch", "videoar", "av"} <= set(card["versions"])
    assert card["vbench_backbones"]["dynamic_degree@ffmpeg"]["substitute"] is True
    assert content["vbench"]["total"] is None and "motion_smoothness" in content["vbench"]["missing"]
    assert "imaging_quality" in content["unavailable"]
    assert len(content["runs"][0]["curves"]["psnr"]) == 5
    assert content["runs"][0]["curves"]["motion"][0] is None, "JSON has no NaN"
    table = (tmp_path / "out" / "metrics.md").read_text()
    assert f"| psnr | {content['values']['psnr']['mean']:.2f}" in table and "dynamic_degree@ffmpeg" in table


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_videos(tmp_path: Path, folder: Folder) -> None:
    source = folder("source", count=1, frames=9, size=(128, 128)) / "v00.mp4"
    AtariFeatures(["pong"], width=4).save(tmp_path, {})
    for name, count in (("few", 6), ("many", 66)):
        for side in ("real", "fake"):
            (tmp_path / name / side).mkdir(parents=True)
            for i in range(count):
                shutil.copy(source, tmp_path / name / side / f"{i:03}.mp4")
    program = (
        "import resource, sys\n"
        "from videoar.evaluation.evaluate import evaluate\n"
        "from videoar.metrics.features.atari import load_atari\n"
        "from videoar.evaluation.plan import Options\n"
        "from videoar.evaluation.protocol import Protocol\n"
        "for name in sys.argv[2:]:\n"
        "    root = f'{sys.argv[1]}/{name}'\n"
        "    evaluate([f'{root}/fake'], f'{root}/real', Protocol('p', frames=None), metrics=['psnr', 'drift', 'fvd'],\n"
        "             features=load_atari(sys.argv[1]), options=Options(batch=2, backend='pyav'))\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path), "few", "few", "many"]
    _, few, many = (
        int(line) for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    )
    videos = 2 * 60 * 9 * 128 * 128 * 3 * 4 / 1024  # KiB that the extra 60 pairs would fill as floats
    assert many - few < 0.1 * videos, f"peak grew from {few} to {many} KiB"
