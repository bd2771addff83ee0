"""Weights from a folder: inspected, verified, read tensor by tensor and placed where there is memory for them."""
