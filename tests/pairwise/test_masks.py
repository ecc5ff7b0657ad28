"""What is missing reaches nothing, whatever stands in it and whatever f is: values, gradients, HVPs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from conftest import x64
from implementations import IMPLEMENTATIONS, KERNELS, in_widest, interpreted
from implementations import sums as sums
from jax_edm import pairwise_logsumexp, pairwise_sum
from transformations import naive_edm, quick_jit

# The reduction, the sets, the coordinates; of one set a sum without an argument of pairs is made in tiles.
WAYS = {
  "sum of one set": ("sum", 1, 3),
  "sum of two sets": ("sum", 2, 20),
  "logsumexp of one set": ("logsumexp", 1, 3),
  "logsumexp of two sets": ("logsumexp", 2, 3),
}
TILES = "sum of one set"


def naive(way, p, theta):
  kind, sets, _ = WAYS[way]
  D = naive_edm(p["x"], p["y"] if sets == 2 else None)
  f = theta * (0 if way == TILES else p["T"]) - D
  return f @ p["v"] if kind == "sum" else jax.nn.logsumexp(f, axis=1, b=p["v"])


def ours(sums, way, p, theta, masks):
  kind, sets, _ = WAYS[way]
  y, args = p["y"] if sets == 2 else None, () if way == TILES else (p["T"],)
  reduce, name = (sums.sum, "values") if kind == "sum" else (sums.logsumexp, "weights")
  f = lambda D, t=0.0: theta * t - D  # noqa: E731
  return reduce(f, p["x"], y, args=args, block_size=4, **{name: p["v"]}, **masks)


def derivatives(of_arrays, p, order):
  """The value, the gradient with respect to everything, and that of second order along the points that exist."""

  def loss(p, theta):
    out = of_arrays(p, theta)
    return jnp.where(jnp.isfinite(out), jnp.sin(out), 0).sum(), out

  gradient = jax.grad(loss, (0, 1), has_aux=True)
  found = gradient(p, 0.5)
  if order == 1:
    return found[1], [found[0]]
  tangent = jax.tree.map(lambda a: jnp.where(jnp.isfinite(a), a, 0), p)
  return found[1], [found[0], jax.jvp(lambda p: gradient(p, 0.5)[0], (p,), (tangent,))[1]]


QUICK = [*(("xla", way) for way in WAYS), *((kernel, "logsumexp of two sets") for kernel in KERNELS)]
CASES = [(name, way) for name in ("xla", *KERNELS) for way in WAYS]
CASES = [case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow) for case in CASES]


@pytest.mark.parametrize(("name", "way"), CASES)
def test_what_is_missing_reaches_nothing(name, way, rng):
  """Kernels to the first order: the second runs by XLA."""
  sums, (kind, sets, d), n = IMPLEMENTATIONS[name], WAYS[way], 11
  m = (11, 9)[sets - 1]
  here = np.arange(n) % 3 != 1
  here_y = here if sets == 1 else np.arange(m) % 4 != 3
  full = {
    "x": rng.normal(size=(n, d)),
    "y": rng.normal(size=(m, d)),
    "T": rng.normal(size=(n, m)),
    "v": rng.random(m) + 1,
  }
  full = {key: a / (d**0.5 if key in "xy" else 1) for key, a in full.items()}
  kept = {"x": (here,), "y": (here_y,), "T": np.ix_(here, here_y), "v": (here_y,)}
  short = {key: full[key][kept[key]] for key in full}
  with x64(True):
    expected_out, expected = quick_jit(lambda p: derivatives(lambda *z: naive(way, *z), p, sums.order))(short)
  masks = {"where": here} | ({"where_y": here_y} if sets == 2 else {})
  with in_widest(sums) as dtype, interpreted(name):
    run = quick_jit(lambda p: derivatives(lambda p, theta: ours(sums, way, p, theta, masks), p, sums.order))
    for padding in (np.nan, np.inf, -np.inf, 1e30):  # data: one program
      padded = {key: np.full_like(a, padding) for key, a in full.items()}
      for key, a in padded.items():
        a[kept[key]] = short[key]
      out, bars = run({key: a.astype(dtype) for key, a in padded.items()})
      eps = float(np.finfo(dtype).eps)
      np.testing.assert_array_equal(out[~here], 0 if kind == "sum" else -np.inf)
      np.testing.assert_allclose(out[here], expected_out, rtol=0, atol=64 * eps * np.abs(expected_out).max())
      for (bar, bar_theta), (want, want_theta) in zip(bars, expected, strict=True):
        np.testing.assert_allclose(bar_theta, want_theta, atol=1024 * eps)
        for key in full:
          a = np.array(bar[key])
          error = 512 * eps * np.abs(want[key]).max(initial=1)
          np.testing.assert_allclose(a[kept[key]], want[key], atol=error, err_msg=key)
          a[kept[key]] = 0
          np.testing.assert_array_equal(a, 0, err_msg=key)


# Issue 14: f may be singular at whatever stands in the place of what is missing. Arguments that are everywhere
# harmless, of the shapes of pairs, columns, rows and none.
SINGULAR = {
  "log of an argument": (lambda D, t: (D - t) ** 2 / jnp.log(t), 2.5, "nm"),
  "one less an argument": (lambda D, t: D / (1 - t), 0.5, "m"),
  "an argument itself": (lambda D, t: D / t, 0.5, "n"),
  "log of a distance": (lambda D, t: jnp.log(D) * t, 1.5, "nm"),
  "one less a distance": (lambda D, t: t / (1 - D), 0.5, ""),
}


@pytest.mark.parametrize("sets", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_f_may_be_singular_where_nothing_is(sets, sums, rng):
  """Values and gradients are those of the points that there are; points that exist lie at no such distance."""
  n, m = 6, (6, 5)[sets - 1]
  x, y = (2 * rng.normal(size=(k, 3)).astype(np.float32) for k in (n, m))
  here = np.array([False, True, True, False, True, True])
  here_y = here if sets == 1 else np.array([True, False, True, True, False])
  x[3] = x[1] + np.float32([1, 0, 0])
  masks = {"where": here} | ({"where_y": here_y} if sets == 2 else {"diagonal": False})
  args = {
    name: np.full((n if "n" in axes else 1, m if "m" in axes else 1), t, np.float32)
    for name, (_, t, axes) in SINGULAR.items()
  }

  @quick_jit
  def run(x, y, args):
    def total(name, x, y, t):
      return sums.sum(SINGULAR[name][0], x, y if sets == 2 else None, args=(t,), block_size=4, **masks).sum()

    return {name: jax.value_and_grad(partial(total, name), (0, 1, 2))(x, y, t) for name, t in args.items()}

  found = run(x, y, args)
  pairs = here[:, None] & here_y & (True if sets == 2 else ~np.eye(n, dtype=bool))
  wide = [np.asarray(a, np.float64) for a in (x, y if sets == 2 else x)]
  D = np.where(pairs, oracle.edm(*wide), 2.0)
  with x64(True):
    for name, (total, bars) in found.items():
      f, t, _ = SINGULAR[name]
      value, back = jax.vjp(jax.vmap(jax.vmap(f)), D, np.full((n, m), t))
      of_D, of_t = (np.where(pairs, a, 0) for a in back(jnp.ones((n, m))))
      of_x, of_y = oracle.vjp(of_D, *wide)
      wanted = (of_x, of_y) if sets == 2 else (of_x + of_y, 0 * of_y)
      for axis in (0, 1):
        of_t = of_t if of_t.shape[axis] == args[name].shape[axis] else of_t.sum(axis, keepdims=True)
      np.testing.assert_allclose(total, np.where(pairs, value, 0).sum(), rtol=1e-4, err_msg=name)
      for a, e in zip(bars, (*wanted, of_t), strict=True):
        np.testing.assert_allclose(a, e, atol=1e-4 * np.abs(e).max(), err_msg=name)


def test_what_is_missing_has_no_derivative_of_its_own(sums, rng):
  """A function that is singular somewhere, and a cotangent that is not finite on the row of a missing point."""
  x = (0.2 * rng.normal(size=(5, 3))).astype(np.float32)  # distances below 1
  here = np.array([True, True, True, False, True])

  @quick_jit
  def run(x):
    def slope(**options):
      return jax.grad(lambda t: sums.sum(lambda D: (t - D) ** 0.5, x, **options).sum())(1.0)

    def of_values(y):
      masked = lambda v: sums.sum(lambda D: jnp.exp(-D), x, y, values=v, where=here)  # noqa: E731
      return jax.grad(lambda v: jnp.where(here, jnp.log(masked(v)), 0).sum())(jnp.ones(5))

    blocks = (5, 2, 3) if sums.name == "xla" else (None,)  # 2 and 3 do not divide 5: the last tile is filled up
    return [slope(block_size=b) for b in blocks], slope(where=here), of_values(None), of_values(x)

  slopes, masked, of_one_set, of_two = run(x)
  for a in slopes:
    np.testing.assert_allclose(a, (0.5 / np.sqrt(1 - oracle.edm(x))).sum(), rtol=1e-5)
  np.testing.assert_allclose(masked, (0.5 / np.sqrt(1 - oracle.edm(x[here]))).sum(), rtol=1e-5)
  for bar, second in ((of_one_set[here], x[here]), (of_two, x)):
    kept = np.exp(-oracle.edm(x[here], second))
    np.testing.assert_allclose(bar, (kept / kept.sum(1, keepdims=True)).sum(0), rtol=1e-5)
  assert of_one_set[3] == 0


@pytest.mark.parametrize("kind", ["sum", "logsumexp"])
def test_a_member_of_a_batch_without_any_pair_gives_nothing_to_closed_over_values(kind, rng):
  """F sees numbers of the library's own choice there, at which it may be singular."""
  x, where = rng.normal(size=(3, 4, 3)).astype(np.float32), np.array([[True] * 4, [False] * 4, [True] + [False] * 3])
  reduce = getattr(IMPLEMENTATIONS["xla"], kind)

  def total(c, x, where):
    out = reduce(lambda D: jnp.sqrt(jnp.abs(D - c)), x, where=where, diagonal=False)
    return jnp.where(jnp.isfinite(out), out, 0).sum()

  gradient = quick_jit(jax.grad(total))
  np.testing.assert_allclose(gradient(1.0, x, where), gradient(1.0, x[:1], where[:1]), rtol=1e-5)


def test_masks_of_empty_sets():
  """As without masks: sums of nothing, and no sums."""
  none, some, f = np.zeros((0, 3), np.float32), np.ones((5, 3), np.float32), lambda D: 1 / D
  for reduce, nothing in ((pairwise_sum, 0), (pairwise_logsumexp, -np.inf)):
    assert reduce(f, none, diagonal=False).shape == (0,)
    assert reduce(f, none, some, where=np.zeros(0, bool)).shape == (0,)
    np.testing.assert_array_equal(reduce(f, some, none, where=np.ones(5, bool)), np.full(5, nothing))
    np.testing.assert_array_equal(reduce(f, some, none, where_y=np.ones(0, bool)), np.full(5, nothing))
