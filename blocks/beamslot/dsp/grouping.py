"""Assignments of columns to groups: those that need no optimisation, and the files of those that were designed.

| symbol | name | meaning |
|---|---|---|
| s_g | group == g | the columns of group g |
| G | groups | number of groups |
| Q, T_best, I_max | population, elite, iterations | of the estimation of distribution algorithm (`eda`) |
| rho_g | limit[g] | greatest resolution limit allowed, `rho` times the median of random groupings |

source: paper 004, eqs. (6), (19) and fig. 7 (uniform and random grouping)
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from beamslot.dsp import files
from beamslot.dsp.ambiguity import centre_cosines, membership, side_lobe_level, side_lobe_region
from beamslot.dsp.resolution import matched_snr, resolution_limit
from beamslot.errors import BadParam

FORMAT, FORMAT_VERSION = "beamslot grouping", 1

LEAST_COLUMNS = 3
"""Columns that a group needs to tell two paths apart: two unknown amplitudes and azimuths are six real numbers."""

_DECLARED = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
_SAME = 1e-6


def contiguous(n_y: int, groups: int) -> NDArray[np.int16]:
    """Return neighbouring columns in one group, sizes equal to within one (the uniform grouping of the paper).

    n_y, groups: columns and groups, 1 <= groups <= n_y
    returns (y,) int16    raises BadParam
    """
    _check("contiguous", n_y, groups)
    return (np.arange(n_y) * groups // n_y).astype(np.int16)


def interleaved(n_y: int, groups: int) -> NDArray[np.int16]:
    """Return a comb, column n in group n mod G; its period of G columns makes grating lobes every 2/G in u.

    n_y, groups: columns and groups, 1 <= groups <= n_y
    returns (y,) int16    raises BadParam
    """
    _check("interleaved", n_y, groups)
    return (np.arange(n_y) % groups).astype(np.int16)


def balanced_random(n_y: int, groups: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Return a uniformly random grouping whose sizes are equal to within one.

    n_y, groups: columns and groups, 1 <= groups <= n_y
    returns (y,) int16    raises BadParam
    """
    return rng.permutation(interleaved(n_y, groups))


def _check(name: str, n_y: int, groups: int) -> None:
    if not 1 <= groups <= n_y:
        raise BadParam(f"{name}: groups is {groups}, wanted 1 .. {n_y}, the number of columns")


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] >= pair[1]:
        raise ValueError("the first number must be below the second")
    return pair


Sine = Annotated[float, Field(ge=-1, le=1)]
Azimuths = Annotated[float, Field(gt=0, le=2)]


class Setting(BaseModel):
    """What a grouping is designed for, and how.

    n_y, groups: columns and groups, at least `LEAST_COLUMNS` columns a group
    interval: (v_min, v_max) of v = sin(elevation)    spacing: of the columns [wavelengths]
    region: (a, b), distances of sin(azimuth) that count as side lobes; None is `ambiguity.side_lobe_region`
    snr: T M^2 |alpha|^2 / sigma^2 of the resolution limit, linear; it hardly moves how groupings compare
    rho: resolution limits allowed, as a factor of the median of random balanced groupings
    population, elite, iterations: Q, T_best and I_max    patience: iterations without improvement that end it
    source: paper 004, eqs. (12), (14), (19) and Algorithm 1; the print gives G and n_y only
    """

    model_config = _DECLARED

    n_y: int = Field(ge=1)
    groups: int = Field(ge=1)
    interval: Annotated[tuple[Sine, Sine], AfterValidator(_rising)] = (-0.5, 0.0)
    spacing: float = Field(0.5, gt=0)
    region: Annotated[tuple[Azimuths, Azimuths], AfterValidator(_rising)] | None = None
    snr: float = Field(matched_snr(6, 12), gt=0)
    rho: float = Field(1.1, gt=0)
    population: int = Field(200, ge=2)
    elite: int = Field(40, ge=1)
    iterations: int = Field(50, ge=0)
    patience: int = Field(25, ge=1)

    @classmethod
    def of(cls, name: str, **given: Any) -> Self:
        """Return a setting; raises BadParam that begins with `name` and lists every problem."""
        try:
            return cls(**given)
        except ValidationError as error:
            raise BadParam(f"{name}: {files.problems(error)}") from None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.n_y < LEAST_COLUMNS * self.groups:
            raise ValueError(
                f"{self.groups} groups of {self.n_y} columns cannot be told apart in azimuth; "
                f"wanted at least {LEAST_COLUMNS} columns a group"
            )
        if self.elite >= self.population:
            raise ValueError(f"elite is {self.elite}; wanted less than population, {self.population}")
        try:
            _ = self.side_lobes
        except BadParam as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def side_lobes(self) -> tuple[float, float]:
        """The side-lobe region R_s, (a, b)."""
        cosine = centre_cosines(self.interval, self.groups)
        return self.region or side_lobe_region(self.n_y, cosine, self.spacing)


