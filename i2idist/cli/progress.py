"""How work is shown: a live bar on a terminal; elsewhere messages alone, and of training a line now and then.

Always on stderr: stdout is for results.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_NOT_TERMS = {"event", "images", "step", "time", "stage", "images_per_s", "data_wait_fraction"}
_LINE_S = 5.0


def duration(seconds: float) -> str:
    """Seconds as 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def terms_text(event: dict[str, Any]) -> str:
    """The loss terms of an event: `generator/gan 0.512  generator/cycle 0.1`."""
    names = [name for name in event if name not in _NOT_TERMS and not name.startswith("lr/")]
    return "  ".join(f"{name} {event[name]:.4g}" for name in names if isinstance(event[name], float))


def event_text(event: dict[str, Any]) -> str:
    """An event as a line for a person."""
    head = f"{time.strftime('%H:%M:%S', time.localtime(event['time']))} {event['images']:>9,} images"
    match event["event"]:
        case "metrics":
            return f"{head}  {event['images_per_s']:7.1f}/s  {terms_text(event)}"
        case "validation":
            return f"{head}  validation  {terms_text(event)}"
        case "note" | "warning":
            return f"{head}  {event['event']}: {event['message']}"
        case "done":
            return f"{head}  ended ({event['stopped']})"
        case other:
            return f"{head}  {other}  {event.get('checkpoint', '')}".rstrip()


class WorkBar:
    """Progress of work whose size is known."""

    def __init__(self, what: str) -> None:
        """A bar called `what`."""
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rest]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task(what, total=None, rate="", rest="")

    def __enter__(self) -> Self:
        """Start showing."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing."""
        self._progress.stop()

    def say(self, message: str) -> None:
        """Print a message above the bar."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def show(self, done: int, total: int, rate: str = "", rest: str = "") -> None:
        """Move the bar; `rate` and `rest` are written beside it."""
        self._progress.update(self._task, completed=done, total=total, rate=rate, rest=rest)


class TrainingDisplay:
    """Shows a run's events as they come."""

    def __init__(self, console: Console) -> None:
        """Show on `console`."""
        self._console = console
        self._task: TaskID | None = None
        self._total = 0
        self._printed = 0.0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("eta {task.fields[eta]}"),
            TextColumn("[dim]{task.fields[terms]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        """Start showing."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        self._progress.stop()

    def say(self, message: str) -> None:
        """Print a message above the bar."""
        self._console.print(escape(message), highlight=False, soft_wrap=True)

    def on_event(self, event: dict[str, Any]) -> None:
        """Show an event."""
        if event["event"] == "launch":
            self._total = event["total_images"]
        elif event["event"] in ("note", "warning"):
            self.say(event["message"])
        elif event["event"] == "metrics":
            self._show(event)
        elif event["event"] in ("validation", "resumed"):
            self.say(event_text(event))

    def _show(self, event: dict[str, Any]) -> None:
        rate, total = event["images_per_s"], self._total
        eta = duration(max(0, total - event["images"]) / rate) if rate else "?"
        if not self._console.is_terminal:
            if time.monotonic() - self._printed > _LINE_S:
                self._printed = time.monotonic()
                self.say(f"{event['images']:,}/{total:,} images  {rate:.1f}/s  eta {eta}  {terms_text(event)}")
            return
        fields: dict[str, Any] = {"rate": f"{rate:.1f} images/s", "eta": eta, "terms": escape(terms_text(event))}
        if self._task is None:
            self._task = self._progress.add_task(event["stage"], total=total, completed=event["images"], **fields)
        else:
            self._progress.update(self._task, description=event["stage"], completed=event["images"], **fields)
