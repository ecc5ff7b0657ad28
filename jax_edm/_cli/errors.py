"""Mistakes of the user: one line, in the form that every message of the package has."""

from jax_edm import _errors


class UserError(Exception):
  """One line that says what is wrong and what to do."""


class UnclearError(UserError):
  """The file can be read in two ways."""


class ShapeError(UserError):
  """A table of numbers has not the shape of what it should hold."""


def error(who: object, expected: str, got: str, advice: str) -> UserError:
  return UserError(_errors.message(str(who), expected, got, advice))


def unclear(who: object, what: str, got: str, advice: str) -> UnclearError:
  return UnclearError(_errors.message(str(who), f"it must be clear whether {what}", got, advice))


def shape_error(who: object, expected: str, got: str, advice: str) -> ShapeError:
  return ShapeError(_errors.message(str(who), expected, got, advice))
