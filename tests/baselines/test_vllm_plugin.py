"""What vLLM calls in each of its processes: nothing of ours in engines of others, and no error."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from ovmer.baselines.native import vllm_plugin
from ovmer.baselines.starter import STARTED_BY


def vllm_without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> dict[str, object]:
    """A vLLM in which some names have moved; returns what is registered there."""
    registered: dict[str, object] = {}
    registry = type("ModelRegistry", (), {"register_model": staticmethod(registered.__setitem__)})
    vllm, config = ModuleType("vllm"), ModuleType("vllm.model_executor.models.config")
    if "ModelRegistry" not in missing:
        vllm.ModelRegistry = registry  # type: ignore[attr-defined]
    if "MODELS_CONFIG_MAP" not in missing:
        config.MODELS_CONFIG_MAP = {"Gemma4ForConditionalGeneration": "its own"}  # type: ignore[attr-defined]
    cache = ModuleType("vllm.v1.kv_cache_interface")
    if "KVCacheConfig" not in missing:
        never = property(lambda self: False)
        cache.KVCacheConfig = type("KVCacheConfig", (), {"needs_kv_cache_zeroing": never})  # type: ignore[attr-defined]
    for module in (vllm, config, cache):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return registered


def test_an_engine_that_we_did_not_start_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = vllm_without(monkeypatch)
    monkeypatch.delenv(STARTED_BY, raising=False)
    vllm_plugin.register()
    assert not registered


def test_in_our_engines_vllm_finds_our_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = vllm_without(monkeypatch)
    monkeypatch.setenv(STARTED_BY, str(os.getpid()))
    vllm_plugin.register()
    assert registered.keys() == set(vllm_plugin.CORRECTED.values())
    cache = sys.modules["vllm.v1.kv_cache_interface"].KVCacheConfig()
    assert cache.needs_kv_cache_zeroing, "so that NaN of one clip do not reach the next"


@pytest.mark.parametrize("moved", ["ModelRegistry", "MODELS_CONFIG_MAP", "KVCacheConfig"])
def test_a_name_that_has_moved_is_a_warning(monkeypatch: pytest.MonkeyPatch, moved: str) -> None:
    vllm_without(monkeypatch, moved)
    monkeypatch.setenv(STARTED_BY, str(os.getpid()))
    with pytest.warns(UserWarning, match=r"ovmer.s .* cannot be had in this vLLM"):
        vllm_plugin.register()


STARTER = """
import multiprocessing, os, time
import ovmer.__main__  # as the main module of the command does
from ovmer.baselines.starter import STARTED_BY

if __name__ == "__main__":
    os.environ[STARTED_BY] = str(os.getpid())
    code = "print(__import__('os').getpid(), flush=True); __import__('time').sleep(60)"
    multiprocessing.get_context("spawn").Process(target=exec, args=(code,)).start()
    time.sleep(60)
"""


def test_an_engine_that_is_still_importing_ends_with_who_started_it(tmp_path: Path) -> None:
    (tmp_path / "starter.py").write_text(STARTER)
    command = [sys.executable, str(tmp_path / "starter.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        child = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
        child.wait(20)  # else it raises TimeoutExpired


def engine(pipe: "multiprocessing.connection.Connection") -> None:
    vllm_plugin.end_with_parent()
    pipe.send(os.getpid())
    time.sleep(60)


def parent_of_an_engine(pipe: "multiprocessing.connection.Connection") -> None:
    multiprocessing.get_context("spawn").Process(target=engine, args=(pipe,)).start()
    time.sleep(60)


def test_an_engine_ends_when_its_parent_is_killed() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    parent = context.Process(target=parent_of_an_engine, args=(theirs,))
    parent.start()
    assert ours.poll(120)
    started = psutil.Process(ours.recv())
    parent.kill()
    _, alive = psutil.wait_procs([started], timeout=20)
    assert not alive
    parent.join()
