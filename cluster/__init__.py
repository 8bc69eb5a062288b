"""Clusters of several hosts: files for `ray up`, KubeRay and Slurm. README.md is the runbook.

i2idist never imports this package.
"""
