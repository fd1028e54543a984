"""What `--benchmark-json FILE` keeps: where the figures come from, then name, times and `extra_info` of each."""

import time

import torch

from videoar.benchmarking import timing
from videoar.benchmarking.measure import _processor
from videoar.provenance import commit, versions


def pytest_configure(config):
    if config.getoption("benchmark_timer", None) is not None and "process_time" in str(
        config.getoption("benchmark_timer")
    ):
        timing.CPU_CLOCK = time.process_time  # ceilings by the same clock


def pytest_benchmark_update_json(output_json):
    figures = {
        entry["fullname"]: {
            "median_s": entry["stats"]["median"],
            "min_s": entry["stats"]["min"],
            "max_s": entry["stats"]["max"],
            "rounds": entry["stats"]["rounds"],
            **entry["extra_info"],
        }
        for entry in output_json["benchmarks"]
    }
    output_json.clear()
    machine = {"processor": _processor(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    output_json.update(machine=machine, versions=versions(), commit=commit(), figures=figures)
