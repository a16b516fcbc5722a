"""Who answers the questions: one small interface, three engines behind it.

    transformers   padded batches on this machine
    vllm           vLLM's offline engine on this machine
    server         any OpenAI-compatible server

Making an engine loads nothing; the first question does.
"""

from ovmer.runners.extraction.engines.base import Engine, Outcome, Question, Reply, Sampling

__all__ = ["Engine", "Outcome", "Question", "Reply", "Sampling"]
