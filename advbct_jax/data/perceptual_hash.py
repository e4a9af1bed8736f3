"""Hashes of what pictures look like, and which of them are close.

Scaled, compressed anew or slightly brighter, a picture keeps nearly all bits of
its hash.
"""

import itertools

import numpy as np
from PIL import Image
import scipy.fft

BITS = 64
# Of more, the bands that are compared would be so short that all share some.
MOST_DISTANCE = 7

_SIDE = 32
_FREQUENCIES = 8


def perceptual_hash(image: Image.Image) -> int:
  """The pHash of an image: which of its lowest frequencies are strong.

  Args:
    image: of the mode L or RGB.

  Returns:
    64 bits. Bit by bit: whether a coefficient among the 8 × 8 lowest of the
    cosine transform of 32 × 32 greys is above their median.

  References:
    Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions,
    2010. The transform is SciPy's.
  """
  grey = image.convert('L').resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
  # Whole numbers would be transformed in float32, whose noise decides the bits
  # of plain pictures; rounding makes that noise zero.
  frequencies = scipy.fft.dctn(np.asarray(grey, np.float64), norm='ortho')
  lowest = frequencies[:_FREQUENCIES, :_FREQUENCIES].round(6)
  bits = np.packbits(lowest > np.median(lowest))
  return int.from_bytes(bits.tobytes(), 'big')


def close_pairs(hashes: np.ndarray, distance: int) -> np.ndarray:
  """Finds the pairs of hashes that differ in few bits.

  Cut into one band more than bits may differ, two such hashes agree in a band,
  so only those that share a band are compared.

  Args:
    hashes: [N] uint64, all different.
    distance: in how many bits a pair may differ, at most `MOST_DISTANCE`.

  Returns:
    [P, 2] positions, the smaller first, sorted, each pair once.

  References:
    Manku et al., Detecting Near-Duplicates for Web Crawling, WWW 2007.

  >>> close_pairs(np.array([0b1, 0b1111, 0b11], np.uint64), 1).tolist()
  [[0, 2]]
  """
  cuts = np.linspace(0, BITS, distance + 2).astype(int)
  found = [np.zeros((0, 2), int)]
  for low, high in itertools.pairwise(cuts):
    bands = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
    order = np.argsort(bands, kind='stable')
    bands, apart = bands[order], 1
    # Pairs that are next to each other in a band, then those next but one, …
    first = np.arange(len(order) - 1)
    while first.size:
      first = first[first + apart < len(order)]
      first = first[bands[first] == bands[first + apart]]
      pairs = np.stack([order[first], order[first + apart]], axis=1)
      differing = hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]
      found.append(pairs[np.bitwise_count(differing) <= distance])
      apart += 1
  return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
