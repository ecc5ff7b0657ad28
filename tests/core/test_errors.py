"""Bad input: who, what was expected, what came, what to do; at once, and under jit too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse

from jax_edm import distances, edm, edm_jacobian, edm_jvp, edm_vjp, nearest, pairwise_sum

X, Y = jnp.ones((4, 3)), jnp.ones((5, 3))
MASK = np.ones(4, bool)
BIG_ENDIAN = np.ones((4, 3), ">f4")


class Tensor:
  """As torch has it; the tests need no torch."""

  shape, dtype, detach = (4, 3), "float32", None


Tensor.__module__ = "torch"


class WithUnit:
  """As libraries of units and of representations of groups have it."""

  shape, dtype = (4, 3), np.dtype("f4")

  def __init__(self, array):
    self.array = array


NO_ARRAY = {  # what came, and what to do
  "a tensor": (Tensor(), r"torch\.Tensor. Convert it with jnp.asarray\(x.numpy\(force=True\)\)"),
  "a reference": (lambda: jax.new_ref(X), r"jax\.Ref. Read it with x\[\.\.\.\]"),
  "a sparse matrix": (lambda: sparse.BCOO.fromdense(X), r"jax\.BCOO. Convert it with x.todense\(\)"),
  "a shape": (jax.ShapeDtypeStruct((4, 3), np.float32), r"jax\.ShapeDtypeStruct. Pass shapes to jax.eval_shape"),
  "a masked array": (np.ma.MaskedArray(np.ones((4, 3))), r"numpy\.MaskedArray. Pass x.data, and where="),
  "a wrapper": (lambda: WithUnit(X), r"WithUnit. Pass x.array"),
  "a list": ([[1.0, 2.0]], r"list. Convert it with jnp.asarray\(x\)"),
}


@pytest.mark.parametrize("case", NO_ARRAY)
def test_what_is_taken_for_an_array(case):
  given, message = NO_ARRAY[case]
  given = given() if callable(given) else given
  for name, f in {"edm": edm, "pairwise_sum": lambda x: pairwise_sum(jnp.exp, x), "nearest": nearest}.items():
    with pytest.raises(TypeError, match=f"^{name}: x must be a JAX or NumPy array. Got .*{message}"):
      f(given)
  for name in ("where", "y"):
    with pytest.raises(TypeError, match=f"^edm: {name} must be a JAX or NumPy array. Got "):
      edm(X, **{name: given})


BAD = {
  "byte order": (TypeError, r"x must have the byte order of this machine. Got dtype >f4", lambda f: f(BIG_ENDIAN)),
  "float8 without zero": (
    TypeError,
    r"x must have a number type with zero and signs. Got dtype float8_e8m0fnu",
    lambda f: f(jnp.ones((2, 2)).astype(jnp.float8_e8m0fnu)),
  ),
  "rank 1": (ValueError, r"x must have the shape .* Got shape \(3,\). For points on a line", lambda f: f(X[0])),
  "rank 0": (ValueError, r"x must have the shape", lambda f: f(X[0, 0])),
  "rank of y": (ValueError, r"y must have the shape", lambda f: f(X, Y[0])),
  "different d": (
    ValueError,
    r"x and y must have the same number of coordinates. Got x \(4, 3\) and y \(5, 2\). Pad the shorter",
    lambda f: f(X, Y[:, :2]),
  ),
  "batches": (ValueError, r"leading axes of y must broadcast", lambda f: f(jnp.ones((2, 4, 3)), jnp.ones((3, 5, 3)))),
  "method": (ValueError, r'method must be None, "difference" or "gram". Got \'fast\'', lambda f: f(X, method="fast")),
  "methods": (ValueError, r"method must be", lambda f: f(X, method=np.array(["gram", "gram"]))),
  "longdouble": (TypeError, r"x must be of 8 to 64 bits", lambda f: f(np.ones((2, 2), np.longdouble))),
  "int4": (TypeError, r"x must be of 8 to 64 bits. Got dtype int4", lambda f: f(jnp.ones((2, 2), jnp.int4))),
  "float4": (TypeError, r"x must be of 8 to 64 bits", lambda f: f(jnp.ones((2, 2)).astype(jnp.float4_e2m1fn))),
  "dtypes that do not promote": (
    TypeError,
    r"x and y must have dtypes that promote",
    lambda f: f(jnp.ones((2, 2), jnp.float8_e5m2), jnp.ones((2, 2), jnp.float16)),
  ),
  "where against y": (
    ValueError,
    r"leading axes of where must broadcast",
    lambda f: f(jnp.ones((4, 3)), jnp.ones((2, 5, 3)), where=np.ones((7, 4), bool)),
  ),
  "unhashable method": (ValueError, r"method must be", lambda f: f(X, method=["gram"])),
  "complex": (TypeError, r"x must hold real numbers. Got dtype complex64. Pass the real", lambda f: f(X + 1j)),
  "boolean": (TypeError, r"y must hold real numbers. Got dtype bool. .* mask goes into where", lambda f: f(X, Y > 0)),
  "text": (TypeError, r"x must hold real numbers. Got dtype <U1", lambda f: f(np.array([["a", "b"]]))),
  "objects": (TypeError, r"x must hold real numbers. Got dtype object", lambda f: f(np.array([[None]]))),
  "list": (TypeError, r"x must be a JAX or NumPy array. Got list. Convert it with jnp.asarray", lambda f: f([[0.0]])),
  "where too long": (
    ValueError,
    r"where must have one entry for each point of x. Got where \(5,\) and x \(4, 3\). Give it the shape \(4,\)",
    lambda f: f(X, where=np.ones(5, bool)),
  ),
  "where of pairs": (
    ValueError,
    r"leading axes of where",
    lambda f: f(jnp.ones((2, 4, 3)), where=np.ones((3, 4), bool)),
  ),
  "where scalar": (ValueError, r"where must have one entry", lambda f: f(X, where=np.bool_(True))),
  "where of floats": (TypeError, r"where must be boolean.* Got dtype float32", lambda f: f(X, where=jnp.ones(4))),
  "where_y alone": (ValueError, r"where_y needs y", lambda f: f(X, where_y=MASK)),
  "where_y wrong": (ValueError, r"where_y must have one entry for each point of y", lambda f: f(X, Y, where_y=MASK)),
}


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("f", [edm, distances])
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, f, jitted):
  """With jit, every array that JAX takes is a tracer."""
  error, message, call = BAD[case]

  def traced(*arrays, **options):
    tracers = jax.tree.map(lambda a: a + jnp.zeros((), a.dtype) if isinstance(a, jax.Array) else a, (arrays, options))
    return f(*tracers[0], **tracers[1])

  with pytest.raises(error, match=rf"^{f.__name__}: .*{message}") as raised:
    (jax.jit(lambda: call(traced)) if jitted else lambda: call(f))()
  assert str(raised.value).endswith(".")
  assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
  ("call", "error", "message"),
  [
    (lambda: edm_jvp(X, X[:2]), ValueError, r"edm_jvp: v must have the shape of x. Got \(2, 3\), not \(4, 3\)"),
    (lambda: edm_jvp(X, X, Y), ValueError, "edm_jvp: y and its tangent w go together"),
    (lambda: edm_jvp(X, X, Y, X), ValueError, "edm_jvp: w must have the shape of y"),
    (lambda: edm_jvp(X, X > 0), TypeError, "edm_jvp: v must hold floating-point numbers"),
    (lambda: edm_vjp(X, jnp.ones((4, 5))), ValueError, r"edm_vjp: g must have the shape of the matrix. Got \(4, 5\)"),
    (lambda: edm_vjp(X, [1.0]), TypeError, "edm_vjp: g must be a JAX or NumPy array"),
    (lambda: edm_vjp(X, jnp.ones((4, 5)), Y[:, :1]), ValueError, "edm_vjp: x and y must have the same number"),
    (lambda: edm_jacobian(X[0]), ValueError, "edm_jacobian: x must have the shape"),
  ],
)
def test_bad_input_of_the_closed_forms(call, error, message):
  with pytest.raises(error, match=message):
    call()
