#!/usr/bin/env python3
"""Counting from Python: libtalea over ctypes, with the functions that have no inline part.

    import talea
    t = talea.Talea()                          # an absent daemon is no error
    reqs = t.counter("demo_requests_total", "Requests served.", app="demo")
    reqs.inc()
    t.sync()
    print(t.read("demo_requests_total"))

Run it as a program to count once: talea.py NAME [N].
"""

import ctypes
import os
import sys


class _Counter(ctypes.Structure):
    _fields_ = [("target", ctypes.c_void_p)]


class _Total(ctypes.Structure):
    """struct talea_total as far as this example reads it: the size tells the library."""

    _fields_ = [("size", ctypes.c_size_t), ("value", ctypes.c_int64), ("rate", ctypes.c_double),
                ("as_of_ns", ctypes.c_uint64), ("age_ns", ctypes.c_uint64),
                ("epoch", ctypes.c_uint64)]


SUM, COMPACTED, CACHED = 1, 2, 3

_lib = ctypes.CDLL(os.environ.get("TALEA_LIBRARY", "libtalea.so.0"))
_lib.talea_strerror.restype = ctypes.c_char_p
_lib.talea_strerror.argtypes = [ctypes.c_void_p, ctypes.c_int]
_lib.talea_open.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p]
_lib.talea_close.argtypes = [ctypes.c_void_p]
_lib.talea_close.restype = None
_lib.talea_counter_v.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Counter), ctypes.c_char_p,
                                 ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]
_lib.talea_add_fn.argtypes = [_Counter, ctypes.c_uint64]
_lib.talea_add_fn.restype = None
_lib.talea_read_name.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint64,
                                 ctypes.POINTER(_Total)]
_lib.talea_sync.argtypes = [ctypes.c_void_p, ctypes.c_int]


class Error(OSError):
    """A failed call: errno, and what failed and what to do."""


class Counter:
    def __init__(self, handle):
        self._handle = handle

    def inc(self, n=1):
        _lib.talea_add_fn(self._handle, n)


class Talea:
    def __init__(self):
        self._t = ctypes.c_void_p()
        self._check(_lib.talea_open(ctypes.byref(self._t), None))

    def close(self):
        _lib.talea_close(self._t)
        self._t = ctypes.c_void_p()

    def counter(self, name, help_text, **labels):
        flat = [s.encode() for pair in labels.items() for s in pair] + [None]
        handle = _Counter()
        self._check(_lib.talea_counter_v(self._t, ctypes.byref(handle), name.encode(),
                                         help_text.encode(),
                                         (ctypes.c_char_p * len(flat))(*flat)))
        return Counter(handle)

    def sync(self, timeout_ms=1000):
        self._check(_lib.talea_sync(self._t, timeout_ms))

    def read(self, name, how=COMPACTED):
        total = _Total(size=ctypes.sizeof(_Total))
        self._check(_lib.talea_read_name(self._t, name.encode(), how, 0, ctypes.byref(total)))
        return total.value

    def _check(self, err):
        if err:
            raise Error(-err, _lib.talea_strerror(self._t, err).decode())


def main():
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: talea.py NAME [N]")
    t = Talea()
    t.counter(sys.argv[1], "Counted from Python.").inc(int(sys.argv[2]) if len(sys.argv) == 3 else 1)
    t.sync()
    print(t.read(sys.argv[1]))
    t.close()


if __name__ == "__main__":
    main()
