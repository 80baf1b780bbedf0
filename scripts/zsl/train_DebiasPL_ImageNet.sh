#!/usr/bin/env bash
# zero-shot on all GPUs of this machine; more flags go through, e.g. --data DIR --resume auto
torchrun --standalone --nproc_per_node "${GPUS:-8}" -m debiaspl.train --recipe zero-shot "$@"
