"""The sections of a report: a frozen row type for each table, with the meaning of its numbers.

The *effect* of a word is the sum of its tokens' contributions: signed, on the explained number.
Where a run has no contributions it is the word's share of the flow, 0 to 1. Intervals are of 95 %
and have Student's t; those of differences have Welch's degrees of freedom. `low` and `high` are
their ends. `label` is the explained class, None for all together.
"""

from dataclasses import dataclass

CONTRIBUTION, SHARE = "contribution", "share"
DISCOVERY = 0.05  # largest q of a word that is told apart from one without effect


@dataclass(frozen=True)
class Summary:
    """A run in one row.

    Attributes:
        folder: The folder of the results.
        rows: Number of rows.
        explained: Those of them with a result.
        failed: Those without.
        models: Names of the models, joined by a comma; one but for folders put together by hand.
        tensors: Names of the information tensors.
        versions: Versions of the libraries.
        unit: "contribution", or "share" where the run has no contributions.
        words: Number of words in all texts.
        confidence: Mean probability of what is predicted.
        truncated: Texts that were cut off.
        warned: Texts with a warning.
    """

    folder: str
    rows: int
    explained: int
    failed: int
    models: str
    tensors: str
    versions: str
    unit: str
    words: int
    confidence: float | None
    truncated: int
    warned: int


@dataclass(frozen=True)
class LabelCount:
    """Texts by what is explained of them.

    Attributes:
        label: The explained class.
        texts: Number of its texts.
        predicted: Those of all texts that the model predicts it for.
        confidence: Mean probability of what is predicted, over its texts.
    """

    label: str
    texts: int
    predicted: int
    confidence: float | None


@dataclass(frozen=True)
class WordEffect:
    """A word or phrase over all texts that have it.

    Attributes:
        label: The explained class.
        phrase: The word, or 2 or 3 adjacent words.
        length: Number of its words.
        texts: Number of texts that have it.
        times: Number of times that it occurs.
        effect: Mean over these texts of its mean effect in each; above 0 it speaks for `label`.
        low: Lower end of the interval of `effect`.
        high: Upper end.
        q: False discovery rate, by Benjamini and Hochberg over all words of the class, or over all
            its phrases: of those with a q of at most 0.05, about 5 % have an effect of 0. None
            without contributions.
        share: Mean share of the flow in the same way, 0 to 1.
    """

    label: str | None
    phrase: str
    length: int
    texts: int
    times: int
    effect: float
    low: float
    high: float
    q: float | None
    share: float | None

    @property
    def is_for(self) -> bool:
        """True where it speaks for the class."""
        return self.effect > 0

    @property
    def is_faint(self) -> bool:
        """True where it is not told apart from a word without effect."""
        return self.q is not None and self.q > DISCOVERY


@dataclass(frozen=True)
class ExtremeText:
    """A text at one end of all.

    Attributes:
        kind: "most certain", "least certain", "most concentrated", "most spread" or "most certain
            and wrong".
        rank: Its place there, from 1.
        id: Its id.
        text: The text.
        label: The explained class.
        predicted: The predicted class.
        true_label: The label of the source, by the model's name where that is known.
        confidence: Probability of `predicted`.
        words: Number of its words.
        evenness: 1 / (words x concentration): 1 where all words have equal shares, 1 / words where
            one has all.
    """

    kind: str
    rank: int
    id: str
    text: str
    label: str
    predicted: str | None
    true_label: str | None
    confidence: float | None
    words: int
    evenness: float | None


@dataclass(frozen=True)
class Suspect:
    """Matches of the word list or of the pattern, in one part of the texts.

    Attributes:
        rule: "words" or "pattern".
        match: What matched; None for all matches together.
        slice: Value of the column of the source; None for all texts.
        label: The explained class.
        texts: Number of texts in this part.
        matched: Those of them with a match.
        times: Number of matches.
        share: Mean over the texts with a match of the summed share of the matching words, 0 to 1.
        share_low: Lower end of its interval; None of a single text.
        share_high: Upper end.
        effect: Mean over the same texts of their summed effect.
        low: Lower end of its interval; None of a single text.
        high: Upper end.
    """

    rule: str
    match: str | None
    slice: str | None
    label: str | None
    texts: int
    matched: int
    times: int
    share: float | None
    share_low: float | None
    share_high: float | None
    effect: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class SliceDifference:
    """One slice of the texts against all the others, by one measure.

    Attributes:
        dimension: The column of the source, or "words" or "pattern" for texts with a match and
            without.
        slice: The value of the column, or "match".
        measure: "confidence", "correct" (1 or 0), "predicts X" (1 or 0), "share of words" or
            "effect of words" (0 in texts without a match), and the same of the pattern.
        texts: Number of texts of the slice.
        mean: Mean of the measure there.
        rest_texts: Number of all other texts.
        rest: Mean of the measure there.
        difference: `mean - rest`.
        low: Lower end of its interval; None where one of the two has a single text.
        high: Upper end.
    """

    dimension: str
    slice: str
    measure: str
    texts: int
    mean: float
    rest_texts: int
    rest: float
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Accuracy:
    """Predictions against the labels of the source.

    Attributes:
        matching: The way labels were matched: "name", "index" of the model's labels, "given"
            (`labels=`), or "none".
        labelled: Texts with a label that could be matched.
        correct: Those of them that are predicted so.
        accuracy: `correct / labelled`; None without any.
        low: Lower end of Wilson's interval of 95 %.
        high: Upper end.
        unseen: Labelled texts whose class the model predicts for no text at all. Where they are
            many, the labels may not be the model's.
        unmatched: Texts with a label that is none of the model's.
        example: Such a label.
    """

    matching: str
    labelled: int
    correct: int
    accuracy: float | None
    low: float | None
    high: float | None
    unseen: int
    unmatched: int
    example: str | None


