"""Scoring a model, or a file of predictions, on a data set folder: cases, scores with intervals, plots."""
