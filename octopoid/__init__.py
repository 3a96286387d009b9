"""Octopoid: a folder of markdown task files becomes verified, merged commits.

This file imports nothing: `octopoid status` pays for every module it loads.
"""

__version__ = "0.1.0"
