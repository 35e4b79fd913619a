"""Eight octets at a time, and memory that another library owns, for compiled functions.

Loops over single octets are several times slower. `word_at` and `copy_word` read or write eight octets whatever the
length of the text is: there have to be as many behind its last one.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_WORD = ir.IntType(64)
_struct: Any = cgutils.create_struct_proxy


def _place(context: Any, builder: Any, kind: Any, array: Any, i: Any) -> Any:
    octets = _struct(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(octets, [i]), _WORD.as_pointer())


def _word_at(_typing: Any, octets: Any, i: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(context, builder, signature.args[0], *arguments), align=1)

    return types.uint64(octets, i), generate


def _copy_word(_typing: Any, octets: Any, i: Any, out: Any, o: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = builder.load(_place(context, builder, signature.args[0], *arguments[:2]), align=1)
        builder.store(word, _place(context, builder, signature.args[2], *arguments[2:]), align=1)
        return context.get_dummy_value()

    return types.void(octets, i, out, o), generate


def _pointer_to(_typing: Any, address: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.uint64), generate


def _octets_before(_typing: Any, flags: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        zeros = builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))
        return builder.lshr(zeros, ir.Constant(_WORD, 3))

    return types.int64(types.uint64), generate


word_at: Any = intrinsic(_word_at)
"""word_at(octets, i): the eight octets from `i` on as one number, the first the lowest; `i` is not negative."""
copy_word: Any = intrinsic(_copy_word)
"""copy_word(octets, i, out, o): copies the eight octets from `i` on to `out` from `o` on; neither is negative."""
pointer_to: Any = intrinsic(_pointer_to)
"""pointer_to(address): what `numba.carray` makes an array of; `address` is a uint64 that the caller answers for."""
octets_before: Any = intrinsic(_octets_before)
"""octets_before(number): how many of its octets, from the lowest on, are 0 before the first that is not. One is not."""
