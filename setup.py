"""Which packages are installed: those of `advbct_jax`, and its configs.

The configs lie on top of the repository, where they are edited and copied from;
installed they lie in the package, for `configs` is nobody's name to take. Only
here can packages be found and one be added; all else is in pyproject.toml.
"""

import setuptools

_CONFIGS = {
  'advbct_jax.configs': 'configs',
  'advbct_jax.configs.paper': 'configs/paper',
}

setuptools.setup(
  packages=[*setuptools.find_packages(include=['advbct_jax*']), *_CONFIGS],
  package_dir=_CONFIGS,
)
