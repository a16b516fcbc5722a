"""Workers that are killed, silent, talkative or wrong: each has one defined end, in a sentence."""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ovmer.adapters.base import Answer, Machine
from ovmer.adapters.external import External
from ovmer.baselines.errors import (
    ClipError,
    MissingModality,
    PrerequisiteError,
    Status,
    Timeout,
    Unreadable,
)
from ovmer.runners import progress
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.pipeline_settings import PipelineSettings
from ovmer.runners.describing.requests import ClipRequest

HEAD = """\
import json, os, signal, subprocess, sys, time
def say(**what):
    print(json.dumps(what), flush=True)
def die():
    os.kill(os.getpid(), signal.SIGKILL)
say(ready=True)
for line in sys.stdin:
    request = json.loads(line)
    name = os.path.basename(request["video"] or "")
"""


@pytest.fixture
def external(tmp_path):
    """Makes an adapter around a worker with the given body of its loop; closes it at the end."""
    made = []

    def make(body="", head=HEAD, **fields):
        script = tmp_path / "my_worker.py"
        script.write_text(head + "".join(f"    {line}\n" for line in body.splitlines()))
        fields = {"python": sys.executable, "worker": str(script), "timeout": 20.0} | fields
        made.append(External(**fields))
        return made[-1]

    yield make
    for adapter in made:
        adapter.close()


def answers(adapter, names="abcdef"):
    clips = [adapter.prepare(Path(f"/clips/{name}"), None, "Hi.") for name in names]
    items = [replace(clip, seed=7) for clip in clips]
    return [adapter.generate([item])[0] for item in items]


def texts(found):
    return [each.text if isinstance(each, Answer) else str(each) for each in found]


ECHO = 'say(id=request["id"], text=name)'


def test_a_worker_is_given_the_clip_and_its_answer_is_read_in_full(external):
    adapter = external(
        'told = [request["audio"], request["subtitle"], request["seed"], sys.argv[1:]]\n'
        'say(id=request["id"], text="<think>Hm.</think>" + name + json.dumps(told), notes=["cut"],'
        " prompt_tokens=9, new_tokens=3)",
        arguments=["--small"],
    )
    (found,) = answers(adapter, "a")
    assert found == Answer('a[null, "Hi.", 7, ["--small"]]', 9, 3, ("cut",), "Hm.")


def test_an_adapter_uses_what_its_settings_say(external):
    adapter = external(ECHO, modalities=["audio"], labels=True)
    assert adapter.modalities == {"audio"}
    assert adapter.answers_with_labels
    with pytest.raises(PrerequisiteError, match=r"baseline.modalities is \['sound'\]; choose from"):
        external(ECHO, modalities=["sound"])


def test_a_worker_that_is_killed_in_a_clip_is_asked_again_once(external, tmp_path):
    adapter = external(
        f"mark = {str(tmp_path / 'died')!r}\n"
        'if name == "c" and not os.path.exists(mark):\n'
        '    open(mark, "w").close()\n'
        '    print("no memory left", file=sys.stderr, flush=True)\n'
        "    die()\n" + ECHO
    )
    found = answers(adapter)
    assert texts(found) == list("abcdef")
    assert found[2].notes == (
        "asked twice; of the first worker: it was killed by SIGKILL; "
        "the last that it said: no memory left",
    )
    assert not any(each.notes for each in found if each.text != "c")


def test_a_clip_that_ends_the_worker_twice_fails_alone(external):
    adapter = external('if name == "c":\n    sys.exit(3)\n' + ECHO)
    requests = [ClipRequest(name, Path(f"/clips/{name}"), None, "", (), {}) for name in "abcdef"]
    adapter.load(Machine())
    found = list(Pipeline(adapter, seed=0, batch_size=4, workers=2).describe(requests))
    assert [each.description for each in found] == ["a", "b", "", "d", "e", "f"]
    assert found[2].status is Status.CRASHED
    assert found[2].error == (
        "the worker came to its end twice on this clip: it ended with status 3"
    )


