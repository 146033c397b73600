"""The card on how far its numbers reach."""

from __future__ import annotations

from typing import Any

import pytest

from training.card.reach import sections
from worker.model.evaluation import Evaluation

PLAIN: dict[str, Any] = {"sensitivity": 0.9, "specificity": 0.8}


def test_predictive_values_follow_from_prevalence() -> None:
    """At 10 %: 0.09 found of 0.27 called, 0.72 of 0.73 passed (Bayes); at half and half 0.818."""
    told = "\n".join(sections(Evaluation(**PLAIN)))
    assert "| 10% | 0.333 | 0.986 |" in told
    assert "| 50% | 0.818 | 0.889 |" in told
    assert "| 1% | 0.043 | 0.999 |" in told


def test_every_card_says_what_became_of_such_models_elsewhere() -> None:
    """Also one whose evaluation holds no more than it did before these sections."""
    told = "\n".join(sections(Evaluation(**PLAIN)))
    for part in ("0.95", "0.54", "Xin", "10.1007/s10140-021-01954-x"):
        assert part in told
    assert "By series" not in told
    assert "|  |" not in told


def test_groups_disturbances_and_evidence_are_told() -> None:
    """A number that a group has not is left empty; how many films is said."""
    one = {"value": 0.97, "low": 0.9, "high": 0.99}
    numbers = {"auc": 0.99, "sensitivity": 0.9, "specificity": 0.8}
    difference = {"value": -0.004, "low": -0.01, "high": 0.002}
    evaluation = {
        **PLAIN,
        "groups": {
            "series": {
                "virus": {
                    "films": {"NORMAL": 0, "PNEUMONIA": 120},
                    "auc": None,
                    "sensitivity": one,
                    "specificity": None,
                }
            },
            "size": {},
        },
        "robustness": {
            "films": {"NORMAL": 150, "PNEUMONIA": 150},
            "of": {"NORMAL": 224, "PNEUMONIA": 360},
            "untouched": numbers,
            "disturbed": {
                "gamma 0.7": {**numbers, "difference": difference, "review": 7, "refused": 0},
                "resampled by half": {
                    **dict.fromkeys(numbers, None),
                    "difference": None,
                    "review": 0,
                    "refused": 300,
                },
            },
        },
        "evidence_outside": {"mean": 0.251, "median": 0.252, "even": 0.4375},
    }
    told = "\n".join(sections(Evaluation(**evaluation)))
    assert "| virus | 0 | 120 |  | 0.9700 (0.9000 to 0.9900) |  |" in told
    assert "By size" not in told
    assert "| gamma 0.7 | 0.9900 | -0.0040 | -0.0100 to +0.0020 | 0.9000 | 0.8000 | 7 | 0 |" in told
    assert "| resampled by half | none | | | none | none | 0 | 300 |" in told
    assert "150 NORMAL and 150 PNEUMONIA films, chosen by their content from 224 and 360." in told
    assert "25.1%" in told
    assert "43.8%" in told
    assert "not the outline of a lesion" in told


def test_shortcuts_are_told_before_all_else() -> None:
    """What was not measured says why, and what is not known here has its own name."""
    traces = {
        "size": {"auc": 0.913, "films": {"NORMAL": 1100, "PNEUMONIA": 3500}},
        "encoder": {"auc": None, "not_measured": "all files were written in the same way"},
        "teeth": {"auc": 0.5, "films": {"NORMAL": 1100, "PNEUMONIA": 3500}},
    }
    films = {"NORMAL": 1117, "PNEUMONIA": 3515}
    evaluation = Evaluation(**PLAIN, shortcuts={"films": films, "patients": 9, "traces": traces})
    told = sections(evaluation)
    (at,) = (n for n, section in enumerate(told) if "## Shortcuts" in section)
    assert at == 1
    assert "can be told without the lungs (AUC 0.91): expect less of this model" in told[at]
    assert "| native width, height and aspect ratio | 1100 | 3500 | 0.9130 |" in told[at]
    assert "|  |  | not measured: all files were written in the same way |" in told[at]
    assert "| teeth | 1100 | 3500 | 0.5000 |" in told[at]
    assert "1117 NORMAL and 3515 PNEUMONIA films of 9 patients" in told[at]


def test_shortcuts_that_nobody_measured_are_said_or_left_out() -> None:
    """With the reason; a package made before there was an audit has no such section."""
    traces = {"size": {"not_measured": "too few"}, "rim": {"not_measured": "too few"}}
    told = "\n".join(sections(Evaluation(**PLAIN, shortcuts={"traces": traces})))
    assert "was not measured: too few.**" in told
    assert "0 NORMAL" not in told
    assert "Shortcuts" not in "\n".join(sections(Evaluation(**PLAIN)))


@pytest.mark.parametrize("missing", ["sensitivity", "specificity"])
def test_what_cannot_be_computed_is_left_out(missing: str) -> None:
    """No PPV without both."""
    assert "PPV" not in "\n".join(sections(Evaluation(**{**PLAIN, missing: None})))
