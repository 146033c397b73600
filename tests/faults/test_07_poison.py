"""Films that end, stall, bloat or muddle the screener that reads them."""

from __future__ import annotations

import films
from driver import Site
from programs import with_screener_program
from trials import Trial

_SCREENER = """
import os, signal, sys, worker.screening.screener

read = worker.screening.screener.read_film
predict = worker.screening.screener.Model.predict
muddled = []

def spin():
    while True:
        pass

POISONS = {
    b"aborts": os.abort,
    b"segfaults": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    b"leaves": lambda: os._exit(0),
    b"raises": lambda: 1 / 0,
    b"spins": spin,
    b"takes 8 GB": lambda: bytearray(8 << 30),
    b"says NaN": lambda: muddled.append(True),
    b"talks nonsense": lambda: os.write(int(sys.argv[1]), b"nonsense"),
}

def predict_or_not(self, pixels):
    said = predict(self, pixels)
    return type("Said", (), {"logit": float("nan")}) if muddled else said

def read_film(data, **how):
    muddled.clear()
    for name, poison in POISONS.items():
        if b"poison: " + name in data:
            poison()
    return read(data, **how)

worker.screening.screener.read_film = read_film
worker.screening.screener.Model.predict = predict_or_not
"""
_CODES = {
    "aborts": "screener_crashed",
    "segfaults": "screener_crashed",
    "leaves": "screener_crashed",
    "raises": "screener_crashed",
    "spins": "screener_overran",
    "takes 8 GB": "screener_out_of_memory",
    "says NaN": "screener_crashed",
    "talks nonsense": "screener_crashed",
}


def test_poisonous_films(site: Site, trial: Trial) -> None:
    """A film that ends its screener is tried again alone, then refused; its neighbours are read."""
    with_screener_program(site, _SCREENER)
    site.settings |= {"SCREEN_SECONDS": "1.5"}
    everything: dict[str, bytes] = {}
    wanted: dict[str, str | None] = {}
    worker = site.start()
    for number in range(trial.count(1, 50)):
        new = films.small_batch(5 * len(_CODES), seed=number)
        wanted |= dict.fromkeys(new)
        for name, (poison, code) in zip(list(new)[::5], _CODES.items(), strict=True):
            new[name] = films.with_comment(new[name], b"poison: " + poison.encode())
            wanted[name] = code
        everything |= new
        site.drop(new)
        with trial.recovery():
            site.wait_until_finished(len(everything))
        trial.rounds += 1
    assert {row["file_name"]: row["refusal_code"] for row in site.results()} == wanted
    assert worker.poll() is None
    trial.end(site, everything, rounds=0)
