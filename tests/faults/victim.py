"""A training that takes a server with it and then is killed itself. Arguments: see the last line."""

import os
import signal
import sys

import services
from i2idist import launch


def main(recipe, run, root, server, server_at, killed_at):
    def on_event(event):
        if event["event"] != "metrics":
            return
        if event["images"] == int(server_at):
            services.stop(server, grace_s=0.0)
        if event["images"] == int(killed_at):
            os.kill(os.getpid(), signal.SIGKILL)

    launch.train(recipe, run=run, root=root, on_event=on_event)


if __name__ == "__main__":
    main(*sys.argv[1:])
