"""Metrics and scores of predictions, from predictions.csv alone. numpy, scipy, scikit-learn, pandas; no TensorFlow."""
