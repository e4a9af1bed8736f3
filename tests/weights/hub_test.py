import contextlib
import hashlib
import http.server
import pathlib
import sys
import threading

from huggingface_hub import constants
import numpy as np
import pytest
import safetensors.numpy

from advbct_jax.errors import InputError
from advbct_jax.weights.files import read_tensors
from advbct_jax.weights.hub import (
  card_path,
  find_suffix,
  locate,
  names_weights,
)

COMMIT = '0' * 39 + '1'
FILES = {'sub/new.safetensors': safetensors.numpy.save({'a': np.ones(3)})}
ERRORS = {404: 'EntryNotFound', 401: 'RepoNotFound'}


class Hub(http.server.BaseHTTPRequestHandler):
  """As much of the Hub as a download asks for: one repository, one file."""

  def do_HEAD(self):
    self._answer()

  def do_GET(self):
    body = self._answer()
    if body:
      self.wfile.write(body)

  def _answer(self):
    path = self.path.partition('?')[0]
    repository, _, file = path.removeprefix('/').partition('/resolve/main/')
    body = FILES.get(file) if repository == 'someone/new' else None
    if body is None:
      status = 404 if repository == 'someone/new' else 401
      self.send_response(status)
      self.send_header('X-Error-Code', ERRORS[status])
      self.send_header('Content-Length', '0')
      self.end_headers()
      return None
    self.send_response(200)
    self.send_header('X-Repo-Commit', COMMIT)
    self.send_header('ETag', f'"{hashlib.sha256(body).hexdigest()}"')
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    return body

  def log_message(self, *arguments):
    pass


@contextlib.contextmanager
def serving():
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


@pytest.fixture
def connect(monkeypatch, tmp_path):
  """Points the Hub's own client at an address, with an empty cache."""
  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)

  def connect(address):
    template = f'{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}'
    monkeypatch.setattr(constants, 'ENDPOINT', address)
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', template)

  return connect


def test_a_file_of_the_hub_is_fetched_and_then_found_offline(
  connect, monkeypatch
):
  with serving() as address:
    connect(address)
    tensors = read_tensors('hf://someone/new/sub/new.safetensors')
    np.testing.assert_array_equal(tensors['a'], np.ones(3))
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  path = locate('hf://someone/new/sub/new.safetensors')
  assert path.read_bytes() == FILES['sub/new.safetensors']


def test_a_card_on_the_hub_comes_with_its_file(connect, monkeypatch):
  monkeypatch.setitem(FILES, 'sub/new.json', b'{"its": "card"}')
  with serving() as address:
    connect(address)
    path = locate('hf://someone/new/sub/new.safetensors')
  assert card_path(path).read_text() == '{"its": "card"}'


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    ('hf://someone/old/a.pth', 'no repository someone/old on the Hub'),
    ('hf://someone/new/a.pth', 'no file a.pth in the repository someone/new'),
    ('hf://some one/new/a.pth', 'cannot be fetched .*copy the file here'),
    ('hf://someone/new', 'wanted: hf://OWNER/REPO/FILE'),
    ('hf://someone/new/a.onnx', r'\.onnx is no ending .*\.safetensors, \.pth'),
  ],
)
def test_what_is_not_on_the_hub_is_refused(connect, source, message):
  with serving() as address:
    connect(address)
    with pytest.raises(InputError, match=message):
      locate(source)


def test_offline_one_is_told_to_go_online_or_copy(connect, monkeypatch):
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  with pytest.raises(InputError, match=r'the Hub cannot be reached.*Go online'):
    locate('hf://someone/new/sub/new.safetensors')


def test_without_the_client_its_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  with pytest.raises(InputError, match=r"pip install 'advbct_jax\[hub\]'"):
    locate('hf://someone/new/a.pth')


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(InputError, match=r'nowhere\.pth: no such weights file'):
    locate(tmp_path / 'nowhere.pth')


def test_a_suffix_that_is_unknown_is_refused():
  assert find_suffix(pathlib.Path('a.b.pth.tar')) == '.pth.tar'
  for name in ('a.npz', 'a', 'a.tar'):
    with pytest.raises(InputError, match='is no ending of a file of weights'):
      find_suffix(pathlib.Path(name))


@pytest.fixture
def package(monkeypatch, tmp_path):
  """Installs a package with files of some names; it cannot be imported."""

  def install(*files):
    folder = tmp_path / 'site' / 'some_weights'
    (folder / 'models').mkdir(parents=True)
    (folder / '__init__.py').write_text('raise ImportError')
    for file in files:
      (folder / 'models' / file).touch()
    monkeypatch.syspath_prepend(tmp_path / 'site')
    return folder / 'models'

  return install


def test_the_one_file_of_weights_of_a_package_is_found_without_import(package):
  folder = package('lite-1234.pth', 'labels.txt')
  assert locate('package://some_weights') == folder / 'lite-1234.pth'


@pytest.mark.parametrize('files', [(), ('one.pth', 'other.safetensors')])
def test_a_package_without_one_file_of_weights_is_refused(package, files):
  package(*files)
  with pytest.raises(
    InputError, match=f'{len(files)} files of weights; wanted: a package with'
  ):
    locate('package://some_weights')


@pytest.mark.parametrize('name', ['nowhere_to_be', 'os.path', '', 'a/b'])
def test_a_package_that_is_missing_is_named_with_how_to_get_it(name):
  with pytest.raises(InputError, match=r'no package .*pip install.*pretrained'):
    locate(f'package://{name}')


@pytest.mark.parametrize(
  ('name', 'is_so'),
  [
    ('hf://owner/repo/file.bin', True),
    ('package://some_weights', True),
    ('runs/encoder.safetensors', True),
    ('epoch30.pth.tar', True),
    ('runs/old', False),
    ('exports/old/train.npz', False),
    ('', False),
  ],
)
def test_weights_are_told_from_other_encoders_by_their_name(name, is_so):
  assert names_weights(name) == is_so
