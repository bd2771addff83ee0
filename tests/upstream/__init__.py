"""The families beside their authors' own code: ``python -m tests.upstream SYSTEM`` (or ``all``), outside CI.

Each system's code is put at a pinned commit into a folder of its own (``git clone``, or ``--source PATH`` where a copy
lies already), with the versions that it names in a virtual environment of its own; only torch is lent to it. Its
preprocessing, its prompts and its arithmetic run there on the same films and the same small tokenizer, and what comes
out is compared here. docs/upstream.md is the table of the last run.
"""
