"""Which pipelines' packages are installed."""

import importlib.util

PACKAGE = {"torchvision": "torchvision", "dali": "nvidia.dali", "ffcv": "ffcv"}
INSTALL = {"dali": "pip install -e '.[dali]'", "ffcv": "pip install -e '.[ffcv]'"}


def installed(package: str) -> bool:
    """Without importing it: ffcv changes torch's number of threads, which its source puts right."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False
