"""Several processes, on one host or on several, that work as one.

JAX's own engine brings them together (`jax.distributed`), says who lives, and
has a table of keys and values that all of them see, through which they agree.
The first process writes what is written once, and speaks; all call what is here
in the same order, and with one process all of it is as if it were not there.

What is agreed upon goes through the table rather than through the devices,
which would be kept busy by whoever waits, for hours where one process searches
a large gallery.
"""

from collections.abc import Callable, Iterator
import contextlib
import hashlib
import importlib.util
import itertools
import os
import pathlib
import pickle
import sys
import threading
import time
from typing import Any, NoReturn, TypeVar

from advbct_jax.errors import InputError, brief_reason

T = TypeVar('T')

# Seconds without a sign of life after which a process counts as dead.
DEAD_AFTER = 60

_FAILURE = 'advbct/failure'
# A wait in C++ hears no signal, so that none is longer.
_PATIENCE_MS = 500
# Seconds that the first process, whose table the others read, outlives a
# failure for them to hear of it.
_LAST_WORDS = 10

# Seconds after which a file that one host has made is there on all.
_DISK_LAG = 60

_numbers = itertools.count()
_alone = False
_over = threading.Event()
_listener: threading.Thread | None = None


def count() -> int:
  """How many processes work as one."""
  return 1 if _alone or not _is_joined() else _state().num_processes


def index() -> int:
  """The number of this process among them, from 0."""
  return 0 if _alone or not _is_joined() else _state().process_id


def is_first() -> bool:
  """Whether this process is the one that writes and speaks."""
  return index() == 0


def say(*words: object) -> None:
  """Prints, in the first process alone."""
  if is_first():
    print(*words)


def start(
  coordinator: str | None = None,
  processes: int | None = None,
  process: int | None = None,
  dead_after: int = DEAD_AFTER,
) -> None:
  """Joins the other processes, before anything asks JAX for its devices.

  Args:
    coordinator: HOST:PORT, where the first process listens; None, like the two
      below, for what Slurm, Open MPI or the TPU says.
    processes: how many there are; 1 leaves this one by itself.
    process: the number of this one, from 0.
    dead_after: seconds without a sign of life after which a process counts as
      dead, and all others end.

  Raises:
    InputError: if the three are not given together, the processes don't find
      each other, or don't have as many devices each.
  """
  given = (coordinator, processes, process)
  by_hand = None not in given
  if processes == 1:
    return
  if not by_hand and given != (None, None, None):
    raise InputError(
      f'--coordinator is {coordinator}, --processes {processes} and --process '
      f'{process}; wanted: all three, or none of them where Slurm, Open MPI or '
      'the TPU says it, or --processes=1.'
    )
  if not by_hand and not _started_by() and not _has_tpu():
    return
  global _listener
  import jax

  # It would take SIGTERM away from our own handler, which hears more signals.
  jax.config.update('jax_enable_preemption_service', False)
  try:
    jax.distributed.initialize(
      coordinator,
      processes,
      process,
      heartbeat_timeout_seconds=dead_after,
      cluster_detection_method='deactivate' if by_hand else None,
    )
  except (OSError, RuntimeError, TypeError, ValueError) as error:
    if not by_hand and not _started_by() and jax.process_count() == 1:
      return  # A TPU of one host, of which nothing says where it is.
    raise InputError(
      f'the processes did not find each other ({brief_reason(error)}). Wanted: '
      'in each of them the same --coordinator=HOST:PORT and --processes=N, and '
      'its own --process from 0; or --processes=1 for one that works by itself.'
    ) from error
  if count() == 1:
    return
  _listener = threading.Thread(target=_hear_of_failures, daemon=True)
  _listener.start()
  devices = gather(jax.local_device_count())
  if len(set(devices)) > 1:
    raise InputError(
      f'the processes have {", ".join(map(str, devices))} devices; wanted: as '
      'many in each.'
    )


