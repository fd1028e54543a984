"""HealthMonitor: an alarm with the number where training dies in a known way, none where it learns."""

import logging
import re

import pytest
import torch

from videoar.callbacks.health import HealthMonitor


def sick(module, kind):
    """Give a module one of the three diseases, for good: its tokenizer does not learn."""
    with torch.no_grad():
        if kind == "collapsed scale":  # every latent is far on the same side
            module.tokenizer.encoder.conv_out.bias.fill_(100.0)
        elif kind == "static video":  # the decoder paints the same grey whatever it is told
            module.tokenizer.decoder.conv_out.weight.zero_()
    module.discriminator_optim.lr = 0.01 if kind == "saturated discriminator" else 0.0
    return module


@pytest.mark.parametrize("kind", ["collapsed scale", "static video", "saturated discriminator"])
def test_health_alarms_once_with_the_number(kind, fit, clips, tokenizer_module, caplog):
    """Real runs; 8 readings, averaged over 4, give one warning a number."""
    module, runs = sick(tokenizer_module(optim={"lr": 0.0}), kind), 40 if kind == "saturated discriminator" else 8
    monitor = HealthMonitor(every=runs // 8, readings=4, discriminator=0.4)  # its loss jumps from batch to batch
    with caplog.at_level(logging.WARNING):
        trainer = fit(module, clips(1) * runs, callbacks=[monitor])
    alarms = [r.getMessage() for r in caplog.records if r.name.endswith("health")]
    named = [re.fullmatch(r"batch \d+: ([a-z ]+): .*: (train/\S+) = (0\.\d+), below 0\.\d+", alarm) for alarm in alarms]
    assert all(named) and len({match[2] for match in named}) == len(named), "each number only once"
    expected = {kind, "static video"} if kind == "collapsed scale" else {kind}  # without bits nothing moves
    assert {match[1] for match in named} == expected
    for match in named:
        if kind == "saturated discriminator":
            assert float(match[3]) < 0.4
        else:
            assert float(match[3]) == pytest.approx(trainer.callback_metrics[match[2]].item(), abs=0.02)


def test_a_run_that_learns_ends_without_alarm(fit, clips, tokenizer_module):
    monitor = HealthMonitor(every=5, readings=2)
    batch = clips(1, batch=4)
    trainer = fit(tokenizer_module({"gan": 0.0}, {"lr": 3e-3}), batch * 60, callbacks=[monitor])
    assert monitor.alarmed == set() and trainer.callback_metrics["train/motion_ratio"] > 0.2


def test_health_judges_the_mean_and_recovers(caplog):
    monitor = HealthMonitor(readings=3)
    with caplog.at_level(logging.WARNING):
        for value in (0.01, 0.01):
            monitor.history.setdefault("train/bit_usage/scale_01", []).append(value)
        monitor._judge("train/bit_usage/scale_01", 0.01, 0.1, 100)
        monitor._judge("train/bit_usage/scale_01", 0.02, 0.1, 150)
        monitor._judge("train/bit_usage/scale_01", 0.50, 0.1, 200)
        monitor._judge("train/bit_usage/scale_01", 0.03, 0.1, 250)
        monitor._judge("train/discriminator", 0.01, 0.05, 250)
    assert [r.getMessage().split(":")[0] for r in caplog.records] == ["batch 100", "batch 250", "batch 250"]
    assert "collapsed scale" in caplog.text and "0.0300, below 0.1000" in caplog.text and "saturated" in caplog.text


def test_health_state_survives():
    monitor, again = HealthMonitor(readings=2), HealthMonitor(readings=2)
    monitor.alarmed.add("train/motion_ratio")
    again.load_state_dict(monitor.state_dict())
    assert again.alarmed == {"train/motion_ratio"}
    assert monitor._limit("train/loss") is None and monitor._limit("val/motion_ratio") is None
    assert monitor._limit("train/bit_usage/scale_03") == 0.1
