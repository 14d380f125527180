/*
 * dice.h - numbers that look random and are the same in every run.
 */
#ifndef DICE_H
#define DICE_H

#include <stddef.h>
#include <stdint.h>

static uint64_t dice_state = 88172645463325252u;

static inline uint64_t dice_bits(void)
{
    dice_state ^= dice_state << 13, dice_state ^= dice_state >> 7, dice_state ^= dice_state << 17;
    return dice_state;
}

/* One of the first n numbers. */
static inline unsigned pick(unsigned n)
{
    return (unsigned)(dice_bits() >> 33) % n;
}

static inline const char *choose(const char *const *list, size_t n)
{
    return list[pick((unsigned)n)];
}

#define CHOOSE(...) \
    choose((const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

#endif
