"""The demo: handwritten digits become street-style digits, and a person can look at them minutes later.

Real scans of handwritten digits and generated street-style digits, never paired, are packed into shards; SEGAN trains
on Ray Train workers, tracked by MLflow; the model is registered as the candidate; every test digit is translated with
several codes by the registered model; a classifier that knows street-style digits alone reads the translations.
Everything lies in one folder:

```
summary.json        what was measured
contact_sheet.png   the first test digits x codes, unselected
interpolation.png   a straight line between two codes
synchronised.png    the same codes on different digits
losses.png
model/              the translator, for `i2idist.load`
translations/       every test digit with every code, as a dataset
runs/               the training run; MLflow's database and files; the catalog
cache/              the generated data
```

Each number in `summary.json` is measured here. Test digits are used for measuring alone.
"""

from i2idist.demo.run import run_demo

__all__ = ["run_demo"]
