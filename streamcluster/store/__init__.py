"""The collection on disk. The only room that imports zarr."""
