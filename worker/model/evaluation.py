"""`evaluation.json`: what was measured of a model on its test films.

Every field may be missing. A value that is missing, not finite or of the wrong type is read as None
or an empty table: packages of every age can be read, and such a value never passes the gate.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from worker.model.intervals import wilson_interval

EVALUATION: Final = "evaluation.json"

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True)]
FilmCounts = dict[str, Count]  # by label: NORMAL, PNEUMONIA
Ends = tuple[Number, Number]


class _Record(BaseModel):
    # Fields added by a later release are kept.
    model_config = ConfigDict(frozen=True, extra="allow")

    @field_validator("*", mode="wrap")
    @classmethod
    def _or_missing(
        cls, value: object, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        try:
            return handler(value)
        except ValidationError:
            return cls.model_fields[info.field_name or ""].get_default(call_default_factory=True)


class Estimate(_Record):
    """A number with its 95 % interval."""

    value: Number | None = None
    low: Number | None = None
    high: Number | None = None


class Confusion(_Record):
    """Films by true label and predicted label."""

    true_negative: Count = 0
    false_positive: Count = 0
    false_negative: Count = 0
    true_positive: Count = 0


class Metrics(_Record):
    """The numbers of one model on one set of films."""

    films: FilmCounts = Field(default_factory=dict)
    auc: Number | None = None
    swapped_auc: Number | None = None  # of the films framed and exposed as the other class is
    zoomed_auc: Number | None = None  # with one class zoomed, the worse of both
    robust_auc: Number | None = None  # mean of the three AUCs above
    sensitivity: Number | None = None
    specificity: Number | None = None
    ppv: Number | None = None
    npv: Number | None = None
    review_share: Number | None = None
    sensitivity_outside_review: Number | None = None
    specificity_outside_review: Number | None = None
    intervals: dict[str, Ends | None] = Field(default_factory=dict)  # 95 %, of the above by name
    brier: Number | None = None
    calibration_error: Number | None = None
    confusion: Confusion = Field(default_factory=Confusion)
    threshold: Number | None = None
    temperature: Number | None = None
    review_band: Ends | None = None
    undecided: Number | None = None  # share of films REVIEW or refused


class Group(_Record):
    """The numbers of a subset of the test films; None where its classes do not allow one."""

    films: FilmCounts = Field(default_factory=dict)
    auc: Estimate | None = None
    sensitivity: Estimate | None = None
    specificity: Estimate | None = None


class Groups(_Record):
    """Test films in groups, by group name; empty if all films are in one group."""

    series: dict[str, Group] = Field(default_factory=dict)
    size: dict[str, Group] = Field(default_factory=dict)


class EdgeEvidence(_Record):
    """The share of the evidence that lies at the film's edges, over the test films."""

    mean: Number | None = None
    median: Number | None = None
    even: Number | None = None  # expected of evenly spread evidence


class Unfamiliar(_Record):
    """The shares of the test films over the familiarity limits."""

    refused: Number = 0.0
    review: Number = 0.0


class Shifted(Metrics):
    """The numbers of the test films, changed in one way."""

    unreadable: Count = 0  # films that cannot be read after the change, left out


class Shifts(_Record):
    """The test films with framing and grey levels, which are not disease, of the other class."""

    seed: Count | None = None  # of the draw of donor films
    crops: dict[str, Ends] = Field(default_factory=dict)  # by label: share of height, of width
    framing_left_out: str = ""  # why framing is not swapped; `swapped` then equals `toned`
    untouched: Shifted | None = None
    conflict: Shifted | None = None  # framed as the other class; None if left out
    toned: Shifted | None = None  # with the grey levels of a film of the other class
    swapped: Shifted | None = None  # both
    zoomed: dict[str, Shifted] = Field(default_factory=dict)  # by the label cropped


class Looks(_Record):
    """How many times models were measured on test films, including this time."""

    this_set: Count = 0  # on exactly these films
    any_set: Count = 0  # on any films, by all recorded nights


class Differences(_Record):
    """The challenger's numbers minus the champion's, on the same films."""

    auc: Estimate = Field(default_factory=Estimate)  # by paired DeLong; the others by bootstrap
    swapped_auc: Estimate = Field(default_factory=Estimate)
    zoomed_auc: Estimate = Field(default_factory=Estimate)
    robust_auc: Estimate = Field(default_factory=Estimate)
    sensitivity: Estimate = Field(default_factory=Estimate)
    specificity: Estimate = Field(default_factory=Estimate)
    brier: Estimate = Field(default_factory=Estimate)
    calibration_error: Estimate = Field(default_factory=Estimate)
    undecided: Estimate = Field(default_factory=Estimate)
    auc_by_patient: Estimate = Field(default_factory=Estimate)


class Decisions(_Record):
    """Films by which of the two models is right."""

    both_right: Count = 0
    lost: Count = 0  # only the champion is right
    gained: Count = 0  # only the challenger is right
    both_wrong: Count = 0


class LostFilm(_Record):
    """A film the champion has right and the challenger wrong, by its SHA-256."""

    sha256: str = ""
    label: str = ""
    champion: Number | None = None  # probability of PNEUMONIA
    challenger: Number | None = None


