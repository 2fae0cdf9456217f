"""A model behind HTTP, by the REST API of TensorFlow Serving, and the files that TensorFlow Serving reads."""
