"""Every query encoder of a chain on every gallery."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from advbct_jax.chains.scores import average_accuracy, average_compatibility
from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.embeddings.sources import Source
from advbct_jax.retrieval.matrix import measure_matrix


def measure_chain(
  sources: Sequence[Source], retrieval_sets: Sequence[RetrievalSet]
) -> dict[str, Any]:
  """Searches each step's gallery with each step's queries, and sums it up.

  Args:
    sources: fill or open each encoder's store of an image set, in the order of
      the chain.
    retrieval_sets: the retrieval sets, of different names.

  Returns:
    What `measure_matrix` does, and for each set, of its main metric,
    `average_compatibility`, `average_compatibility_counting_ties`, where a tie
    counts against it, and `average_accuracy`.

  Raises:
    InputError: if stores don't belong together, or the sets have one name.
  """
  steps = {
    f'step {number}': source for number, source in enumerate(sources, start=1)
  }
  results = measure_matrix(steps, retrieval_sets)
  for measured in results['datasets'].values():
    main = np.array(measured['matrices'][measured['main_metric']])
    measured |= {
      'average_compatibility': average_compatibility(main),
      'average_compatibility_counting_ties': average_compatibility(
        main, strict=False
      ),
      'average_accuracy': average_accuracy(main),
    }
  return results
