from advbct_jax.training.summary import parameter_table, summarize
from tests.training.small_runs import independent_run, noise_run


def _counts(table):
  rows = [line.rsplit(maxsplit=1) for line in table.splitlines()]
  return {name.strip(): int(count.replace(',', '')) for name, count in rows}


def test_parameters_are_counted_part_by_part(config):
  assert _counts(parameter_table(noise_run(config))) == {
    'classifier/kernel': 8 * 4,
    'encoder/backbone/bn1': 2 * 4,
    'encoder/backbone/conv1': 3 * 3 * 3 * 4,
    'encoder/backbone/layer1_0': 2 * (3 * 3 * 4 * 4 + 2 * 4),
    'encoder/bn': 2 * 8,
    'encoder/projection': 4 * 8,
    'method/boundary': 4,
    'method/discriminator': (8 * 100 + 100) + 2 * 100 + (100 * 2 + 2),
    'all parameters': 1806,
  }


def test_a_summary_says_what_would_be_trained(config):
  text = summarize(noise_run(config), 'noise-train')

  for fact in (
    'method      advbct',
    'data        16 images of 4 classes (noise-train), 16 pixels, '
    'augmentation affine',
    'devices     1 × cpu, 8 images each',
    'steps       4 (2 epochs of 2), a checkpoint every 4',
    'all parameters',
  ):
    assert fact in text


def test_a_method_without_parameters_is_not_in_the_table(config):
  table = parameter_table(independent_run(config))

  assert 'method' not in table
  assert _counts(table)['all parameters'] == 1806 - 4 - 1302
