"""Memory that a step frees stays with the process, for the next step takes it again."""

import ctypes

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER_TRIM, LARGEST_KEPT_BYTES = -1, 2**30


def keep_freed_memory() -> bool:
    """Tell glibc not to hand freed memory back to the system; False where there is no glibc.

    By default it returns activations after every step, and the kernel must then find and clear those pages
    again, which takes a tenth of a small model's step on a CPU. The process stays as large as it ever was.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows: allocators of their own
        return False
    settings = ((M_TRIM_THRESHOLD, NEVER_TRIM), (M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES))
    return all(mallopt(name, value) == 1 for name, value in settings)
