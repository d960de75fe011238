"""Paths of a planar array behind a combiner from a heat-map net, and what they explain by the physics, which is fixed.

| symbol | name | meaning |
|---|---|---|
| y = F_a A(u, v) alpha + w | decoder | the operator of the stream, `sensing`; nothing in it is learned |
| r | residual | y less the least-squares fit of the paths found so far |
| c_g(u, v) = xi_g^H r_g | | matched filter of the columns of group g |
| E_g(v) = ||xi_g||^2, E | energy | of an atom in group g, and in all of them |
| s^2 | floor | ||r||^2 / (N_RF - 2 K), what images are measured in |
| l, du, dv | heat, offset | log-odds that an unseen path is in a cell, and where from its middle [cells] |

The encoder is convolutional over the grid of (u, v), a resolution cell a point: it reads images of the matched filter
and of what the operator makes of a path (energy, how many columns hear it, how alike its neighbours and the strongest
peak look), so that another operator or grouping is another input and no other net. A pass is: images of the residual,
heat-map, its peaks beside the paths before, and a few Gauss-Newton steps of all of them through the decoder; the gains
are in closed form (variable projection). After the last pass the search of `path_search` goes on from there: what is
left is searched for missed paths, and evidence weighs every gain. That is the collapsed posterior of the gains: given
the directions it is Gaussian and needs no net.

source: Guo, Xiao, Chen, "Unsupervised Massive MIMO Channel Estimation with Dual-Path Knowledge-Aware Auto-Encoders"
(fixed decoder, unsupervised encoder); `vp_nomp` for all after the encoder. Decision: a heat-map, not K regressed angles
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.combine import combine_separable, distinct, response
from beamslot.dsp.estimate import Budget, Estimate, refuse, shaped, slots_of
from beamslot.dsp.geometry import steering
from beamslot.dsp.path_search import Settings
from beamslot.dsp.sensing import joint_sensing
from beamslot.dsp.vp_nomp import MOST_PATHS, SlotSearch, Start
from beamslot.errors import BadCheckpoint
from beamslot.frame import Geometry, Operator

if TYPE_CHECKING:
    from beamslot.dsp.nets.checkpoint import Checkpoint

KIND = "vae_upa"
"""What the checkpoint of this net says it is."""
IMAGES, STATIC, MARKS = 4, 4, 3
"""Images a point of the fine grid; of the operator alone, which do not change along u; of the paths already found."""
FINE = 2
"""Points of the fine grid a cell, along u and along v; they are channels of the cell."""
CHANNELS = IMAGES * FINE**2 + STATIC * FINE + MARKS
"""Of the input: all of them."""
OUTPUTS = 3
"""Heat, offset in u, offset in v."""
UNHEARD = 1e-3
"""An atom has at least this share of the largest energy, and in a group of its own energy."""
LOUD = 3.0
"""Images are logarithms over this, so that most lie within 0 .. 2."""
LEAST_ODDS = -2.5
"""A cell proposes a path where its log-odds are above this: a false path is pruned, one that is missed is missed."""
FURTHEST = 1.0
"""Offsets are within it [cells]."""
APART = 0.6
"""Candidates of a heat-map are more than this from each other, in u or in v [cells]."""
MAIN_LOBE = 1.0
"""Proposals of a pass are: two in one main lobe would share a path, and the next pass can still tell them apart."""
MOST_PROPOSALS = 16
"""A pass proposes at most so many."""
STEPS = 2
"""Gauss-Newton steps between passes, after the one that takes a start in."""
CHUNK = 8
"""Slots whose images are made at once: they stay in the cache."""

Begin = Literal["net", "peaks", "random"]


class Known(NamedTuple):
    """Paths of S slots that are in the model: u, v (S, K), and mask (S, K), which exist."""

    u: NDArray[np.float32]
    v: NDArray[np.float32]
    mask: NDArray[np.bool_]

    @classmethod
    def none(cls, slots: int) -> "Known":
        """Return no paths."""
        none = np.zeros((slots, 0), np.float32)
        return cls(none, none, none.astype(np.bool_))

    def take(self, slots: slice) -> "Known":
        """Return those of some slots."""
        return Known(self.u[slots], self.v[slots], self.mask[slots])


class _Room(NamedTuple):
    """Memory of the images of a few slots: with fresh pages for every call a batch takes a quarter longer.

    score: (S, IMAGES, V, U)    parts: (group, S, V, U)
    """

    score: NDArray[np.float32]
    parts: NDArray[np.complex64]


class Images:
    """What the net reads of an observation behind one operator, and where its cells are.

    geometry: the array    operator: what compressed the channel    guard: see `VaeUpa`
    raises ShapeError when the operator does not fit the array
    """

    def __init__(self, geometry: Geometry, operator: Operator, guard: float) -> None:
        sensing = joint_sensing(geometry, operator, guard)
        self.geometry, self.column = geometry, sensing.column[0]
        self.rows, self.low, self.high = float(sensing.rows[0]), float(sensing.low[0]), float(sensing.high[0])
        self._weights, self._table = distinct(operator.weights[self.column])
        self.shape = (
            max(int(np.ceil((self.high - self.low) / sensing.cell[1] - 1e-9)), 1),
            max(int(np.ceil(2 / sensing.cell[0] - 1e-9)), 1),
        )
        self.cell_v, self.cell_u = (self.high - self.low) / self.shape[0], 2 / self.shape[1]
        self.grid_v = self.low + (np.arange(FINE * self.shape[0]) + 0.5) * self.cell_v / FINE
        self.grid_u = -1 + (np.arange(FINE * self.shape[1]) + 0.5) * self.cell_u / FINE
        # (y, chain, V) and (y, U): an atom is their product.
        seen = response(operator.weights[self.column].astype(np.complex128), self.grid_v, geometry.spacing_z)
        across = np.exp(2j * np.pi * geometry.spacing_y * self.column[:, None] * self.grid_u)
        self._response, self._phase = seen.astype(np.complex64), across.astype(np.complex64)
        group = operator.group[self.column]
        self._groups = [np.flatnonzero(group == one) for one in np.unique(group)]
        by_column = np.sum(np.abs(seen) ** 2, axis=1)
        energy = by_column.sum(axis=0)
        floor = np.maximum(energy, UNHEARD * energy.max())
        self.energy = floor.astype(np.float32)
        own = np.stack([by_column[members].sum(axis=0) for members in self._groups])
        self._group_energy = np.maximum(own, UNHEARD * floor).astype(np.float32)
        self._visible = (self.grid_u**2 + self.grid_v[:, None] ** 2 <= 1).astype(np.float32)
        self._room = self._new_room(CHUNK)
        self._static = _static(seen, by_column, floor)

    def residual(self, slots: NDArray[Any], known: Known) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Return what paths leave of the observations after a least-squares fit, and the power of each.

        slots: (S, y, chain) complex    known: paths in the model
        returns (S, active column, chain) complex64, (S, K) |alpha|^2, 0 where masked out
        """
        seen: NDArray[np.complex64] = np.ascontiguousarray(slots[:, self.column], np.complex64)
        paths = known.u.shape[1]
        if not known.mask.any():
            return seen, np.zeros((len(slots), paths), np.float32)
        columns = steering(self.geometry.n_y, known.u, self.geometry.spacing_y)[..., self.column]
        rows = steering(self.geometry.n_z, known.v, self.geometry.spacing_z)
        atoms = combine_separable(columns, rows, self._weights, self._table) * known.mask[..., None]
        gram = atoms.conj() @ atoms.swapaxes(-1, -2)
        trace = np.einsum("skk->s", gram).real[:, None] + 1
        np.einsum("skk->sk", gram)[...] += np.where(known.mask, 1e-6 * trace, 1.0)
        flat = seen.reshape(len(seen), -1)
        gain = np.linalg.solve(gram, atoms.conj() @ flat[..., None])
        left: Any = flat - (gain.swapaxes(-1, -2) @ atoms)[:, 0]
        return left.astype(np.complex64).reshape(seen.shape), (np.abs(gain[..., 0]) ** 2).astype(np.float32)

    def features(self, slots: NDArray[Any], known: Known) -> NDArray[np.float32]:
        """Return what the net reads, (S, CHANNELS, V, U) by cell.

        slots: (S, y, chain) complex, finite    known: paths in the model
        source: the module's
        """
        left, power = self.residual(slots, known)
        spare = np.maximum(self.rows - 2 * known.mask.sum(axis=1), 1.0)
        energy = np.sum(left.real**2 + left.imag**2, axis=(1, 2))
        floor = np.maximum(energy / spare, np.finfo(np.float32).tiny).astype(np.float32)
        images = self._images(left)
        images /= floor[:, None, None, None]
        np.log1p(images, out=images)
        images /= np.float32(LOUD)
        count, (rows, columns) = len(slots), self.shape
        made = np.empty((count, CHANNELS, rows, columns), np.float32)
        split = images.reshape(count, IMAGES, rows, FINE, columns, FINE).transpose(0, 1, 3, 5, 2, 4)
        made[:, : IMAGES * FINE**2] = split.reshape(count, -1, rows, columns)
        made[:, IMAGES * FINE**2 : -MARKS] = self._static[..., None]
        made[:, -MARKS:] = self._marks(known, power / floor[:, None])
        return made

    def _images(self, left: NDArray[np.complex64]) -> NDArray[np.float32]:
        """Joint score, what groups see apart, how far they disagree, and the strongest peak's point spread.

        They are in memory that the next call uses again.
        """
        parts = self._filtered(left)
        score = self._room_for(len(left)).score
        joint = _power(np.sum(parts, axis=0)) / self.energy[:, None]
        apart = np.zeros_like(joint)
        single = np.zeros_like(joint)
        for part, energy in zip(parts, self._group_energy, strict=True):
            own = _power(part)
            apart += own / self.energy[:, None]
            single += own / energy[:, None]
        score[:, 0] = joint * self._visible
        score[:, 1] = apart * self._visible
        score[:, 2] = np.maximum(single - joint, 0) / max(len(parts) - 1, 1)
        score[:, 3] = self._point_spread(score[:, 0])
        return score

    def _point_spread(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the strongest peak alone would make of the joint score."""
        best = score.reshape(len(score), -1).argmax(axis=1)
        row, column = np.divmod(best, score.shape[2])
        atoms = self._phase[:, column].T[..., None] * self._response[:, :, row].transpose(2, 0, 1)
        peak = score.reshape(len(score), -1)[np.arange(len(score)), best] / self.energy[row]
        spread = _power(np.sum(self._filtered(atoms), axis=0)) / self.energy[:, None]
        return spread * peak[:, None, None]

    def _filtered(self, left: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Return c_g on the fine grid, (group, S, V, U), in memory that the next call uses again."""
        by_column: Any = left.transpose(1, 0, 2) @ self._response.conj()
        phase, parts = self._phase.conj(), self._room_for(len(left)).parts
        for part, members in zip(parts, self._groups, strict=True):
            np.dot(by_column[members].reshape(len(members), -1).T, phase[members], out=part.reshape(-1, part.shape[-1]))
        return parts

    def _new_room(self, slots: int) -> _Room:
        fine = self._visible.shape
        score = np.empty((slots, IMAGES, *fine), np.float32)
        return _Room(score, np.empty((len(self._groups), slots, *fine), np.complex64))

    def _room_for(self, slots: int) -> _Room:
        if slots > CHUNK:
            return self._new_room(slots)
        return _Room(self._room.score[:slots], self._room.parts[:, :slots])

    def _marks(self, known: Known, power: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where paths are already: their strength and where they are in the cell, the strongest where they share it."""
        marks = np.zeros((len(power), MARKS, *self.shape), np.float32)
        slot, path = np.nonzero(known.mask)
        order = np.argsort(power[slot, path], kind="stable")
        slot, path = slot[order], path[order]
        row, dv = self._place(known.v[slot, path], self.low, self.cell_v, self.shape[0])
        column, du = self._place(known.u[slot, path], -1, self.cell_u, self.shape[1])
        strength = np.log1p(power[slot, path] * self.energy[np.minimum(FINE * row, len(self.energy) - 1)]) / LOUD
        marks[slot, :, row, column] = np.stack([strength, du, dv], axis=-1)
        return marks

    def cells(
        self, u: NDArray[Any], v: NDArray[Any]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
        """Return the cell of each direction, row and column, and how far from its middle it is, u and v [cells]."""
        row, dv = self._place(v, self.low, self.cell_v, self.shape[0])
        column, du = self._place(u, -1, self.cell_u, self.shape[1])
        return row, column, du, dv

    @staticmethod
    def _place(
        coordinate: NDArray[Any], first: float, cell: float, cells: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        at = (coordinate - first) / cell
        index = np.clip(np.floor(at), 0, cells - 1).astype(np.intp)
        return index, (at - index - 0.5).astype(np.float32)

    def candidates(self, outputs: NDArray[np.float32]) -> tuple[Known, NDArray[np.intp]]:
        """Return the peaks of a heat-map, the likeliest first, and their cells (S, P).

        outputs: (S, OUTPUTS, V, U) of the net
        """
        slots, _, rows, columns = outputs.shape
        most = min(MOST_PROPOSALS, rows * columns)
        heat = outputs[:, 0].reshape(slots, -1)
        top = np.argpartition(-heat, most - 1, axis=1)[:, :most]
        order = np.argsort(-np.take_along_axis(heat, top, axis=1), axis=1, kind="stable")
        top = np.take_along_axis(top, order, axis=1)
        row, column = np.divmod(top, columns)
        du, dv = (
            np.clip(np.take_along_axis(outputs[:, axis].reshape(slots, -1), top, axis=1), -FURTHEST, FURTHEST)
            for axis in (1, 2)
        )
        x, y = column + 0.5 + du, row + 0.5 + dv  # in cells
        mask = np.take_along_axis(heat, top, axis=1) > LEAST_ODDS
        mask = _first(x, y, mask, APART)
        u = np.clip(-1 + x * self.cell_u, -1, 1).astype(np.float32)
        v = np.clip(self.low + y * self.cell_v, self.low, self.high).astype(np.float32)
        return Known(u, v, mask), top

    def proposals(self, outputs: NDArray[np.float32], features: NDArray[np.float32]) -> Known:
        """Return the candidates, the likeliest one in any case, those first that explain most alone.

        What is first stays where two look alike: the matched filter, not the net, tells a path from its aliases.

        outputs: (S, OUTPUTS, V, U) of the net    features: (S, CHANNELS, V, U), what it read
        """
        found, cell = self.candidates(outputs)
        found.mask[:, :1] = True
        joint = features[:, : FINE**2].max(axis=1).reshape(len(features), -1)
        order = np.argsort(-np.take_along_axis(joint, cell, axis=1), axis=1, kind="stable")
        u, v = np.take_along_axis(found.u, order, axis=1), np.take_along_axis(found.v, order, axis=1)
        mask = np.take_along_axis(found.mask, order, axis=1)
        return Known(u, v, _first(u / self.cell_u, v / self.cell_v, mask, MAIN_LOBE))

    def peaks(self, slots: NDArray[Any], known: Known, count: NDArray[Any]) -> Known:
        """Return instead the largest peaks of the joint matched filter, as many as told, apart as `proposals` are.

        count: (S,) how many
        """
        score = self._images(self.residual(slots, known)[0])[:, 0]
        reach = int(FINE)
        shape = (len(slots), MOST_PROPOSALS)
        found = Known(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.bool_))
        for slot, image in enumerate(score):
            for index in range(int(count[slot])):
                row, column = divmod(int(image.argmax()), image.shape[1])
                found.u[slot, index], found.v[slot, index] = self.grid_u[column], self.grid_v[row]
                found.mask[slot, index] = True
                around = (np.arange(-reach, reach + 1) + column) % image.shape[1]
                image[max(row - reach, 0) : row + reach + 1, around] = -1
        return found

    def anywhere(self, count: NDArray[Any], rng: np.random.Generator) -> Known:
        """Return instead directions at random, uniform over the search region, as many as told."""
        shape = (len(count), MOST_PROPOSALS)
        u = rng.uniform(-1, 1, shape).astype(np.float32)
        v = rng.uniform(self.low, self.high, shape).astype(np.float32)
        return Known(u, v, np.arange(MOST_PROPOSALS) < np.asarray(count)[:, None])


def _first(x: NDArray[Any], y: NDArray[Any], mask: NDArray[np.bool_], apart: float) -> NDArray[np.bool_]:
    """Return a mask without what is nearer to an earlier one than told, in x and in y; all (S, P)."""
    near = (np.abs(x[:, :, None] - x[:, None]) < apart) & (np.abs(y[:, :, None] - y[:, None]) < apart)
    mask = mask.copy()
    for index in range(1, mask.shape[1]):
        mask[:, index] &= ~np.any(near[:, index, :index] & mask[:, :index], axis=1)
    return mask


def _power(values: NDArray[np.complex64]) -> NDArray[np.float32]:
    return values.real**2 + values.imag**2


def _static(seen: NDArray[Any], by_column: NDArray[Any], energy: NDArray[Any]) -> NDArray[np.float32]:
    """Return what the operator makes of a path by its v, (STATIC * FINE, V): all that the net is told of it.

    seen: (y, chain, V) responses    by_column: (y, V) their energy    energy: (V,) of the whole, floored
    Log energy over the largest; log of the share of columns that hear it, (sum e)^2 / sum e^2; squared correlation with
    the points half a cell and a cell further along v.
    """
    heard = by_column.sum(axis=0) ** 2 / np.maximum(np.sum(by_column**2, axis=0), 1e-30) / len(by_column)
    made = [np.log(energy / energy.max()) / LOUD, np.log(np.maximum(heard, 1e-6)) / LOUD]
    for step in (1, FINE):
        other = np.roll(seen, -step, axis=2)
        inner = np.abs(np.sum(seen.conj() * other, axis=(0, 1))) ** 2
        made.append(inner / (energy * np.roll(energy, -step)))
    fine = np.stack(made).reshape(STATIC, -1, FINE)
    return np.ascontiguousarray(fine.swapaxes(1, 2).reshape(STATIC * FINE, -1), np.float32)


def joined(known: Known, new: Known, most: int) -> Start:
    """Return paths in the model and proposals as one start, the former first, at most so many a slot."""
    u, v = np.concatenate([known.u, new.u], axis=1), np.concatenate([known.v, new.v], axis=1)
    mask = np.concatenate([known.mask, new.mask], axis=1)
    order = np.argsort(~mask, axis=1, kind="stable")[:, :most]
    u, v = (np.take_along_axis(array, order, axis=1).astype(np.float64) for array in (u, v))
    paths = np.minimum(np.stack([mask.sum(axis=1), known.mask.sum(axis=1)], axis=1), most)
    return Start(np.ascontiguousarray(u), np.ascontiguousarray(v), paths.astype(np.int32))


class VaeUpa:
    """Heat-map net, decoder of the stream, Gauss-Newton steps, re-detection and evidence; noise variance learned.

    Nothing depends on the scale of the observations or on a phase common to a slot.

    geometry: the array    operator: what compressed the channel; its beams may be any, and no others need training
    max_paths: at most so many    rounds: searches of what the last pass left, at most; 0 trusts the net alone
    passes: how often the net looks, each time at what is left
    threshold, expected_paths, guard, variant: see `VpNomp`
    checkpoint: of the net; a file, one that was read, or "" for the one that is shipped    engine: see `Served`
    begin: "net"; "peaks" and "random" put the largest matched-filter peaks, or anything, in the place of as many of
        the net's proposals, to see what the net is worth
    raises ShapeError when the operator does not fit the array, BadParam, BadCheckpoint
    source: the module's
    """

    def __init__(
        self,
        geometry: Geometry,
        operator: Operator,
        *,
        max_paths: int = 24,
        rounds: int = 20,
        passes: int = 2,
        threshold: float = 9.0,
        expected_paths: float = 10.0,
        guard: float = 0.1,
        checkpoint: "str | Path | Checkpoint" = "",
        engine: Literal["auto", "onnxruntime", "torch"] = "auto",
        begin: Begin = "net",
        variant: str | None = None,
    ) -> None:
        refuse(
            ("vae_upa.max_paths", max_paths, f"1 .. {MOST_PATHS}", 1 <= max_paths <= MOST_PATHS),
            ("vae_upa.rounds", rounds, "at least 0", rounds >= 0),
            ("vae_upa.passes", passes, "at least 1", passes >= 1),
            ("vae_upa.threshold", threshold, "more than 0", threshold > 0),
            ("vae_upa.expected_paths", expected_paths, "more than 0", expected_paths > 0),
            ("vae_upa.begin", begin, "net, peaks or random", begin in ("net", "peaks", "random")),
        )
        self.geometry, self.operator, self.passes, self.begin = geometry, operator, passes, begin
        self.images = Images(geometry, operator, guard)
        settings = Settings(max_paths, rounds, 5, threshold, expected_paths)
        between = settings._replace(max_rounds=0, final_rounds=STEPS)
        self._between, self._last = (SlotSearch(geometry, operator, one, guard, variant) for one in (between, settings))
        self.checkpoint = checkpoint_of(checkpoint)
        self._net = _served(self.checkpoint, engine)

    def estimate(self, observation: NDArray[Any], budget: Budget | None = None) -> Estimate:
        """Return the channel of every slot; slots do not depend on each other.

        observation: (..., y, chain) complex64 [sqrt(W)], y = F_a h + w
        budget: says whether time is up; then a slot comes back with the best so far, not converged
        returns an Estimate as that of `VpNomp.estimate`
        raises ShapeError when the last two axes are not (y, chain) of the operator
        """
        slots: Any = slots_of("vae_upa", observation, self.operator.weights.shape[:2])
        images = normalised_slots(slots, self.images.column)
        known = Known.none(len(images))
        if not len(images):
            return shaped(self._last.estimate(slots), observation.shape[:-2])
        for index in range(self.passes):
            start = joined(known, self.proposals(images, known, index), self._last.settings.max_paths)
            found = self._between.estimate(slots, None, start)
            known = Known(found.u, found.v, found.mask)
            if budget is not None and budget():
                break
        start = joined(known, Known.none(len(images)), self._last.settings.max_paths)
        return shaped(self._last.estimate(slots, budget, start), observation.shape[:-2])

    def proposals(self, slots: NDArray[np.complex64], known: Known, seed: int = 0) -> Known:
        """Return the paths that the net (or what stands in its place, see `begin`) sees beside those known.

        slots: (S, y, chain) complex64 of unit mean power    seed: of a random start
        """
        parts = [slice(at, at + CHUNK) for at in range(0, len(slots), CHUNK)]
        made: list[Known] = []
        for part in parts:
            features = self.images.features(slots[part], known.take(part))
            made.append(self.images.proposals(self._net.run(features), features))
        found = Known(*(np.concatenate(arrays) for arrays in zip(*made, strict=True)))
        if self.begin == "peaks":
            return self.images.peaks(slots, known, found.mask.sum(axis=1))
        if self.begin == "random":
            return self.images.anywhere(found.mask.sum(axis=1), np.random.default_rng(seed))
        return found

    def heat(self, slots: NDArray[np.complex64], known: Known) -> NDArray[np.float32]:
        """Return log-odds and offsets of unseen paths, (S, OUTPUTS, V, U) by cell.

        slots: (S, y, chain) complex64    known: paths in the model
        """
        return self._net.run(self.images.features(slots, known))


def normalised_slots(slots: NDArray[Any], column: NDArray[np.intp]) -> NDArray[np.complex64]:
    """Return observations of unit mean power over the active columns; those that are not finite or nothing as 0.

    slots: (S, y, chain) complex    column: (C,) which columns are active
    """
    with np.errstate(invalid="ignore", over="ignore"):
        power = np.mean(np.abs(slots[:, column].astype(np.complex128)) ** 2, axis=(1, 2))
    good = np.isfinite(power) & (power > 0)
    scale = 1 / np.sqrt(np.where(good, power, 1))
    return np.where(good[:, None, None], slots * scale[:, None, None], 0).astype(np.complex64)


def checkpoint_of(checkpoint: "str | Path | Checkpoint") -> "Checkpoint":
    """Return the checkpoint of a net of this kind; "" for the one that is shipped.

    raises BadCheckpoint for a file that is none, or whose net reads or says something else
    """
    from beamslot.dsp.nets.checkpoint import Checkpoint, load, shipped
    from beamslot.dsp.nets.layers import net_of

    found = checkpoint if isinstance(checkpoint, Checkpoint) else load(checkpoint or shipped(KIND), KIND)
    net = net_of(found.architecture.get("net"), f"{KIND}.net")
    if (net[0].inputs, net[-1].outputs, len(net[0].kernel)) != (CHANNELS, OUTPUTS, 2):
        raise BadCheckpoint(
            f"{KIND}: a net of {net[0].inputs} to {net[-1].outputs} channels over {len(net[0].kernel)} axes, "
            f"wanted {CHANNELS} to {OUTPUTS} over 2"
        )
    return found


def _served(checkpoint: "Checkpoint", engine: Literal["auto", "onnxruntime", "torch"]) -> Any:
    from beamslot.dsp.nets.serve import Served

    return Served(checkpoint, engine)
