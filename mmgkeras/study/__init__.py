"""The folder of a cross-validation: its layout, and its one reader and writer. No TensorFlow."""
