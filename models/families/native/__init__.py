"""Families whose networks transformers has: published weights in, one exported encoder, greedy text out."""
