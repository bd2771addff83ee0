"""Families that read and write text only: any causal language model in transformers format or GGUF.

They summarise a report's findings, answer questions and write JSON under a schema; they see no image and write no
report of one.
"""
