"""A product of two panels kept in registers: nearly all the arithmetic of `elimination`.

A panel is a contiguous array of `PANEL` columns, row by row. No compiler keeps a tile of sums in
registers by itself, so this one function is written out for LLVM. It is written as vectors of
`PANEL` numbers, which LLVM cuts into the registers that there are.
"""

from typing import Any

import numba
from llvmlite import ir
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

PANEL = 8  # columns; `elimination` writes some sums out for eight
_FEATURES = numba.config.CPU_FEATURES or get_host_cpu_features()
HEIGHT = 8 if "+avx512f" in _FEATURES else 4  # rows of sums at once; a divisor of PANEL

VECTOR, INTEGER, LANE = ir.VectorType(ir.DoubleType(), PANEL), ir.IntType(64), ir.IntType(32)
EMPTY = ir.Constant(VECTOR, ir.Undefined)
FIRST_EVERYWHERE = ir.Constant(ir.VectorType(LANE, PANEL), [0] * PANEL)
CONTRACT = ("contract",)


@intrinsic
def add_products(_typing: Any, array: Any, left: Any, right: Any, to: Any, count: Any) -> Any:
    """array[to + r PANEL + c] += sum_k array[left + k PANEL + r] array[right + k PANEL + c].

    For all r < HEIGHT and c < PANEL; the sum over k < count. The array is one-dimensional.
    """
    index = numba.types.int64
    return numba.types.void(array, index, index, index, index), _generate


def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array, left, right, to, count = arguments
    data = context.make_array(signature.args[0])(context, builder, array).data

    def at(start: Any, offset: Any) -> Any:
        return builder.gep(data, [builder.add(start, offset)])

    targets = [at(to, INTEGER(r * PANEL)) for r in range(HEIGHT)]
    before = [_load(builder, target) for target in targets]
    entry, body = builder.block, builder.append_basic_block("products")
    end = builder.append_basic_block("products.end")
    builder.cbranch(builder.icmp_signed(">", count, INTEGER(0)), body, end)

    builder.position_at_end(body)
    k = builder.phi(INTEGER)
    sums = [builder.phi(VECTOR) for _ in targets]
    row = builder.mul(k, INTEGER(PANEL))
    factor = _load(builder, at(right, row))
    after = []
    for r, total in enumerate(sums):
        spread = _spread(builder, at(builder.add(left, row), INTEGER(r)))
        product = builder.fmul(spread, factor, flags=CONTRACT)
        after.append(builder.fadd(total, product, flags=CONTRACT))
    following = builder.add(k, INTEGER(1))
    _arrive([k], [INTEGER(0)], entry, [following], body)
    _arrive(sums, before, entry, after, body)
    builder.cbranch(builder.icmp_signed("<", following, count), body, end)

    builder.position_at_end(end)
    totals = [builder.phi(VECTOR) for _ in targets]
    _arrive(totals, before, entry, after, body)
    for total, target in zip(totals, targets, strict=True):
        # Columns of a front begin at any multiple of 8 bytes, not of a whole vector.
        builder.store(total, builder.bitcast(target, VECTOR.as_pointer())).align = 8
    return context.get_dummy_value()


def _load(builder: Any, pointer: Any) -> Any:
    value = builder.load(builder.bitcast(pointer, VECTOR.as_pointer()))
    value.align = 8
    return value


def _spread(builder: Any, pointer: Any) -> Any:
    """The number at the pointer in every lane."""
    first_lane = builder.insert_element(EMPTY, builder.load(pointer), LANE(0))
    return builder.shuffle_vector(first_lane, EMPTY, FIRST_EVERYWHERE)


def _arrive(phis: Any, first: Any, entry: Any, then: Any, body: Any) -> None:
    """Set the value of each phi when coming from `entry`, and when coming from `body`."""
    for phi, initial, next_value in zip(phis, first, then, strict=True):
        phi.add_incoming(initial, entry)
        phi.add_incoming(next_value, body)