def require_one(command: str) -> None:
  """Refuses several processes where only one can work.

  Args:
    command: what was called, for the message.

  Raises:
    InputError: if several were started by Slurm or Open MPI.
  """
  if launcher := _started_by():
    raise InputError(
      f'{command} runs in one process, but {launcher} has started several; '
      'wanted: one (srun --ntasks=1, mpirun -n 1). Only train, embed and '
      'evaluate share their work.'
    )


def require_same(what: str, value: object) -> None:
  """Refuses processes that were told different things.

  Args:
    what: is compared, for the message.
    value: of this process; its text is compared.

  Raises:
    InputError: naming the processes that differ from the first.
  """
  digests = gather(hashlib.sha256(str(value).encode()).hexdigest())
  if others := [at for at, one in enumerate(digests) if one != digests[0]]:
    raise InputError(
      f'{what}: that of process {", ".join(map(str, others))} differs from '
      'that of process 0; wanted: the same command line and files in all '
      'processes, or --processes=1 in each for runs that have nothing to do '
      'with each other.'
    )


def require_shared(folder: pathlib.Path) -> None:
  """Refuses a folder that is not the same one in all processes.

  Args:
    folder: is made where it is not there.

  Raises:
    InputError: saying which processes see another one.
  """
  if count() == 1:
    return
  mark = folder / f'.shared.{from_first(os.getpid)}'
  if is_first():
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
  meet()
  seen = gather(comes_true(mark.exists))
  if is_first():
    mark.unlink()
  if blind := [at for at, sees in enumerate(seen) if not sees]:
    raise InputError(
      f'{folder}: process {", ".join(map(str, blind))} has another folder of '
      'this name than process 0; wanted: one on a file system that all hosts '
      'share.'
    )


def from_first(act: Callable[[], T]) -> T:
  """Has the first process do something, while the others wait.

  Meanwhile it works by itself: what is done may embed or search, as with one
  process, but take no step of a training.

  Args:
    act: what is done; what it gives can be pickled.

  Returns:
    What it gave, in every process.

  Raises:
    InputError: in every process, if it raised one.
  """
  global _alone
  if count() == 1:
    return act()
  key = new_key()
  if not is_first():
    result, refusal = wait_for(key)
    if refusal:
      raise refusal
    return result
  _alone = True
  try:
    result = act()
  except InputError as error:
    publish(key, (None, error))
    raise
  finally:
    _alone = False
  publish(key, (result, None))
  return result


@contextlib.contextmanager
def first_by_itself() -> Iterator[bool]:
  """Has the first process do what is large to share, while the others wait.

      with processes.first_by_itself() as here:
        if here:
          …

  Where what is done fails, that ends all processes (`end_all`).
  """
  global _alone
  if count() == 1:
    yield True
    return
  if is_first():
    _alone = True
    try:
      yield True
    finally:
      _alone = False
  else:
    yield False
  meet()


def gather(value: T) -> list[T]:
  """The value of every process, in their order, once all have got here."""
  if count() == 1:
    return [value]
  key = new_key()
  if not is_first():
    publish(f'{key}/{index()}', [value])
    return wait_for(key)
  values = [value]
  for other in range(1, count()):
    values += wait_for(f'{key}/{other}')
  publish(key, values)
  return values


def meet() -> None:
  """Waits until all processes have got here."""
  gather(None)


def comes_true(condition: Callable[[], bool]) -> bool:
  """Waits for what others have done to files; a network disk may lag behind.

  Args:
    condition: looks whether it is to be seen.

  Returns:
    Whether it was, within a minute.
  """
  deadline = time.monotonic() + _DISK_LAG
  while not condition():
    if time.monotonic() > deadline:
      return False
    time.sleep(0.2)
  return True


def new_key() -> str:
  """A key for all processes, the same in each of them."""
  return f'advbct/{next(_numbers)}'


