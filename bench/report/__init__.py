"""The one writer of reports: contents, then text and pictures made of them, then ``publish``."""

from bench.report.contents import Picture, Rates, Reference, Report, Section, origin, ratio
from bench.report.publish import publish

__all__ = ["Picture", "Rates", "Reference", "Report", "Section", "origin", "publish", "ratio"]
