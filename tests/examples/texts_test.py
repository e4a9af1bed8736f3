"""The example pools tokens, splits by class, and says what it needs."""

import importlib
import importlib.util
import sys
import types

import numpy as np
import pytest

from advbct_jax.commands import COMMANDS
from examples import texts

WORDS = {'a': [5], 'b c': [3, 8], 'd e f': [2, 4, 9]}


class _Tokenizer:
  """Pads to the longest of a batch, with tokens whose vectors are not 0."""

  def encode_batch(self, batch):
    longest = max(len(WORDS[text]) for text in batch)
    return [
      types.SimpleNamespace(
        ids=ids + [7] * (longest - len(ids)),
        attention_mask=[1] * len(ids) + [0] * (longest - len(ids)),
      )
      for ids in (WORDS[text] for text in batch)
    ]


class _Session:
  """An encoder that takes some of the inputs, and says more than tokens."""

  def __init__(self, *inputs):
    self.inputs = inputs
    self.table = np.random.default_rng(0).normal(size=(10, 4))

  def get_inputs(self):
    return [types.SimpleNamespace(name=name) for name in self.inputs]

  def run(self, _, given):
    assert given.keys() == set(self.inputs)
    tokens = self.table[given['input_ids']].astype(np.float32)
    return [tokens[:, 0], tokens]


@pytest.mark.parametrize('batch_size', [1, 2, 64])
@pytest.mark.parametrize(
  'inputs',
  [
    ('input_ids', 'attention_mask'),
    ('input_ids', 'attention_mask', 'token_type_ids'),
  ],
)
def test_a_vector_is_the_mean_of_the_tokens_that_are_not_padding(
  inputs, batch_size, monkeypatch
):
  monkeypatch.setattr(texts, 'BATCH_SIZE', batch_size)
  session = _Session(*inputs)
  found = texts.embed(session, _Tokenizer(), list(WORDS))
  wanted = [session.table[ids].mean(axis=0) for ids in WORDS.values()]
  np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_queries_are_of_classes_that_nothing_is_learned_from():
  rows = [(f'{k}-{i}', '', f'{k}') for k in range(10) for i in range(20)]
  parts = texts.split(rows)
  sizes = {part: len(of) for part, of in parts.items()}
  assert sizes == {'train': 120, 'index': 72, 'test': 8}
  assert sorted(row for of in parts.values() for row in of) == sorted(rows)
  labels = {part: {row[2] for row in of} for part, of in parts.items()}
  assert labels['index'] == labels['test']
  assert not labels['index'] & labels['train']


def test_a_package_that_is_missing_is_named():
  with pytest.raises(
    SystemExit, match=r'nowhere_to_be is not .*pip install .*\[texts\]'
  ):
    texts.find_file('nowhere_to_be', 'model.onnx')


def test_every_line_is_one_that_its_command_reads(monkeypatch, tmp_path):
  table = tmp_path / 'texts.csv'
  table.write_text('id,text,intent,more\n1,"a, b",x,\n2,c,y,\n')
  ran = []
  written = []
  monkeypatch.setattr(
    texts, 'run', lambda *words: ran.append([str(word) for word in words])
  )
  monkeypatch.setattr(texts, 'write_vectors', lambda *a: written.append(a))
  monkeypatch.setattr(
    sys, 'argv', ['texts.py', str(table), str(tmp_path / 'out')]
  )
  texts.main()
  for command, *words in ran:
    assert command in COMMANDS
    importlib.import_module(f'advbct_jax.commands.{command}').parse(words)
  assert [line[0] for line in ran] == ['prepare', 'evaluate']
  assert [side for side, *_ in written] == ['old', 'new']
  (tmp_path / 'out/texts').mkdir(parents=True)
  texts.main()
  assert [line[0] for line in ran[2:]] == ['evaluate']
  assert len(written) == 2


@pytest.mark.skipif(
  not all(
    importlib.util.find_spec(package)
    for package in (
      texts.TOKENIZER[0],
      *(p for _, p, _ in texts.ENCODERS.values()),
    )
  ),
  reason='the encoders are not installed',
)
@pytest.mark.parametrize('side', texts.ENCODERS)
def test_texts_of_one_meaning_are_near_in_both_encoders(side, tmp_path):
  rows = [
    ('1', 'Where is my card?', 'card'),
    ('2', 'My bank card has not arrived yet.', 'card'),
    ('3', 'The cat sleeps in the sun.', 'cat'),
  ]
  texts.write_vectors(side, {'train': rows}, tmp_path)
  with np.load(tmp_path / 'train.npz') as file:
    assert file['ids'].tolist() == ['1', '2', '3']
    assert file['labels'].tolist() == ['card', 'card', 'cat']
    vectors = file['embeddings']
  assert vectors.shape == (3, 384)
  vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  near, far = vectors[0] @ vectors[1:].T
  assert near > 0.4 > 0.2 > far
