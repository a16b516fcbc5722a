"""How long a large report takes to write, and a browser to show and filter it.

    python -m tests.benchmarks.report              # 20,000 clips x 15 baselines
    python -m tests.benchmarks.report 332 15

Generated runs with descriptions of some 400 characters, which gzip to about a third: random words
of a vocabulary of 3,000, and emotions. The browser is headless Chromium (`make chromium`). Where
other work is on the machine, OMP_NUM_THREADS=1 keeps the bootstrap from waiting for its threads.
"""

import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ovmer.baselines.errors import Status
from ovmer.baselines.words import wheel_words
from ovmer.runners.folder.records import LabelRecord, Prediction
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.folder.run_json import RunInfo
from tests.report.browser import Browser
from tests.runners.conftest import write_tables
from tests.runners.jobs import job

_WORDS = 3000
_LENGTH = 60  # words of a description
_READING = 10  # seconds that somebody looks at the leaderboard before searching

# Sets a field and gives the milliseconds until the list is drawn, and until the search is complete.
_FILTER = """
const [id, value, done] = arguments;
const field = document.getElementById(id);
const start = performance.now();
field.value = value;
field.dispatchEvent(new Event(field.tagName === "SELECT" ? "change" : "input", { bubbles: true }));
let first = null;
function look() {
  const text = document.getElementById("found").textContent;
  first ??= performance.now() - start;
  if (text.includes("searched")) requestAnimationFrame(look);
  else done([first, performance.now() - start, text]);
}
requestAnimationFrame(() => requestAnimationFrame(look)); // the second frame follows the drawing
"""

# Notes when the leaderboard is first there.
_WATCH = """
new MutationObserver((_, observer) => {
  if (!document.querySelector("main table")) return;
  window.firstView = performance.now();
  observer.disconnect();
}).observe(document, { childList: true, subtree: true });
"""


def main(clips: int, baselines: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _make(root, clips, baselines)
        start = time.monotonic()
        command = [sys.executable, "-m", "ovmer", "report", str(root / "outputs")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = used.ru_utime + used.ru_stime
        print(f"written in {time.monotonic() - start:.1f} s, {processor:.1f} s of the processor,")
        print(f"at most {used.ru_maxrss / 1e6:.1f} GB: {done.stdout.splitlines()[-1]}")
        (page,) = root.rglob("report.html")
        browser = Browser()
        try:
            _look(browser, page)
        finally:
            browser.close()


def _look(browser: Browser, page: Path) -> None:
    driver = browser.driver
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})
    browser.open(page)
    print(f"first view after {browser.run('return firstView') / 1000:.2f} s")
    _gallery(browser)
    _filter(browser, "q", "zorven", "first search, as soon as the gallery is there")
    browser.open(page)
    time.sleep(_READING)
    _gallery(browser)
    _filter(browser, "q", "zorven", f"first search, {_READING} s after the page was opened")
    for field, value in (
        ("q", "wemo"),
        ("q", "the person seems"),
        ("q", ""),
        ("status", "crashed"),
        ("status", ""),
        ("label", "happy"),
        ("by", "3"),
        ("order", "worst"),
        ("disagree", "75"),
    ):
        _filter(browser, field, value, f"{field}={value}")


def _gallery(browser: Browser) -> None:
    start = time.monotonic()
    browser.run("location.hash = 'view=gallery'")
    browser.wait(lambda: browser.all("#found"))
    print(f"gallery after {time.monotonic() - start:.2f} s more")


def _filter(browser: Browser, field: str, value: str, what: str) -> None:
    first, last, count = browser.driver.execute_async_script(_FILTER, field, value)
    print(f"{what}: {first / 1000:.2f} s, complete {last / 1000:.2f} s ({' '.join(count.split())})")


def _make(root: Path, clips: int, baselines: int) -> None:
    names = [f"clip_{number:05d}" for number in range(clips)]
    data = write_tables(root / "data", names)
    for folder, ending in (("video", "mp4"), ("audio", "wav")):
        (data / folder).mkdir()
        for name in names:
            (data / folder / f"{name}.{ending}").touch()
    for number in range(baselines):
        _make_run(root, data, names, number)


def _make_run(root: Path, data: Path, names: list[str], number: int) -> None:
    made = job(
        "baseline=random",
        f"baseline.name=model_{number}",
        "dataset=ovmerd",
        f"dataset.root={data}",
        f"outputs={root / 'outputs'}",
    )
    with RunFolder(made.folder) as folder:
        for prediction, labels in _answers(names, number):
            folder.predictions.append(prediction)
            if not prediction.failed:
                key = f"{number} {prediction.name}"
                folder.labels.append(
                    LabelRecord(prediction.name, labels, f"[{', '.join(labels)}]", key)
                )
        folder.write_info(RunInfo(made.identity, asdict(made.settings)))


def _answers(names: list[str], number: int) -> Iterator[tuple[Prediction, tuple[str, ...]]]:
    drawn = random.Random(number)
    spell = random.Random(0)
    words = [
        "".join(
            spell.choices("aeiou", k=1)
            + spell.choices("bdklmnprstvwz", k=2)
            + spell.choices("aeiou", k=1)
            + spell.choices("bdklmnprst", k=1)
        )
        for _ in range(_WORDS)
    ] + ["zorven"]
    emotions = sorted(wheel_words())
    for name in names:
        if drawn.random() < 0.01:
            yield Prediction(name, Status.CRASHED, error="RuntimeError: shapes differ"), ()
            continue
        labels = tuple(drawn.sample(emotions, drawn.randint(1, 6)))
        text = " ".join(drawn.choices(words, k=_LENGTH))
        text = f"In the video, the person seems {', '.join(labels)}. {text.capitalize()}."
        yield Prediction(name, Status.OK, text, seconds=1.25, new_tokens=80), labels


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3] or (20_000, 15)))
