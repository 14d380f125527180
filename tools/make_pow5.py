"""Writes csrc/core/pow5.inc: the powers of five that the number reader multiplies by.

Entry q (from -342 to 324) holds the 128 most significant bits of 5**q as a high and a low word: rounded up
for -27 <= q < 0, where the product with a 64-bit word is then exact enough to see ties, and down elsewhere.
csrc/core/pow5.c holds it: num.c reads numbers with it, up to 308, json.c writes them.
"""

from __future__ import annotations

from pathlib import Path

LOWEST, HIGHEST = -342, 324
TARGET = Path(__file__).resolve().parent.parent / "csrc" / "core" / "pow5.inc"


def top_bits(q: int) -> int:
    """The 128 leading bits of 5**q."""
    power: int = 5 ** abs(q)
    if q >= 0:
        shift = power.bit_length() - 128
        return power >> shift if shift > 0 else power << -shift
    quotient = (1 << (power.bit_length() + 256)) // power
    return (quotient >> (quotient.bit_length() - 128)) + (q >= -27)


def render() -> str:
    """The whole file."""
    lines = [
        f"/* Made by tools/make_pow5.py: 5^q for q from {LOWEST} to {HIGHEST}, 128 leading bits each. */\n"
    ]
    for q in range(LOWEST, HIGHEST + 1):
        bits = top_bits(q)
        lines.append(f"{{0x{bits >> 64:016x}u, 0x{bits & (2**64 - 1):016x}u}},\n")
    return "".join(lines)


if __name__ == "__main__":
    TARGET.write_text(render())
