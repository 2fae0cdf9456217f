"""mmgkeras: calcification detection in mammograms at full resolution. For research, never for diagnosis."""

__version__ = "0.1.0"
