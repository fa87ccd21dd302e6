"""A review as a page: static files that open from disk, and the local server that keeps verdicts."""
