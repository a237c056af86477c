"""A dollar-cost-averaging trading bot whose reliability its user can check."""

__version__ = "0.1.0"
