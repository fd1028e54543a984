"""CPU seconds of one training step of atari_cpu's tokenizer, images and clips, in the precisions given.

OMP_NUM_THREADS=1 python benchmarks/tokenizer_step.py 32-true bf16-mixed
"""

import sys
import time
from pathlib import Path

import torch
import yaml

from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer
from videoar.training.objective import TokenizerLossConfig, TokenizerObjective, weigh

SHAPES = {"16 images of 64x64": (16, 3, 1, 64, 64), "2 clips of 17x64x64": (2, 3, 17, 64, 64)}


def main() -> None:
    torch.set_num_threads(1)
    given = yaml.safe_load(Path("configs/tokenizer/atari_cpu.yaml").read_text())["model"]["init_args"]
    losses = TokenizerLossConfig(**given["losses"])
    for what, shape in SHAPES.items():
        for precision in sys.argv[1:] or ["32-true"]:
            torch.manual_seed(0)
            tokenizer = VideoTokenizer(TokenizerConfig(**given["tokenizer"]))
            objective = TokenizerObjective(losses, tokenizer.config.latent_dim)
            video, seconds = torch.rand(shape) * 2 - 1, []
            for _ in range(4):
                start = time.process_time()
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
                    latent = tokenizer.encode(video)
                    codes = tokenizer.quantize(latent, straight_through=True)
                    rebuilt = tokenizer.decoder(codes.latent).float()
                    loss = weigh(objective(video, rebuilt, latent, codes, None), losses.weights(0))
                loss.backward()
                tokenizer.zero_grad()
                seconds.append(time.process_time() - start)
            print(f"{what}, {precision}: {min(seconds[1:]):.2f} CPU seconds", flush=True)


if __name__ == "__main__":
    main()
