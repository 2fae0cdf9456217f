"""Readers of mammogram files. Owns decoding, polarity, bit depth and size limits; knows no data set."""
