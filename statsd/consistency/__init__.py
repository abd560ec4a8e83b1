"""Finding and mending what events did not tell: reconcile, missed solves, drift, missing keys."""
