"""Becomes (or, off Linux, watches over) one server that must not outlive its parent.

Run as a script by process.py, never imported by the service; standard library only, because it
starts under `python -I -S`. In order: own session, directory, lock, unprivileged user, death
signal, parent still there, exec.

Always: the death signal is set after the change of user, which clears it, and the parent is
checked after that, so a parent that died in between is noticed. The lock file's descriptor is
inherited by the server, so the kernel frees the lock when the last process of it has gone.
Linux: the kernel signals the server when the parent dies. Elsewhere (`--watch`): this process
stays, and reads a pipe whose other end only the parent holds.
"""

import argparse
import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1
PARENT_GONE = 3  # exit status when there is nobody left to serve
POLL_SECONDS = 0.2  # how soon the watcher sees that its server has ended


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    libc = ctypes.CDLL(None, use_errno=True)  # before the user changes: it may not read our files
    os.chdir(options.directory)
    if options.user is not None:
        os.setgroups([])
        os.setgid(options.group)
        os.setuid(options.user)
    if options.watch is not None:
        return _watch(options)
    if libc.prctl(PR_SET_PDEATHSIG, options.signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != options.parent:
        return PARENT_GONE
    _sign(options.lock)
    os.execv(options.command[0], options.command)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--signal", type=int, required=True)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--lock", type=int, required=True)
    parser.add_argument("--user", type=int)
    parser.add_argument("--group", type=int)
    parser.add_argument("--watch", type=int)
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


def _sign(lock: int) -> None:
    """Write into the lock file which process holds it."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)


def _watch(options: argparse.Namespace) -> int:
    """Stay as the server's parent; when the pipe ends, ask it to stop. Returns its exit status."""
    child = os.fork()
    if child == 0:
        os.close(options.watch)
        _sign(options.lock)
        os.execv(options.command[0], options.command)
    os.close(options.lock)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda received, _frame: _pass_on(child, received))
    watched = [options.watch]
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        readable, _, _ = select.select(watched, [], [], POLL_SECONDS)
        if readable:  # nobody writes into it, so this is its end
            watched = []
            _pass_on(child, options.signal)


def _pass_on(child: int, number: int) -> None:
    """Signal the server; it is unreaped while we loop, so the id cannot be somebody else's."""
    os.kill(child, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
