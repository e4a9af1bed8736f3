"""The commands that weights come in and go out by: from- and to-pytorch.

What they do is imported when they run: JAX alone takes a second, and `--help`
needs none of it.
"""

import argparse
import pathlib

from advbct_jax.data.images import NORMALIZATIONS
from advbct_jax.weights.layouts import LAYOUTS


def add_commands(commands: argparse._SubParsersAction) -> None:
  """Adds `to-pytorch` and `from-pytorch` to a command line.

  Args:
    commands: what `ArgumentParser.add_subparsers` gives.
  """
  parser = commands.add_parser(
    'to-pytorch',
    help='write a trained encoder as safetensors or .pth, with a card',
  )
  parser.add_argument('workdir', type=pathlib.Path, help='a finished run')
  parser.add_argument(
    'out', type=pathlib.Path, help='FILE.safetensors, or FILE.pth (with torch)'
  )
  parser.add_argument(
    '--layout',
    choices=[*LAYOUTS, 'original'],
    help='whose names the weights get; timm is for the backbone alone, '
    'original for those that from-pytorch found (default: published, '
    'opencompatible or timm for the heads batch_norm, linear or none)',
  )
  parser.set_defaults(run=_run_to_pytorch)
  parser = commands.add_parser(
    'from-pytorch',
    help='make a workdir of weights of timm, torchvision, AdvBCT, '
    'OpenCompatible or to-pytorch',
  )
  parser.add_argument(
    'weights',
    metavar='IN',
    help='FILE.safetensors, FILE.pth (with torch) or hf://OWNER/REPO/FILE',
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
    'the position embeddings say, else 224)',
  )
  parser.add_argument(
    '--pooling',
    help='mean or gem for a ResNet, cls or mean for a ViT (default: as the '
    'card or the weights say)',
  )
  parser.add_argument(
    '--normalization',
    choices=NORMALIZATIONS,
    help="of pixels: ImageNet's mean and deviation, or half, 0.5 and 0.5, as "
    "most of timm's ViTs expect it (default: as the card says, else imagenet)",
  )
  parser.set_defaults(run=_run_from_pytorch)


def _run_to_pytorch(flags: argparse.Namespace) -> None:
  from advbct_jax.convert.to_pytorch import export_weights

  print(export_weights(flags.workdir, flags.out, flags.layout))


def _run_from_pytorch(flags: argparse.Namespace) -> None:
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
    )
  )
