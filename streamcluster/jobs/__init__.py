"""The jobs, one file each: settings go in, a report comes out. Read `ingest`, `fit` and `export` first."""
