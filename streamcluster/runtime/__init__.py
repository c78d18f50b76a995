"""How work is run: blocks and memory, dask's schedulers, progress, locks. Knows nothing of pictures."""
