"""Which pipelines' packages are installed."""

from pipelines.errors import is_installed as installed

__all__ = ["INSTALL", "PACKAGE", "installed"]
PACKAGE = {"torchvision": "torchvision", "dali": "nvidia.dali", "ffcv": "numba"}
INSTALL = {"dali": "pip install -e '.[dali]'", "ffcv": "pip install numba"}
