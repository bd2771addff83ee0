"""Models behind OpenAI-compatible servers: vLLM, SGLang, TensorRT-LLM, transformers serve, or a site's own worker."""
