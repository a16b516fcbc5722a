"""What vLLM is told in each of its processes, by the entry point `vllm.general_plugins`."""

CORRECTED = {
    "Qwen2_5OmniThinkerForConditionalGeneration": "OvmerQwen2_5OmniForConditionalGeneration",
    "Qwen3OmniMoeThinkerForConditionalGeneration": "OvmerQwen3OmniForConditionalGeneration",
}
"""Of an architecture, the name under which vLLM finds our class in place of its own."""

_CLASSES = ("baselines.native.vllm_omni:Thinker2_5", "baselines.native.vllm_omni:Thinker3")


def register() -> None:
    """Name our classes to vLLM, which imports them when it is asked for one."""
    from vllm import ModelRegistry

    for name, where in zip(CORRECTED.values(), _CLASSES, strict=True):
        ModelRegistry.register_model(name, where)
