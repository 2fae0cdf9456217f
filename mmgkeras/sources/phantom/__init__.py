"""Mammogram-like images with exact truth, deterministic by seed."""
