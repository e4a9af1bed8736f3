import threading

import pytest

from advbct_jax.data.new_folder import new_folder
from advbct_jax.errors import InputError


def test_the_folder_has_its_name_only_when_it_is_whole(tmp_path):
  path = tmp_path / 'deep' / 'out'
  with new_folder(path) as folder:
    (folder / 'a').write_text('1')
    assert not path.exists()
  assert (path / 'a').read_text() == '1'
  assert [p.name for p in path.parent.iterdir()] == ['out']


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_when_filling_fails(tmp_path, error):
  def fill() -> None:
    with new_folder(tmp_path / 'out') as folder:
      (folder / 'a').write_text('1')
      raise error

  with pytest.raises(error):
    fill()
  assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_not_taken_over(tmp_path):
  (tmp_path / 'out.incomplete').mkdir()
  (tmp_path / 'out.incomplete' / 'old').write_text('1')
  with new_folder(tmp_path / 'out') as folder:
    (folder / 'new').write_text('2')
  assert [p.name for p in (tmp_path / 'out').iterdir()] == ['new']


def test_nothing_is_written_over(tmp_path):
  (tmp_path / 'out').mkdir()
  with (
    pytest.raises(InputError, match='out: is there already'),
    new_folder(tmp_path / 'out'),
  ):
    pass


def test_a_folder_that_somebody_else_is_making_is_left_to_them(tmp_path):
  refused = []

  def make() -> None:
    try:
      with new_folder(tmp_path / 'out'):
        pass
    except InputError as error:
      refused.append(str(error))

  with new_folder(tmp_path / 'out') as folder:
    (folder / 'a').write_text('1')
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
  assert 'makes the folder here since' in refused[0]
  assert [p.name for p in (tmp_path / 'out').iterdir()] == ['a']
