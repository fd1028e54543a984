"""`videoar sweep`: what a YAML expands to, which layer wins, and what is refused."""

import re

import pytest
import yaml

from videoar.cli import main as cli
from videoar.errors import UserError
from videoar.sweeps.overrides import merge, nest
from videoar.sweeps.spec import load_sweep
from videoar.yaml_files import read_mapping


def test_variants_times_grid_times_seeds(make_sweep, base_config, tmp_path):
    path = make_sweep(
        config=base_config,
        vars={"root": "videos"},
        variants={"off": {"model.init_args.corruption.mode": "off"}, "on": None},
        grid={"model.init_args.optim.lr": [1e-4, 1e-3], "data.loading.lr": [1]},
        seeds=[3, 4],
        steps={"fit": "fit --data.root {root}", "sample": "sample --model {ckpt} --seed {seed} --out {step}"},
        collect={"loss": {"scalar": "val/loss"}},
    )
    sweep = load_sweep(path, tmp_path / "out", {"root": "a b"})
    assert len(sweep.children) == 2 * 2 * 2
    child = sweep.children[1]
    assert (child.name, child.seed) == ("off__optim.lr=0.0001__loading.lr=1__seed4", 4)
    assert child.choice == {"variant": "off", "optim.lr": 1e-4, "loading.lr": 1}
    folder = tmp_path / "out" / child.name
    override = str(folder / "override.yaml")
    assert child.steps["fit"] == ["fit", "--data.root", "a b", "--config", base_config, "--config", override]
    assert child.steps["sample"][-5:] == ["{ckpt}", "--seed", "4", "--out", str(folder / "sample")]
    assert len({c.name for c in sweep.children}) == 8 and len({c.group for c in sweep.children}) == 4


def test_the_later_layer_wins(make_sweep, base_config):
    path = make_sweep(
        config=base_config,
        vars={"lr": 7},
        set={
            "trainer.max_steps": "{lr}",
            "data.name": "x{lr}",
            "model": {"init_args": {"optim": {"lr": 0.1, "clip": 2.0}}},
            "data.x": 0,
        },
        variants={"v": {"model.init_args.optim.lr": 0.2, "data.x": 1}},
        grid={"data.x": [2]},
        steps={"fit": "fit"},
    )
    child = load_sweep(path).children[0]
    assert child.override["model"]["init_args"]["optim"] == {"lr": 0.2, "clip": 2.0}
    assert child.override["data"] == {"x": 2, "name": "x7"} and child.override["seed_everything"] == 0
    assert child.override["trainer"] == {"max_steps": 7, "default_root_dir": f"outputs/sweeps/cheap/{child.name}"}


def test_lightnings_parser_lets_the_override_win(tmp_path):
    """The last --config replaces values deep inside the module's arguments and keeps its neighbours."""
    from lightning.pytorch import LightningModule
    from lightning.pytorch.cli import LightningArgumentParser

    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    base = {"class_path": "videoar.training.GeneratorModule", "init_args": {"generator": {"width": 64, "heads": 2}}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({"model": base}))
    over = nest({"model.init_args.generator.position": "rope2d", "model.init_args.corruption.mode": "off"})
    (tmp_path / "over.yaml").write_text(yaml.safe_dump(over))
    parsed = parser.parse_args(["--config", str(tmp_path / "base.yaml"), "--config", str(tmp_path / "over.yaml")])
    arguments = parsed.model.init_args
    assert (arguments.generator.width, arguments.generator.position) == (64, "rope2d")
    assert arguments.corruption.mode == "off"


