"""Which pipelines' packages are installed."""

import importlib.util

PACKAGE = {"torchvision": "torchvision", "dali": "nvidia.dali", "ffcv": "numba"}
INSTALL = {"dali": "pip install -e '.[dali]'", "ffcv": "pip install numba"}


def installed(package: str) -> bool:
    """Whether a package is there; it is not imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False
