videoar fit --config configs/generator/atari_cpu.yaml --config /work/bg/out/atari_cpu/seed0/override.yaml
videoar export '{ckpt}' /work/bg/out/atari_cpu/seed0/model --overwrite
videoar sample --model /work/bg/out/atari_cpu/seed0/model --num 32 --guidance 2 --fps 15 --out /work/bg/out/atari_cpu/seed0/samples
videoar evaluate --real /work/bg/out/atari64/testlist01.txt --fake /work/bg/out/atari_cpu/seed0/samples --protocol atari --set 'size=[64,64]' --metrics fvd,drift --note seed=0 guidance=2 --out /work/bg/out/atari_cpu/seed0/evaluate
videoar evaluate --fake /work/bg/out/atari_cpu/seed0/samples --vbench --substitutes ffmpeg,atari --out /work/bg/out/atari_cpu/seed0/vbench_fake
videoar evaluate --fake /work/bg/out/atari64 --vbench --substitutes ffmpeg,atari --out /work/bg/out/atari_cpu/seed0/vbench_real