def publish(key: str, value: object) -> bool:
  """Shows a value to all, unless there is one; says whether it did."""
  try:
    _state().client.key_value_set_bytes(key, pickle.dumps(value))
  except RuntimeError as error:
    if 'ALREADY_EXISTS' not in str(error):
      raise
    return False
  return True


def look_up(key: str) -> Any:
  """A value that is shown now or in a moment; None where there is none."""
  try:
    return pickle.loads(
      _state().client.blocking_key_value_get_bytes(key, _PATIENCE_MS)
    )
  except RuntimeError as error:
    if 'DEADLINE_EXCEEDED' not in str(error):
      raise
    return None


def wait_for(key: str) -> Any:
  """A value, not None, that a process shows or will show."""
  while (value := look_up(key)) is None:
    pass
  return value


def leave() -> None:
  """Ends the common work, once all processes have got here."""
  if count() == 1:
    return
  meet()
  _over.set()
  # Python's end would take a thread that waits in C++ for a crash.
  if _listener:
    _listener.join()
  import jax

  jax.distributed.shutdown()


def end_all(message: str, status: int) -> NoReturn:
  """Ends all processes, since this one has failed.

  What Python does at its end would wait for the others, which may wait for this
  one; so it is left out.

  Args:
    message: what happened; where all say the same, the first alone prints it.
    status: the exit status of all.
  """
  _over.set()
  process = _state().process_id
  if process:
    look_up(_FAILURE)  # Where all fail alike, the first shall say so.
  if not publish(_FAILURE, (process, message, status)):
    _, told, status = wait_for(_FAILURE)
    if process and message == told:
      message = ''
  _end(message, status)


def _hear_of_failures() -> None:
  """Ends this process when another one has failed."""
  with contextlib.suppress(RuntimeError):  # The table is gone at the end.
    while not _over.is_set():
      failure = look_up(_FAILURE)
      if failure and not _over.is_set():
        process, message, status = failure
        _end(f'process {process} has ended this run: {message}', status)


def _end(message: str, status: int) -> NoReturn:
  if message:
    print(message, file=sys.stderr, flush=True)
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError, ValueError):
      stream.flush()
  with contextlib.suppress(RuntimeError):
    if process := _state().process_id:
      publish(f'{_FAILURE}/{process}', 'heard')
    else:
      _outlive_others()
  os._exit(status)


def _outlive_others() -> None:
  """Keeps the table, which is the first process's, until all know why."""
  deadline = time.monotonic() + _LAST_WORDS
  for other in range(1, _state().num_processes):
    while time.monotonic() < deadline and not look_up(f'{_FAILURE}/{other}'):
      pass
  # Whoever finds the table gone, as it ends, dies of that.
  time.sleep(2)


def _started_by() -> str:
  """What has started several processes; empty where nothing has."""
  variables = os.environ
  # Within a batch script, outside of srun, the step has one task.
  tasks = variables.get('SLURM_STEP_NUM_TASKS', '1')
  if 'SLURM_STEP_NODELIST' in variables and tasks != '1':
    return 'Slurm'
  if variables.get('OMPI_COMM_WORLD_SIZE', '1') != '1':
    return 'Open MPI'
  return ''


def _has_tpu() -> bool:
  """Whether there is a TPU, whose host may be one of several."""
  return importlib.util.find_spec('libtpu') is not None and any(
    itertools.chain(
      pathlib.Path('/dev').glob('accel*'),
      pathlib.Path('/dev/vfio').glob('[0-9]*'),
    )
  )


def _is_joined() -> bool:
  # Where nobody has imported it, nothing can be joined.
  jax = sys.modules.get('jax')
  return jax is not None and jax.distributed.is_initialized()


def _state() -> Any:
  # JAX has no public way to its table, nor to the number of processes that
  # wouldn't start its devices; Orbax takes this one too.
  from jax._src import distributed

  return distributed.global_state
