"""The card that lies beside a file of vectors from a store: NAME.json."""

import pathlib

from advbct_jax.embeddings.store import Card, read_card
from advbct_jax.errors import InputError


def card_beside(path: pathlib.Path) -> Card | None:
  """Reads the card beside a file of vectors; None without one.

  Raises:
    InputError: if it is damaged or of another version.
  """
  file = path.with_suffix('.json')
  try:
    if b'"ids_digest"' not in file.read_bytes():
      return None  # A file of somebody's own, which happens to be called so.
    return read_card(file)
  except FileNotFoundError:
    return None
  except (OSError, InputError) as error:
    raise InputError(
      f'{file}: cannot be read as the card of {path.name} ({error}). It is '
      'damaged or of another version; fetch or write it again, or take it away '
      'and name the encoder by --encoder.'
    ) from error
