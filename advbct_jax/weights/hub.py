"""Files of weights: here, in a package, or on the Hugging Face Hub."""

import contextlib
import importlib.util
import pathlib
import re
from typing import TypeVar

from advbct_jax.errors import InputError, brief

AnyPath = TypeVar('AnyPath', bound=pathlib.PurePath)

_HUB = 'hf://'
_PACKAGE = 'package://'

# How names of files of weights end.
SAFETENSORS = ('.safetensors',)
PICKLES = ('.pth', '.pt', '.bin', '.pth.tar')


def locate(source: pathlib.Path | str) -> pathlib.Path:
  """Finds a file of weights; fetches it first if it is on the Hub.

  A card beside the file on the Hub is fetched too. What was fetched before is
  found without a connection. A package that is searched is not imported.

  Args:
    source: a path, `hf://OWNER/REPO/FILE`, or `package://NAME` for the one file
      of weights in an installed Python package.

  Returns:
    The path of the file.

  Raises:
    InputError: if there is no such file, or it cannot be fetched.
  """
  if str(source).startswith(_HUB):
    return _fetch(str(source))
  if str(source).startswith(_PACKAGE):
    return _find_in_package(str(source))
  path = pathlib.Path(source)
  if not path.is_file():
    raise InputError(
      f'{path}: no such weights file. Wanted: a file, '
      f'{_HUB}OWNER/REPO/FILE for one on the Hugging Face Hub, or '
      f'{_PACKAGE}NAME for that of an installed package.'
    )
  return path


def is_address(source: pathlib.Path | str) -> bool:
  """Whether weights are named that are somewhere else than at a path."""
  return str(source).startswith((_HUB, _PACKAGE))


def names_weights(source: pathlib.Path | str) -> bool:
  """Whether a file of weights is named, whether or not it can be had.

  >>> names_weights('hf://timm/resnet18/model.bin'), names_weights('runs/old')
  (True, False)
  """
  name = str(source)
  return is_address(name) or name.endswith(SAFETENSORS + PICKLES)


def find_suffix(path: pathlib.PurePath) -> str:
  """The ending of a file of weights.

  Raises:
    InputError: if it is none that is known.

  >>> find_suffix(pathlib.Path('epoch30.pth.tar'))
  '.pth.tar'
  """
  # The longest first, for one may end another.
  for suffix in sorted(SAFETENSORS + PICKLES, key=len, reverse=True):
    if path.name.endswith(suffix):
      return suffix
  raise InputError(
    f'{path}: {path.suffix or "no suffix"} is no ending of a file of weights; '
    f'wanted: one of {", ".join(SAFETENSORS + PICKLES)}.'
  )


def card_path(path: AnyPath) -> AnyPath:
  """Where the card of a file of weights lies.

  >>> card_path(pathlib.Path('runs/new.v2.safetensors')).name
  'new.v2.json'
  """
  return path.with_name(path.name.removesuffix(find_suffix(path)) + '.json')


def _fetch(source: str) -> pathlib.Path:
  owner, name, file = _split(source)
  repository = f'{owner}/{name}'
  try:
    import huggingface_hub
    from huggingface_hub import errors
  except ImportError as error:
    raise InputError(
      f'{source}: huggingface_hub, which fetches it, is not installed. Run: '
      "pip install 'advbct_jax[hub]'"
    ) from error
  try:
    path = huggingface_hub.hf_hub_download(repository, file)
    with contextlib.suppress(errors.EntryNotFoundError):  # most have none
      card = card_path(pathlib.PurePosixPath(file))
      huggingface_hub.hf_hub_download(repository, str(card))
  except errors.LocalEntryNotFoundError as error:
    raise InputError(
      f'{source}: the Hub cannot be reached, and the file was not fetched '
      'before. Go online (HF_HUB_OFFLINE must not be set), or copy the file '
      'here and give its path.'
    ) from error
  except errors.RepositoryNotFoundError as error:
    raise InputError(
      f'{source}: no repository {repository} on the Hub, or one that is not '
      'open to you. Check the name; for a closed one log in: hf auth login'
    ) from error
  except errors.EntryNotFoundError as error:
    raise InputError(
      f'{source}: no file {file} in the repository {repository}. Look it up '
      f'on https://huggingface.co/{repository}/tree/main'
    ) from error
  except (ValueError, OSError) as error:  # HFValidationError, and others
    raise InputError(
      f'{source}: cannot be fetched ({error}). Try again, or copy the file '
      'here and give its path.'
    ) from error
  return pathlib.Path(path)


def _find_in_package(source: str) -> pathlib.Path:
  name = source.removeprefix(_PACKAGE)
  # A dotted name would import what is before the dot.
  # What runs, __main__, is no package, and may have no spec.
  known = name.isidentifier() and name != '__main__'
  spec = importlib.util.find_spec(name) if known else None
  if spec is None or spec.origin is None:
    name = name if name.isidentifier() and len(name) < 100 else 'NAME'
    raise InputError(
      f'{brief(source)}: no package of that name is installed. Run: pip '
      f"install {name.replace('_', '-')} (advbct_jax's own examples: pip "
      "install 'advbct_jax[pretrained]')"
    )
  folder = pathlib.Path(spec.origin).parent
  files = sorted(
    path
    for path in folder.rglob('*')
    if path.name.endswith(SAFETENSORS + PICKLES)
  )
  if len(files) != 1:
    raise InputError(
      f'{source}: {folder} has {len(files)} files of weights; wanted: a '
      'package with one. Give the path of the file.'
    )
  return files[0]


def _is_name(name: str) -> bool:
  """Whether a part of a path is a name, rather than a way out."""
  return name not in ('', '.', '..') and name.isprintable()


def _split(source: str) -> tuple[str, str, str]:
  parts = source.removeprefix(_HUB).split('/', 2)
  if len(parts) < 3 or not all(parts):
    raise InputError(
      f'{source}: not the address of a file; wanted: {_HUB}OWNER/REPO/FILE.'
    )
  owner, repository, file = parts
  # The client keeps a file under its own name.
  if len(source) > 1000 or not all(map(_is_name, re.split(r'[/\\]', file))):
    raise InputError(
      f'{brief(source)}: not the address of a file in a repository; wanted: '
      f'{_HUB}OWNER/REPO/FILE, in which FILE may have folders before it, and '
      'leads out of none.'
    )
  find_suffix(pathlib.PurePosixPath(file))
  return owner, repository, file
