"""Who is the largest of several independent random quantities: piecewise Gauss-Legendre quadrature.

P_k = ∫ f_k ∏_{j≠k} F_j, where the distribution functions F_j come from the same samples of the densities f_j
by spectral integration, so no distribution function is ever called. Nothing here knows which law it integrates.
A density may have less than the mass 1: the rest is at −∞, and F_j = 1 − q_j + q_j F_j' comes out by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.polynomial import legendre

from bandit.arrays import FloatArray, IntArray

# Samples of one array kept at a time: several such arrays then stay in the cache of one core.
_CHUNK_SAMPLES = 24_000


class Contenders(Protocol):
    """Rows of independent, continuous quantities; x is measured from a centre that belongs to the row."""

    @property
    def n_arms(self) -> int:
        """Quantities per row."""

    def breakpoints(self, n_steps: int) -> FloatArray:
        """Panel edges from end to end of each arm, n_steps on both sides of its mode: (n_rows, any)."""

    def density(self, x: FloatArray) -> FloatArray:
        """Densities at x (n_nodes, n_rows, n_panels), of mass at most 1: (n_arms, n_nodes, n_rows, n_panels)."""

    def metric_per_x(self, x: FloatArray) -> FloatArray:
        """Derivative of the metric by x; broadcasts with x (n_nodes, n_rows, n_panels)."""

    def metric(self, x: FloatArray) -> FloatArray:
        """The metric at x, measured from its value at the centre; both of shape (n_rows,)."""

    def beyond(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What the panels leave out above x (n_rows,), far above all modes.

        The mass of each arm, shape (n_arms, n_rows), and the sum over the arms of E[max(0, metric of the arm −
        metric at x)], shape (n_rows,).
        """

    def rows(self, index: IntArray) -> Self:
        """The rows with these numbers."""


class Resolution(NamedTuple):
    """How finely to integrate: panels on both sides of each mode, Gauss-Legendre nodes in each panel."""

    n_steps: int
    n_nodes: int


@dataclass(frozen=True, slots=True)
class Maximum:
    """Law of the largest of each row.

    Attributes:
        probability: P(arm is the largest and above the row's floor), shape (n_rows, n_arms).
        below: P(no arm is above the floor) as the quadrature finds it, shape (n_rows,).
        mean: E[max(floor, all arms)], from the metric at the centre, shape (n_rows,); nan if not asked for.
    """

    probability: FloatArray
    below: FloatArray
    mean: FloatArray


@lru_cache(maxsize=8)
def _rule(n_nodes: int) -> tuple[FloatArray, FloatArray]:
    """Nodes on [-1, 1] and the matrix from samples to integrals.

    Row i < n_nodes integrates the interpolating polynomial from node i to 1, the last row over the whole
    panel. With Legendre coefficients c_k = (2k+1)/2 Σ_l w_l P_k(x_l) f(x_l) and
    ∫_x^1 P_k = (P_{k-1}(x) − P_{k+1}(x)) / (2k+1).
    """
    nodes, weights = legendre.leggauss(n_nodes)
    basis = legendre.legvander(nodes, n_nodes)
    integrals = np.empty((n_nodes, n_nodes))
    integrals[:, 0] = 1.0 - nodes
    integrals[:, 1:] = basis[:, : n_nodes - 1] - basis[:, 2:]
    from_node = 0.5 * integrals @ (basis[:, :n_nodes] * weights[:, None]).T
    return nodes, np.vstack([from_node, weights])


