"""Measurements: ratios against a named peer in one run, and peaks of fresh processes. `make bench` runs all."""

import tempfile
from pathlib import Path

#: Where pictures and stores of measurements are kept, so that the next run finds the pictures.
WORK = Path(tempfile.gettempdir()) / "streamcluster-bench"
