"""One module for each MLLM that we port: what is special about its frames, prompt and answer."""
