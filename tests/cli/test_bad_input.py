"""What is no good is refused before anything is written: exit code 2 and one line that names the option and the value.

The table is of what was tried on the commands and once got a traceback, an unnamed error, or was accepted.
"""

import argparse
import contextlib
import io
import math
import os
import re
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from videoar.cli import main as cli
from videoar.cli import options
from videoar.data.curriculum import Stage
from videoar.data.datamodule import MixedDataModule
from videoar.data.items import Source
from videoar.data.loader import Loading
from videoar.data.windows import Evaluation
from videoar.errors import UserError
from videoar.ranges import Range
from videoar.tokenizer.discriminator import DiscriminatorConfig
from videoar.training.base import LoopConfig
from videoar.training.generator_module import TeachingConfig
from videoar.training.objective import TokenizerLossConfig
from videoar.training.optim import OptimConfig

SAMPLE, EVALUATE = ["sample", "--out", "OUT"], ["evaluate", "--real", "IN", "--fake", "IN", "--out", "OUT"]
ATARI, CHECK = ["data", "atari", "--out", "OUT"], ["data", "check", "IN"]
EXPORT, PLAN = ["export", "IN/x.ckpt", "OUT"], ["plan", "memory", "--out", "OUT"]
DEBUG = str(Path(__file__).parents[2] / "configs" / "tokenizer" / "debug.yaml")
FIT = ["fit", "--trainer.default_root_dir=OUT"]
TRAIN = [*FIT, "--trainer.accelerator=cpu"]
TABLE = [
    *[(SAMPLE, f"--guidance={value}", "guidance") for value in ("nan", "inf", "-inf", "", "lots", "1e9")],
    *[(SAMPLE, f"--prefix-guidance={value}", "--prefix-guidance") for value in ("nan", "-5", "inf", "")],
    *[(SAMPLE, f"--fps={value}", "--fps") for value in ("1e9", "inf", "nan", "1e-9", "0", "-1")],
    *[(SAMPLE, f"--seed={value}", "--seed") for value in (-1, 2**70, "nan", "1.5")],
    *[(SAMPLE, f"--frames={value}", "--frames") for value in (10**9, 0, -4, "1e3")],
    *[(SAMPLE, f"--size={value}", "--size") for value in (10**9, 0, "big")],
    *[(SAMPLE, f"--seconds={value}", "--seconds") for value in ("inf", "nan", "0", "1e9")],
    *[(SAMPLE, f"--temperature={value}", "--temperature") for value in ("nan", "inf", "-1", "0")],
    *[(SAMPLE, f"--{name}=", f"--{name}: must not be empty") for name in ("label", "model", "prompt", "out")],
    *[(SAMPLE, f"--device={value}", f"no device '{value}'") for value in ("foo", "cuda:99", "mps")],
    *[(SAMPLE, f"--num={value}", "--num") for value in (0, -1, 10**12)],
    (SAMPLE, "--batch=0", "--batch"),
    (SAMPLE, "--context=-5", "--context: must be a whole number"),
    (SAMPLE, "--model=runs/last.ckpt", "no checkpoint or model at runs/last.ckpt"),
    (SAMPLE, "--frames 99997 --size 16384", "GB of memory"),
    *[(EVALUATE, f"--{name}=", f"--{name}") for name in ("metrics", "model", "protocol", "vbench")],
    (EVALUATE, "--metrics=fvd,,psnr", "--metrics: must be names joined by commas"),
    (EVALUATE, "--vbench --substitutes=foo", "no substitute 'foo'"),
    (EVALUATE, "--vbench --vbench-weights=IN/nowhere", "no folder of VBench weights at"),
    (EVALUATE, "--max-skipped=nan", "--max-skipped"),
    (EVALUATE, "--set frames=many", "frames must be a whole number from 1 to 100,000, got 'many'"),
    (EVALUATE, "--set unbiased=3", "unbiased cannot be 3"),
    (EVALUATE, "--set seed=-1", "seed must be a whole number"),
    (EVALUATE, "--set crop=[1]", "crop is [1]"),
    (EVALUATE, "--set size=[", "--set: '[' is no YAML"),
    (EVALUATE, "--set frames=1 frames=2", "--set gives frames twice"),
    (EVALUATE, "--set =3", "--set takes KEY=VALUE, got '=3'"),
    *[(EVALUATE, f"--protocol=IN/{name}.yaml", f"{name}.yaml") for name in ("list", "text", "broken", "twice", "pipe")],
    *[(ATARI, f"--seed={value}", "--seed") for value in (-1, 2**80)],
    *[(ATARI, f"--workers={value}", "--workers") for value in (-1, 0)],
    *[(ATARI, f"--size={value}", "--size") for value in (100_000, 0)],
    (ATARI, "--sticky=nan", "--sticky"),
    (ATARI, "--games=pang,nonsense", "no such game: pang, nonsense; did you mean pong"),
    (["data", "atari", "--games=pong"], "--out=IN/listed", "atari.json was not written by this command"),
    *[(["data", "ucf101", "--out", "OUT"], f"--archive=IN/{name}", words) for name, words in {
        "sum.zip": "Bad CRC-32",
        "locked.zip": "is encrypted",
        "pipe.yaml": "is no file that could be unpacked",
        "text.yaml": "unpack",
    }.items()],
    *[(["data", "check"], given, "must not be empty") for given in ("--out= IN", "")],
    (["sweep"], "", "must not be empty"),
    (SAMPLE, "--image=", "--image: must not be empty"),
    (EVALUATE, "--features=i3d:IN/text.yaml", "text.yaml is truncated or no torch file of plain data"),
    *[([*TRAIN, f"--config={DEBUG}", "--data.root=IN"], given, words) for given, words in {
        "--trainer.callbacks+=a.B": "a.B",
        "--trainer.callbacks+=NoB": "NoB",
        "--trainer.max_steps=0": "trainer.max_steps must not be 0",
        "--trainer.limit_train_batches=0": "trainer.limit_train_batches must not be 0",
        "--trainer.log_every_n_steps=0": "log_every_n_steps must be a whole number from 1",
        "--trainer.precision=16-mixed": "precision 16-mixed is float16",
        "--seed_everything=-1": "seed_everything must be a whole number from 0 to 4,294,967,295, got -1",
        f"--seed_everything={2**70}": "seed_everything must be a whole number",
        "--ckpt_path=IN/pipe.yaml": "no checkpoint at",
        "--ckpt_path=nothing.ckpt": "no checkpoint at nothing.ckpt",
        "--ckpt_path=": "--ckpt_path must not be empty",
        "--data.root=": "the path of a data set must not be empty",
        "--data.root=nowhere": "no such file or folder: nowhere",
        "--data.root=IN/pipe.yaml": "pipe.yaml is no file and no folder",
        "--data.root=IN/pipe.tar": "pipe.tar is no file",
        "--model.tokenizer.channels=60000": "VideoTokenizer's weights need",
    }.items()],
    (["validate", f"--config={DEBUG}", "--data.root=IN"], "--trainer.precision=16-mixed", "precision 16-mixed is"),
    *[(CHECK, f"--patience={value}", "--patience: must be a number above 0") for value in ("nan", 0, -1, "inf")],
    *[(EXPORT, f"--max-shard-size={value}", "--max-shard-size: must be a size") for value in ("-5GB", "1B", "0GB")],
    *[(PLAN, f"--size={value}", "--size") for value in (10**9, 0)],
    (["plan", "cluster"], "--mfu=nan", "--mfu"),
    (["benchmark"], "--frames=1000000000", "--frames"),
    (["benchmark"], "--budget=inf", "--budget"),
    (["reconstruct", "IN/text.yaml", "OUT", "--model", "x"], "--device=foo", "no device 'foo'"),
    (["convert", "infinity", "IN/text.yaml", "OUT"], "--seed=-1", "--seed"),
    (["demo", "--out", "OUT"], "--clips=0", "--clips"),
    (["sweep", "IN/list.yaml"], "--jobs=0", "--jobs"),
    *[(["sweep"], f"IN/{name}.yaml", f"{name}.yaml") for name in ("list", "text", "broken", "twice", "latin1", "pipe")],
    *[(FIT, f"--config=IN/{name}.yaml", where) for name, where in {
        "list": "list.yaml holds a list where names and their values are needed",
        "text": "text.yaml holds a single value where",
        "tab": "tab.yaml, line 2: found character '\\t'",
        "broken": "broken.yaml, line 3: expected",
        "twice": "twice.yaml, line 3: key 'a' comes twice",
        "latin1": "latin1.yaml, line 2: not UTF-8 text",
        "pipe": "no such file",
        "nothing": "no such file",
    }.items()],
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files that are no good, each in its way."""
    folder = tmp_path_factory.mktemp("bad")
    for name, content in {
        "list": b"- 1\n- 2\n",
        "text": b"just words\n",
        "tab": b"a:\n\tb: 1\n",
        "broken": b"a: [1,\nb: 2\n",
        "twice": b"a: 1\nb: 2\na: 3\n",
        "latin1": "a: 1\nb: é\n".encode("latin-1"),
    }.items():
        (folder / f"{name}.yaml").write_bytes(content)
    for name in ("pipe.yaml", "pipe.tar"):
        os.mkfifo(folder / name)
    (folder / "listed").mkdir()
    (folder / "listed" / "atari.json").write_text("[]")
    for name in ("sum.zip", "locked.zip"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("v_a.avi", b"pixels")
        data = (folder / name).read_bytes()
        if name == "sum.zip":
            data = data.replace(b"pixels", b"pIxels")
        else:  # the flag of encryption, in the file's header and in the table of contents
            table = data.index(b"PK\1\2")
            data = data[:6] + b"\1" + data[7 : table + 8] + b"\1" + data[table + 9 :]
        (folder / name).write_bytes(data)
    return folder


def run(arguments):
    """(exit code, stderr) of a command, in this process."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = cli.main(arguments)
        except SystemExit as stop:
            code = stop.code
    return code, err.getvalue()


@pytest.mark.parametrize(
    ("command", "given", "words"), TABLE, ids=lambda part: part if isinstance(part, str) else part[0]
)
def test_bad_input_is_one_line_and_nothing_is_written(files, tmp_path, monkeypatch, command, given, words):
    monkeypatch.chdir(tmp_path)
    arguments = [part for text in (*command, given) for part in (text.split(" ") if text == given else [text])]
    code, err = run([part.replace("IN", str(files)).replace("OUT", "out") for part in arguments])
    assert code == 2 and err.count("\n") == 1, err
    assert words in err and len(err) < 400, err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "wrong", "words"),
    [
        (Stage, {"resolution": 16_000_000}, "resolution: height must be a whole number from 1 to 16,384"),
        (Stage, {"frames": 1_000_001}, "frames must be a whole number from 1 to 100,000"),
        (Stage, {"batch_size": 100_000}, "batch_size must be a whole number from 1 to 65,536"),
        (Stage, {"fps": 1e9}, "fps must be a number from 0.1 to 1,000"),
        (Stage, {"image_share": math.nan}, "image_share must be a number from 0 to 1, got nan"),
        (Loading, {"workers": 100_000}, "workers must be a whole number from 0 to 1,024"),
        (Loading, {"timeout": math.nan}, "timeout must be a number above 0"),
        (Loading, {"seed": -1}, "seed must be a whole number from 0"),
        (Evaluation, {"clips": -1}, "clips must be a whole number from 0"),
        (Source, {"path": " "}, "the path of a data set must not be empty"),
        (Source, {"path": "x", "weight": math.inf}, "x: weight must be a number from 0"),
        (Source, {"path": "x", "split": 4}, "x: split must be a whole number from 1 to 3"),
        (LoopConfig, {"seed": -1}, "seed must be a whole number"),
        (OptimConfig, {"lr": math.nan}, "lr must be a number from 0"),
        (OptimConfig, {"betas": (2, 3)}, "a beta must be a number from 0"),
        (OptimConfig, {"total": 0}, "total must be a whole number from 1"),
        (TokenizerLossConfig, {"gan": math.nan}, "the weight of gan must be a number from 0"),
        (TokenizerLossConfig, {"gan_start": -1}, "gan_start must be a whole number"),
        (TeachingConfig, {"condition_drop": math.nan}, "condition_drop must be a number from 0 to 1"),
        (DiscriminatorConfig, {"layers": 0}, "layers must be a whole number from 1 to 16"),
    ],
)
def test_the_same_in_python(make, wrong, words):
    with pytest.raises(UserError, match=re.escape(words)):
        make(**wrong)


