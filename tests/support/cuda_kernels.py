"""The code that inductor makes for a GPU, on a machine without one: generated from shapes alone, never run."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._dynamo.device_interface import CudaInterface
from torch._inductor import config
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime.hints import DeviceProperties
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

_H100 = {"multi_processor_count": 132, "major": 9, "regs_per_multiprocessor": 65536, "warp_size": 32}
_H100 |= {"max_threads_per_multi_processor": 2048}


def generated(function: Callable[..., Tensor], arguments: list[Tensor], options: dict[str, Any]) -> str:
    """Returns the Python code, with its Triton kernels, of a function of CUDA tensors shaped like ``arguments``."""
    with FakeTensorMode() as fake:
        there = [torch.empty(part.shape, dtype=part.dtype, device="cuda") for part in arguments]
    graph = make_fx(function, decomposition_table=select_decomp_table(), tracing_mode="fake")(*there)
    with _pretended_gpu(), config.patch({**options, "triton.autotune_at_compile_time": False}):
        lowering = GraphLowering(graph, example_inputs=there, shape_env=None)
        with V.set_graph_handler(lowering), V.set_fake_mode(fake), DebugContext():
            lowering.run(*there)
            return lowering.codegen()[0].value


@contextmanager
def _pretended_gpu() -> Iterator[None]:
    """Answers what inductor asks of the driver as an H100 would."""
    properties = DeviceProperties(type="cuda", index=0, cc=90, **_H100)
    answers = {
        "torch._inductor.scheduler.has_triton": True,
        "torch.cuda.current_device": 0,
        "torch.cuda.get_device_capability": (9, 0),
        "torch.cuda.get_device_properties": SimpleNamespace(name="H100", minor=0, gcnArchName="", **_H100),
        "torch.utils._triton.triton_hash_with_backend": "",
    }
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(DeviceProperties, "create", return_value=properties))
        stack.enter_context(mock.patch.object(CudaInterface, "get_raw_stream", return_value=0))
        for name, answer in answers.items():
            stack.enter_context(mock.patch(name, return_value=answer))
        yield


def launches(code: str) -> list[str]:
    """Returns the names of the kernels that generated code launches, in order, torch's own operators among them."""
    return re.findall(
        r"^    +(?:\w+ = )?(triton_\w+(?=\.run\()|cpp_\w+(?=\()|torch\.ops\.\w+\.\w+)", code, re.MULTILINE
    )


def stored_bytes(code: str) -> int:
    """Returns the bytes of all tensors that generated code allocates, its results among them."""
    allocated = re.findall(r"empty_strided_(?:cuda|cpu)\(\(([\d, ]+)\), .*torch\.(\w+)\)", code)
    return sum(torch.Size(map(int, shape.strip(", ").split(", "))).numel() * getattr(torch, dtype).itemsize
               for shape, dtype in allocated)  # fmt: skip
