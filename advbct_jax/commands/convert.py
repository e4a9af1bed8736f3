"""Weights and vectors come in and go out."""

import argparse
from collections.abc import Sequence
import pathlib
import shlex

from advbct_jax.command_line import exit_with_message
from advbct_jax.commands.parsing import Parser
from advbct_jax.convert.vector_columns import (
  add_column_flags,
  read_column_flags,
)

# Written out, for their modules take long to import; a test holds them against
# those.
_INDEX_KINDS = ('flat', 'ivf_flat', 'ivf_pq', 'hnsw')
_LAYOUTS = ('published', 'opencompatible', 'timm', 'original')
_METRICS = ('cosine', 'inner_product', 'l2')
_NORMALIZATIONS = ('imagenet', 'half', 'efficientnet_lite')
_RESAMPLINGS = ('bilinear', 'bicubic')


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command line.

  Args:
    arguments: what follows the command's name; None takes `sys.argv`.
  """
  flags = parse(arguments)
  with exit_with_message():
    flags.run(flags)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line, or ends the program."""
  parser = Parser(
    prog='advbct convert', description='Weights and vectors come in and go out.'
  )
  commands = parser.add_subparsers(dest='command', required=True)
  _add_to_pytorch(commands)
  _add_from_pytorch(commands)
  _add_subnetworks(commands)
  _add_to_store(commands)
  _add_from_store(commands)
  _add_to_faiss(commands)
  return parser.parse_args(arguments)


def _add_to_pytorch(commands: argparse._SubParsersAction) -> None:
  parser = commands.add_parser(
    'to-pytorch',
    help='write a trained encoder as safetensors or .pth, with a card',
    description='Writes a trained encoder as a file of PyTorch weights, and '
    'its card beside it.',
  )
  parser.add_argument('workdir', type=pathlib.Path, help='of a finished run')
  parser.add_argument(
    'out', type=pathlib.Path, help='FILE.safetensors, or FILE.pth (with torch)'
  )
  parser.add_argument(
    '--layout',
    choices=_LAYOUTS,
    help='whose names the weights get; timm is for the backbone alone, '
    'original for those that from-pytorch found (default: published, '
    'opencompatible or timm for the heads batch_norm, linear or none)',
  )
  parser.set_defaults(run=_to_pytorch)


def _to_pytorch(flags: argparse.Namespace) -> None:
  from advbct_jax.convert.to_pytorch import export_weights

  print(export_weights(flags.workdir, flags.out, flags.layout))


def _add_from_pytorch(commands: argparse._SubParsersAction) -> None:
  parser = commands.add_parser(
    'from-pytorch',
    help='make a workdir of weights of timm, torchvision, AdvBCT, '
    'OpenCompatible or to-pytorch',
    description='Makes a workdir of a file of weights, as if they had been '
    'trained here.',
  )
  parser.add_argument(
    'weights',
    metavar='IN',
    help='FILE.safetensors, FILE.pth (with torch), hf://OWNER/REPO/FILE or '
    'package://NAME',
  )
  parser.add_argument('workdir', type=pathlib.Path, help='a new folder')
  parser.add_argument(
    '--key',
    '--prefix',
    action='append',
    default=[],
    metavar='NAME',
    help='take only what lies under this name: an entry of the checkpoint '
    "(teacher), or the beginning of tensors' names (model.); given again, "
    'below that (default: where the one backbone is)',
  )
  parser.add_argument(
    '--ignore',
    action='append',
    default=[],
    metavar='NAMES',
    help='leave out these modules, or tensors by pattern, with commas between '
    'them (criterion,*.aux.*)',
  )
  parser.add_argument(
    '--embedding',
    metavar='MODULES',
    help='which modules on the backbone are the embedding layer, with commas '
    'between them: a Linear, a BatchNorm, or both (fc, fc.0,fc.1); relu at the '
    "end if one follows, which weights can't tell (fc,relu); none if the "
    "backbone's features are the embedding (default: asked where it may be so)",
  )
  parser.add_argument(
    '--image_size',
    type=int,
    help='side in pixels that images are squashed to (default: as the card or '
    'the position embeddings say, else that which an EfficientNet-Lite was '
    'trained at, else 224)',
  )
  parser.add_argument(
    '--pooling',
    help='cls or mean for a ViT, mean or gem for others (default: as the card '
    'or the weights say)',
  )
  parser.add_argument(
    '--normalization',
    choices=_NORMALIZATIONS,
    help="of pixels: ImageNet's mean and deviation; half, 0.5 and 0.5, as most "
    "of timm's ViTs expect it; or efficientnet_lite, 127/255 and 128/255 "
    '(default: as the card says, else efficientnet_lite for one of these, else '
    'imagenet)',
  )
  parser.add_argument(
    '--resampling',
    choices=_RESAMPLINGS,
    help="Pillow's filter that squashes images (default: as the card says, "
    'else bicubic for an EfficientNet-Lite, else bilinear)',
  )
  parser.set_defaults(run=_from_pytorch)