def test_a_batch_that_no_machine_holds_is_refused_before_a_run(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.mp4").touch()
    stage = Stage(resolution=16_000, frames=9_997, batch_size=60_000)
    with pytest.raises(UserError, match=r"batches of stage 1 need .* GB of memory"):
        MixedDataModule(str(tmp_path), stage=stage).look(training=True)


# ---- any invalid value of any option --------------------------------------------------------------------------------


def valued_options():
    """(command, path to the subcommand, option, its type) of every option with a value that is no choice."""

    def walk(parser, path):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, sub in action.choices.items():
                    yield from walk(sub, (*path, name))
            elif action.option_strings and action.nargs != 0 and not action.choices:
                yield path, action.option_strings[-1], action.type

    return [found for name in cli.COMMANDS for found in walk(cli.make_parser(name), (name,))]


def invalid(kind):
    """Texts that a type must refuse."""
    if kind in (None, Path):
        return st.sampled_from(["", " ", "\t"])
    if isinstance(kind, Range):
        words = st.sampled_from(["", " ", "nan", "inf", "-inf", "1e400", "--", "0x10", "1,5", "½", "None", "9" * 400])
        low = st.integers(max_value=math.ceil(kind.low) - 1).map(str)
        high = st.integers(min_value=int(kind.high) + 1).map(str) if kind.high < math.inf else st.nothing()
        parts = st.floats(allow_nan=False).filter(lambda x: x % 1).map(str) if kind.whole else st.nothing()
        return st.one_of(words, low, high, parts)
    known = {options.words: ["", ",", "a,,b"], options.storage: ["", "-1GB", "GB", "1"]}
    known[options.guidance] = ["nan", "inf", "", "-1", "1e9", "some"]
    known[options.device] = ["foo", "cuda:99", "", "cpu:x", "meta"]
    return st.sampled_from(known[kind])


def test_every_number_has_a_range():
    assert {kind for _, _, kind in valued_options()}.isdisjoint({int, float})


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(valued_options()).flatmap(lambda o: st.tuples(st.just(o), invalid(o[2]))))
def test_an_invalid_value_of_any_option_is_one_line_that_names_it(case):
    (path, option, _), text = case
    err = io.StringIO()
    with contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:  # by the parser, before anything is done
        cli.make_parser(path[0]).parse_args([*path[1:], f"{option}={text}"])
    said = err.getvalue()
    assert stop.value.code == 2 and said.count("\n") == 1 and f"argument {option}: " in said, said


@given(st.integers(-10, 10), st.integers(0, 10), st.booleans())
def test_a_range_holds_what_it_says(value, width, open_low):
    kind = Range(-3, -3 + width, open_low=open_low)
    assert kind.holds(value) == (-3 <= value <= -3 + width and not (open_low and value == -3))
    assert not kind.holds(True) and not kind.holds(float("nan")) and not kind.holds("1")