@pytest.mark.parametrize(("body", "kind"), [("die()", ClipError), ("time.sleep(9)", Timeout)])
def test_one_clip_after_another_that_ends_the_worker_stops_the_run(external, body, kind):
    adapter = external(body, timeout=0.5)
    items = [adapter.prepare(None, None, "") for _ in range(3)]
    assert [type(adapter.generate([item])[0]) for item in items[:2]] == [kind, kind]
    with pytest.raises(PrerequisiteError, match=r"on 3 clips in a row .*goes on from there"):
        adapter.generate(items[2:])


def test_no_answer_in_time_is_a_timeout_and_leaves_nothing_running(external, tmp_path):
    adapter = external(
        'if name == "c":\n'
        '    child = subprocess.Popen(["sleep", "600"])\n'
        f"    open({str(tmp_path / 'pids')!r}, 'w').write('%d %d' % (os.getpid(), child.pid))\n"
        "    time.sleep(600)\n" + ECHO,
        timeout=1.0,
    )
    found = answers(adapter)
    assert texts(found) == ["a", "b", "the worker gave no answer within 1 s", "d", "e", "f"]
    assert isinstance(found[2], Timeout)
    for pid in (tmp_path / "pids").read_text().split():
        assert ended(int(pid))


def test_an_answer_without_its_id_is_named_when_the_time_is_over(external):
    found = answers(external("say(nr=7)", timeout=1.0), "a")
    assert 'gave no answer within 1 s; what it printed lacks "id": {"nr": 7}' in str(found[0])


def test_what_it_started_ends_with_it_in_another_session_too(external, tmp_path):
    adapter = external(
        'child = subprocess.Popen(["sleep", "600"], start_new_session=True)\n'
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n" + ECHO
    )
    assert texts(answers(adapter, "a")) == ["a"]
    adapter.close()
    assert ended(int((tmp_path / "pid").read_text()))


def test_an_answer_that_is_sent_ahead_is_not_taken_for_the_next_clip(external):
    ahead = 'say(id=request["id"] + 1, text="ahead of its request")'
    adapter = external(f'{ECHO}\nif name == "b":\n    {ahead}')
    found = texts(answers(adapter))
    assert "ahead of its request" not in found
    assert found[:2] == ["a", "b"]
    assert "it must answer each request once" in found[2]
    assert found[3:] == list("def")


def test_a_number_of_thousands_of_digits_does_no_harm(external):
    adapter = external('say(id=request["id"], text=name, prompt_tokens=10**4000, new_tokens=-1)')
    (found,) = answers(adapter, "a")
    assert (found.text, found.prompt_tokens, found.new_tokens) == ("a", None, None)


def ended(pid: int) -> bool:
    """Orphans are zombies until whoever adopts them looks."""
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(50):
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


def test_what_libraries_print_is_passed_over(external):
    adapter = external(
        'print("loading 100%\\n[1, 2]\\n{\\"a\\": 1}\\n{\\n" + "[" * 5000)\n'
        'os.write(1, b"\\xff\\xfe\\n")\nprint("x" * 200000, file=sys.stderr)\n' + ECHO
    )
    assert texts(answers(adapter)) == list("abcdef")


@pytest.mark.parametrize("junk", ['print("x" * 1000)', 'print("x", file=sys.stderr)'])
def test_junk_without_end_is_a_timeout(external, junk):
    adapter = external(f"while True:\n    {junk}", timeout=0.5)
    (found,) = answers(adapter, "a")
    assert isinstance(found, Timeout)


@pytest.mark.parametrize(
    ("reply", "kind", "sentence"),
    [
        ('say(id=request["id"] + 1, text="x")', ClipError, "the worker answered request .* asked"),
        ('print("x" * (1 << 21), flush=True)', ClipError, "a line of more than 1048576 bytes"),
        ('say(id=request["id"])', ClipError, "the worker's answer has no text"),
        ('say(id=request["id"], text=None)', ClipError, "the worker's answer has no text"),
        (
            'say(id=request["id"], error="the file\\nis torn", status="unreadable")',
            *(Unreadable, "^the file is torn$"),
        ),
        (
            'say(id=request["id"], error="no sound", status="missing_modality")',
            *(MissingModality, "^no sound$"),
        ),
        ('say(id=request["id"], error="oops", status="nonsense")', ClipError, "^oops$"),
    ],
    ids="out-of-order long no-text null-text unreadable missing unknown-status".split(),
)
def test_a_wrong_answer_fails_its_clip_alone(external, reply, kind, sentence):
    adapter = external(f'if name == "c":\n    {reply}\nelse:\n    {ECHO}')
    found = answers(adapter)
    assert type(found[2]) is kind
    with pytest.raises(kind, match=sentence):
        raise found[2]
    assert texts(found[:2] + found[3:]) == list("abdef")


