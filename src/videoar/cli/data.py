"""`videoar data atari|ucf101|check`: make and check data sets of clips."""

import argparse
import os
import sys
from collections import Counter
from itertools import count
from pathlib import Path

from videoar.cli.progress import Jobs
from videoar.errors import UserError
from videoar.ranges import COUNT, FPS, FRAMES, SECONDS, SEED, SHARE, SIDE, WORKERS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command a data job."""
    jobs = parser.add_subparsers(dest="job", required=True, metavar="atari|ucf101|check")
    _add_atari(jobs.add_parser("atari", help="render class-labelled clips of Atari games (needs ale-py)"))
    _add_ucf101(jobs.add_parser("ucf101", help="unpack, verify and check UCF-101 as distributed"))
    _add_check(jobs.add_parser("check", help="decode every clip of a folder; list frame counts, bad files and copies"))


def run(args: argparse.Namespace) -> None:
    """Run the chosen job; raises `UserError` for bad input."""
    {"atari": _atari, "ucf101": _ucf101, "check": _check}[args.job](args)


def _add_atari(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", type=Path, default=Path("data/atari"), help="folder to make (an interrupted run is continued)")
    add("--games", default="all", help="'all', names joined by commas, 'moving', or a number: the most moving games")
    add("--clips-per-game", type=COUNT, default=20, help="training clips a game")
    add("--test-clips", type=COUNT, default=4, help="test clips a game, from other seeds")
    add("--frames", type=FRAMES, default=33, help="frames a clip")
    add("--size", type=SIDE, default=128, help="side of the square frames in pixels (even)")
    add("--fps", type=FPS, default=15.0, help="frames a second; must divide 60 (15 is a frame skip of 4)")
    add("--seed", type=SEED, default=0, help="everything is a function of this seed")
    add("--sticky", type=SHARE, default=0.25, help="probability that the emulator repeats the previous action")
    add("--min-motion", type=SHARE, default=0.9, help="share of a clip's frames that must change, else it is redrawn")
    add("--max-change", type=SHARE, default=0.2, help="share of pixels that may change at once; more is a cut: redrawn")
    add("--workers", type=WORKERS, default=os.cpu_count(), help="games rendered at once")


def _add_ucf101(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--archive", type=Path, required=True, help="UCF101.rar, a zip, or an unpacked folder")
    add("--splits", type=Path, help="official zip or folder of the split lists (default: looked for)")
    add("--out", type=Path, default=Path("data/ucf101"), help="folder to make")
    add("--transcode", action="store_true", help="write H.264 mp4 instead of keeping the .avi files")
    add("--workers", type=WORKERS, default=os.cpu_count(), help="files handled at once")


def _add_check(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, help="folder of videos and images; manifest.csv and bad_files.csv are written into it")
    add("--out", type=Path, help="write them here instead: of a data set that is read-only (`manifest` of its source)")
    add("--backend", default="pyav", choices=("pyav", "decord", "torchcodec"), help="reader that training will use")
    add("--patience", type=SECONDS, default=60.0, help="seconds a file may take before its decoder is killed")
    add("--workers", type=WORKERS, default=os.cpu_count(), help="files checked at once")


def _atari(args: argparse.Namespace) -> None:
    from videoar.data.atari import AtariClips
    from videoar.data.atari_set import parse_games, render_set

    clips = AtariClips(
        clips_per_game=args.clips_per_game,
        test_clips=args.test_clips,
        frames=args.frames,
        size=args.size,
        fps=args.fps,
        seed=args.seed,
        sticky=args.sticky,
        min_motion=args.min_motion,
        max_change=args.max_change,
    )
    with Jobs() as jobs:
        candidates, most = parse_games(args.games)
        totals = {"probe_game": len(candidates), "render_game": most or len(candidates)}
        names, done = {"probe_game": "measuring motion", "render_game": "rendering games"}, dict.fromkeys(totals, 0)

        def report(job: str, game: str, reason: str | None) -> None:
            if reason:
                jobs.say(f"dropped {game}: {reason}")
            done[job] += job == "probe_game" or reason is None
            jobs.show(names[job], done[job], totals[job], f"{names[job]} ({game})")

        kept, dropped = render_set(args.out, args.games, clips, args.workers, report)
    per_game = clips.clips_per_game + clips.test_clips
    print(f"{args.out}: {len(kept)} games x {per_game} clips of {clips.frames} frames; {len(dropped)} games dropped")


def _ucf101(args: argparse.Namespace) -> None:
    from videoar.data.ucf101 import prepare_ucf101

    with Jobs() as jobs:
        numbers = count(1)

        def report(name: str, reason: str | None) -> None:
            jobs.show("unpacking and checking", next(numbers), None)

        clips, bad = prepare_ucf101(args.archive, args.out, args.splits, args.transcode, args.workers, report)
    _print_bad(bad)
    print(f"{args.out}: {clips} clips, {len(bad)} of them bad")


def _check(args: argparse.Namespace) -> None:
    from videoar.data.prepare import check_files, claim_lists, copies_in, find_media, write_lists

    total, out, refusal = len(find_media(args.folder)), args.out or args.folder, None
    try:
        claim_lists(out)
    except OSError as error:
        refusal = f"cannot write manifest.csv into {out} ({error.strerror}); --out names another folder"
        print(f"{refusal}; the results are only printed", file=sys.stderr)
    with Jobs() as jobs:
        numbers = count(1)

        def report(name: str, reason: str | None) -> None:
            jobs.show("decoding every file", next(numbers), total)

        good, bad = check_files(args.folder, args.backend, args.patience, args.workers, report)
    copies = copies_in(args.folder, good)
    good = [row for row in good if row.path not in copies]
    _print_bad(bad | copies)
    frames = sum(row.frames for row in good)
    print(f"{args.folder}: {len(good)} good files with {frames} frames, {len(bad)} bad, {len(copies)} copies")
    for reader, files in sorted(Counter(row.reader for row in good if row.reader).items()):
        print(f"{files} read by {reader}: the frames at random places are those of decoding in order")
    if refusal:
        raise UserError(refusal)
    write_lists(out, good, bad | copies, args.folder)
    print(f"wrote {out / 'manifest.csv'}" + (" and bad_files.csv" if bad or copies else ""))


def _print_bad(bad: dict[str, str]) -> None:
    for name, reason in sorted(bad.items()):
        print(f"bad: {name}: {reason}")
