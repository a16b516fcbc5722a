"""One module for each MLLM that transformers does not ship, drawn as in its paper."""
