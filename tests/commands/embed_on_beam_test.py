"""`advbct embed --beam`, with threads of this process as workers."""

import shutil

import pytest

from advbct_jax.commands.embed import main
from advbct_jax.embeddings.store import EmbeddingStore, open_store
from tests.beam_workers_test import IN_THREADS
from tests.tiny_upgrade import contents

pytest.importorskip('apache_beam')


@pytest.fixture
def run(finished, tmp_path):
  shutil.copytree(finished, tmp_path / 'run')
  shutil.rmtree(tmp_path / 'run/embeddings', ignore_errors=True)
  return tmp_path / 'run'


def test_a_store_is_that_of_one_process_and_missing_chunks_are_made(
  config, run, monkeypatch
):
  line = [str(run), '--chunk_rows=7', '--batch_size=4']
  path = run / 'embeddings/tiny-train'
  main(line)
  alone = open_store(path)
  assert alone.chunk_count == 5
  digest, card = alone.digest(), alone.card
  shutil.rmtree(path)
  main([*line, f'--beam={IN_THREADS}'])
  assert open_store(path).digest() == digest
  assert open_store(path).card == card
  assert not (path / '.failures').exists()
  before = contents(path)
  main([*line, f'--beam={IN_THREADS}'])
  assert contents(path) == before

  written = []
  write_chunk = EmbeddingStore.write_chunk

  def noted(store, chunk, embeddings):
    written.append(chunk)
    write_chunk(store, chunk, embeddings)

  monkeypatch.setattr(EmbeddingStore, 'write_chunk', noted)
  for chunk in (1, 4):
    shutil.rmtree(path / f'chunks/{chunk:06d}')
  main([*line, f'--beam={IN_THREADS}'])
  assert sorted(written) == [1, 4]
  assert open_store(path).digest() == digest


def test_an_image_that_cannot_be_read_is_named_and_other_chunks_are_kept(
  config, landmarks, run, tmp_path, capsys
):
  root = shutil.copytree(landmarks, tmp_path / 'data')
  broken = sorted((root / 'index').rglob('*.jpg'))[0]
  broken.write_bytes(b'\xff\xd8 no picture')
  with pytest.raises(SystemExit):
    main(
      [
        str(run),
        f'--data=tiny:{root}',
        '--chunk_rows=3',
        f'--beam={IN_THREADS}',
      ]
    )
  error = capsys.readouterr().err
  assert f'error: {broken}: cannot decode' in error
  assert 'Traceback' not in error
  chunks = [path.name for path in (run / 'embeddings').glob('*/chunks/0*')]
  assert len(chunks) == 5  # of two sets of eight images


def test_a_chunk_without_images_is_refused(config, run, capsys):
  with pytest.raises(SystemExit):
    main([str(run), '--chunk_rows=0'])
  assert '--chunk_rows: found 0' in capsys.readouterr().err
