"""Measurements that can be repeated: ``python -m bench <subcommand>``; the reports lie in bench/reports."""
