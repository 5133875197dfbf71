"""Groups of snapshots split over processes, by nodes or by snapshots: what others do, to compare with."""
