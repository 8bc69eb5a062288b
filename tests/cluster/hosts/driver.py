"""Trains as `i2idist train` does, and writes each event and message as a line of JSON. Arguments: recipe, run."""

import json
import sys
import time

from i2idist import launch


def show(event):
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    recipe, run = sys.argv[1:]
    result = launch.train(
        recipe, run=run, on_event=show, say=lambda text: show({"event": "said", "time": time.time(), "message": text})
    )
    show({"event": "result", "params_sha256": result.params_sha256})
