"""What two processes agree upon, and then how the second one's failure ends.

python -m tests.processes.agreement COORDINATOR PROCESS FOLDER
"""

import pathlib
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax import parallel, processes
from advbct_jax.class_shards import ClassShards
from advbct_jax.command_line import exit_with_message
from advbct_jax.errors import InputError
from advbct_jax.locks import hold
from advbct_jax.training.checkpoints import load_trained, save_state
from advbct_jax.training.interruption import Interruption
from advbct_jax.training.state import TrainState


def check_words(process: int) -> None:
  """Values, refusals and places."""
  assert (processes.count(), processes.index()) == (2, process)
  assert processes.gather(process * 10) == [0, 10]
  assert processes.gather(None) == [None, None]
  # Within, the first is alone.
  assert processes.from_first(lambda: (processes.count(), process)) == (1, 0)
  with processes.first_by_itself() as here:
    assert here == (process == 0)
    assert processes.count() == (1 if here else 2)
  assert processes.count() == 2

  def refuse() -> None:
    raise InputError('refused by the first')

  with pytest.raises(InputError, match='refused by the first'):
    processes.from_first(refuse)
  with pytest.raises(InputError, match='the speed: that of process 1 differs'):
    processes.require_same('the speed', process)


def check_places(process: int, folder: pathlib.Path) -> None:
  """Folders, and checkpoints that the first writes by itself."""
  processes.require_shared(folder / 'shared')
  processes._DISK_LAG = 0.1
  with pytest.raises(InputError, match='process 1 has another folder'):
    processes.require_shared(folder / str(process))
  with hold(folder, 'tests'):
    processes.meet()
    assert (folder / '.lock').exists()
    processes.meet()
  state = TrainState(np.int32(3), {'w': np.arange(4.0)}, {}, {}, {})
  with processes.first_by_itself() as here:
    if here:
      save_state(folder, state)
  np.testing.assert_array_equal(load_trained(folder).params['w'], np.arange(4))


def check_devices(process: int) -> None:
  """Arrays on the devices of both."""
  assert parallel.device_count() == 4
  state = parallel.agree({'w': jnp.full(3, 1.0 + process)})
  np.testing.assert_array_equal(state['w'], np.ones(3))
  whole = parallel.as_global(state)
  assert len(whole['w'].sharding.device_set) == 4
  again = parallel.as_local(whole)
  np.testing.assert_array_equal(again['w'], state['w'])

  def step(state, batch, old, key):
    total = jax.lax.psum(batch['x'].sum(), parallel.AXIS)
    return {'w': state['w'] + old * total}, {'total': total}

  batch = parallel.shard({'x': np.arange(4.0) + 4 * process})
  old, key = parallel.replicate((jnp.array(0.5), jnp.zeros(2)))
  with jax.transfer_guard('disallow'):
    after, metrics = parallel.map_step(step)(state, batch, old, key)
  np.testing.assert_allclose(after['w'], np.full(3, 15))
  assert float(metrics['total']) == 28
  assert state['w'].is_deleted()

  # Five classes on four devices, two on each as far as they go.
  kernel = np.arange(10.0).reshape(2, 5)
  layout = ClassShards(5, 4)
  own = {
    'classifier': {'kernel': kernel * (1 + process)},
    'w': kernel + process,
  }
  placed = layout.agree(layout.place(own))
  np.testing.assert_array_equal(placed['w'], kernel)
  held = placed['classifier']['kernel']
  assert [piece.data.shape for piece in held.addressable_shards] == [(2, 2)] * 2
  np.testing.assert_array_equal(
    held.addressable_data(0), [[[0, 1], [5, 6]], [[8, 0], [18, 0]]][process]
  )
  # As the first process has the first half of it, and the second the second.
  np.testing.assert_array_equal(
    layout.whole(placed)['classifier']['kernel'], kernel * [1, 1, 1, 1, 2]
  )

  apply = parallel.map_apply(lambda offset, x: x + offset)
  rows = parallel.shard(np.arange(4.0))
  np.testing.assert_array_equal(
    apply(jnp.array(float(process)), rows).ravel(), np.arange(4) + process
  )


def check_interruption(process: int) -> None:
  """A signal to the second stops both after the same step."""
  with Interruption() as interruption:
    for step in range(1, 1000):
      if process == 1 and step == 3:
        signal.raise_signal(signal.SIGTERM)
      if interruption.stops_after(step):
        break
      # The second may be ahead, as far as one that waits for the first can.
      if process == 0:
        time.sleep(0.05)
        processes.publish(f'step {step}', True)
      elif step > 2:
        processes.wait_for(f'step {step - 2}')
    assert interruption.settle() == signal.SIGTERM
  assert len(set(processes.gather(step))) == 1
  assert step < 1000


def main() -> None:
  """Runs the checks; then the second process refuses something."""
  _, coordinator, process, folder = sys.argv
  with exit_with_message():
    processes.start(coordinator, 2, int(process), dead_after=20)
    check_words(int(process))
    check_places(int(process), pathlib.Path(folder))
    check_devices(int(process))
    check_interruption(int(process))
    processes.say('all is well')
    processes.meet()
    if int(process):
      raise InputError('the second process has had enough.')
    processes.wait_for('what will never be shown')


if __name__ == '__main__':
  main()
