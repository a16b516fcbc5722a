"""What a run costs, beforehand and afterwards."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ovmer.runners.config import PriceSettings
from ovmer.runners.data import read_dataset
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.sweeping.costs import estimate, money
from ovmer.runners.sweeping.state import look
from ovmer.runners.sweeping.work import work
from tests.runners.jobs import job

VIDEO = Path(__file__).parents[2] / "runners" / "data" / "sample" / "video" / "good_news.mp4"
PRICE = PriceSettings(prompt=0.5, answer=2.0, currency="EUR")


def test_money_is_by_the_million_and_unknown_without_a_price():
    assert money(PRICE, 2_000_000, 500_000) == pytest.approx(2.0)
    assert money(PriceSettings(answer=2.0), 2_000_000, 500_000) == pytest.approx(1.0)
    assert money(PriceSettings(), 2_000_000, 500_000) is None


def estimated(tmp_path, *overrides: str) -> str:
    made = job("baseline=random", f"outputs={tmp_path}", *overrides)
    return estimate(look(made, read_dataset(made.settings.dataset)))


def test_an_estimate_goes_by_the_clips_that_were_described(tmp_path):
    assert "nothing is measured yet" in estimated(tmp_path)
    few = job("baseline=random", f"outputs={tmp_path}", "limit=4")
    work(few)
    with RunFolder(few.folder) as folder:  # as a fast one leaves it: hundredths are kept
        info = folder.info()
        info.sessions[-1]["speed"] |= {"seconds": 0.0}
        folder.write_info(info)
    assert "clips left: 6, 0 min; estimated from 4 clips" in estimated(tmp_path)
    with RunFolder(few.folder) as folder:  # as a model of 3,600 s a clip would have left it
        info = folder.info()
        info.sessions[-1]["speed"] |= {
            "seconds": 4 * 3600,
            "prompt_tokens": 4_000_000,
            "new_tokens": 400,
        }
        folder.write_info(info)
    said = estimated(tmp_path, "price.prompt=0.5", "price.answer=2", "price.currency=EUR")
    assert "clips left: 6, 6.0 h" in said
    assert "6.0 M prompt tokens and 600 new ones, 3.00 EUR" in said
    assert said.endswith("estimated from 4 clips that were described")
    work(job("baseline=random", f"outputs={tmp_path}"))
    assert estimated(tmp_path).endswith("nothing is left to describe")


def test_the_amount_spent_is_in_run_json_and_the_price_is_no_part_of_the_run(tmp_path):
    free = job("baseline=random", f"outputs={tmp_path}", "limit=2")
    work(free)
    paid = job("baseline=random", f"outputs={tmp_path}", "price.prompt=1")
    assert paid.identity == replace(free).identity
    work(paid)
    first, second = json.loads((paid.folder / "run.json").read_text("utf-8"))["sessions"]
    assert "cost" not in first
    assert second["cost"] == {"amount": 0.0, "currency": "USD"}


def test_an_estimate_runs_nothing(command, tmp_path):
    done = command("sweep", "-m", "baseline=random,lexicon", "estimate=true")
    assert done.returncode == 0
    assert done.stdout.count("clips left: 10") == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "anna.mp4").write_bytes(VIDEO.read_bytes())
    done = command("sweep", "baseline=lexicon", "clips=mine", "estimate=true")
    assert done.returncode == 0, done.stderr
    assert "clips left: 1;" in done.stdout
    assert not list(tmp_path.glob("outputs/*/*/run.json"))
