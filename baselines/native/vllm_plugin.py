"""What vLLM is told in each of its processes, by the entry point `vllm.general_plugins`."""

CORRECTED = {"Qwen2_5OmniThinkerForConditionalGeneration": "OvmerOmniForConditionalGeneration"}
"""Of an architecture, the name under which vLLM finds our class in place of its own."""


def register() -> None:
    """Name our classes to vLLM, which imports them when it is asked for one."""
    from vllm import ModelRegistry

    for name in CORRECTED.values():
        ModelRegistry.register_model(name, "baselines.native.vllm_omni:Thinker")