def _from_pytorch(flags: argparse.Namespace) -> None:
  from advbct_jax.convert.from_pytorch import import_weights

  print(
    import_weights(
      flags.weights,
      flags.workdir,
      flags.image_size,
      flags.pooling,
      flags.normalization,
      under=flags.key,
      ignored=[
        name for names in flags.ignore for name in names.split(',') if name
      ],
      embedding=flags.embedding,
      resampling=flags.resampling,
    )
  )


def _add_subnetworks(commands: argparse._SubParsersAction) -> None:
  parser = commands.add_parser(
    'subnetworks',
    help='make an encoder of its own of each subnetwork of a run of prunnet',
    description='Makes a workdir of each subnetwork of a run with '
    '--config.method=prunnet, as if it had been trained alone: OUT/20 for that '
    'of 20%% of the weights.',
  )
  parser.add_argument('workdir', type=pathlib.Path, help='of a finished run')
  parser.add_argument('out', type=pathlib.Path, help='a new folder')
  parser.set_defaults(run=_subnetworks)


def _subnetworks(flags: argparse.Namespace) -> None:
  from advbct_jax.convert.subnetworks import export_subnetworks

  print(export_subnetworks(flags.workdir, flags.out))


def _add_to_store(commands: argparse._SubParsersAction) -> None:
  parser = commands.add_parser(
    'to-store',
    help='vectors become an embedding store',
    description='Makes an embedding store from vectors: .npy, .npz, .parquet '
    'or a FAISS index (.faiss, .index). Several files are taken one after the '
    'other. Ids and labels are in the file or beside it (NAME.ids.txt and '
    'NAME.labels.txt, one a line), or in files of their own: .txt, .npy, or '
    '.csv with the columns id and label. A killed command goes on where it '
    'stopped.',
  )
  parser.add_argument('vectors', nargs='+', type=pathlib.Path)
  parser.add_argument('store', type=pathlib.Path)
  parser.add_argument('--encoder', help='what made the vectors')
  parser.add_argument('--version', help='of the encoder (unversioned)')
  parser.add_argument(
    '--images', help='the name of the image set (the name of the store)'
  )
  parser.add_argument(
    '--preprocessing', help='what the encoder does to an image (unknown)'
  )
  parser.add_argument('--ids', type=pathlib.Path, help='a file of image ids')
  parser.add_argument(
    '--labels',
    type=pathlib.Path,
    help='a file of labels: the class under which the encoder was trained on '
    'an image; empty (or -1, nan, None …) where it was not',
  )
  add_column_flags(parser)
  parser.add_argument(
    '--metric',
    choices=_METRICS,
    help='what the vectors are compared by now (what a FAISS index says, else '
    'cosine). All is compared by cosine here; where that would rank otherwise '
    'the vectors are refused, unless --metric=cosine asks for it',
  )
  parser.add_argument(
    '--keep_order',
    action='store_true',
    help='take files in the order given where the numbers in their names are '
    'in another one',
  )
  parser.set_defaults(run=_to_store)


