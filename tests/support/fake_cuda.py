"""A CUDA device that computes shapes, dtypes and devices only: what a build of torch without CUDA can test of its path.

A build without CUDA knows no guard of that device; one that does nothing is compiled and loaded. It stays for the life
of the process, so such tests run in a process of their own.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PretrainedConfig, PreTrainedModel

DEVICE = torch.device("cuda", 0)
GUARD = "FAKE_CUDA_GUARD"
_SOURCE = """#include <c10/core/impl/DeviceGuardImplInterface.h>
using namespace c10;
static impl::DeviceGuardImplRegistrar cuda(DeviceType::CUDA, new impl::NoOpDeviceGuardImpl<DeviceType::CUDA>());
"""


def compiled_guard(folder: Path) -> Path:
    """The library to load in the process of such tests, by the variable GUARD; skips where there is no compiler."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler: the CUDA path is not tested here")
    source, library = folder / "guard.cpp", folder / "guard.so"
    source.write_text(_SOURCE)
    torch_folder = Path(torch.__file__).parent
    command = [compiler, "-std=c++20", "-O0", "-shared", "-fPIC", f"-I{torch_folder / 'include'}", str(source),
               f"-L{torch_folder / 'lib'}", "-lc10", "-o", str(library)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Inside, tensors of DEVICE have no values, and autocast believes in the device."""
    ctypes.CDLL(os.environ[GUARD])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        patch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield


def model(kind: type[PreTrainedModel], config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """A model of `kind` on DEVICE, inside of `fake_cuda`."""
    with torch.device("meta"):
        empty = kind._from_config(config, dtype=dtype).eval()
    for module in empty.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(_without_values(parameter))
        module._buffers.update({name: b if b is None else _without_values(b) for name, b in module._buffers.items()})
    empty.tie_weights()
    return empty


def _without_values(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=DEVICE)
