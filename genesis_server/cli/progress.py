# SPDX-License-Identifier: Apache-2.0
"""Progress of a running generation, a line per stage on a terminal and only notes anywhere else; and of a download."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import click

from genesis_server.protocol.events import REPORTED_STAGES, Event, EventKind


class StageBars:
    """Draws events; call it with each. A context manager, so that the terminal is left in order."""

    def __init__(self, quiet: bool) -> None:
        self._progress = None
        self._quiet = quiet
        self._tasks: dict[str, int] = {}
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                SpinnerColumn(finished_text="[green]done"),
                TextColumn(f"{{task.description:<{max(map(len, REPORTED_STAGES))}}}"),
                BarColumn(bar_width=30, finished_style="green"),
                TextColumn("{task.fields[steps]:>7}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
            )

    def __enter__(self) -> StageBars:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, event: Event) -> None:
        if event.kind == EventKind.NOTE:
            self.note(event.note)
        elif self._progress is not None:
            self._draw(event)

    def note(self, text: str) -> None:
        """A sentence for the user, above the bars."""
        if self._progress is not None:
            self._progress.console.print(text, style="dim")
        elif not self._quiet:
            click.echo(text, err=True)

    def _draw(self, event: Event) -> None:
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._progress.add_task(event.stage, total=None, steps="")
        task = self._tasks[event.stage]
        if event.kind == EventKind.STEP:
            self._progress.update(task, total=event.steps, completed=event.step, steps=f"{event.step}/{event.steps}")
        elif event.kind == EventKind.STAGE_FINISHED:
            total = self._progress.tasks[task].total or 1
            self._progress.update(task, total=total, completed=total)


class DownloadBar:
    """How far a download is: a bar on a terminal, anywhere else a line every ten seconds. A context manager."""

    EVERY = 10.0

    def __init__(self) -> None:
        self._bar = None
        self._next = 0.0
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

            columns = BarColumn(bar_width=30), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, TextColumn("{task.description}"), console=Console(stderr=True))
            self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> DownloadBar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, file: str, done: int, total: int) -> None:
        """Bytes of all files that are here, of all there are, and the file that is on its way."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, description=file)
        elif (now := time.monotonic()) >= self._next or done == total:
            self._next = now + self.EVERY
            click.echo(f"{done / 1e9:6.2f} of {total / 1e9:.2f} GB  {file}", err=True)
