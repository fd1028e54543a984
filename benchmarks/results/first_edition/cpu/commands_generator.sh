videoar fit --config configs/generator/atari_cpu.yaml --config outputs/sweeps/atari_cpu/seed0/override.yaml
videoar export '{ckpt}' outputs/sweeps/atari_cpu/seed0/model --overwrite
videoar sample --model outputs/sweeps/atari_cpu/seed0/model --num 32 --guidance 2 --fps 15 --out outputs/sweeps/atari_cpu/seed0/samples
videoar evaluate --real data/atari64/testlist01.txt --fake outputs/sweeps/atari_cpu/seed0/samples --protocol atari --set 'size=[64,64]' --metrics fvd,drift --note seed=0 guidance=2 --out outputs/sweeps/atari_cpu/seed0/evaluate
videoar evaluate --fake outputs/sweeps/atari_cpu/seed0/samples --vbench --substitutes ffmpeg,atari --out outputs/sweeps/atari_cpu/seed0/vbench_fake
videoar evaluate --fake data/atari64 --vbench --substitutes ffmpeg,atari --out outputs/sweeps/atari_cpu/seed0/vbench_real
