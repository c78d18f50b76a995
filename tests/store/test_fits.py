"""What a finished fit tells of rows."""

import numpy as np
import zarr

from streamcluster.store.fits import Fit, FitDraft


def test_rows_that_went_or_came_since_a_fit_have_no_group(tmp_path):
    fits = zarr.open_group(tmp_path / "fits", mode="w", zarr_format=3)
    draft = FitDraft.resume_or_create(fits, str(tmp_path / "fits"), "key", None)
    draft.create_rows("labels", 4, "int32")[...] = [0, 1, -1, 2]
    fit = Fit("0001", fits["0001"])
    assert fit.labels_of(np.array([True, False, True, True, True])).tolist() == [0, -1, -1, 2, -1]
