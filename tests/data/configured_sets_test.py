import os

import pytest

from advbct_jax.data.configured_sets import open_data
from advbct_jax.errors import InputError
from configs import base
from tests.data.worker_processes_test import space_of


def test_workers_that_have_no_room_are_refused_before_anything_is_trained(
  gldv2_root, monkeypatch
):
  config = base.get_config()
  config.data.root = str(gldv2_root)
  config.data.image_size = 2000
  assert len(open_data(config)) == 1
  monkeypatch.setattr(os, 'statvfs', space_of(2**20))
  with pytest.raises(InputError, match='/dev/shm: found 1 MB free'):
    open_data(config)
  config.data.workers = 0
  assert len(open_data(config)) == 1
