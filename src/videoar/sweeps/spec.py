"""A sweep's YAML and the child runs it expands to: variants x grid x seeds."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from videoar.errors import UserError
from videoar.sweeps.overrides import (
    checked_keys,
    dotted,
    fill,
    fill_all,
    merge,
    nest,
    plain_text,
    short_key,
)
from videoar.yaml_files import read_mapping

KEYS = {
    "name", "title", "config", "vars", "set", "grid", "variants", "seeds", "seed_keys", "prepare", "steps", "collect",
    "launcher", "jobs", "slurm",
}  # fmt: skip
SOURCES = {"scalar": {"pick"}, "json": {"key"}, "seconds": set()}
TRAINING = ("fit", "validate", "test", "predict")


@dataclass(frozen=True)
class Child:
    """One run: a folder, an override that wins over the base configs, and the commands to run one after the other.

    Attributes:
        name: the folder's name. group: what its seeds have in common (a row of the table).
        choice: the variant and the grid's values, for the table.
        steps: name → arguments after `videoar`, or after `$` for any other program.
        base: content of the base configs, for the digest: the files may be edited before the run is resumed.
    """

    name: str
    group: str
    choice: dict[str, Any]
    seed: int | None
    override: dict[str, Any]
    steps: dict[str, list[str]]
    collect: dict[str, dict[str, Any]]
    base: dict[str, Any] = field(default_factory=dict)

    def digest(self) -> str:
        """What a resumed run must have in common with the one before: all that its weights depend on.

        Steps behind the training may change, and are done again (`child.write_child`).
        """
        fits = [i for i, argv in enumerate(self.steps.values()) if argv[0] == "fit"]
        first = dict(list(self.steps.items())[: fits[-1] + 1 if fits else 1])
        same = json.dumps([self.base, self.override, first], sort_keys=True, default=str)
        return sha256(same.encode()).hexdigest()[:16]

    def commands(self) -> list[str]:
        """The steps as shell commands, to run by hand."""
        return [shlex.join(argv[1:] if argv[0] == "$" else ["videoar", *argv]) for argv in self.steps.values()]

    def override_yaml(self) -> str:
        """The override as a config file."""
        return yaml.safe_dump(self.override, sort_keys=False, allow_unicode=True)


@dataclass
class Sweep:
    """A whole sweep, ready to run.

    Attributes:
        prepare: what runs once before all children; None: nothing.
        out: folder of the sweep; every child has a folder below it.
    """

    name: str
    title: str
    out: Path
    children: list[Child]
    prepare: Child | None
    metrics: list[str]
    launcher: str = "process"
    jobs: int = 1
    slurm: dict[str, Any] = field(default_factory=dict)

    @property
    def everything(self) -> list[Child]:
        """All that runs, `prepare` first."""
        return [*([self.prepare] if self.prepare else []), *self.children]


def load_sweep(path: str | Path, out: str | Path | None = None, given: dict[str, Any] | None = None) -> Sweep:
    """Read a sweep's YAML and expand it.

    Args:
        out: folder of the sweep; None: outputs/sweeps/<name>. given: values of the YAML's `vars` (`--set`).

    Raises:
        UserError: one line that names the file, the key and what is wrong with it.
    """
    path = Path(path)
    spec = read_mapping(path)
    try:
        return _Expansion(path, spec, out, given or {}).sweep()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


class _Expansion:
    """The steps from YAML to children; every check raises a UserError without the path, which `load_sweep` adds."""

    def __init__(self, path: Path, spec: dict[str, Any], out: str | Path | None, given: dict[str, Any]) -> None:
        checked_keys(spec, KEYS, "a sweep")
        self.spec = spec
        self.name = str(spec.get("name", path.stem))
        self.out = Path(out) if out is not None else Path("outputs/sweeps") / self.name
        known: dict[str, Any] = self._mapping("vars")
        checked_keys(given, set(known), "`vars`, which --set changes,")
        self.vars = known | given
        self.configs = [spec["config"]] if isinstance(spec.get("config"), str) else list(spec.get("config") or [])
        self.configs = [fill(c, self.vars | {"sweep": str(self.out)}) for c in self.configs]
        self.base: dict[str, Any] = {}
        for config in self.configs:
            self.base = merge(self.base, read_mapping(config))

    def sweep(self) -> Sweep:
        """Expand, and check what can only be seen in the whole."""
        spec = self.spec
        collect = self._collect()
        prepare = self._steps("prepare", self.out / "prepare", {}, None)
        first = None
        if prepare:
            first = Child("prepare", "prepare", {}, None, {}, prepare, {})
        children = [
            self._child(variant, changes, values, seed, collect)
            for (variant, changes), values, seed in itertools.product(self._variants(), self._grid(), self._seeds())
        ]
        names = [child.name for child in children]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or "prepare" in names:
            raise UserError(f"several children would be called {', '.join(twice) or 'prepare'}; rename variants")
        launcher, jobs = spec.get("launcher", "process"), spec.get("jobs", 1)
        if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
            raise UserError(f"`jobs` must be a number from 1, got {jobs!r}")
        title = str(spec.get("title", self.name))
        return Sweep(self.name, title, self.out, children, first, list(collect), launcher, jobs, self._mapping("slurm"))

    def _variants(self) -> list[tuple[str | None, dict[str, Any]]]:
        variants = self._mapping("variants")
        for name, changes in variants.items():
            if not isinstance(changes, dict | None):
                raise UserError(f"variant {name!r} must map keys to values, got {changes!r}")
        return [(str(name), changes or {}) for name, changes in variants.items()] or [(None, {})]

    def _grid(self) -> list[dict[str, Any]]:
        grid = self._mapping("grid")
        for key, values in grid.items():
            if not isinstance(values, list) or not values:
                raise UserError(f"`grid` needs a list of values for {key}, got {values!r}")
        return [dict(zip(grid, values)) for values in itertools.product(*grid.values())]

    def _seeds(self) -> list[int]:
        seeds = self.spec.get("seeds", [0])
        if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds) or not seeds:
            raise UserError(f"`seeds` must be a list of whole numbers, got {seeds!r}")
        return list(dict.fromkeys(seeds))

    def _child(
        self, variant: str | None, changes: dict[str, Any], values: dict[str, Any], seed: int, collect: dict[str, Any]
    ) -> Child:
        """The child of one variant, one point of the grid and one seed."""
        short = {key: short_key(key, values) for key in values}
        parts = [variant] if variant else []
        parts += [f"{short[key]}={plain_text(value)}" for key, value in values.items()]
        group = ", ".join(parts) or self.name
        name = re.sub(r"[^A-Za-z0-9._=+-]+", "-", "__".join([*parts, f"seed{seed}"])).strip("-.")
        folder = self.out / name
        choice = ({"variant": variant} if variant else {}) | {short[key]: value for key, value in values.items()}
        words = {"variant": variant or "", "seed": seed}
        words |= {key: value for key, value in (changes | values).items() if key in self.vars}
        override = self._override([self._mapping("set"), changes, values], seed, folder, words)
        steps = self._steps("steps", folder, words, folder / "override.yaml")
        if not steps:
            raise UserError("`steps` is missing: a name and a `videoar` command each, such as `fit: fit`")
        if not any(arguments[0] in TRAINING for arguments in steps.values()):
            useless = [key for key in (changes | values) if key not in self.vars]
            if useless:
                raise UserError(f"{', '.join(useless)} would change nothing: no step trains, and it is none of `vars`")
            override = {}
        return Child(name, group, choice, seed, override, steps, collect, self.base)

    def _override(
        self, layers: list[dict[str, Any]], seed: int | None, folder: Path, words: dict[str, Any]
    ) -> dict[str, Any]:
        """All changes to the base configs, weakest first: `layers`, then folder and seed."""
        own = {"trainer.default_root_dir": str(folder)}
        own |= dict.fromkeys(self.spec.get("seed_keys", ["seed_everything"]), seed)
        override: dict[str, Any] = {}
        for layer in (*layers, own):
            changes = {key: value for key, value in layer.items() if key not in self.vars}
            for key in changes:
                dotted(str(key), self.base, ", ".join(map(str, self.configs)))
            override = merge(override, nest(changes))
        return fill_all(override, self.vars | words | {"out": str(folder), "sweep": str(self.out)})

    def _steps(self, section: str, folder: Path, words: dict[str, Any], override: Path | None) -> dict[str, list[str]]:
        """Arguments of each step; training commands of children get the base configs, and the override last."""
        steps = {}
        for name, command in self._mapping(section).items():
            if not isinstance(command, str) or not command.strip():
                raise UserError(f"step {name!r} must be a command, got {command!r}")
            words = words | {"out": str(folder), "sweep": str(self.out), "step": str(folder / name)}
            arguments = [fill(word, self.vars | words) for word in shlex.split(command)]
            if override is not None and arguments[0] in TRAINING:
                configs = [*self.configs, str(override)]
                arguments += [word for config in configs for word in ("--config", config)]
            steps[str(name)] = arguments
        if override is not None and sum(arguments[0] == "fit" for arguments in steps.values()) > 1:
            raise UserError("a child has one `fit`; what comes before it belongs into `prepare`")
        return steps

    def _collect(self) -> dict[str, dict[str, Any]]:
        """Where each number of the table comes from."""
        collect = self._mapping("collect")
        for name, source in collect.items():
            kinds = [kind for kind in SOURCES if isinstance(source, dict) and kind in source]
            if len(kinds) != 1:
                raise UserError(f"`collect` of {name!r} needs one of {', '.join(SOURCES)}, got {source!r}")
            checked_keys(source, {kinds[0]} | SOURCES[kinds[0]], f"`collect` of {name!r}")
            if source.get("pick", "last") not in ("last", "min", "max"):
                raise UserError(f"`pick` of {name!r} is last, min or max, got {source['pick']!r}")
            if "seconds" in source and source["seconds"] not in self._mapping("steps"):
                raise UserError(f"`collect` of {name!r}: there is no step {source['seconds']!r}")
        if not collect:
            raise UserError("`collect` is missing: the numbers of the table, such as `loss: {scalar: val/loss}`")
        return collect

    def _mapping(self, key: str) -> dict[str, Any]:
        value = self.spec.get(key) or {}
        if not isinstance(value, dict):
            raise UserError(f"`{key}` must map names to values, got {value!r}")
        return value
