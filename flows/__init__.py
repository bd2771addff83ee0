"""Prefect flows and the command line: the only place that joins neighbouring steps.

Read ``sweep`` first: discover, then draft. ``path`` is what happens to one study, ``drain`` moves many of them through
it at the same time, ``workplace`` holds what they share.
"""