def _chunks(n_inside: IntArray, samples_per_panel: int) -> Iterator[tuple[IntArray, int]]:
    """Rows of similar numbers of panels, with the largest of these numbers, so that little is padding."""
    order = np.argsort(n_inside, kind="stable")[::-1]
    start = 0
    while start < order.size:
        n_panels = max(int(n_inside[order[start]]), 1)
        stop = start + max(_CHUNK_SAMPLES // (samples_per_panel * n_panels), 1)
        yield order[start:stop], n_panels
        start = stop


def largest(arms: Contenders, floor: FloatArray, resolution: Resolution, with_mean: bool) -> Maximum:
    """P(largest) of each arm and the mean of the largest, above a floor.

    Args:
        arms: The quantities.
        floor: Integrate from here upwards, in x, shape (n_rows,).
        resolution: Panels and nodes.
        with_mean: Also find the mean of the largest.
    """
    edges = np.maximum(arms.breakpoints(resolution.n_steps), floor[:, None])
    edges = np.sort(np.concatenate([floor[:, None], edges], axis=-1), axis=-1)
    n_inside = np.count_nonzero(edges > floor[:, None], axis=-1)
    parts, numbers = [], []
    for index, n_panels in _chunks(n_inside, arms.n_arms * resolution.n_nodes):
        chunk = edges[index, edges.shape[-1] - n_panels - 1 :]
        parts.append(_largest_on(arms.rows(index), chunk, resolution.n_nodes, with_mean))
        numbers.append(index)
    back = np.argsort(np.concatenate(numbers))
    return Maximum(
        np.concatenate([part.probability for part in parts])[back],
        np.concatenate([part.below for part in parts])[back],
        np.concatenate([part.mean for part in parts])[back],
    )


def _largest_on(arms: Contenders, edges: FloatArray, n_nodes: int, with_mean: bool) -> Maximum:
    """`largest` on panels between given edges, shape (n_rows, n_panels + 1), the first being the floor."""
    nodes, to_integrals = _rule(n_nodes)
    half = 0.5 * np.diff(edges)
    x = 0.5 * (edges[:, 1:] + edges[:, :-1]) + half * nodes[:, None, None]
    mass = arms.density(x)
    mass *= half
    n_arms, _, n_rows, n_panels = mass.shape
    integrals = (to_integrals @ mass.reshape(n_arms, n_nodes, -1)).reshape(n_arms, n_nodes + 1, n_rows, n_panels)
    tail, excess = arms.beyond(edges[:, -1])
    # Mass above each edge: summed from above, so that a small chance to exceed x keeps its digits.
    above = np.empty((n_arms, n_rows, n_panels + 1))
    above[..., -1] = tail
    above[..., :-1] = integrals[:, -1]
    np.cumsum(above[..., ::-1], axis=-1, out=above[..., ::-1])
    survival = integrals[:, :-1]
    survival += above[:, None, :, 1:]
    mean = np.full(n_rows, np.nan)
    if with_mean:
        weights = to_integrals[-1][:, None, None] * half
        mean = _mean_of_largest(arms, x, survival, edges[:, 0], weights) + excess
    cdf = np.subtract(1.0, survival, out=survival)
    probability = _win_probabilities(mass, cdf, to_integrals[-1])
    return Maximum(probability, np.prod(1.0 - above[..., 0], axis=0), mean)


def _win_probabilities(mass: FloatArray, cdf: FloatArray, weights: FloatArray) -> FloatArray:
    """Σ over nodes of weight · mass_k · ∏_{j≠k} cdf_j, shape (n_rows, n_arms); overwrites mass.

    Products of all arms before and after k: no division and no logarithm, so a cdf of 0 is harmless.
    """
    n_arms, n_nodes, n_rows, n_panels = mass.shape
    before, after = cdf[0].copy(), cdf[-1].copy()
    for k in range(1, n_arms):
        mass[k] *= before
        mass[n_arms - 1 - k] *= after
        if k < n_arms - 1:
            before *= cdf[k]
            after *= cdf[n_arms - 1 - k]
    per_panel = weights @ mass.reshape(n_arms, n_nodes, -1)
    return np.ascontiguousarray(np.sum(per_panel.reshape(n_arms, n_rows, n_panels), axis=-1).T)


def _mean_of_largest(
    arms: Contenders, x: FloatArray, survival: FloatArray, floor: FloatArray, weights: FloatArray
) -> FloatArray:
    """E[max] up to the last edge: m₊ + ∫ (1[x > 0] − ∏F) dmetric, with m₊ the metric at max(floor, 0).

    Split at the centre x = 0, which is an edge of a panel: from the floor alone, far out in a heavy tail,
    the digits would cancel. 1 − ∏F is built up without cancellation as c + S (1 − c).
    """
    exceeds = np.zeros_like(x)
    for one in survival:
        exceeds += one * (1.0 - exceeds)
    exceeds[x < 0.0] -= 1.0
    exceeds *= arms.metric_per_x(x)
    exceeds *= weights
    start = arms.metric(np.maximum(floor, 0.0))
    return np.asarray(start + np.sum(exceeds, axis=(0, 2)))
