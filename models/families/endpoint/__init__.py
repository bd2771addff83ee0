"""Any family behind a server that speaks chat completions (vLLM, SGLang, ``transformers serve``)."""
