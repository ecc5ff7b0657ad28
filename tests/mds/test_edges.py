"""``smacof_edges``: a list of measured pairs in the place of a matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_fixed import cramer_rao

import oracle
from jax_edm import procrustes, smacof, smacof_edges
from jax_edm._mds import edge_start
from mds_problems import EPS, check_both_orders


def near_pairs(seed, n, reach, noise=0.0, anchors=5, d=2):
  """Points in the unit square, the pairs within reach with their distances, which points are fixed, and places."""
  rng = np.random.default_rng(seed)
  x = rng.random((n, d))
  D = oracle.distances(x)
  i, j = np.nonzero(np.triu(reach > D, 1))
  order = rng.permutation(len(i))
  i, j = i[order], j[order]
  t = D[i, j] * (1 + noise * rng.normal(size=len(i)))
  fixed = np.arange(n) < anchors
  return x, i.astype(np.int32), j.astype(np.int32), t, fixed, np.where(fixed[:, None], x, np.nan)


def as_matrix(n, i, j, values):
  out = np.zeros((n, n))
  out[i, j] = out[j, i] = values
  return out


@pytest.mark.slow
def test_it_agrees_with_the_matrix():
  """Noise, weights and anchors; without anchors the distances agree; inside jit too. What is fixed stays."""
  _x, i, j, t, fixed, places = near_pairs(0, 60, 0.45, 0.05)
  w = np.random.default_rng(1).random(len(t)) + 0.5
  t, w, places = (a.astype(np.float32) for a in (t, w, places))
  matrices = as_matrix(60, i, j, t).astype(np.float32), as_matrix(60, i, j, w).astype(np.float32)
  for given in ({"fixed": fixed, "initial": places}, {}):
    dense = smacof(matrices[0], 2, weights=matrices[1], tolerance=1e-7, **given)
    fit = jax.jit(lambda t, w, given=given: smacof_edges(i, j, t, 60, 2, weights=w, tolerance=1e-7, **given))
    for found in (smacof_edges(i, j, t, 60, 2, weights=w, tolerance=1e-7, **given), fit(t, w)):
      assert bool(found.converged)
      assert bool(dense.converged)
      np.testing.assert_allclose(found.stress, dense.stress, rtol=1e-4)
      points = found.points if given else procrustes(found.points, dense.points).aligned
      np.testing.assert_allclose(points, dense.points, atol=1e-3)
      if given:
        np.testing.assert_array_equal(found.points[fixed], places[fixed])


@pytest.mark.slow
def test_three_thousand_points_agree_with_the_matrix_and_with_the_cramer_rao_bound():
  n, noise = 3000, 0.01
  x, i, j, t, fixed, places = near_pairs(2, n, 0.046, noise, anchors=40)
  t, places = t.astype(np.float32), places.astype(np.float32)
  w = (1 / np.maximum(t, 1e-3) ** 2).astype(np.float32)
  found = smacof_edges(i, j, t, n, 2, weights=w, fixed=fixed, initial=places)
  assert bool(found.converged)
  t, w = (as_matrix(n, i, j, a).astype(np.float32) for a in (t, w))
  start = np.asarray(found.points)
  dense = smacof(t, 2, weights=w, fixed=fixed, initial=start)
  np.testing.assert_allclose(found.stress, dense.stress, rtol=1e-3)
  known = as_matrix(n, i, j, 1) > 0
  error = np.sqrt(((start - x)[~fixed] ** 2).sum(1).mean())
  assert error < 2 * cramer_rao(x, known, fixed, noise * oracle.distances(x))


@pytest.mark.slow
@pytest.mark.usefixtures("double_precision")
def test_derivatives(rng):
  """Of the points and the stress, with respect to places, distances, weights, at both orders; without anchors too."""
  _x, i, j, t, fixed, places = near_pairs(3, 25, 0.6, 0.05)
  c, dp, w = rng.normal(size=(25, 2)), rng.normal(size=(25, 2)), 1 + rng.random(len(t))
  dt, dw = rng.normal(size=len(t)) * t, rng.normal(size=len(t)) / 10
  options = {"tolerance": 1e-14, "max_steps": 1000}
  near = smacof_edges(i, j, t, 25, 2, weights=w, fixed=fixed, initial=places, **options).points

  def anchored(s):
    initial = jnp.where(fixed[:, None], near + s * dp, near)
    found = smacof_edges(i, j, t + s * dt, 25, 2, weights=w + s * dw, fixed=fixed, initial=initial, **options)
    return (c * jnp.sin(found.points)).sum() + found.stress

  def free(s):
    found = smacof_edges(i, j, t + s * dt, 25, 2, initial=near, **options)
    return (jnp.sin(((found.points[:, None] - found.points) ** 2).sum(2)) * (c @ c.T)).sum() + found.stress

  for measure in (anchored, free):
    assert abs(check_both_orders(measure, [()], 4e-3)[0]) > 0.1


def test_pairs_that_do_not_count_and_that_count_twice():
  """A weight of 0 hides whatever stands there; a pair may be listed twice, and in either order; parts are flagged."""
  x, i, j, t, fixed, places = near_pairs(4, 30, 0.5)
  t, places = t.astype(np.float32), places.astype(np.float32)
  fit = jax.jit(lambda t, w: smacof_edges(i, j, t, 30, 2, weights=w, fixed=fixed, initial=places))
  w = np.ones_like(t)
  w[3], broken = 0, t.copy()
  for sentinel in (np.nan, -1.0, np.inf, 1e30):
    broken[3] = sentinel
    found = fit(broken, w)
    assert bool(found.converged)
    np.testing.assert_allclose(found.points, x, atol=2**10 * EPS)
  for wrong in (np.nan, -1.0, np.inf):
    broken[3] = wrong
    assert not bool(fit(broken, np.ones_like(t)).converged)
  assert not bool(fit(t, np.where((i == 29) | (j == 29), 0, 1).astype(np.float32)).converged)
  twice = [np.concatenate(a) for a in ((i, j), (j, i), (t, t * 1.1))]
  once = smacof_edges(i, j, t * 1.05, 30, 2, fixed=fixed, initial=places)
  np.testing.assert_allclose(smacof_edges(*twice, 30, 2, fixed=fixed, initial=places).points, once.points, atol=1e-4)


def test_the_start_is_near(rng):
  """From paths to anchors or to landmarks; a given row is where it is; paths take the shorter of two edges."""
  x, i, j, t, fixed, places = near_pairs(5, 800, 0.1, anchors=20)
  edges = edge_start.Edges(i, j, t)
  start, enough = edge_start.start(edges, 800, 2, fixed, places)
  assert bool(enough)
  assert np.sqrt(((start - x) ** 2).sum(1).mean()) < 0.02
  np.testing.assert_array_equal(start[fixed], x[fixed])
  free, _ = edge_start.start(edges, 800, 2, None, None)
  assert float(procrustes(jnp.asarray(free, jnp.float32), jnp.asarray(x, jnp.float32)).rmsd) < 0.05
  few = np.arange(800) < 2
  moved, enough = edge_start.start(edges, 800, 2, few, np.where(few[:, None], x, np.nan))
  assert np.linalg.norm(moved[:2] - x[:2], axis=1).max() < 1e-12
  longer = edge_start.Edges(*(np.concatenate(a) for a in ((i, i), (j, j), (3 * t, t))))
  np.testing.assert_allclose(edge_start.start(longer, 800, 2, fixed, places)[0], start, atol=1e-12)
  chain = edge_start.Edges(np.arange(9), np.arange(1, 10), np.full(9, 0.5))
  graph = edge_start.shortest_edges(chain, 10)
  paths, sources = edge_start.paths_from_groups(graph, np.array([0, 9]), 1)
  np.testing.assert_allclose(paths[:, 0], np.minimum(np.arange(10), 9 - np.arange(10)) / 2)
  np.testing.assert_array_equal(sources[[0, 1, 8, 9], 0], [0, 0, 9, 9])


def test_refusals():
  x, i, j, t, fixed, _places = near_pairs(6, 12, 0.9)
  good = {"i": i, "j": j, "target": t, "n": 12, "dim": 2}
  apart = (i < 6) == (j < 6)
  for error, message, changed in (
    (TypeError, "i must hold integers", {"i": i.astype(float)}),
    (ValueError, "must have one entry for each measured pair", {"target": t[1:]}),
    (ValueError, "i must be from 0 to n - 1. Got 12 at 0 for n=12", {"i": np.where(np.arange(len(i)) == 0, 12, i)}),
    (ValueError, "a pair must be of two points", {"j": i}),
    (ValueError, "target must be finite and not negative. Got nan at 0", {"target": t * np.nan}),
    (ValueError, "weights must be finite and not negative", {"weights": -t}),
    (ValueError, "dim must be at least 1 and at most n - 1", {"dim": 12}),
    (ValueError, r"initial must have the shape \(n, dim\)", {"initial": x[:5]}),
    (ValueError, "fixed points need places", {"fixed": fixed}),
    (
      ValueError,
      "the pairs must connect all points. Got a separate part",
      {"i": i[apart], "j": j[apart], "target": t[apart]},
    ),
    (ValueError, "at least 2 fixed ones", {"fixed": np.arange(12) < 1, "initial": x}),
    (ValueError, "max_steps must be at least 1", {"max_steps": 0}),
  ):
    with pytest.raises(error, match=message):
      smacof_edges(**(good | changed))


@pytest.mark.slow
def test_what_is_no_minimum_or_no_pair_has_not_converged():
  """Points that coincide, or a point out of range, which only jit lets in; distances that are all zero are a fit."""
  _, i, j, t, fixed, places = near_pairs(7, 12, 0.9)
  t, places = t.astype(np.float32), places.astype(np.float32)
  assert not bool(smacof_edges(i, j, t, 12, 2, initial=np.zeros((12, 2), np.float32)).converged)
  for scale in (0, 1e-30):
    found = smacof_edges(i, j, scale * t, 12, 2)
    assert bool(found.converged)
    np.testing.assert_allclose(found.points, 0, atol=1e-6)
  anchored = smacof_edges(i, j, 0 * t, 12, 2, fixed=fixed, initial=places)
  dense = smacof(np.zeros((12, 12), np.float32), 2, weights=as_matrix(12, i, j, 1), fixed=fixed, initial=places)
  np.testing.assert_allclose(anchored.stress, dense.stress, rtol=1e-4)
  run = jax.jit(lambda i: smacof_edges(i, j, t, 12, 2, fixed=fixed, initial=places).converged)
  assert bool(run(i))
  for wrong in (99, -1, int(j[0])):
    assert not bool(run(np.where(np.arange(len(i)) == 0, wrong, i).astype(np.int32)))
  with jax.numpy_dtype_promotion("strict"):
    assert bool(smacof_edges(i, j, t, 12, 2, fixed=fixed, initial=places).converged)
