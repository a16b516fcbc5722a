"""Deviations of a run from the one behind a printed figure, each with its reason.

What ships in conf/baseline/ is how the authors ran a model, but for the accidents of their code,
which the experiments switch on (`bug_compat`). Settings are compared with that, and weights by what
was loaded: repository and commit or, of a folder of one's own, that it is one.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import shipped_baselines, shipped_extractor
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.folder.run_json import RunInfo
from ovmer.runners.folder.scores_json import StoredScores
from ovmer.runners.job import NOT_FIELDS, OWN_PRESET, own_preset
from ovmer.runners.papers.layout import TableLayout
from ovmer.runners.papers.results import PaperRun

_ASKED = {
    "prompt": "asked with the subtitle",
    "merge": "two steps, the subtitle merged afterwards",
    "none": "asked without the subtitle",
    None: "protocol unknown",
}
_BESIDE = NOT_FIELDS | {"adapter", "checkpoint", "bug_compat", "runs"}
"""Keys of a baseline that are compared in a way of their own."""
_OF_A_NAME = frozenset({"dry", "apart", "bug_compat"})
"""Words in the names of run folders that are no deviation from print."""
_DRAWN = frozenset({"temperature", "top_p", "repetition_penalty"})
_LONGEST = 70  # characters of a value in a mark


@dataclass(frozen=True)
class Mark:
    """A deviation of a figure; `is_grave` if it cannot be compared with print."""

    text: str
    is_grave: bool = True


@cache
def _shipped() -> Mapping[str, Mapping[str, Any]]:
    return shipped_baselines()


def names_of(baseline: str | None) -> list[str]:
    """The baselines whose runs can fill a printed row: its own, and the one it varies."""
    shipped = _shipped().get(baseline or "", {})
    return [each for each in (baseline, shipped.get("variant_of")) if each]


def deviations(
    layout: TableLayout, baseline: str | None, result: PaperRun, scored: StoredScores
) -> Iterator[Mark]:
    """A mark for each thing that print did otherwise; what is grave first."""
    info, shipped = result.info, _shipped().get(baseline or "", {})
    protocol = shipped.get("protocol") or {}
    found = [
        *_asking(layout, protocol, result, scored),
        *(_combined(info) if "+" in info.baseline else _settings(info, shipped)),
        *_weights(info, shipped),
        *_running(info, shipped, protocol),
        *_labels(layout, protocol, info, scored),
    ]
    yield from sorted(found, key=lambda mark: not mark.is_grave)


def _asking(
    layout: TableLayout, protocol: Mapping[str, Any], result: PaperRun, scored: StoredScores
) -> Iterator[Mark]:
    info, asked = result.info, result.asked(scored)
    wanted = layout.subtitle and protocol.get("subtitle", layout.subtitle)
    if wanted is not None and asked != wanted and not info.names_labels:
        yield Mark(f"{_ASKED[asked]}; print: {_ASKED[wanted]}")
    generation = info.about.get("generation", "paper")
    ran, printed = info.about["baseline"], layout.generation
    if printed == OWN_PRESET:
        printed = own_preset(ran)
    if ran.get("generation") and generation != printed:
        yield Mark(f"other decoding: generation={generation}")


def _settings(info: RunInfo, shipped: Mapping[str, Any]) -> Iterator[Mark]:
    """Keys that the run has otherwise than the yaml of the row's baseline."""
    if info.imported is not None or not shipped:
        return
    ran = info.about["baseline"]
    yield from _other("settings", ran, shipped, _BESIDE)
    if (name := info.about.get("generation", "paper")) == own_preset(shipped):
        yield from _other("decoding", _preset(ran, name), _preset(shipped, name))
    if ran.get("bug_compat") is False:
        yield Mark("without the accidents of the authors' code (baseline.bug_compat=false)", False)


