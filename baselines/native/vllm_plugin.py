"""What vLLM is told in each of its processes, by the entry point `vllm.general_plugins`."""

_CLASSES = {
    "Gemma3nForConditionalGeneration": "ovmer.baselines.native.vllm_gemma:Gemma3n",
    "Gemma4ForConditionalGeneration": "ovmer.baselines.native.vllm_gemma:Gemma4",
    "MiniCPMV4_6ForConditionalGeneration": "ovmer.baselines.native.vllm_minicpm:MiniCpm",
    "Qwen2_5OmniThinkerForConditionalGeneration": "ovmer.baselines.native.vllm_omni:Thinker2_5",
    "Qwen3OmniMoeThinkerForConditionalGeneration": "ovmer.baselines.native.vllm_omni:Thinker3",
}

CORRECTED = {architecture: f"Ovmer{architecture}" for architecture in _CLASSES}
"""Of an architecture, the name under which vLLM finds our class in place of its own."""


def register() -> None:
    """Name our classes to vLLM, which imports them when it is asked for one."""
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP as SETTINGS

    for architecture, where in _CLASSES.items():
        name = CORRECTED[architecture]
        ModelRegistry.register_model(name, where)
        if architecture in SETTINGS:  # Gemma 4's heads of two sizes ask for one kernel on a GPU
            SETTINGS[name] = SETTINGS[architecture]
