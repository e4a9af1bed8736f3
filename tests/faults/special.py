"""Faults that are no signal: a full disk, a bad sector, a clock that jumps.

Each is a function that has a command meet it, sees that a line says what is the
matter, takes the cause away, and runs the same line again to its end.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import errno
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time

from advbct_jax.data import images
from tests.faults.commands import COMMANDS, Command
from tests.faults.forked import Forked, run_line
from tests.faults.scenario import Undisturbed, compare, copy_inputs

_DAY = 24 * 3600.0
_LONGEST_LINE = 600


@dataclasses.dataclass(frozen=True)
class Setting:
  """A command in a folder of its own.

  Attributes:
    command: which one.
    place: a copy of the inputs.
    log: what it says.
    undisturbed: what it should leave.
    draws: what is random.
  """

  command: Command
  place: pathlib.Path
  log: pathlib.Path
  undisturbed: Undisturbed
  draws: random.Random

  def start(self, around: Callable[[], object] | None = None) -> Forked:
    """Starts the command, after a change to its process if there is one."""

    def run() -> None:
      if around:
        around()
      run_line(self.command.line)()

    return Forked(run, self.place, self.log)

  def require_line(self, status: int, *wanted: str) -> None:
    """Requires that the command ended with an error that names something."""
    said = self.log.read_text(errors='replace')
    # What the command says itself; TensorStore and Orbax have their say, too.
    _, error, told = f'\n{said}'.rpartition('\nerror: ')
    # A list, as of images, is in lines that begin with spaces.
    line = error + re.split(r'\n(?!  )', told)[0] if error else ''
    if (
      not status
      or not line
      or len(line) > _LONGEST_LINE
      or not all(part in line for part in wanted)
    ):
      raise AssertionError(f'status {status}, wanted {wanted}: {said[-600:]}')


def disk_full(setting: Setting) -> None:
  """Runs in a file system that is too small, then in a larger one."""
  subprocess.run(['sync'], check=True)
  room = setting.draws.randrange(4, 64)
  with _small_disk(setting.place, f'{room}k') as grow:
    status, _ = setting.start().end()
    if status:
      setting.require_line(status)
    grow()
    status, _ = setting.start().end()
    _require_done(setting, status)


def read_error(setting: Setting) -> None:
  """Has the disk refuse to read one image, then read it after all."""
  files = sorted((setting.place / 'landmarks/train').rglob('*.jpg'))
  broken = setting.draws.choice(files).name
  whole = open

  def fail(path: pathlib.Path, *arguments: object, **options: object) -> object:
    if pathlib.Path(path).name == broken:
      raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
    return whole(path, *arguments, **options)  # type: ignore[call-overload]

  def refuse() -> None:
    images.open = fail  # type: ignore[attr-defined]

  status, _ = setting.start(refuse).end()
  setting.require_line(status, broken)
  status, _ = setting.start().end()
  _require_done(setting, status)


def image_cut(setting: Setting) -> None:
  """Cuts an image short, then brings it back."""
  files = sorted((setting.place / 'landmarks/train').rglob('*.jpg'))
  broken = setting.draws.choice(files)
  encoded = broken.read_bytes()
  broken.write_bytes(encoded[: len(encoded) // 2])
  status, _ = setting.start().end()
  setting.require_line(status, broken.name)
  broken.write_bytes(encoded)
  status, _ = setting.start().end()
  _require_done(setting, status)


def clock_jumps(setting: Setting) -> None:
  """Has the clock jump by a day, either way, at a random moment."""
  true, began = time.time, time.time()
  moment = began + setting.draws.uniform(0, setting.undisturbed.seconds)
  jump = setting.draws.choice((-_DAY, _DAY))

  def read() -> float:
    now = true()
    return now + jump if now > moment else now

  def set_clock() -> None:
    time.time = read

  status, _ = setting.start(set_clock).end()
  if status:
    status, _ = setting.start().end()
  _require_done(setting, status)


def read_only_data(setting: Setting) -> None:
  """Runs on data that nobody may write to."""
  with contextlib.ExitStack() as stack:
    for name in ('landmarks', 'files', 'set'):
      stack.enter_context(_read_only(setting.place / name))
    status, _ = setting.start().end()
  _require_done(setting, status)


def two_at_once(setting: Setting) -> None:
  """Starts the same line twice; one may be refused in a line."""
  first = setting.start()
  first.wait(setting.draws.uniform(0, setting.undisturbed.seconds / 2))
  other = dataclasses.replace(setting, log=setting.log.with_name('second.txt'))
  second = other.start()
  for one, process in ((other, second), (setting, first)):
    status, _ = process.end()
    if status:
      one.require_line(status, '')
  status, _ = setting.start().end()
  _require_done(setting, status)


def checkpoint_damaged(setting: Setting) -> None:
  """Stops a training, flips a bit in its newest checkpoint, and goes on."""
  checkpoints = setting.place / 'run/checkpoints'
  process = setting.start()
  while not process.wait(0.02):
    if len(_steps(checkpoints)) > 1:
      process.disturb(signal.SIGKILL, 0)
      break
  process.end()
  newest = checkpoints / str(_steps(checkpoints)[-1])
  files = [
    path
    for path in sorted(newest.glob('state/**/*'))
    if path.is_file() and path.stat().st_size
  ]
  broken = setting.draws.choice(files)
  content = bytearray(broken.read_bytes())
  content[setting.draws.randrange(len(content))] ^= 1
  broken.write_bytes(content)
  status, _ = setting.start().end()
  _require_done(setting, status)
  said = setting.log.read_text(errors='replace')
  if f'checkpoints/{newest.name}: this checkpoint is damaged' not in said:
    raise AssertionError(f'nobody said that {newest} is damaged: {said[-600:]}')
  shutil.rmtree(setting.place / 'run/damaged_checkpoints')


def worker_dies(setting: Setting) -> None:
  """Kills a process that decodes images, and starts the command again."""
  workers = dataclasses.replace(
    setting,
    command=dataclasses.replace(
      setting.command, line=f'{setting.command.line} --workers=1'
    ),
  )
  process = workers.start()
  killed = False
  while not killed and not process.wait(0.05):
    for child in _children(process.pid):
      # Grain's, rather than Python's tracker of shared memory.
      started = b''
      with contextlib.suppress(OSError):
        started = (child / 'cmdline').read_bytes()
      if b'spawn_main' in started:
        os.kill(int(child.name), signal.SIGKILL)
        killed = True
  status, _ = process.end()
  if not killed:
    raise AssertionError('there was no worker to kill')
  if status:
    workers.require_line(status, 'a worker process', 'SIGKILL')
  status, _ = workers.start().end()
  _require_done(workers, status)


_IMAGES = ('train', 'embed', 'prepare records', 'prepare own')
_WRITING = (
  'train',
  'train a head',
  'embed',
  'evaluate',
  'adapters fit',
  'adapters apply',
  'prepare own',
  'prepare records',
  'prepare vectors',
  'convert to-store',
  'convert from-store',
  'convert to-faiss',
  'convert to-pytorch',
  'convert from-pytorch',
)
_ALL = tuple(command.name for command in COMMANDS)

# Of each fault what it is called, what it does, and to which commands.
SPECIAL: dict[str, tuple[Callable[[Setting], None], tuple[str, ...]]] = {
  'disk full': (disk_full, _WRITING),
  'an image cannot be read': (read_error, _IMAGES[:2]),
  'an image is cut short': (image_cut, _IMAGES[:2]),
  'a bit of the newest checkpoint flips': (
    checkpoint_damaged,
    ('train a head',),
  ),
  'a worker process dies': (worker_dies, ('embed',)),
  'the clock jumps': (clock_jumps, _ALL),
  'the data cannot be written to': (
    read_only_data,
    tuple(name for name in _ALL if name != 'compare'),
  ),
  'two at once': (two_at_once, _ALL),
}


def special_faults() -> list[str]:
  """Those that this process can make: to mount takes rights."""
  mounting = ('disk full', 'the data cannot be written to')
  return [name for name in SPECIAL if name not in mounting or can_mount()]


def meet(
  fault: str,
  command: Command,
  undisturbed: Undisturbed,
  inputs: pathlib.Path,
  folder: pathlib.Path,
  seed: int,
) -> str:
  """Has a command meet a fault; says what went wrong, if anything did."""
  function, _ = SPECIAL[fault]
  setting = Setting(
    command,
    copy_inputs(inputs, folder),
    folder / 'log.txt',
    undisturbed,
    random.Random(f'{fault} {command.name} {seed}'),
  )
  try:
    function(setting)
    if differing := compare(undisturbed, setting.place, folder):
      return f'differing: {differing}'
  except (AssertionError, TimeoutError) as error:
    return str(error)
  shutil.rmtree(folder)
  return ''


def _require_done(setting: Setting, status: int) -> None:
  said = setting.log.read_text(errors='replace')
  if status and setting.command.done not in said.rpartition('error:')[2]:
    raise AssertionError(f'status {status}: {said[-600:]}')


def can_mount() -> bool:
  """Whether this process may mount file systems, as root may."""
  done = subprocess.run(
    ['unshare', '--mount', 'true'], capture_output=True, check=False
  )
  return os.geteuid() == 0 and done.returncode == 0


@contextlib.contextmanager
def _small_disk(place: pathlib.Path, room: str) -> Iterator[Callable[[], None]]:
  """Moves a folder into a file system with so much room left.

  Yields:
    What makes it large.
  """
  kept = place.with_name('kept')
  place.rename(kept)
  place.mkdir()
  _mount('-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', place)
  try:
    shutil.copytree(kept, place, dirs_exist_ok=True)
    space = os.statvfs(place)
    used = (space.f_blocks - space.f_bfree) * space.f_frsize // 1024
    _mount('-o', f'remount,size={used + int(room[:-1])}k', place)
    yield lambda: _mount('-o', 'remount,size=64m', place)
    shutil.rmtree(kept)
    shutil.copytree(place, kept)
  finally:
    subprocess.run(['umount', place], check=True)
    place.rmdir()
    kept.rename(place)


@contextlib.contextmanager
def _read_only(folder: pathlib.Path) -> Iterator[None]:
  _mount('--bind', folder, folder)
  try:
    _mount('-o', 'remount,ro,bind', folder)
    yield
  finally:
    subprocess.run(['umount', folder], check=True)


def _mount(*arguments: str | pathlib.Path) -> None:
  subprocess.run(['mount', *arguments], check=True, capture_output=True)


def _steps(checkpoints: pathlib.Path) -> list[int]:
  return sorted(
    int(path.name) for path in checkpoints.glob('*') if path.name.isdigit()
  )


def _children(parent: int) -> Iterator[pathlib.Path]:
  for process in pathlib.Path('/proc').glob('[0-9]*'):
    with contextlib.suppress(OSError):
      # What follows the name, in brackets: the state and the parent.
      after = (process / 'stat').read_text().rpartition(')')[2].split()
      if int(after[1]) == parent:
        yield process
