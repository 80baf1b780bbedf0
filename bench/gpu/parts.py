"""The parts of ``bench gpu`` in order, each with all that it asserts."""

from bench.gpu.findings import Part

PARTS = (
    Part(
        "T1",
        "machine",
        0.5,
        "bench.gpu.machine",
        (
            "CUDA is usable",
            "the driver and a JPEG engine answer nvidia-smi",
            "a Triton kernel runs in the main thread",
            "a Triton kernel runs in a fresh thread",
            "this process has a core for a source's thread",
        ),
    ),
    Part(
        "T2",
        "equal bytes",
        1.5,
        "bench.gpu.equality",
        (
            "RandAugment on the device equals the CPU executor",
            "compiled, RandAugment on the device equals the CPU executor",
            "ffcv equals Pillow, RandAugment by its threads",
            "ffcv equals Pillow, RandAugment by the device",
            "the tests marked gpu pass",
        ),
    ),
    Part(
        "T3",
        "DALI against Pillow",
        1.5,
        "bench.gpu.decoding",
        (
            "every kind of file is within its bound",
            "two runs are equal",
            "two batch layouts are equal without the hardware engine",
            "batches that are kept do not change",
            "a truncated file is named",
            "a truncated file costs less than 5 s",
        ),
    ),
    Part(
        "T4",
        "the compiled step",
        2,
        "bench.gpu.stepping",
        (
            "compiled: agrees with eager in float32",
            "graphs: agrees with eager in float32",
            "compiled: agrees with eager in bfloat16",
            "graphs: agrees with eager in bfloat16",
            "compiled: agrees with eager in float16",
            "graphs: agrees with eager in float16",
            "nothing is compiled after step 2",
            "no CUDA graph is skipped",
            "no step waits for the device",
            "no address changes",
            "a resumed run is equal bit for bit",
            "steps that a pipeline feeds compile nothing",
        ),
    ),
    Part(
        "T5",
        "speed",
        2.5,
        "bench.gpu.speed",
        (
            "end to end reaches 0.95 of the slower of step and loader",
            "the GPU idles less than 2 % behind the best pipeline",
        ),
    ),
    Part(
        "T6",
        "memory and evaluation",
        1,
        "bench.gpu.memory",
        (
            "a pipeline's memory does not grow",
            "DALI takes less than 1.5 GiB",
            "the second evaluation builds nothing",
        ),
    ),
    Part(
        "T7",
        "several ranks",
        1,
        "bench.gpu.ranks",
        (
            "rank 1 opens no context on GPU 0",
            "all ranks hold the same parameters, teacher and p̂",
            "step 1's loss is that of one rank",
            "a bad file on one rank hangs nobody",
            "SIGINT leaves a loadable checkpoint",
        ),
    ),
)
