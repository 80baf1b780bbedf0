"""Step times of GPUs that nobody here has measured, from published training rates of ResNet-50 at 224 pixels.

A step of one group trains the student on 88 crops and runs the teacher forward on 80. A forward pass costs 1/2.35 of
training, by the profiler's count of operations.
"""

from dataclasses import dataclass

from pipelines.errors import DataError

STUDENT_CROPS, TEACHER_CROPS, FORWARD = 88, 80, 2.35
GRADIENT_BYTES = 25_557_032 * 4
"""ResNet-50's float32 gradients, which the ranks sum in each step."""


@dataclass(frozen=True)
class Device:
    """A GPU by its published training rate."""

    name: str
    rate: float
    """Images per second, ResNet-50, training."""
    source: str

    @property
    def step_seconds(self) -> float:
        """Seconds of one group's step, without loading and without the exchange between ranks."""
        return STUDENT_CROPS / self.rate + TEACHER_CROPS / (FORWARD * self.rate)


DEVICES = {
    "a100-pytorch": Device("A100", 2470, "NVIDIA's PyTorch example of ResNet-50"),
    "a100": Device("A100", 3397, "MLPerf Training v2.0"),
    "h100": Device(
        "H100", 5547, "MLPerf Training v3.0, interpolated to 88 images between 4,605 at 50 and 7,000 at 400"
    ),
}


def named(name: str, step_ms: float | None = None) -> tuple[str, float, str]:
    """Returns a device's title, its step's seconds and where they are from; ``step_ms`` stands for all where given.

    Raises DataError for a name that is not known.
    """
    if step_ms is not None:
        return f"a device of {step_ms:g} ms a step", step_ms / 1000, "--step-ms"
    if name not in DEVICES:
        raise DataError(f"There is no device {name!r}; --device takes {', '.join(DEVICES)}, or name --step-ms.")
    device = DEVICES[name]
    return device.name, device.step_seconds, f"{device.rate:,.0f} images/s training, {device.source}"
