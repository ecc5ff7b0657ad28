"""The examples run, and do what they say."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def load(name):
  """The example as a module of its own, anew each time: what it has jitted is its own, too."""
  spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_embedding_learns_what_it_says(capsys):
  result = load("embedding").main()
  (loss_before, accuracy_before), (loss_after, accuracy_after) = result["before"], result["after"]
  assert np.isfinite(result["losses"]).all()
  assert np.mean(result["losses"][-10:]) < 0.1 * np.mean(result["losses"][:3])
  assert loss_after < 0.1 * loss_before
  assert 0.6 < accuracy_before < 0.9  # "three of four"
  assert accuracy_after > 0.98
  printed = capsys.readouterr().out
  assert f"{accuracy_before:.1%}" in printed
  assert f"{accuracy_after:.1%}" in printed


def test_embedding_would_be_nan_with_a_root_by_hand(monkeypatch):
  """The data hold what the example says they hold: pairs of points that coincide, off the diagonal and unpadded."""
  example = load("embedding")

  def by_hand(x, y=None, *, where=None):
    y = x if y is None else y
    squared = ((x[:, None] - y[None]) ** 2).sum(-1)
    if where is not None:  # even with the care that the diagonal and the padding take
      real = where[:, None] & where[None, :] & ~jnp.eye(len(x), dtype=bool)
      squared = jnp.where(real, squared, 1.0)
    return jnp.sqrt(squared)

  monkeypatch.setattr(example, "distances", by_hand)
  assert np.isnan(example.main(steps=6)["losses"][-1])


@pytest.mark.slow
def test_embedding_gradient_is_that_of_the_points_that_exist():
  """Padding a batch changes neither the loss nor the gradient, and what stands in the padding reaches nothing."""
  example = load("embedding")
  rng = np.random.default_rng(0)
  z, labels = rng.normal(size=(24, 2)), np.arange(24) % 3
  z[5] = z[2]
  exists = np.arange(32) < 24
  padded = np.pad(z, ((0, 8), (0, 0)), constant_values=np.nan)
  value_and_grad = jax.value_and_grad(example.margin_loss)
  loss, gradient = value_and_grad(jnp.asarray(z), labels, np.ones(24, bool))
  loss_padded, gradient_padded = value_and_grad(jnp.asarray(padded), np.pad(labels, (0, 8)), exists)
  tolerance = 100 * float(jnp.finfo(loss.dtype).eps)
  assert np.isfinite(gradient).all()
  assert np.any(gradient)
  assert float(loss_padded) == pytest.approx(float(loss), rel=tolerance)
  np.testing.assert_allclose(gradient_padded[:24], gradient, rtol=tolerance, atol=tolerance)
  assert not np.any(gradient_padded[24:])


@pytest.mark.slow
def test_chamfer_finds_the_motion():
  result = load("chamfer").main(points=(900, 700))
  assert result["losses"][0] > 1
  assert result["losses"][-1] < 0.01
  assert result["errors"]["axis"] < 0.005
  assert result["errors"]["shift"] < 0.01


def test_sinkhorn_carries_one_cloud_into_the_other():
  example = load("sinkhorn")
  result = example.main()
  assert result["values"][0] > 0.2
  assert result["values"][-1] < 1e-3
  squared = np.square(result["x"][:, None] - result["y"][None]).sum(-1)
  assert np.sqrt(squared.min(0)).mean() < 0.1  # every point of y has one of x beside it


def test_sinkhorn_gradient_is_that_of_its_value():
  """Danskin: the last update alone has the gradient, at the fixed point."""
  example = load("sinkhorn")
  rng = np.random.default_rng(0)
  x, y, v = (jnp.asarray(rng.normal(size=(12, 2)) / 2) for _ in range(3))
  example.BLUR, example.UPDATES = 0.5, 300
  slope = (example.transport(x + 1e-2 * v, y) - example.transport(x - 1e-2 * v, y)) / 2e-2
  assert float((jax.grad(example.transport)(x, y) * v).sum()) == pytest.approx(float(slope), abs=2e-4)


@pytest.mark.slow
def test_soft_spheres_find_room(tmp_path):
  """Fewer of them; no two are nearer than they were, and all are inside."""
  result = load("soft_spheres").main(n=1500, steps=120, picture=str(tmp_path / "spheres.png"))
  assert np.isfinite(result["energies"]).all()
  assert result["energies"][-1] < 1e-3 * result["energies"][0]
  assert result["before"].mean() > 3
  assert result["after"].mean() < 0.2
  assert (tmp_path / "spheres.png").stat().st_size > 10_000


@pytest.mark.slow
def test_kernel_ridge_learns_which_coordinate_matters():
  result = load("kernel_ridge").main()
  assert result["losses"][-1] < 0.1 * result["losses"][0]
  assert result["error"] < 0.06
  assert result["length"][2] > 3 * max(result["length"][:2])


@pytest.mark.slow
def test_two_processes_train_the_points_of_one():
  result = load("two_processes").main()
  assert result["together"]["devices"] == 4
  values, alone = result["together"]["values"], result["values"]
  assert values[-1] < 1e-3 * values[0]
  np.testing.assert_allclose(values[:10], alone[:10], rtol=1e-4)
  np.testing.assert_allclose(result["together"]["x"], result["x"], atol=1e-4)