def test_merge_and_yaml(tmp_path):
    assert merge({"a": {"b": 1, "c": [1]}}, {"a": {"c": [2]}}) == {"a": {"b": 1, "c": [2]}}
    assert nest({"a.b": 1, "a": {"c.d": 2}}) == {"a": {"b": 1, "c": {"d": 2}}}
    (tmp_path / "x.yaml").write_text("a: 1e-4\nb: -2.5e3\nc: '1e-4'\nd: 1e\ne: 5")
    assert read_mapping(tmp_path / "x.yaml") == {"a": 1e-4, "b": -2500.0, "c": "1e-4", "d": "1e", "e": 5}


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"grids": {}}, "a sweep has no grids; there are .*grid"),
        ({"grid": {"lr": 3}}, "`grid` needs a list of values for lr, got 3"),
        ({"grid": [1]}, "`grid` must map names to values"),
        ({"seeds": ["a"]}, "`seeds` must be a list of whole numbers"),
        ({"variants": {"a": 3}}, "variant 'a' must map keys"),
        ({"variants": {"a b": {}, "a/b": {}}}, "several children would be called a-b"),
        ({"steps": None}, "`steps` is missing"),
        ({"steps": {"a": ["fit"]}}, "step 'a' must be a command"),
        ({"steps": {"a": "fit", "b": "fit"}}, "a child has one `fit`"),
        ({"steps": {"a": "sample --model {modle}"}}, r"unknown placeholder \{modle\}.*there are .*seed.*ckpt"),
        ({"vars": {"lr": 1, "log": None}}, "give log: --set log=VALUE"),
        ({"grid": {"trainer.max_steps": [3]}}, "trainer.max_steps would change nothing: no step trains"),
        ({"collect": None}, "`collect` is missing"),
        ({"collect": {"x": {"scaler": "a"}}}, "needs one of scalar, json, seconds"),
        ({"collect": {"x": {"scalar": "a", "key": "b"}}}, "`collect` of 'x' has no key"),
        ({"collect": {"x": {"scalar": "a", "pick": "best"}}}, "`pick` of 'x' is last, min or max"),
        ({"collect": {"x": {"seconds": "fit"}}}, "there is no step 'fit'"),
        ({"config": "nowhere.yaml"}, "no such file: nowhere.yaml"),
        ({"jobs": 0}, "`jobs` must be a number from 1"),
        ({"launcher": "cloud"}, "unknown launcher 'cloud'; there are process, local, slurm"),
    ],
)
def test_bad_yaml_is_one_line(make_sweep, tmp_path, capsys, changes, match):
    assert cli.main(["sweep", str(make_sweep(**changes)), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and re.search(match, err)
    assert not list((tmp_path).glob("out/*/child.json")), "nothing is written before everything is checked"


@pytest.mark.parametrize(
    "text, match",
    [("a: [", "line 1: "), ("- a", "holds a list where names"), ("a: 1\na: 2", "key 'a' comes twice")],
)
def test_files_that_are_no_sweep(tmp_path, capsys, text, match):
    (tmp_path / "x.yaml").write_text(text)
    assert cli.main(["sweep", str(tmp_path / "x.yaml")]) == 2
    assert match in capsys.readouterr().err
    assert cli.main(["sweep", str(tmp_path / "y.yaml")]) == 2


def test_a_preset_is_a_base_that_a_sweep_changes(make_sweep, base_config):
    """Over the base config's preset, and over one that a weaker layer of the same sweep names."""
    key = "model.init_args.generator"
    path = make_sweep(config=base_config, grid={f"{key}.depth": [2]}, steps={"fit": "fit"})
    assert load_sweep(path).children[0].override["model"]["init_args"]["generator"] == {"depth": 2}
    path = make_sweep(
        config=base_config, variants={"xl": {key: "videoar-xl"}}, grid={f"{key}.depth": [2]}, steps={"fit": "fit"}
    )
    made = load_sweep(path).children[0].override["model"]["init_args"]["generator"]
    assert made == {"preset": "videoar-xl", "depth": 2}
    path = make_sweep(config=base_config, grid={"trainer.precision.depth": [2]}, steps={"fit": "fit"})
    with pytest.raises(UserError, match=r"trainer.precision is 32 in .*base.yaml"):
        load_sweep(path)


def test_set_only_changes_what_there_is(make_sweep, capsys):
    assert cli.main(["sweep", str(make_sweep()), "--set", "data=x"]) == 2
    assert "has no data; there are log, lr" in capsys.readouterr().err
    assert cli.main(["sweep", str(make_sweep()), "--set", "data"]) == 2
    assert "--set takes KEY=VALUE" in capsys.readouterr().err


def test_dry_run_writes_nothing(make_sweep, tmp_path, capsys):
    assert cli.main(["sweep", str(make_sweep()), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    assert "work.py" in (out := capsys.readouterr().out) and "6 children" in out
    assert not (tmp_path / "out").exists()
