import argparse, os, pathlib, sys, time, json
folder = pathlib.Path(sys.argv[1]).absolute()
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(folder/'compiled')
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
import advbct_jax.api, advbct_jax.experiment, advbct_jax.data.records
from tests.faults.commands import COMMANDS, make_small, write_inputs
from tests.faults.forked import Forked, run_line
from tests.faults.scenario import *
make_small()
def run(line):
  status, s = Forked(run_line(line), inputs, folder/'inputs.txt').end()
  print(line, status, round(s,2), flush=True)
inputs = folder/'inputs'
inputs.mkdir(parents=True)
os.chdir(inputs)
write_inputs(run)
os.chdir('/')
for c in COMMANDS:
  us=[]
  try:
    for n in (0,1):
      us.append(run_undisturbed(c, inputs, folder/f'{c.name}-{n}'))
    a,b=(u.outputs for u in us)
    print(c.name, [round(u.seconds,2) for u in us], sorted(k for k in a.keys()|b.keys() if a.get(k)!=b.get(k)), len(a), flush=True)
  except RuntimeError as e: print(c.name, e, flush=True)