class PairedComparison(_Record):
    """Champion and challenger compared on the same test films."""

    champion: str = ""  # its version
    champion_numbers: Metrics = Field(default_factory=Metrics)
    champion_shifts: Shifts | None = None
    patients: Count = 0
    draws: Count = 0  # of the bootstrap
    lost: Estimate = Field(default_factory=Estimate)  # share of the films the champion has right
    differences: Differences = Field(default_factory=Differences)
    decisions: Decisions = Field(default_factory=Decisions)
    mcnemar_p: Number | None = None
    lost_films: list[LostFilm] = Field(default_factory=list)


class Disturbed(_Record):
    """The numbers of films after one disturbance."""

    auc: Number | None = None
    sensitivity: Number | None = None
    specificity: Number | None = None
    review: Count | None = None  # films the worker would mark REVIEW
    refused: Count | None = None  # films it would refuse; not in the numbers
    difference: Estimate | None = None  # AUC minus that of the same films undisturbed


class Robustness(_Record):
    """The same films undisturbed and after each disturbance."""

    films: FilmCounts = Field(default_factory=dict)
    of: FilmCounts = Field(default_factory=dict)  # the films these were chosen from
    untouched: Disturbed = Field(default_factory=Disturbed)
    disturbed: dict[str, Disturbed] = Field(default_factory=dict)


TRACES: Final = {
    "size": "native width, height and aspect ratio",
    "encoder": "what wrote the file: quantisation tables and the like",
    "grey_levels": "grey levels of the whole film, wherever they lie",
    "rim": "the outer tenth of each side",
    "outside": "size, rim and the rim's grey levels: no pixel of the middle",
    "all": "size, grey levels and rim together",
}
_LUNGLESS: Final = {"size", "encoder", "rim", "outside"}  # grey levels of a whole film see disease
_A_SHORTCUT: Final = 0.7  # an AUC by a trace that is worth a warning


class Trace(_Record):
    """How well the class of films follows from something that is not disease."""

    auc: Number | None = None  # for patients that were left out
    films: FilmCounts = Field(default_factory=dict)
    not_measured: str = ""  # why there is no AUC


class Shortcuts(_Record):
    """How well the class of the training films can be predicted without the lungs."""

    films: FilmCounts = Field(default_factory=dict)
    patients: Count = 0
    traces: dict[str, Trace] = Field(default_factory=dict)  # by the names in `TRACES`

    @property
    def auc(self) -> float | None:
        """The highest AUC of a trace that sees no lung; None where none was measured."""
        traces = (trace for name, trace in self.traces.items() if name in _LUNGLESS)
        return max((trace.auc for trace in traces if trace.auc is not None), default=None)

    def in_words(self) -> str:
        """Return the result as one sentence."""
        if self.auc is None:
            reasons = dict.fromkeys(t.not_measured for t in self.traces.values() if t.not_measured)
            why = f": {'; '.join(reasons)}" if reasons else ""
            return (
                "Whether the class of the training films can be told without the lungs was not "
                f"measured{why}."
            )
        if self.auc >= _A_SHORTCUT:
            return (
                "The class of the training films can be told without the lungs (AUC "
                f"{self.auc:.2f}): expect less of this model elsewhere."
            )
        return (
            "The class of the training films is hard to tell without the lungs (AUC "
            f"{self.auc:.2f})."
        )


class ChangedDecision(_Record):
    """An archived film whose decision would change: (decision, probability) of each model."""

    scan_id: Count = 0
    sha256: str = ""
    champion: tuple[str, Number | None] = ("", None)
    challenger: tuple[str, Number | None] = ("", None)


class Preview(_Record):
    """Which decisions on recently archived films would change."""

    screened: Count = 0
    skipped: Count = 0
    turns: FilmCounts = Field(default_factory=dict)  # films by change, as `NORMAL to REVIEW`
    turned: list[ChangedDecision] = Field(default_factory=list)


class Evaluation(Metrics):
    """All of `evaluation.json`."""

    version: str = ""
    data: str = "?"  # source of the test films
    data_note: str = ""  # how they were chosen
    data_digest: str = ""
    test_digest: str = ""
    looks: Looks | None = None  # None if looks are not counted
    groups: Groups = Field(default_factory=Groups)
    evidence_outside: EdgeEvidence | None = None
    unfamiliar: Unfamiliar | None = None  # None for a package without limits
    calibration_side: Metrics | None = None
    comparison: PairedComparison | None = None  # None without a champion
    shifts: Shifts | None = None
    robustness: Robustness | None = None
    shortcuts: Shortcuts | None = None  # None where nobody looked for any
    archive: Preview | None = None


def read_evaluation(package: Path) -> Evaluation | None:
    """Return a package's evaluation, or None if it cannot be read."""
    try:
        facts = json.loads((package / EVALUATION).read_bytes())
    except (OSError, ValueError):
        return None
    return with_review_share(Evaluation(**facts)) if isinstance(facts, dict) and facts else None


def with_review_share(evaluation: Evaluation) -> Evaluation:
    """Return the evaluation with `review_share` as the share of all films marked REVIEW.

    Older packages count only films near the threshold that are not unfamiliar. The right share
    follows from `undecided` and the refused films. Without these the evaluation is returned as it
    is.
    """
    count = sum(evaluation.films.values())
    if evaluation.undecided is None or not count:
        return evaluation
    refused = 0.0 if evaluation.unfamiliar is None else evaluation.unfamiliar.refused
    review = round((evaluation.undecided - refused) * count)
    intervals = {**evaluation.intervals, "review_share": wilson_interval(review, count)}
    return evaluation.model_copy(update={"review_share": review / count, "intervals": intervals})
