"""The report: a cross-validation as one page to publish, with the same numbers as CSV and LaTeX."""
