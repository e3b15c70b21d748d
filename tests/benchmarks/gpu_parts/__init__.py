"""What ``tests.benchmarks.gpu`` measures, each part a process of its own, so that none can end another.

A part is a module with ``measure(job, results)``. What it has found is written to a file at each figure, so that
nothing is lost where it fails, hangs or is out of time.
"""
