"""Host memory and time of loading: `python -m tests.benchmarks.loading [LAYERS] [DTYPE] [FOLDER]`.

Writes checkpoints with the shapes of real 7B models in half precision, with as many of the 32
decoder layers as asked for: Video-LLaVA in its published layout (two shards, the tower apart), and
LLaMA with a file of low-rank adapters (rank 32, on q, k, v and o), which are merged, as SALMONN,
PandaGPT and others have them. Each is loaded in a process of its own onto the CPU. The peak, above
what the process took before, should be at most 1.15 times the weights. All 32 layers take 15 GB of
disk, and of memory in float16.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

from ovmer.baselines.llama import llama_config
from ovmer.baselines.lora import attention_modules
from ovmer.baselines.miniature import publish, write_json, write_torch_shards
from ovmer.baselines.models.video_llava import PUBLISHED, VideoLlava
from ovmer.baselines.weights import weightless

LLM: dict[str, Any] = {
    "model_type": "llava",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "mm_vision_select_layer": -2,
}
TOWER = {
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "gelu",
        "add_time_attn": True,
        "num_frames": 8,
    }
}
LOAD = """
import sys, time
from pathlib import Path
import torch
from ovmer.baselines.device import resolve
from ovmer.baselines.llama import llama_config
from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.lora import attention_modules, merge_lora
from ovmer.baselines.models.video_llava import VideoLlava
from ovmer.baselines.weight_files import read_tensors
from ovmer.baselines.weights import load_strict, rename, weightless
from transformers import LlamaForCausalLM

def memory(field):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(field + ":")[1].split()[0])

folder, place = Path(sys.argv[1]), resolve("cpu", sys.argv[2])
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # forget the highest level so far
started = time.perf_counter()
if (folder / "tower").exists():
    model = VideoLlava.load(folder / "llm", folder / "tower", place)
else:
    config = llama_config(read_json(folder / "llm"))
    with weightless():
        model = torch.nn.ModuleDict({"llm": LlamaForCausalLM(config)})
    base = rename(read_tensors(folder / "llm"), [("^", "llm.")])
    modules = attention_modules("llm", config.num_hidden_layers, "qkvo")
    merged = merge_lora(base, read_tensors(folder / "ovmer.adapters.pth"), 32, modules)
    del base
    load_strict(model, merged, place)
seconds = time.perf_counter() - started
peak = memory("VmHWM") - before
size = sum(parameter.nbytes for parameter in model.parameters())
print(f"{type(model).__name__}, {place.dtype}: {size / 1e9:.2f} GB of weights in {seconds:.1f} s; "
      f"peak {peak / 1e9:.2f} GB, {peak / size:.3f} times the weights")
"""


def write(folder: Path, layers: int) -> None:
    """The checkpoint, with zeros for weights."""
    llm, tower = folder / "llm", folder / "tower"
    for part, config in ((llm, LLM | {"num_hidden_layers": layers}), (tower, TOWER)):
        part.mkdir()
        write_json(part / "config.json", config)
    with weightless():
        model = VideoLlava(LLM | {"num_hidden_layers": layers}, TOWER)
    zeros = {
        name: torch.zeros(value.shape, dtype=torch.half)
        for name, value in model.state_dict().items()
    }
    published = publish(zeros, PUBLISHED)
    vision = {key: value for key, value in published.items() if key.startswith("vision_model.")}
    torch.save(vision, tower / "pytorch_model.bin")
    write_torch_shards(llm, {k: v for k, v in published.items() if k not in vision}, shards=2)


def write_adapted(folder: Path, layers: int) -> None:
    """A language model and its low-rank adapters, with zeros for weights."""
    llm, rank = folder / "llm", 32
    llm.mkdir()
    config = LLM | {"num_hidden_layers": layers}
    write_json(llm / "config.json", config)
    with weightless():
        model = LlamaForCausalLM(llama_config(config))
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    zeros = {name: torch.zeros(shape, dtype=torch.half) for name, shape in shapes.items()}
    write_torch_shards(llm, zeros, shards=2)
    width = LLM["hidden_size"]
    adapters = {
        f"{module}.lora_{side}": torch.zeros(shape)
        for module in attention_modules("llm", layers, "qkvo")
        for side, shape in (("A", (rank, width)), ("B", (width, rank)))
    }
    torch.save(adapters, folder / "ovmer.adapters.pth")


def main() -> None:
    """Write, load, print."""
    layers, dtype, place = [*sys.argv[1:], *("8", "float16", "")[len(sys.argv) - 1 :]][:3]
    for written in (write, write_adapted):
        with tempfile.TemporaryDirectory(dir=place or None) as folder:
            written(Path(folder), int(layers))
            subprocess.run([sys.executable, "-c", LOAD, folder, dtype], check=True)


if __name__ == "__main__":
    main()
