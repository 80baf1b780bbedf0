"""Says what GPUs that are not here would need: images per second, cores, threads, storage, hours, and what gives out.

The step's time comes from a table of devices or a step's report, an image's cost from a built-in figure or a loader's
report. A simulation adds what arithmetic leaves out: steps and batches that vary, and ranks that wait for the slowest.
"""

import argparse
from pathlib import Path

from bench.arguments import add_corpus, add_out, add_quick, positive
from pipelines.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench plan``."""
    parser.add_argument("--device", default="h100", metavar="NAME", help="a100-pytorch, a100 or h100")
    parser.add_argument("--step-ms", type=_above_zero, metavar="MS", help="a step's milliseconds, instead of --device")
    parser.add_argument("--step", type=Path, metavar="REPORT", help="a .json of bench step, instead of --device")
    parser.add_argument("--loader", type=Path, metavar="REPORT", help="a .json of bench loader: what an image costs")
    host = parser.add_argument_group("each host")
    host.add_argument("--gpus", type=positive, default=8, metavar="N", help="GPUs of one host")
    host.add_argument("--hosts", type=positive, default=8, metavar="N", help="how many there may be")
    host.add_argument("--cores", type=positive, default=48, metavar="N", help="cores, those of AWS's p4d by default")
    host.add_argument("--memory", type=_above_zero, default=1152.0, metavar="GB", help="memory")
    host.add_argument("--disk", type=_above_zero, default=2000.0, metavar="MB/S", help="what the storage delivers")
    host.add_argument("--network", type=_above_zero, default=400.0, metavar="GBIT/S", help="between hosts")
    host.add_argument("--step-cores", type=float, default=1.0, metavar="N", help="cores of each GPU's own process")
    parser.add_argument("--validate", action="store_true", help="compare the simulation with real processes here")
    add_quick(parser)
    add_out(parser)
    add_corpus(parser)


def run(arguments: argparse.Namespace) -> int:
    """Plans, or validates the simulation; writes the report, prints the tables, and returns 0."""
    from bench import environment
    from bench.plan import account, inputs
    from bench.plan.arithmetic import Host, gpu_counts, row
    from bench.report import publish

    made = environment.record()
    if arguments.validate:
        from bench.plan import validation

        publish(validation.report(arguments.corpus, arguments.quick, made), arguments.out)
        return 0
    device = inputs.step(arguments.device, arguments.step_ms, arguments.step)
    limits = (arguments.memory, arguments.disk, arguments.network, arguments.step_cores)
    host = Host(arguments.gpus, arguments.cores, *limits)
    if not host.cores_for_loading(host.gpus):
        raise UserError(
            f"{host.gpus} GPUs' own processes take all {host.cores} cores: none is left for loading. Give the host "
            "more --cores, or these processes fewer --step-cores."
        )
    counts = gpu_counts(host, arguments.hosts)
    by_mode = [[row(gpus, host, mode, device[1]) for gpus in counts] for mode in inputs.modes(arguments.loader)]
    publish(account.report(arguments, device, host, by_mode, made.ended()), arguments.out)
    return 0


def _above_zero(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0 (got {text})")
    return number
