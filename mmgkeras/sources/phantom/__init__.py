"""Mammogram-like images with exact truth, deterministic by seed; docs/phantom.md says how they are made."""

from mmgkeras.sources.phantom.writing import GENERATOR_VERSION, PROVENANCE, write_phantom

__all__ = ["GENERATOR_VERSION", "PROVENANCE", "write_phantom"]
