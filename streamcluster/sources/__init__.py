"""From a person's folders to thumbnails: what is new (`scan`), what a file promises (`header`) and holds (`decode`)."""
