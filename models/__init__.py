"""Neural models. ``drafter`` is the door that the flows use.

What drafts, and so enters the recipe:

- ``drafter``, ``compiling``: a family opened for a site, its recipe and drafts; an engine compiled for it
- ``families``: one adapter for each family of models, behind the port ``family``; ``catalog`` lists them
- ``drafting``: from the text that a model wrote to a draft, and the tasks of a site
- ``vocabulary``: the words of firstread-mini and of the findings, in English and Chinese
- ``networks``: torch networks; ``runners``: what runs their graphs; ``weight_loading``: weights, checked and placed
- ``prompts``: the published prompts of every family; ``recipe``: the digest over all of it

What a site never runs while it drafts: ``training`` (how firstread-mini was taught), ``evaluation`` (how a model is
measured), ``simulation`` (films with known findings, for both of them, the demo and ``firstread simulate``).
``pin`` is a command that a site types: ``python -m models.pin FOLDER``.
"""

import os

# The official builds of ONNX Runtime tell Microsoft of every process that imports them, unless this is set before
# (its Privacy.md): a machine in a hospital tells nobody, and no file of it lies in TMPDIR and ~/.cache.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # noqa: TID251 - read by the library, not by us
