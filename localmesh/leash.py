"""Become another program, tied to the process that asked for it.

    python leash.py kernel|watcher STARTER_PID PIPE_FD PROGRAM [ARGUMENT ...]

The program dies with its starter, however that one ends, SIGKILL included. This runs as a script
of its own between fork and exec, because the same code as a `preexec_fn` is unsafe in a starter
that has threads (gRPC's, say). Only the standard library is imported, to keep it quick.
"""

import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>; kept across exec


def tie_by_kernel() -> None:
    """Have Linux send SIGKILL to this process when the thread that started it ends."""
    import ctypes  # noqa: PLC0415 - the watcher does without, and it is half of the start-up time

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def tie_by_watcher(pipe: int) -> None:
    """Fork a watcher that sends SIGKILL to this process at the end of the starter's pipe.

    The starter holds the only writing end, so the pipe ends when it does. The watcher is a child of
    the program: being adopted by another process tells it that the program has gone, and keeps it
    from ever killing a stranger that was given the same id.
    """
    program = os.getpid()
    if os.fork() != 0:
        return
    while os.getppid() == program:
        readable, _, _ = select.select([pipe], [], [], 0.5)
        if readable and os.getppid() == program:
            os.kill(program, signal.SIGKILL)
            break
    os._exit(0)


def main() -> None:
    """Tie this process to its starter, then become the program."""
    how, starter, pipe, *program = sys.argv[1:]
    if how == "kernel":
        tie_by_kernel()
    else:
        tie_by_watcher(int(pipe))
        os.set_inheritable(int(pipe), False)
    if os.getppid() != int(starter):
        sys.exit("leash: the starter ended first")
    try:
        os.execvp(program[0], program)
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
