"""Groups of pair features, one file each: what simple rules know of a source, a candidate and their past."""
