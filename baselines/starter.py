"""Processes that vLLM starts for us end with us, while they are still importing vLLM too."""

import os
import sys
import threading
from multiprocessing.connection import wait

STARTED_BY = "OVMER_VLLM_STARTED_BY"
"""The environment variable that marks our engines (see native/vllm_plugin.py): the id of the
process that started one."""


def end_with_starter() -> None:
    """End this process, if one of ours started it for an engine, as soon as that has ended.

    vLLM calls its plug-ins after many seconds of imports, in which nobody else watches.
    """
    starter = os.environ.get(STARTED_BY, "")
    # The name of the main module in a process that multiprocessing has spawned.
    if not starter.isdecimal() or "__mp_main__" not in sys.modules:
        return
    try:
        sentinel = os.pidfd_open(int(starter))
    except ProcessLookupError:
        os._exit(1)
    except OSError:  # a kernel without pidfd_open: the plug-in watches later
        return
    end_after(sentinel)


def end_after(sentinel: int) -> None:
    """End this process as soon as the one that `sentinel` stands for has ended."""

    def end() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
