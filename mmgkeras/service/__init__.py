"""A model behind HTTP, by the REST API of TensorFlow Serving."""
