"""Judges encoders on retrieval sets."""

from collections.abc import Sequence
import pathlib
import sys
from typing import Any

from absl import flags

from advbct_jax.command_line import exit_with_message, warnings_in_a_line
from advbct_jax.commands.parsing import parse_flags
from advbct_jax.commands.process_flags import (
  define_processes,
  start_processes,
)
from advbct_jax.errors import InputError
from advbct_jax.processes import is_first, say

_DESCRIPTION = """\
Judges encoders on retrieval sets.

  advbct evaluate --old=RUN --new=RUN --data=roxford5k,rparis6k \\
    --data_root=FOLDER

An encoder is the workdir of a run, an embedding store or a folder of stores.
With --encoders=A,B,… the queries of each search the gallery of each."""


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command line.

  Args:
    arguments: what follows the command's name; None takes `sys.argv`.
  """
  with exit_with_message(), warnings_in_a_line():
    values = parse(sys.argv[1:] if arguments is None else arguments)
    start_processes(values)
    if values.encoders:
      _measure_matrix(values)
      return
    from advbct_jax.api import evaluate
    from advbct_jax.embeddings.store import is_store
    from advbct_jax.judge import print_judgement

    if not values.workdir and is_store(values.new):
      raise InputError(
        f'--new={values.new}: a store, in which results have no place. Name a '
        'folder for them by --workdir.'
      )
    workdir = pathlib.Path(values.workdir or f'{values.new}/evaluation')
    if values.refresh:
      _measure_refresh(values, workdir)
      return
    results = evaluate(
      values.new,
      values.data,
      workdir,
      old=values.old,
      independent=values.independent,
      adapter=values.adapter,
      side=values.side,
      **_options(values),
    )
    print_judgement(results, workdir)


def _measure_matrix(values: flags.FlagValues) -> None:
  """Judges several encoders on each other."""
  from advbct_jax.api import evaluate_matrix

  others = ('old', 'new', 'independent', 'adapter', 'side', 'refresh')
  if named := [f'--{name}' for name in others if getattr(values, name)]:
    raise InputError(
      f'--encoders: all encoders are named by it, so that {", ".join(named)} '
      'has no meaning. Leave one of them out.'
    )
  if not values.workdir:
    raise InputError(
      '--encoders: results have no place in any of several encoders. Name a '
      'folder for them by --workdir.'
    )
  workdir = pathlib.Path(values.workdir)
  evaluate_matrix(
    values.encoders, values.data, values.workdir, **_options(values)
  )
  say((workdir / 'matrix.md').read_text('utf-8'))
  say(f'report: {workdir / "matrix.md"}')


def _measure_refresh(values: flags.FlagValues, workdir: pathlib.Path) -> None:
  """Measures policies in the place of the plain cross-test.

  Between frozen encoders, whose widths may differ, there is none.
  """
  from advbct_jax.api import evaluate_refresh
  from advbct_jax.refresh.report import print_curves

  if values.adapter or values.independent or values.side:
    raise InputError(
      '--refresh: it compares policies between --old and --new, and takes no '
      '--adapter, --side or --independent. Judge these by a run without '
      '--refresh.'
    )
  curves = evaluate_refresh(
    values.new,
    values.old,
    values.data,
    workdir,
    values.refresh,
    values.refresh_order,
    **_options(values),
  )
  if is_first():
    print_curves(curves, workdir)


def _options(values: flags.FlagValues) -> dict[str, Any]:
  """The flags that both kinds of judging take."""
  names = ('data_root', 'crop_queries', 'batch_size', 'workers', 'dtype')
  options = {name: getattr(values, name) for name in names}
  if values.max_pixels is not None:
    options['max_pixels'] = values.max_pixels
  return options


def parse(arguments: Sequence[str]) -> flags.FlagValues:
  """Reads the command line, or ends the program."""
  values = flags.FlagValues()
  for name, meaning in (
    ('old', 'the encoder that filled the index'),
    ('new', 'the encoder to upgrade to'),
    (
      'independent',
      'the new model trained without any tie to the old one; gives the scores',
    ),
    (
      'adapter',
      "the folder of an adapter, which maps the new encoder's vectors where "
      "they are compared with old ones, or the old gallery's where new ones "
      'search it (advbct adapters fit)',
    ),
    (
      'side',
      'the encoder of the side vectors that --adapter was fitted with, beside '
      "the old gallery's",
    ),
    ('data_root', 'where each NAME of --data lies'),
    ('workdir', 'where results go; NEW/evaluation by default'),
  ):
    flags.DEFINE_string(name, None, meaning, flag_values=values)
  flags.DEFINE_list(
    'data', None, 'data sets: NAME or NAME:ROOT, …', flag_values=values
  )
  flags.DEFINE_list(
    'encoders',
    [],
    'encoders to judge on each other instead, a wider one after a narrower '
    'one: the matrix of the queries of each on the gallery of each',
    flag_values=values,
  )
  flags.DEFINE_list(
    'refresh',
    [],
    'refresh policies to measure instead, such as auto,auto_new,fixed,'
    'interpolate,cascade:50 (docs/refresh.md)',
    flag_values=values,
  )
  flags.DEFINE_list(
    'refresh_order',
    ['random'],
    'which things are re-embedded first: random, coverage, asked, outlying, '
    'disagreeing, uncertain, or several of these',
    flag_values=values,
  )
  flags.DEFINE_bool(
    'crop_queries',
    True,
    'crop queries to their boxes, which is the standard of ROxford and RParis; '
    '--nocrop_queries is the protocol of the AdvBCT paper',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'max_pixels',
    None,
    'images of more are refused by their header (89478485, which take 256 MiB '
    'as RGB)',
    lower_bound=1,
    flag_values=values,
  )
  flags.DEFINE_integer(
    'batch_size', 256, 'images at a time', flag_values=values
  )
  flags.DEFINE_integer(
    'workers', 0, 'processes that decode images', flag_values=values
  )
  flags.DEFINE_enum(
    'dtype',
    'float32',
    ['float32', 'bfloat16'],
    'what the encoders of runs compute in; stores of the two are not mixed',
    flag_values=values,
  )
  define_processes(values)
  flags.mark_flag_as_required('data', flag_values=values)
  flags.register_multi_flags_validator(
    ['new', 'encoders'],
    lambda given: bool(given['new'] or given['encoders']),
    '--new is missing, the encoder to judge; or several, by --encoders',
    flag_values=values,
  )
  parse_flags(values, 'advbct evaluate', _DESCRIPTION, arguments)
  return values
