"""HTML pages, each complete in one file: of a run, of a sweep, of an evaluation."""
