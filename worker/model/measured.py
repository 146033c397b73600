"""What evaluation.json says of a model, read alike for packages of every age. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.model.intervals import wilson_interval


def with_review_share(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return an evaluation whose `review_share` is of all films that the worker marks REVIEW.

    That of packages of before is of films near the threshold alone, less those that are unfamiliar;
    but they have the share left to a person, and how many of these are refused. Where an evaluation
    has not, it is returned as it is.
    """
    measures = dict(evaluation)
    undecided, films = measures.get("undecided"), measures.get("films")
    unfamiliar, intervals = measures.get("unfamiliar"), measures.get("intervals")
    if not isinstance(undecided, float) or not isinstance(films, Mapping) or not films:
        return measures
    refused = unfamiliar["refused"] if isinstance(unfamiliar, Mapping) else 0.0
    count = sum(films.values())
    review = round((undecided - refused) * count)
    ends = {"review_share": list(wilson_interval(review, count))}
    return measures | {
        "review_share": review / count,
        "intervals": (intervals if isinstance(intervals, dict) else {}) | ends,
    }
