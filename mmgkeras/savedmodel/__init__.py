"""Export to SavedModel, loading one, and scoring patches and mammograms with it."""
