"""The stream of training batches: patch store to tf.data. The only tf.data of the project."""
