"""A hint at the end of a run if another engine would have taken less time."""

from importlib.util import find_spec

from ovmer.adapters.base import Adapter
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.decoding.engine_base import words_depend_on
from ovmer.baselines.decoding.engine_settings import VllmSettings
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.job import Job

_MANY = 32
"""With fewer clips the start of vLLM takes longer than it saves."""


def faster_engine(job: Job, adapter: Adapter, clips: int) -> str | None:
    """A sentence where engine=vllm could have described these clips with the same settings."""
    settings = job.settings
    if clips < _MANY or job.is_dry or settings.embeddings or not isinstance(adapter, Mllm):
        return None
    is_plain = settings.engine["name"] == "transformers" and not words_depend_on(settings.engine)
    if not is_plain:
        return None
    try:
        VllmSettings(name="vllm").check(adapter.generation, adapter.transformers_only)
    except PrerequisiteError:
        return None
    installed = "yes" if find_spec("vllm") else "no, pip install 'ovmer[vllm]'"
    return f"engine=vllm decodes this model too, as a rule in less time (installed: {installed})"
