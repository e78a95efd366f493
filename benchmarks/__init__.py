"""How fast the daemon is: each program here prints its figures beside others that it measured in the same run.

Machines are noisy, and times of different runs do not compare; ratios within a run do. See docs/benchmarks.md.
"""
