"""What f may be: it closes over data of any kind; equal functions compile once, and others are kept apart."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from implementations import EPS
from implementations import sums as sums
from jax_edm import pairwise_logsumexp, pairwise_sum
from transformations import quick_jit

COMPILED = []  # the programs that XLA has compiled
jax.monitoring.register_event_duration_secs_listener(
  lambda name, *_, **__: COMPILED.append(name) if name == "/jax/core/compile/backend_compile_duration" else None
)


def test_numbers_of_any_type(sums, either_precision):
  x = jnp.arange(12.0, dtype=jnp.float32).reshape(6, 2) / 4
  near = oracle.edm(np.asarray(x)) < 3

  @sums.jit
  def run(x, narrow, flag, integer):
    ways = (
      (lambda D: narrow * (D < 3), ()),
      (lambda D: jnp.where(flag, integer * (D < 3), 0.0), ()),
      (lambda D, a, b: a * b * (D < 3), (0.5, 3)),
      (lambda D: np.float32(2) * (D < 3), ()),
      (lambda D: 1.5, ()),
    )
    return [sums.sum(f, x, args=args) for f, args in ways]

  found = run(x, jnp.bfloat16(1.5), jnp.asarray(True), jnp.int32(2))
  expected = *(c * near.sum(1) for c in (1.5, 2.0, 1.5, 2.0)), np.full(6, 9.0)
  for out, e in zip(found, expected, strict=True):
    np.testing.assert_array_equal(np.asarray(out, np.float64), e)


def test_arrays_by_their_entries(sums, rng):
  """Parameters that meet each other before they meet D have their gradients; and so has what they come from."""
  x = rng.normal(size=(20, 3)).astype(np.float32)
  parameters = np.array([1.0, 0.5, 2.0], np.float32), np.float32(0.8)

  def mixture(amplitudes, width):
    return lambda D: sum(amplitudes[k] * jax.nn.softplus(1 - D / (2 * width**2 * (k + 1))) for k in range(3))

  def loss(amplitudes, width, x):
    return jnp.cos(sums.sum(mixture(amplitudes, width), x)).sum()

  def naive(amplitudes, width, x):
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    return jnp.cos(mixture(amplitudes, width)(squared).sum(1)).sum()

  expected = jax.jit(jax.grad(naive, (0, 1, 2)))(*parameters, x)
  for a, e in zip(sums.jit(jax.grad(loss, (0, 1, 2)))(*parameters, x), expected, strict=True):
    np.testing.assert_allclose(a, e, atol=1024 * EPS * np.abs(e).max())


def test_whole_arrays_and_programs_inside_f(rng):
  """Networks, tables, loops and conditions; under grad, vmap and scan; and the points themselves."""
  x, layers = rng.normal(size=(12, 3)), rng.normal(size=(2, 4))
  table = rng.random(9)
  square = lambda x: ((x[:, None] - x[None]) ** 2).sum(-1)  # noqa: E731

  def functions(x, layers, table):
    return {
      "a network": lambda D: (jnp.tanh(D * layers[0]) * layers[1]).sum(),
      "a table": lambda D: jnp.interp(D, jnp.arange(9.0), table),
      "a loop": lambda D: jax.lax.fori_loop(0, 3, lambda _, r: jnp.cos(r + layers[0, 0]), D),
      "a condition": lambda D: jax.lax.cond(D < 1, jnp.sin, lambda D: jnp.sin(1.0) + 0 * D, D),
      "a program": lambda D: jax.jit(lambda D: jnp.exp(-D * layers[0, 1] ** 2))(D),
      "the points": lambda D: jnp.exp(-D) * x[0, 0] + x.mean(),
    }

  def loss(x, layers, table, naive):
    out = 0.0
    for f in functions(x, layers, table).values():
      of_block = jax.vmap(jax.vmap(f))
      out += jnp.cos(of_block(square(x)).sum(1) if naive else pairwise_sum(f, x, block_size=5)).sum()
    return out

  def run(x, layers, table, naive):
    """Two steps along the gradient, for each member of a batch of networks."""

    def step(arrays, _):
      gradients = jax.grad(loss, (0, 1, 2))(*arrays, naive)
      return tuple(a - 0.01 * g for a, g in zip(arrays, gradients, strict=True)), gradients

    return jax.vmap(lambda layers: jax.lax.scan(step, (x, layers, table), length=2))(jnp.stack([layers, -layers]))

  arrays = [a.astype(np.float32) for a in (x, layers, table)]
  found, expected = (quick_jit(partial(run, naive=naive))(*arrays) for naive in (False, True))
  for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, e, atol=2048 * EPS * np.abs(e).max(initial=1e-3))


def test_equal_functions_compile_once(rng):
  """Eager calls with a lambda that is written anew; what it closes over may be another array; their gradients, too."""
  x = rng.normal(size=(12, 3)).astype(np.float32)

  def density(x, width, reduce=pairwise_sum):
    return reduce(lambda D: jnp.exp(-D * width), x)

  def gradient(x, width):
    return jax.grad(lambda x, width: density(x, width).sum(), (0, 1))(x, width)

  widths = [jnp.float32(w) for w in (0.5, 1.0, 2.0)]
  for call in (density, partial(density, reduce=pairwise_logsumexp), gradient):
    first = call(x, widths[0])
    del COMPILED[:]
    others = [call(x, width) for width in widths[1:]]
    assert COMPILED == []
    leaves = [np.asarray(jax.tree.leaves(found)[0]) for found in (first, *others)]
    assert not any(np.allclose(leaves[0], a) for a in leaves[1:])  # each with its own width
  pairwise_sum(lambda D: jnp.exp(-D) + 1, x)
  assert COMPILED  # the counter counts


def with_rule(slope):
  @jax.custom_jvp
  def f(D):
    return jnp.tanh(D)

  f.defjvp(lambda primals, tangents: (f(*primals), slope * tangents[0]))
  return f


def with_backward(slope):
  @jax.custom_vjp
  def f(D):
    return jnp.tanh(D)

  f.defvjp(lambda D: (f(D), None), lambda _, g: (slope * g,))
  return f


def nested(c):
  inner = jax.jit(lambda D: D * c)
  return lambda D: inner(D) + 1


def looped(c):
  return lambda D: jax.lax.fori_loop(0, 2, lambda _, r: r * c, D)


def chosen(c):
  return lambda D: jax.lax.cond(D < 1e9, lambda D: D * c, lambda D: D, D)


def on_host(c):
  return lambda D: jax.pure_callback(lambda D: np.float32(c) * D, D, D, vmap_method="expand_dims")


ALIKE = {
  "numbers": [lambda D: 0.5 * D, lambda D: 0.25 * D],
  "the last digit of a number": [lambda D, c=c: ((0 * D + c) - 1) / EPS for c in (1.0, 1.0 + EPS)],
  "captured numbers": [lambda D, c=c: D * c for c in map(np.float32, (2, 3))],
  "captured arrays": [lambda D, c=c: D * c for c in map(jnp.float32, (2, 3))],
  "entries of captured arrays": [lambda D, c=c: D * c[1] for c in (np.arange(3.0, dtype="f"), np.full(3, 2, "f"))],
  "large captured arrays": [lambda D, c=c: D * (c * c).sum() for c in (np.ones(5000, "f"), np.full(5000, 2, "f"))],
  "functions inside": [lambda D: jnp.sin(D), lambda D: jnp.cos(D)],
  "custom_jvp": [with_rule(1.0), with_rule(2.0)],
  "custom_vjp": [with_backward(1.0), with_backward(2.0)],
  "nested programs, numbers": [nested(2.0), nested(3.0)],
  "nested programs, NumPy": [nested(np.float32(2)), nested(np.float32(3))],
  "nested programs, arrays": [nested(jnp.float32(2)), nested(jnp.float32(3))],
  "nested programs, whole arrays": [nested(np.full(4, c, "f").sum()) for c in (2, 3)],
  "nested programs, arrays inside": [
    lambda D, c=c: jax.jit(lambda D: (D * c).sum())(D) for c in (np.full(4, 2, "f"), np.full(4, 3, "f"))
  ],
  "loops": [looped(jnp.float32(2)), looped(jnp.float32(3))],
  "conditions": [chosen(np.float32(2)), chosen(np.float32(3))],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALIKE)
def test_functions_that_look_alike_are_not_mixed_up(name):
  """Without jit, one after the other, and the first once more; the gradient too, which may be all that differs."""
  x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)), jnp.float32)
  squared = jnp.asarray(oracle.edm(x), jnp.float32)

  def naive(f):
    value, back = jax.vjp(jax.vmap(jax.vmap(f)), squared)
    return value.sum(1), oracle.vjp(back(jnp.ones_like(value))[0], x)[0]

  def ours(f):
    value, back = jax.vjp(lambda x: pairwise_sum(f, x), x)
    return value, back(jnp.ones_like(value))[0]

  first, second = ALIKE[name]
  expected = [naive(f) for f in (first, second, first)]
  for f, wanted in zip((first, second, first), expected, strict=True):
    for a, e in zip(ours(f), wanted, strict=True):
      np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)
  assert not all(np.array_equal(a, b) for a, b in zip(*expected[:2], strict=True))


def test_callbacks_are_not_mixed_up():
  x = jnp.arange(6.0).reshape(3, 2)
  for c in (2.0, 3.0, 2.0):
    np.testing.assert_allclose(pairwise_sum(on_host(c), x), c * oracle.edm(x).sum(1), rtol=1e-6)


@pytest.mark.usefixtures("double_precision")
def test_weak_types_are_not_mixed_up():
  x = jnp.ones((3, 2), jnp.float32)
  weak, strong = lambda D: 1.0, lambda D: jnp.float64(1.0)
  for f, dtype in ((weak, np.float32), (strong, np.float64), (weak, np.float32)):
    assert pairwise_sum(f, x, values=jnp.ones(3, jnp.float32)).dtype == dtype


def test_numpy_arrays_that_change_in_place():
  x, w = jnp.arange(6.0).reshape(3, 2), np.full(4, 2, np.float32)
  f = lambda D: jax.jit(lambda D: (D * w).sum())(D)  # noqa: E731
  for c in (2, 5):
    w[:] = c
    np.testing.assert_allclose(pairwise_sum(f, x), 4 * c * oracle.edm(x).sum(1), rtol=1e-6)


@pytest.mark.parametrize("rule", [with_rule, with_backward])
def test_rules_that_close_over_traced_values(rule):
  """In a jit around the sum; the rule is found again by nothing, and kept by nothing."""
  x = jnp.arange(6.0).reshape(3, 2) / 4
  gradient = jax.jit(lambda slope: jax.grad(lambda x: pairwise_sum(rule(slope), x).sum())(x))
  for slope in (1.0, 2.0):
    np.testing.assert_allclose(gradient(slope), oracle.vjp(np.full((3, 3), slope), x)[0], rtol=1e-6)


def test_array_literals_are_not_mixed_up():
  """Under the flag by which JAX puts arrays into the jaxpr itself, whose text does not show their entries."""
  x, before = jnp.arange(6.0).reshape(3, 2), jax.config.jax_use_simplified_jaxpr_constants
  jax.config.update("jax_use_simplified_jaxpr_constants", True)
  try:
    for c in (2, 3, 2):
      w = np.full(4, c, np.float32)
      np.testing.assert_allclose(pairwise_sum(lambda D, w=w: (D * w).sum(), x), 4 * c * oracle.edm(x).sum(1), rtol=1e-6)
  finally:
    jax.config.update("jax_use_simplified_jaxpr_constants", before)


@pytest.mark.usefixtures("double_precision")
def test_python_numbers_have_no_precision_of_their_own():
  """A result of Python numbers does not widen the sum, also where 64-bit types are on."""
  for dtype in (np.float16, np.float32, np.float64):
    for f in (lambda D: jnp.where(D < 1, 1.0, 0.0), lambda D: 1.0):
      assert pairwise_sum(f, np.ones((3, 2), dtype)).dtype == dtype
