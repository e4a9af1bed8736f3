"""Work that Apache Beam hands out to worker processes, here or on a cluster.

What a worker needs is told by paths, so they must mean the same files to every
worker; results are files there, too, and nothing large passes through Beam.
Beam comes with the extra `beam` and is imported only when it is asked for.
"""

from collections.abc import Callable, Sequence
import pathlib
import pickle
import shlex
import shutil
import socket
import threading
from typing import Any

from advbct_jax.errors import InputError

# Does one task.
Do = Callable[[Any], None]

HELP = (
  "hands the work out to Apache Beam's workers, with these options of Beam, "
  "such as '--direct_num_workers=2 --direct_running_mode=multi_processing'; "
  'every worker must see the same files under the same paths (pip install '
  "'advbct_jax[beam]')"
)

_QUIET = '--default_sdk_harness_log_level=ERROR'
_MOST_FAILURES = 10

# Beam may run several tasks at once in a process. One at a time has the memory
# and the device; a thread a core works within it.
_alone = threading.Lock()
# What this process has opened last, by what opened it.
_opened: dict[bytes, Do] = {}


def do_all(
  open_work: Callable[[], Do],
  tasks: Sequence[Any],
  options: str,
  folder: pathlib.Path,
) -> None:
  """Does tasks on Beam's workers, in any order, and waits for the last one.

  A task may be done twice, in the worst case at the same time: that is how Beam
  gets over workers that are lost or late.

  Args:
    open_work: called once in each worker process; gives what does a task. It is
      pickled, so it is a function of a module, or a `functools.partial` of one.
    tasks: small and picklable.
    options: of Beam's pipeline, as on a command line.
    folder: that all workers see and the caller holds, for what they say of
      failures meanwhile.

  Raises:
    InputError: if Beam is not installed or refuses the options; or with what
      the tasks raised of it, after all others are done.
  """
  try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
  except ImportError as error:
    raise InputError(
      f'--beam: Apache Beam cannot be imported ({error}). Install it by pip '
      "install 'advbct_jax[beam]', here and where the workers run."
    ) from error
  try:
    # Ahead of the caller's, which win: else workers tell of all they do.
    parsed = PipelineOptions([_QUIET, *shlex.split(options)])
    parsed.get_all_options()
  except (SystemExit, ValueError) as error:
    raise InputError(
      f'--beam: Apache Beam refuses the options {options!r} ({error}). Its '
      'documentation lists those of each runner.'
    ) from error
  failures = folder.absolute() / '.failures'
  shutil.rmtree(failures, ignore_errors=True)  # A killed run's.
  failures.mkdir()
  _opened.clear()  # Of an earlier call here, whose files may have changed.
  try:
    with beam.Pipeline(options=parsed) as pipeline:
      _ = (
        pipeline
        | 'Tasks' >> beam.Create(list(enumerate(tasks)))
        # Else one worker would do what one worker has created.
        | 'HandOut' >> beam.Reshuffle()
        | 'Do' >> beam.Map(_do, open_work, failures)
      )
    _raise_failures(failures, len(tasks))
  finally:
    shutil.rmtree(failures, ignore_errors=True)


def _do(
  task: tuple[int, Any], open_work: Callable[[], Do], failures: pathlib.Path
) -> None:
  """Does one task; what it cannot use is a line in a file of its own.

  Raised, it would be tried again, and come back as pages of Beam's traceback.
  """
  number, given = task
  if not failures.is_dir():
    raise RuntimeError(
      f'{failures}: the worker on {socket.gethostname()} finds no such folder; '
      'wanted: a file system that all workers see under the same paths.'
    )
  key = pickle.dumps(open_work)
  with _alone:
    try:
      if key not in _opened:
        _opened.clear()
        _opened[key] = open_work()
      _opened[key](given)
    except InputError as error:
      (failures / f'{number:09d}').write_text(str(error), 'utf-8')


def _raise_failures(failures: pathlib.Path, count: int) -> None:
  found = sorted(failures.iterdir())
  messages = dict.fromkeys(
    path.read_text('utf-8') for path in found[:_MOST_FAILURES]
  )
  if len(messages) == 1:
    raise InputError(*messages)
  if messages:
    more = '\n  …' if len(found) > _MOST_FAILURES else ''
    raise InputError(
      f'{len(found)} of {count} tasks could not be done:\n  '
      + '\n  '.join(messages)
      + more
    )
