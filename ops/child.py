"""How a server that we start for ourselves is bound to us: it does not run as root and does not outlive its parent."""

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

# linux/prctl.h, linux/securebits.h, linux/capability.h
PR_SET_PDEATHSIG, PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 28, 47, 2
NO_SETUID_FIXUP = 1 << 2
CAP_DAC_OVERRIDE, CAPABILITY_VERSION_3 = 1, 0x20080522


def unprivileged_user() -> pwd.struct_passwd | None:
    """Who runs what must not be root: None = whoever we are. KeyError: a root with no such user on the machine."""
    if os.geteuid() != 0:
        return None
    known = {user.pw_name: user for user in pwd.getpwall()}
    return known["postgres"] if "postgres" in known else known["nobody"]


def before_exec(
    *, ends_by: signal.Signals, user: pwd.struct_passwd | None = None, enters: Iterable[Path] = ()
) -> Callable[[], None]:
    """Make a `preexec_fn`: become `user`, then have the kernel send `ends_by` when the parent's thread is gone.

    Folders of `enters` may lie where that user cannot go (a checkout in root's home); it then keeps the one capability
    that opens them. Errors show as subprocess.SubprocessError in the parent.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()
    shut_out = user is not None and not all(_may_enter(folder, user.pw_uid) for folder in enters)

    def check(result: int) -> None:
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def become(user: pwd.struct_passwd) -> None:
        if shut_out:
            # Keeps the capabilities beyond setuid, and has access(2), which initdb asks, count them.
            check(libc.prctl(PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0))
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        if shut_out:
            header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
            bit = 1 << CAP_DAC_OVERRIDE
            check(libc.capset(header, (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)))
            check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0))

    def in_the_child() -> None:
        if user:
            become(user)
        # After the change of user, which clears it.
        end_with(parent, by=ends_by)

    return in_the_child


def end_with(parent: int, *, by: signal.Signals) -> None:
    """Have the kernel send this process `by` when its parent is gone (Linux; elsewhere nothing is bound)."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, by, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    # It may have died before that line.
    if os.getppid() != parent:
        os._exit(1)


def _may_enter(path: Path, uid: int) -> bool:
    passed = (folder.stat() for folder in (path, *path.parents))
    return all(seen.st_mode & 0o001 or seen.st_uid == uid for seen in passed)
