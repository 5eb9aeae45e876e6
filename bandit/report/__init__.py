"""The report: what an experiment says at this moment, as a document and as Markdown for people."""

from bandit.report.build import build_report
from bandit.report.document import Report
from bandit.report.markdown import markdown

__all__ = ["Report", "build_report", "markdown"]
