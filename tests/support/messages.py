"""What a screener must never be believed: nonsense in place of its messages."""

from __future__ import annotations

import json

from worker.screening.ipc import Result

RESULT = vars(Result(scan_id=1, kind="lost"))
NONSENSE: dict[str, bytes] = {
    "not text": b"\xff\xfe\x00",
    "not JSON": b"hello",
    "a number": b"7",
    "a list": b"[]",
    "no fields": b'["Ready", []]',
    "of no kind": b'["Pickle", {}]',
    "a kind that is none": b"[{}, {}]",
    "fields missing": b'["Ready", {}]',
    "a field too many": b'["Ready", {"model_version": "x", "run": "rm"}]',
    "deep": b"[" * 100_000,
    **{
        f"a result: {changes}": json.dumps(["Result", RESULT | changes]).encode()
        for changes in (
            {"kind": "dance"},
            {"kind": None},
            {"kind": "refused"},
            {"kind": "refused", "code": "no_such_code"},
            {"kind": "predicted", "logit": 1.0},
            {"kind": "predicted", "logit": "1.0", "sha256": "0" * 64},
            {"kind": "predicted", "logit": 1.0, "sha256": "0" * 63},
            {"kind": "skipped", "sha256": 7},
            {"sentence": ["x"]},
            {"width": "9"},
            {"width": 10**30},
            {"width": 0},
            {"width": 480.5},
            {"height": float("nan")},
            {"prepare_seconds": -1.0},
            {"predict_seconds": float("nan")},
            {"logit": 10**400},
            {"encoding": "2d0851ag"},
            {"sentence": "\0"},
            {"sentence": "\ud800"},
            {"sentence": "x" * 5000},
        )
    },
}