def _to_store(flags: argparse.Namespace) -> None:
  from advbct_jax.convert.stores import describe_filled, vectors_to_store

  filled = vectors_to_store(
    flags.vectors,
    flags.store,
    encoder=flags.encoder,
    version=flags.version,
    images=flags.images,
    preprocessing=flags.preprocessing,
    ids=flags.ids,
    labels=flags.labels,
    columns=read_column_flags(flags),
    metric=flags.metric,
    keep_order=flags.keep_order,
  )
  print(describe_filled(filled))
  print(
    'as the old side of an upgrade:\n  advbct train --config=… '
    + shlex.quote(f'--config.old.path={flags.store}')
  )


def _add_from_store(commands: argparse._SubParsersAction) -> None:
  parser = commands.add_parser(
    'from-store',
    help='an embedding store becomes a file of vectors',
    description='Writes the vectors, ids, labels and card of a store. to-store '
    'makes the same store of them again.',
  )
  parser.add_argument('store', type=pathlib.Path)
  parser.add_argument(
    'out', type=pathlib.Path, help='a .npy, .npz or .parquet file'
  )
  parser.set_defaults(run=_from_store)


def _from_store(flags: argparse.Namespace) -> None:
  from advbct_jax.convert.stores import store_to_files

  *others, out = store_to_files(flags.store, flags.out)
  print(f'{out}; beside it {", ".join(file.name for file in others)}')


def _add_to_faiss(commands: argparse._SubParsersAction) -> None:
  parser = commands.add_parser(
    'to-faiss',
    help='build a FAISS index for a service from an embedding store',
    description='Builds a FAISS index for cosine similarity from an embedding '
    'store, and says what it finds and how fast. faiss.read_index reads it; '
    'normalise queries to length 1.',
  )
  parser.add_argument('store', type=pathlib.Path, help='an embedding store')
  parser.add_argument(
    'out', type=pathlib.Path, help='NAME.faiss; replaced where it is there'
  )
  parser.add_argument(
    '--kind', choices=_INDEX_KINDS, required=True, help='of the index'
  )
  for name, meaning in (
    ('lists', 'ivf: inverted lists (4·√N, of 39 vectors or more)'),
    ('probes', 'ivf: lists that a query looks into (a sixteenth of them)'),
    ('bytes', 'ivf_pq: of a vector, a divisor of its width D (about D/8)'),
    ('neighbors', 'hnsw: of a vector in the graph (32)'),
  ):
    parser.add_argument(f'--{name}', type=int, help=meaning)
  parser.add_argument(
    '--integer_ids',
    action='store_true',
    help="FAISS's ids are the store's, which are integers, instead of lines "
    'of NAME.ids.txt',
  )
  parser.add_argument(
    '--compatible',
    action='store_true',
    help="only the first components of a wider encoder's vectors, which can be "
    'compared with old ones: for as long as both are in one index',
  )
  parser.add_argument(
    '--queries',
    type=pathlib.Path,
    help='a store of queries for the report (vectors of the gallery)',
  )
  parser.add_argument(
    '--noreport', action='store_true', help='build the index and leave it there'
  )
  parser.add_argument(
    '--seed',
    type=int,
    default=0,
    help='chooses the training sample and the queries (%(default)s)',
  )
  parser.set_defaults(run=_to_faiss)


def _to_faiss(flags: argparse.Namespace) -> None:
  from advbct_jax.convert.faiss_export import describe, export_index
  from advbct_jax.embeddings.store import open_store
  from advbct_jax.retrieval.service_index import Recipe

  facts = export_index(
    open_store(flags.store),
    flags.out,
    Recipe(flags.kind, flags.lists, flags.probes, flags.bytes, flags.neighbors),
    open_store(flags.queries) if flags.queries else None,
    flags.integer_ids,
    flags.compatible,
    not flags.noreport,
    flags.seed,
  )
  print(f'{flags.out}: {describe(facts)}')
