"""Measurements that can be repeated: ``python -m bench <subcommand>``; the reports lie in bench/reports."""

import debiaspl  # noqa: F401  # before torch, so that OpenMP waits here as it does in training
from bench import bare_checkout

bare_checkout.provide()