def test_a_long_answer_and_a_long_subtitle_pass(external):
    adapter = external('say(id=request["id"], text=request["subtitle"])')
    words = "é" * 150_000  # more than a pipe holds, either way
    (found,) = adapter.generate([adapter.prepare(None, None, words)])
    assert found.text == words


def test_a_worker_that_reads_nothing_is_a_timeout(external):
    adapter = external(head='print("{\\"ready\\": 1}", flush=True)\nimport time; time.sleep(60)\n')
    adapter.timeout = 0.5
    (found,) = adapter.generate([adapter.prepare(None, None, "x" * 300_000)])
    assert isinstance(found, Timeout)


def test_halves_of_characters_do_no_harm(external):
    adapter = external('print(\'{"id": %d, "text": "\\\\ud83d"}\' % request["id"], flush=True)')
    assert texts(answers(adapter, "a")) == ["?"]


@pytest.mark.parametrize(
    ("head", "fields", "sentence"),
    [
        ("", {"python": "/no/python"}, "baseline.python is '/no/python', which is no interpreter"),
        ("", {"python": ""}, "baseline.python is '', which is no interpreter"),
        ("", {"worker": "no.py"}, "baseline.worker is 'no.py', where there is no script"),
        ("", {}, "did not get ready: it ended with status 0; it must print"),
        ("import torch9\n", {}, r"status 1; .*said: ModuleNotFoundError: No module named 'torch9'"),
        ("import os; os.kill(os.getpid(), 9)\n", {}, "it was killed by SIGKILL"),
        (
            "import time; time.sleep(60)\n",
            {"start_seconds": 0.5},
            r"gave no answer within 0.5 s; it must print \{\"ready\": true\} within 0.5 s",
        ),
        ("print('x' * (1 << 21), flush=True)\ninput()", {}, "a line of more than 1048576 bytes"),
    ],
    ids="python no-python worker ends import killed silent long".split(),
)
def test_a_worker_that_does_not_come_up_ends_the_run_at_its_start(external, head, fields, sentence):
    with pytest.raises(PrerequisiteError, match=sentence) as caught:
        external(head=head, **fields).load(Machine())
    assert "\n" not in str(caught.value)


def test_a_worker_that_is_slow_to_come_up_is_said_to_be_waited_for(external, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.1)
    slow = external(head="import time\ntime.sleep(60)\n", start_seconds=1.0)
    settings = PipelineSettings(slow, Machine(), 0, 1, 0, 1, strict=False)
    with pytest.raises(PrerequisiteError), settings.loaded():
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('waiting for {"ready": true} of the worker ')
    assert line.endswith("my_worker.py, for up to 1 s (baseline.start_seconds)")


def test_an_environment_is_named_by_its_folder_and_sees_none_of_our_packages(
    external, tmp_path, monkeypatch
):
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    adapter = external(
        'say(id=request["id"], text=str(os.environ.get("PYTHONPATH")))',
        python=str(tmp_path / "env"),
    )
    assert texts(answers(adapter, "a")) == ["None"]


def test_a_worker_ends_with_its_adapter_and_may_tidy_up(external, tmp_path):
    mark = tmp_path / "tidied"
    body = f'say(id=request["id"], text=str(os.getpid()))\nmark = {str(mark)!r}'
    adapter = external(body)
    script = Path(adapter.worker)
    script.write_text(script.read_text() + 'open(mark, "w").close()\n')
    (pid,) = texts(answers(adapter, "a"))
    adapter.close()
    assert mark.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
