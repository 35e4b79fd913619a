"""What every other package may use: the error tree, durations, the version. Imports nothing of ours."""

__version__ = "0.1.0"
