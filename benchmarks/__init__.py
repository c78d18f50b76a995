"""Measurements: ratios against a named peer in one run, and peaks of fresh processes. `make bench` runs all."""