def _preset(baseline: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (baseline.get("generation") or {}).get(name) or {}
    return found


def _other(
    what: str,
    ran: Mapping[str, Any],
    shipped: Mapping[str, Any],
    beside: frozenset[str] = frozenset(),
) -> Iterator[Mark]:
    changed = [
        f"{key}={_short(value)} (print: {_short(printed)})"
        for key, value, printed in _pairs(
            {k: v for k, v in ran.items() if k not in beside}, shipped
        )
        if value != printed
    ]
    if changed:
        yield Mark(f"other {what}: {', '.join(changed)}")


def _pairs(ran: Mapping[str, Any], shipped: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(key, value, print's value); keys of a mapping, such as the prompts, each by itself."""
    for key, value in ran.items():
        printed = shipped.get(key)
        if isinstance(value, Mapping) and isinstance(printed, Mapping):
            for each in dict.fromkeys((*value, *printed)):
                yield f"{key}.{each}", value.get(each), printed.get(each)
        else:
            yield key, value, printed


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _combined(info: RunInfo) -> Iterator[Mark]:
    """Deviations of a combination: those of its parts, read from their run folders where these are
    still there, and listed by their names."""
    for run in info.about["baseline"].get("runs") or ():
        part = None
        with suppress(PrerequisiteError):  # a folder that cannot be read
            part = RunFolder(Path(run)).find_info()
        if part is not None:
            shipped = _shipped().get(part.baseline, {})
            protocol = shipped.get("protocol") or {}
            for mark in (*_weights(part, shipped), *_running(part, shipped, protocol)):
                yield Mark(f"{part.baseline}: {mark.text}", mark.is_grave)
    unusual = [
        name
        for name in (Path(str(source)).name for source in info.identity["sources"])
        if not set(name.split("-")[1:]) <= _OF_A_NAME
    ]
    if unusual:
        yield Mark(f"parts with other settings: {', '.join(unusual)}")


def _weights(info: RunInfo, shipped: Mapping[str, Any]) -> Iterator[Mark]:
    """Parts of the checkpoint that are not the published ones, or not known to be."""
    other, unknown = list[str](), list[str]()
    loaded = info.identity.get("baseline.checkpoint") or {}
    for name, published in (shipped.get("checkpoint") or {}).items():
        part = loaded.get(name)
        if part is None or not published.get("repo"):
            continue  # files that are in no repository can only be the user's own
        if part.get("ignore"):
            other.append(f"{name} without {', '.join(part['ignore'])}")
        repo, commit = part.get("repo"), part.get("commit")
        pinned = published["revision"] != "main"
        revision = (pinned and commit) or part.get("revision")
        if repo not in (None, published["repo"]):
            other.append(f"{name} is {repo}")
        elif revision not in (None, published["revision"]):
            other.append(f"{name} is {published['repo']} at {revision[:12]}")
        elif "content" in part and not commit:
            unknown.append(name)
    if other:
        yield Mark(f"other weights: {'; '.join(other)}")
    if unknown:
        yield Mark(
            f"weights of a folder, not known to be the published ones: {', '.join(unknown)}", False
        )


def _running(
    info: RunInfo, shipped: Mapping[str, Any], protocol: Mapping[str, Any]
) -> Iterator[Mark]:
    """Deviations outside the baseline: picture, data type, options of the engine."""
    identity = info.identity
    visual, wanted = identity.get("dataset.visual"), protocol.get("visual", "frame")
    if visual not in (None, wanted):
        yield Mark(f"{visual}s were looked at, print's run had {wanted}s")
    switches = [f"{k}={v}" for k, v in identity.items() if k.startswith("engine.")]
    if switches:
        yield Mark(f"other decoding: {', '.join(switches)}")
    yield from _given(identity)
    if any(each.startswith("dataset.language=") for each in info.overrides):
        yield Mark(f"subtitles in {info.about['dataset'].get('language')}")
    dtype, printed = identity.get("machine.dtype"), shipped.get("dtype")
    asked = (info.about.get("machine") or {}).get("dtype", "auto") != "auto"
    # A dry run has no precision to compare, unless one was set.
    if printed and dtype not in (None, printed) and (asked or not info.is_dry):
        yield Mark(f"in {dtype}, print's run in {printed}", is_grave=False)


def _given(identity: Mapping[str, Any]) -> Iterator[Mark]:
    """What the model was given otherwise than the data set's own files, whole."""
    if inputs := identity.get("inputs"):
        yield Mark(f"other inputs: {inputs}")
    if "asr" in identity:
        yield Mark("subtitles by a speech recogniser (asr=), print's are the data set's")
    if "faces" in identity:
        yield Mark("faces found here (faces=), print's by OpenFace")
    reader = identity.get("media.reader")
    if reader not in (None, "decord"):
        yield Mark(f"frames read by {reader}, print's by decord", is_grave=False)


def _labels(
    layout: TableLayout, protocol: Mapping[str, Any], info: RunInfo, scored: StoredScores
) -> Iterator[Mark]:
    extractor = scored.extractor
    by_rule = extractor.get("name") == "lexicon" and not info.names_labels
    if by_rule and info.imported is None:
        yield Mark("labels by rule (extractor=lexicon), print's by a language model")
    model = str(extractor.get("model", "")).rpartition("/")[2]
    if layout.extractor and model not in ("", "miniature", layout.extractor):
        yield Mark(f"labels by {model}, print's by {layout.extractor}")
    if "friendly" in (scored.conditions.get("parser"), extractor.get("parser")):
        yield Mark("labels read by the friendly parser")
    wanted = protocol.get("translate", "none")
    translate = extractor.get("translate", wanted)
    if translate != wanted and not info.names_labels:
        yield Mark(f"translated before the label step: {translate}, for print: {wanted}")
    if layout.labels != (prompt := extractor.get("labels", layout.labels)):
        yield Mark(f"labels by the prompt {prompt}, print's by {layout.labels}")
    if extractor.get("temperature") == 0:
        yield Mark("label step greedy, print's at temperature 0.7", is_grave=False)
    elif extractor.get("name") == "qwen25":
        printed = shipped_extractor("qwen25")["presets"]["paper"]
        drawn = {key: extractor[key] for key in printed.keys() & _DRAWN & extractor.keys()}
        yield from _other("drawing of labels", dict(sorted(drawn.items())), printed)