@dataclass(frozen=True)
class Confusion:
    """Texts of one label that are predicted as one class.

    Attributes:
        true_label: The label, by the model's name.
        predicted: The predicted class.
        texts: Number of texts.
    """

    true_label: str
    predicted: str
    texts: int


@dataclass(frozen=True)
class Mistake:
    """A word in wrong predictions of a class, against the same word in right ones.

    Attributes:
        predicted: The predicted class, which is the explained one too.
        phrase: The word.
        wrong_texts: Number of wrongly predicted texts that have it.
        wrong: Its mean effect there.
        wrong_low: Lower end of its interval.
        wrong_high: Upper end.
        right_texts: Number of rightly predicted texts that have it.
        right: Its mean effect there; None without any.
        difference: `wrong - right`.
        low: Lower end of its interval; None with fewer than two right texts.
        high: Upper end.
    """

    predicted: str
    phrase: str
    wrong_texts: int
    wrong: float
    wrong_low: float
    wrong_high: float
    right_texts: int
    right: float | None
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Drift:
    """Two runs in one row.

    Attributes:
        before: The folder of the earlier run.
        models_before: Names of its models.
        models: Names of this run's models.
        texts_before: Number of its texts with a result.
        texts: Number of this run's texts with a result.
        same: Texts that both have: the same id and the same text.
        changed: Ids that both have with different texts; they are not compared one by one.
        flipped: Those of `same` whose prediction differs.
        unit_before: Unit of its effects; words are compared where both have the same.
    """

    before: str
    models_before: str
    models: str
    texts_before: int
    texts: int
    same: int
    changed: int
    flipped: int
    unit_before: str


@dataclass(frozen=True)
class LabelDrift:
    """The part of texts that a class is predicted for, in two runs.

    Attributes:
        label: The predicted class.
        before: Its part of the earlier run's texts, 0 to 1.
        now: Its part of this run's texts.
        difference: `now - before`.
        low: Lower end of its interval, as if the two runs had different texts.
        high: Upper end.
    """

    label: str
    before: float
    now: float
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Flip:
    """A text whose prediction differs between two runs.

    Attributes:
        id: Its id.
        text: The text.
        before: The earlier prediction.
        now: This run's.
        confidence_before: Probability of the earlier prediction.
        confidence: Probability of this run's.
        true_label: The label of the source, by the model's name where that is known.
    """

    id: str
    text: str
    before: str
    now: str
    confidence_before: float
    confidence: float
    true_label: str | None


@dataclass(frozen=True)
class WordDrift:
    """A word whose mean effect differs between two runs.

    Attributes:
        label: The explained class.
        phrase: The word.
        texts_before: Texts of the earlier run that have it.
        before: Its mean effect there.
        texts: Texts of this run that have it.
        now: Its mean effect here.
        difference: `now - before`.
        low: Lower end of its interval, as if the two runs had different texts.
        high: Upper end.
    """

    label: str
    phrase: str
    texts_before: int
    before: float
    texts: int
    now: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class SegmentShare:
    """Segments of one name: a turn, a passage, an instruction.

    Attributes:
        name: The name.
        texts: Number of texts that have it.
        share: Mean share of the flow, 0 to 1.
        share_low: Lower end of its interval; None of a single text.
        share_high: Upper end.
        effect: Mean contribution; None where the run has none.
        low: Lower end of its interval.
        high: Upper end.
        largest: Texts where no other segment has a larger share.
    """

    name: str
    texts: int
    share: float
    share_low: float | None
    share_high: float | None
    effect: float | None
    low: float | None
    high: float | None
    largest: int


@dataclass(frozen=True)
class Failure:
    """Rows that failed by one kind of error.

    Attributes:
        kind: Name of the error's type.
        rows: Number of rows.
        id: Id of one of them.
        error: Its message.
    """

    kind: str
    rows: int
    id: str
    error: str


@dataclass(frozen=True)
class Certificates:
    """The proofs of all flows together.

    Attributes:
        certified: Number of flows whose certificate holds.
        uncertified: Number of the others, which `keep_unsolved=True` lets through.
        worst_gap: Largest distance from the proved maximum, as a part of it.
        mean_gap: Mean of these distances.
        asked: The distance that was asked for; None where the manifest does not tell.
    """

    certified: int
    uncertified: int
    worst_gap: float | None
    mean_gap: float | None
    asked: float | None
