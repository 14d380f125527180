/*
 * pow5.c - powers of five, which numbers are read and written with.
 */
#include "sgc_int.h"

const uint64_t sgc__pow5[][2] = {
#include "pow5.inc"
};

/* Entries from -27 to -1 are rounded up as they stand, those from 0 to 55 exact. */
void sgc__pow10_above(int exponent, uint64_t bits[2])
{
    const uint64_t *power = sgc__pow5[exponent - SGC__POW5_LOWEST];
    bool below = exponent < -27 || exponent > 55;

    bits[1] = power[1] + below;
    bits[0] = power[0] + (bits[1] < power[1]);
}
