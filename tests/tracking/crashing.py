"""Train until `images`, with the MLflow server killed at 8 images if a pid is given; then die at once.

`python -m tests.tracking.crashing RECIPE ROOT IMAGES [PID]`
"""

import os
import signal
import sys
import time
from pathlib import Path

from i2idist import launch


def main(recipe, root, images, pid=None):
    def on_event(event):
        if event["event"] == "metrics" and event["images"] == 8 and pid:
            os.killpg(int(pid), signal.SIGKILL)
        if event["event"] == "metrics" and event["images"] >= int(images):
            checkpoint = Path(root, "x", "checkpoints", "images-000000000024", "COMMIT.json")
            for _ in range(100):
                if checkpoint.exists():
                    break
                time.sleep(0.1)
            time.sleep(1.5)  # what can be delivered is
            os.kill(os.getpid(), signal.SIGKILL)

    launch.train(recipe, run="x", root=root, on_event=on_event)


if __name__ == "__main__":
    main(*sys.argv[1:])
