"""Public data sets and the phantom, turned into images.csv and regions.csv. No TensorFlow."""