class DesignedGrouping(BaseModel):
    """A designed grouping as its file holds it.

    package: version of beamslot that made it    seed: of the design, None where it is not known
    group: (y,) the group of each column    isl, srl, limit: (group,) ISL_g, SRL_g and rho_g, linear
    history: best max ISL_g at the start and after every iteration
    """

    model_config = _DECLARED

    format: Literal["beamslot grouping"] = FORMAT
    version: Literal[1] = FORMAT_VERSION
    package: str
    seed: Annotated[int, Field(ge=0)] | None
    setting: Setting
    group: list[Annotated[int, Field(ge=0)]]
    isl: list[Annotated[float, Field(ge=0)]]
    srl: list[Annotated[float, Field(gt=0)]]
    limit: list[Annotated[float, Field(gt=0)]]
    history: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        groups = self.setting.groups
        if len(self.group) != self.setting.n_y:
            raise ValueError(f"group has {len(self.group)} columns; wanted n_y, {self.setting.n_y}")
        if sorted(set(self.group)) != list(range(groups)):
            raise ValueError(f"group has the groups {sorted(set(self.group))}; wanted 0 .. {groups - 1}, each")
        for name, values in (("isl", self.isl), ("srl", self.srl), ("limit", self.limit)):
            if len(values) != groups:
                raise ValueError(f"{name} has {len(values)} numbers; wanted {groups}, one a group")
        if any(limit < srl * (1 - _SAME) for limit, srl in zip(self.limit, self.srl, strict=True)):
            raise ValueError(f"srl is {self.srl}; wanted none above limit, {self.limit}")
        self._belongs()
        return self

    def _belongs(self) -> None:
        """Compare the figures with those of the columns: a file that somebody edited by hand must not be believed."""
        isl, srl = figures(np.array(self.group), self.setting)
        for name, kept, found in (("isl", self.isl, isl), ("srl", self.srl, srl)):
            if not np.allclose(kept, found, rtol=_SAME, atol=0):
                raise ValueError(f"{name} is {kept}; wanted {found.tolist()}, which the columns of group have")


def figures(group: NDArray[np.integer], setting: Setting) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return side-lobe levels and resolution limits of groupings.

    group: (..., y) int    setting: what they are for
    returns ISL_g, SRL_g: (..., group) float64, linear
    source: paper 004, eqs. (12), (14)
    """
    members = membership(group, setting.groups).astype(np.float64)
    cosine = centre_cosines(setting.interval, setting.groups)
    level = side_lobe_level(members, cosine, setting.side_lobes, setting.spacing)
    return level, resolution_limit(members, cosine, setting.snr, setting.spacing)


def save_grouping(path: Path, designed: DesignedGrouping) -> None:
    """Write a designed grouping as JSON; a file in place is replaced, once the new one is whole.

    raises StorageError with the path and why it cannot be written
    """
    files.save(path, designed)


def load_grouping(path: Path) -> DesignedGrouping:
    """Return the designed grouping of a file, after checking that it is whole and that its figures are its own.

    raises StorageError where it cannot be read, VersionError for another version of the format, BadParam for any
    other content; each with the path, what came and what was wanted
    """
    return files.load(path, DesignedGrouping, FORMAT, FORMAT_VERSION, "designed grouping")
