"""Answers that earn a part of a point: rewards, sets, a judge's steps and scores, free text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ovmer.baselines.errors import PrerequisiteError, one_of
from ovmer.runners.scoring.base import wrong_value
from ovmer.runners.scoring.result import FloatArray, Rows, ratio
from ovmer.runners.tasks.family import UNKNOWN, Case, Family, FamilyFigures, policy
from ovmer.runners.tasks.parsers import answer_or_reply, careful_choice, has_answer_tag
from ovmer.runners.tasks.readers import LOGICAL, MULTIMODAL, reward, several, steps


@dataclass
class Rewards(Family):
    """Mean reward of questions of several types, in all and by type (IntentBench)."""

    groups: tuple[str, ...] = ("multiple choice", "emer_ov_mc", "judge")
    graded = ("reward",)
    untagged: str = "own"
    """The text read if a reply has no <answer>: the `own` reply, or the `last` one of the run,
    as in the authors' code, which depends on the order of the clips."""
    parser: str = "answer_tag"
    """The text in the tags, or `careful`: the letters, or yes or no, that the reply settles on."""

    def __post_init__(self) -> None:
        one_of("parser", self.parser, ("answer_tag", "careful"))
        one_of("untagged", self.untagged, ("own", "last"))
        parts = [f"{group}/{part}" for group in self.groups for part in ("clips", "reward")]
        self.columns = ("clips", "unknown", "reward", *parts)

    def count(self, cases: Sequence[Case]) -> FamilyFigures:
        values, readings = np.zeros((len(cases), len(self.columns))), list[str | None]()
        for row, case in zip(values, cases, strict=True):
            if not case.truth:
                raise wrong_value(case.name, "truth", "empty, where an answer is needed")
            given, reading = self._read(case, cases[-1])
            earned = reward(case.group, given, answer_or_reply(case.truth[0]))
            row[:3] = 1, reading is None, earned
            if case.group in self.groups:
                at = 3 + 2 * self.groups.index(case.group)
                row[at : at + 2] = 1, earned
            readings.append(reading)
        return FamilyFigures(values, readings, {})

    def _read(self, case: Case, last: Case) -> tuple[str, str | None]:
        """The text that is rewarded, and the reading: None where the rule finds nothing."""
        if self.parser == "careful":
            reading = careful_choice(case.group)(case.reply)
            return reading or "", reading
        if has_answer_tag(case.reply):
            return (given := answer_or_reply(case.reply)), given
        return (last if self.untagged == "last" else case).reply, None

    def aggregate(self, sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        by_type = {
            group: ratio(sums[f"{group}/reward"], sums[f"{group}/clips"], 0.0)
            for group in self.groups
        }
        mean = ratio(sums["reward"], sums["clips"], 0.0)
        return {"reward": mean, **by_type, "unknown": ratio(sums["unknown"], sums["clips"], 0.0)}

    @property
    def about(self) -> str:
        if self.parser == "careful":
            return "the letters, or yes or no, that the reply settles on (our own rule)"
        other = "the reply itself" if self.untagged == "own" else "the last reply of the run"
        return f"the text in the first <answer> tags, or else {other}"


@dataclass
class SetF1(Family):
    """Several labels of a few: F1 of each clip's two sets, then the mean over clips."""

    labels: tuple[str, ...]
    columns = ("clips", "unknown", "precision", "recall", "F1")

    def __post_init__(self) -> None:
        if not self.labels:
            raise PrerequisiteError("sets of labels need the labels; give choices=[a,b]")

    def count(self, cases: Sequence[Case]) -> FamilyFigures:
        parse = several(self.labels)
        values, readings = np.zeros((len(cases), 5)), list[str | None]()
        for row, case in zip(values, cases, strict=True):
            named = set(parse(case.reply))
            true = {label.strip().lower() for label in case.truth}
            hits = len({label.lower() for label in named} & true)
            precision = hits / len(named) if named else 0.0
            recall = hits / len(true) if true else 0.0
            f1 = 2 * hits / (len(named) + len(true)) if named or true else 0.0
            row[:] = 1, not named, precision, recall, f1
            readings.append(", ".join(sorted(named)) or None)
        return FamilyFigures(values, readings, {})

    def aggregate(self, sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        names = ("F1", "precision", "recall", "unknown")
        return {name: ratio(sums[name], sums["clips"], 0.0) for name in names}

    @property
    def about(self) -> str:
        return "all labels that the reply names; a reply without one has F1 0"


@dataclass
class StepRatings(Family):
    """A judge's rating of each step of an answer (MME-Emotion); the reply is the judge's.

    recognition: the last step; reasoning: mean of the steps before it, 0 where there is none;
    CoT: half of each. Source: FunAudioLLM/MME-Emotion 0c265d8, cal_metrics.
    """

    fractions: bool = False
    """C/K in the last step, as in the tasks with several labels."""
    fold: Mapping[str, str] | None = None
    """Categories that count as another, as in ER-Wild."""
    unknown: str = "drop"
    columns = ("clips", "unknown", "counted", "recognition", "reasoning")
    graded = ("recognition",)
    unread_hint = ", since none is a judge's rating; extractor=judge asks for it"

    def __post_init__(self) -> None:
        one_of("unknown", self.unknown, UNKNOWN)

    def count(self, cases: Sequence[Case]) -> FamilyFigures:
        values, readings = np.zeros((len(cases), 5)), list[str | None]()
        kept = dict[str, list[tuple[float, float, int]]]()
        for row, case in zip(values, cases, strict=True):
            rated = steps(case.reply, self.fractions)
            readings.append(None if not rated else ", ".join(f"{value:g}" for value in rated))
            row[:3] = 1, not rated, bool(rated) or self.unknown == "wrong"
            if rated:
                row[3], row[4] = rated[-1], fmean(rated[:-1]) if len(rated) > 1 else 0.0
                category = ",".join(case.truth)
                category = (self.fold or {}).get(category, category)
                kept.setdefault(category, []).append((row[3], row[4], len(rated)))
        return FamilyFigures(values, readings, {"categories": _categories(kept)})

    def aggregate(self, sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        recognition, reasoning = (
            ratio(sums[part], sums["counted"], np.nan) for part in ("recognition", "reasoning")
        )
        return {
            "recognition": recognition,
            "reasoning": reasoning,
            "CoT": 0.5 * recognition + 0.5 * reasoning,
            "unknown": ratio(sums["unknown"], sums["clips"], 0.0),
        }

    @property
    def about(self) -> str:
        return f"the judge's steps in <score>; a judgement without them is {policy(self.unknown)}"


def _categories(kept: Mapping[str, Sequence[tuple[float, float, int]]]) -> Rows:
    """By true label and in all, in percent as the authors print them, and the mean of steps."""
    rows: Rows = [["category", "count", "recognition", "reasoning", "cot", "avg_step"]]
    everything = [each for category in kept.values() for each in category]
    for name, rated in (*sorted(kept.items()), ("total", everything)):
        if rated:
            first, second, count = (fmean(column) for column in zip(*rated, strict=True))
            first, second = 100 * first, 100 * second
            rows.append([name, len(rated), first, second, 0.5 * first + 0.5 * second, count])
    return rows


@dataclass
class JudgedText(Family):
    """Two scores of a judge, 1 to 5 each; none is 0 (EmoBench-M's laughter reasoning).

    The reply is the judge's two answers, one after the other. Figures are fractions of 5, `total`
    of 10. Source: Emo-gml/EmoBench-M 8916147, LaughterReason_LLMScoring.py.
    """

    columns = ("clips", "unknown", "logical", "multimodal")
    graded = ("logical", "multimodal")

    def count(self, cases: Sequence[Case]) -> FamilyFigures:
        values, readings = np.zeros((len(cases), 4)), list[str | None]()
        for row, case in zip(values, cases, strict=True):
            logical, multimodal = LOGICAL(case.reply), MULTIMODAL(case.reply)
            row[:] = 1, logical is None or multimodal is None, logical or 0, multimodal or 0
            readings.append(None if row[1] else f"{logical}, {multimodal}")
        return FamilyFigures(values, readings, {})

    def aggregate(self, sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        logical, multimodal, unknown = (
            ratio(sums[part], sums["clips"], 0.0) for part in ("logical", "multimodal", "unknown")
        )
        return {
            "total": (logical + multimodal) / 10,
            "logical": logical / 5,
            "multimodal": multimodal / 5,
            "unknown": unknown,
        }

    @property
    def about(self) -> str:
        return "the number after the dimension's name and a colon; a judgement without it is 0"


@dataclass
class TextOverlap(Family):
    """BLEU, ROUGE-L and BERTScore of a free answer against the reference; empty ones are left out.

    nltk's `sentence_bleu` (four grams, no smoothing, tokens between blanks), rouge_score's ROUGE-L
    F with a stemmer, and the F of bert_score, which needs a model. Source: Emo-gml/EmoBench-M
    8916147, `evaluate_generation`.
    """

    bert: str = ""
    """The model of BERTScore, a folder or a name on the hub; the authors' is roberta-large. Empty:
    no BERTScore."""
    bert_layers: int = 17
    """Up to which layer it is run; 17 is what bert_score takes of roberta-large."""

    def __post_init__(self) -> None:
        self._measures = ("BLEU", "ROUGE-L", *(("BERTScore",) if self.bert else ()))
        self.columns = ("clips", "unknown", "counted", *self._measures)

    def count(self, cases: Sequence[Case]) -> FamilyFigures:
        measure = _text_measures()
        replies = [case.reply.strip() for case in cases]
        references = [" ".join(case.truth).strip() for case in cases]
        values = np.zeros((len(cases), len(self.columns)))
        for row, reply, reference in zip(values, replies, references, strict=True):
            row[:3] = 1, not reply, bool(reply and reference)
            if row[2]:
                row[3:5] = measure(reply, reference)
        kept = np.flatnonzero(values[:, 2])
        if self.bert and len(kept):
            values[kept, 5] = self._bert_score(
                [replies[i] for i in kept], [references[i] for i in kept]
            )
        return FamilyFigures(values, [reply or None for reply in replies], {})

    def _bert_score(self, replies: Sequence[str], references: Sequence[str]) -> FloatArray:
        """F of each pair, without rescaling and idf weights, as the authors have it."""
        try:
            from bert_score import score
        except ImportError:
            raise PrerequisiteError(
                "BERTScore needs a library: pip install 'ovmer[bertscore]', or say bert=''"
            ) from None
        try:
            _, _, f = score(
                list(replies), list(references), model_type=self.bert, num_layers=self.bert_layers
            )
        except (OSError, AssertionError) as error:
            why = " ".join(str(error).split()).partition(". ")[0]
            raise PrerequisiteError(
                f"BERTScore cannot use bert={self.bert} with bert_layers={self.bert_layers} "
                f"({why:.200}); give the folder of its weights, or bert='' for none"
            ) from error
        return np.asarray(f, dtype=np.float64)

    def aggregate(self, sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        figures = {name: ratio(sums[name], sums["counted"], np.nan) for name in self._measures}
        return figures | {"unknown": ratio(sums["unknown"], sums["clips"], 0.0)}

    @property
    def about(self) -> str:
        return "the reply unchanged; an empty one is left out"


def _text_measures() -> Callable[[str, str], tuple[float, float]]:
    """(reply, reference) -> BLEU, ROUGE-L."""
    import warnings

    from nltk.translate.bleu_score import sentence_bleu
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)

    def measure(reply: str, reference: str) -> tuple[float, float]:
        with warnings.catch_warnings():
            # A text without a common four-gram has a BLEU of about 0, which nltk warns of.
            warnings.simplefilter("ignore")
            bleu = float(sentence_bleu([reference.split()], reply.split()))
        return bleu, float(scorer.score(reference, reply)["rougeL"].fmeasure)

    return measure
