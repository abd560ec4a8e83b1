"""Finding and correcting stale values: reconcile, missed solves, drift audit, missing keys."""
