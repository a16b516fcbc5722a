"""Host memory and time of loading: `python -m tests.benchmarks.loading [LAYERS] [DTYPE] [FOLDER]`.

Writes a checkpoint with the shapes of the real Video-LLaVA 7B in its published layout (half
precision, two shards, the tower apart), with as many of the 32 decoder layers as asked for, and
loads it in a process of its own onto the CPU. The peak, above what the process took before, should
be at most 1.15 times the weights. All 32 layers take 15 GB of disk, and of memory in float16.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from baselines.miniature import publish, write_json, write_torch_shards
from baselines.video_llava import PUBLISHED, VideoLlava
from baselines.weights import weightless

LLM = {
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
from baselines.device import resolve
from baselines.video_llava import VideoLlava

def memory(field):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(field + ":")[1].split()[0])

folder, place = Path(sys.argv[1]), resolve("cpu", sys.argv[2])
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # forget the highest level so far
started = time.perf_counter()
model = VideoLlava.load(folder / "llm", folder / "tower", place)
seconds = time.perf_counter() - started
peak = memory("VmHWM") - before
size = sum(parameter.nbytes for parameter in model.parameters())
print(f"{place.dtype}: {size / 1e9:.2f} GB of weights in {seconds:.1f} s; "
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


def main() -> None:
    """Write, load, print."""
    layers, dtype, place = [*sys.argv[1:], *("8", "float16", "")[len(sys.argv) - 1 :]][:3]
    with tempfile.TemporaryDirectory(dir=place or None) as folder:
        write(Path(folder), int(layers))
        subprocess.run([sys.executable, "-c", LOAD, folder, dtype], check=True)


if __name__ == "__main__":
    main()
