"""Drawing scores back onto the mammogram. numpy and Pillow; no TensorFlow."""
