"""Networks, preprocessing, augmentation, optimizer and weights. Keras only: runs on any of Keras' backends."""
