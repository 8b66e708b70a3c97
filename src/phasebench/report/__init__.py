"""What people read, made from results.json alone: never imports torch."""

from phasebench.report.write import write

__all__ = ["write"]
