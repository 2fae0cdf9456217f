"""Cross-validation: the queue of folds, networks and seeds, and the work of each job."""
