"""What a Lightning user changes by subclassing, and what a Trainer may not be asked for."""

from types import SimpleNamespace

import lightning
import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from videoar.errors import UserError
from videoar.generator.model import GeneratorConfig
from videoar.training.generator_module import GeneratorModule
from videoar.training.tokenizer_module import TokenizerModule
from videoar.training.trainer_options import INSTEAD, check_trainer


class Own(TokenizerModule):
    """A group at a tenth of the rate, or a scheduler; and a term that pulls pixels to grey."""

    scheduler = None
    grey = 0.5
    shares = (1.0, 0.1)

    def configure_optimizers(self):
        first, *rest = self.tokenizer.parameters()
        lr = self.optim.lr
        groups = [{"params": [first], "lr": self.shares[0] * lr}, {"params": rest, "lr": self.shares[1] * lr}]
        optimizer = torch.optim.SGD(groups, lr=lr)
        return optimizer if self.scheduler is None else [[optimizer], [self.scheduler(optimizer)]]

    def extra_terms(self, video, rebuilt, latent, codes):
        return {"grey": self.grey * rebuilt.square().mean()} if self.grey else {}


@pytest.fixture
def own(tokenizer_module):
    """Makes an `Own` of the shared tiny size."""

    def make(scheduler=None, grey=0.5, **optim):
        like = tokenizer_module({"gan": 0.0}, {"lr": 0.5, "schedule": "constant"} | optim)
        module = Own(like.tokenizer.config, losses=like.losses, optim=like.optim, loop=like.loop)
        module.scheduler, module.grey = scheduler, grey
        return module

    return make


class Rates(lightning.Callback):
    """The learning rates of every step, of all groups."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def test_a_groups_own_learning_rate_stays_a_share_of_the_schedule(fit, own, clips, tmp_path):
    rates, module = Rates(), own(warmup=4)
    trainer = fit(module, clips(3), callbacks=[rates])
    assert rates.seen == [pytest.approx([0.125 * n, 0.0125 * n]) for n in (1, 2, 3)]
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    again, goes_on = Rates(), own(warmup=4, lr=1.0)  # another rate: the shares are of that one
    goes_on.shares = (1.0, 1.0)  # as saved, not as made
    fit(goes_on, clips(4), callbacks=[again], ckpt_path=tmp_path / "x.ckpt", max_epochs=2)
    assert again.seen[0] == pytest.approx([1.0, 0.1])


@pytest.mark.parametrize("interval, expected", [("step", [0.5, 0.25, 0.125, 0.0625]), ("epoch", [1.0, 1.0, 0.5, 0.5])])
def test_a_scheduler_of_ones_own_is_stepped_and_not_overruled(fit, own, clips, interval, expected):
    halve = lambda optimizer: {  # noqa: E731
        "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
        "interval": interval,
    }
    rates = Rates()
    fit(own(halve, lr=1.0), clips(2), callbacks=[rates], max_epochs=2)
    assert [first for first, _ in rates.seen] == expected


def test_an_extra_term_is_part_of_the_loss_and_logged(fit, own, clips):
    with_term, without = own(), own(grey=0.0)
    trainer, plain = fit(with_term, clips(1)), fit(without, clips(1))
    metrics = trainer.callback_metrics
    assert metrics["train/grey"] > 0 and "train/grey" not in plain.callback_metrics
    assert metrics["train/loss"] == pytest.approx(float(plain.callback_metrics["train/loss"] + metrics["train/grey"]))
    moved = [a - b for a, b in zip(with_term.tokenizer.parameters(), without.tokenizer.parameters())]
    assert max(float(difference.detach().abs().max()) for difference in moved) > 0, "it has a gradient"


class OwnGenerator(GeneratorModule):
    """A term that keeps the logits small."""

    def extra_terms(self, logits, lesson, batch):
        return {"small": 0.1 * logits.square().mean()}


def test_an_extra_term_of_the_generator_is_validated_too(fit, clips, list_data, tokenizer_module, tmp_path):
    tokenizer = tokenizer_module({"gan": 0.0}).tokenizer
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    small = GeneratorConfig(latent_dim=8, width=32, depth=1, heads=2, num_classes=2)
    module = OwnGenerator(small, str(tmp_path / "tokenizer"))
    trainer = fit(module, list_data(clips(1), clips(1)))
    found = trainer.callback_metrics
    assert found["train/small"] > 0 and found["val/small"] > 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gradient_clip_val": 1.0}, "trainer.gradient_clip_val: .*model.optim.clip"),
        ({"accumulate_grad_batches": 2}, "trainer.accumulate_grad_batches: .*model.loop.accumulate"),
        ({"precision": "bf16-true"}, "bf16-true is weights in bfloat16.*use bf16-mixed or 32-true"),
        ({"callbacks": [LearningRateFinder()]}, "learning-rate finder.*model.optim.lr"),
        ({"callbacks": [BatchSizeFinder()]}, "batch-size finder.*data.stage.batch_size"),
    ],
)
def test_options_that_would_do_nothing_are_refused_by_the_name_of_ours(fit, own, clips, options, message):
    with pytest.raises(UserError, match=message):
        fit(own(), clips(1), **options)


SHARDING = {"data_parallel_size": 2, "tensor_parallel_size": 1, "save_distributed_checkpoint": False}


@pytest.mark.parametrize(
    ("kind", "strategy", "inference_mode", "message"),
    [
        ("generator", ModelParallelStrategy(**SHARDING), True, "trainer.inference_mode: .* set it to false"),
        ("generator", ModelParallelStrategy(), False, "set tensor_parallel_size to 1"),
        ("tokenizer", ModelParallelStrategy(**SHARDING), False, "take ddp"),
        ("generator", FSDPStrategy(), False, "FSDPStrategy hides .* take ModelParallelStrategy"),
    ],
)
def test_strategies_that_shard_what_they_must_not_are_refused(kind, strategy, inference_mode, message):
    given = {"callbacks": [], "precision": "bf16-mixed", "log_every_n_steps": 1}
    trainer = SimpleNamespace(strategy=strategy, **given, **dict.fromkeys(INSTEAD))
    trainer.validate_loop, trainer.state = SimpleNamespace(inference_mode=inference_mode), SimpleNamespace(fn=None)
    with pytest.raises(UserError, match=message) as refused:
        check_trainer(trainer, kind, fit=False)
    assert "\n" not in str(refused.value) and "configs/hardware/" in str(refused.value)
    trainer.strategy, trainer.validate_loop.inference_mode = ModelParallelStrategy(**SHARDING), False
    check_trainer(trainer, "generator", fit=False)


def test_more_processes_than_the_machine_has_memory_for_are_refused():
    given = {"callbacks": [], "precision": "32-true", "log_every_n_steps": 1, "accelerator": CPUAccelerator()}
    trainer = SimpleNamespace(
        strategy=None, state=SimpleNamespace(fn="fit"), num_devices=100_000, **given, **dict.fromkeys(INSTEAD)
    )
    with pytest.raises(UserError, match=r"trainer\.devices 100000: as many processes need"):
        check_trainer(trainer, "generator", fit=False)
    trainer.num_devices = 1
    check_trainer(trainer, "generator", fit=False)
