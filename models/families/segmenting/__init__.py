"""Segmenters: volumes of CT and MR to the organs that a network knows, in the way of nnU-Net v2."""
