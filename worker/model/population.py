"""The patients a model was tested on: ages, hospital and source of their films."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

_GROWN_UP_YEARS = 18.0
_FORM: Final = "FROM to under UNTIL years; HOSPITAL; SOURCE"
_WRITTEN = re.compile(
    r"(?P<from_years>\d+(?:\.\d+)?) to under (?P<under_years>\d+(?:\.\d+)?) years"
    r"\s*;\s*(?P<hospital>[^;]*[^;\s])\s*;\s*(?P<source>\S.*)"
)
_DOI: Final = "10.17632/rscbjbr9sj"  # of the films of Kermany, Zhang and Goldbaum

Years = Annotated[float, Field(ge=0, le=150, allow_inf_nan=False)]


class Population(BaseModel):
    """The patients a model was tested on. What is not stated is None or empty."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    from_years: Years | None = None  # patients of this age and above
    under_years: Years | None = None  # and below this age
    hospital: str = ""
    source: str = ""  # where their films come from

    @model_validator(mode="after")
    def _hangs_together(self) -> Population:
        stated = (self.from_years is not None, self.under_years is not None, self.hospital != "")
        if any(stated) and not all(stated):
            raise ValueError("ages and hospital must be stated together")
        if self.from_years is not None and not self.from_years < (self.under_years or 0):
            raise ValueError(f"no age is from {self.from_years} to under {self.under_years} years")
        return self

    @property
    def sentence(self) -> str:
        """A sentence for people: the patients the model was tested on."""
        if self.from_years is None or self.under_years is None:
            if self.source:
                return f"This model has been tested on these patients only: {self.source}"
            return "It is not stated which patients this model has been tested on."
        who = "patients"
        if self.under_years <= _GROWN_UP_YEARS:
            who = "children"
        elif self.from_years >= _GROWN_UP_YEARS:
            who = "adults"
        source = f" ({self.source})" if self.source else ""
        return (
            f"This model has been tested on {who} from {self.from_years} to under "
            f"{self.under_years} years at {self.hospital}{source} only."
        )


# Of the films of the first models. It applies to packages that name no population.
GUANGZHOU: Final = Population(
    from_years=1.0,
    under_years=6.0,
    hospital="Guangzhou Women and Children's Medical Center",
    source=f"Kermany et al., doi {_DOI}",
)


def read_population(text: Any) -> Any:
    """Parse a population from a line; a value that is not text is returned as it is.

    Args:
        text: ages, hospital and source, separated by semicolons:
            `1.0 to under 6.0 years; HOSPITAL; SOURCE`.

    Raises:
        ValueError: the line has another form, or the ages are not possible.
    """
    if not isinstance(text, str):
        return text
    written = _WRITTEN.fullmatch(text.strip())
    if written is None:
        raise ValueError(f"write it as `{_FORM}`")
    facts = written.groupdict()
    try:
        return Population(
            from_years=float(facts["from_years"]),
            under_years=float(facts["under_years"]),
            hospital=facts["hospital"],
            source=facts["source"],
        )
    except ValidationError as error:
        raise ValueError(f"{error.errors()[0]['msg']}; write it as `{_FORM}`") from None


def from_sentence(sentence: str) -> Population:
    """Return the population of an older package from its sentence, if it has one."""
    if not sentence or _DOI in sentence:
        return GUANGZHOU
    return Population(source=sentence)
