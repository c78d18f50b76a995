"""The report of a large store: how large the page is, how long it takes to write and to open, in a real Chromium."""

from __future__ import annotations

import csv
import shutil
import statistics
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.pictures import SHARED
from benchmarks.process import run_command
from benchmarks.stores import write_store
from streamcluster.store.collection import open_collection, open_for_writing
