"""Uni-Med as a family: its prompts, boxes and preprocessing (arXiv 2409.17508; weights are trained by the site)."""
