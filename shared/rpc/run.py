"""Run servers until a signal, in one process or in several that share a port."""

import asyncio
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

import structlog

from shared.rpc.server import RpcServer, ServerUnusable

_log = structlog.get_logger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
UNUSABLE = 2  # exit code: wrong settings, which trying again does not make right
Worker = Callable[[int], None]


async def serve(*servers: RpcServer) -> None:
    """Start `servers`, wait for SIGTERM or SIGINT, drain them; a second signal ends at once.

    A worker process also drains when its parent is gone. Raises ServerUnusable when one of the
    servers cannot start; those already started are stopped then.
    """
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def on_signal(number: int) -> None:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    parent = multiprocessing.parent_process()
    if parent is not None:
        loop.add_reader(parent.sentinel, asked.set)
    try:
        for server in servers:
            await server.start()
        await asked.wait()
    finally:
        if parent is not None:
            loop.remove_reader(parent.sentinel)
        await asyncio.gather(*(server.stop() for server in servers))
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def run_workers(worker: Worker, count: int, address: str) -> int:
    """Run `worker(index)` in `count` processes that share `address`, and return the exit code.

    They are spawned, never forked: gRPC does not survive a fork. Signals are passed on. One that
    ends by itself ends all: whoever started us starts everything anew. Raises ServerUnusable when
    another program has the address, which sharing it would hide.
    """
    _check_free(address)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(worker, index)) for index in range(count)]
    asked = False

    def pass_on(number: int, _frame: Any) -> None:  # noqa: ANN401  (a frame)
        nonlocal asked
        asked = True
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    for process in processes:
        process.start()
    for number in SIGNALS:
        signal.signal(number, pass_on)
    ended = wait([process.sentinel for process in processes])
    first = next(process for process in processes if process.sentinel in ended)
    first.join()  # its sentinel may be ready a moment before its exit code is
    counted: list[int] = []
    if not asked:
        _log.error("worker_ended", exit_code=first.exitcode)
        pass_on(signal.SIGTERM, None)
        counted = [first.exitcode or 1]
    for process in processes:
        process.join()
    return max(map(abs, counted or [process.exitcode or 0 for process in processes]))


def _work(worker: Worker, index: int) -> None:
    """Run in a worker: say why it cannot start as a single process would."""
    try:
        worker(index)
    except ServerUnusable as error:
        _log.error("cannot_start", reason=str(error))
        sys.exit(UNUSABLE)


def _check_free(address: str) -> None:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            sentence = f"cannot listen on {address}: {error.strerror}"
            raise ServerUnusable(sentence) from error
