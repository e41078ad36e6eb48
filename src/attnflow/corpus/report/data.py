"""The data of a report, which its page, its lines and its tables read."""

from dataclasses import dataclass, field

from attnflow.corpus.report.options import ReportOptions
from attnflow.corpus.report.sections import (
    Accuracy,
    Certificates,
    Confusion,
    Drift,
    ExtremeText,
    Failure,
    Flip,
    LabelCount,
    LabelDrift,
    Mistake,
    SegmentShare,
    SliceDifference,
    Summary,
    Suspect,
    WordDrift,
    WordEffect,
)


@dataclass(frozen=True)
class ReportData:
    """A report's sections, each a field with a row type of `sections`.

    Attributes:
        summary: The run.
        labels: Texts by class.
        words: Words and phrases by their mean effect.
        texts: Texts at the ends of certainty and concentration.
        suspects: Matches of the word list and the pattern.
        slices: Slices of the texts against the others.
        accuracy: Predictions against labels; None where the source has none.
        confusion: The same by label and prediction.
        mistakes: Words in wrong predictions.
        drift: This run and the earlier one; None without one.
        label_drift: Parts of the predictions in both.
        flips: Texts whose prediction differs.
        word_drift: Words whose effect changed.
        segments: Segments by name.
        failures: Kinds of errors.
        certificates: The proofs of all flows.
        options: The way the report was made.
    """

    summary: Summary
    labels: tuple[LabelCount, ...]
    words: tuple[WordEffect, ...]
    texts: tuple[ExtremeText, ...]
    suspects: tuple[Suspect, ...]
    slices: tuple[SliceDifference, ...]
    accuracy: Accuracy | None
    confusion: tuple[Confusion, ...]
    mistakes: tuple[Mistake, ...]
    drift: Drift | None
    label_drift: tuple[LabelDrift, ...]
    flips: tuple[Flip, ...]
    word_drift: tuple[WordDrift, ...]
    segments: tuple[SegmentShare, ...]
    failures: tuple[Failure, ...]
    certificates: Certificates
    options: ReportOptions = field(default_factory=ReportOptions)
