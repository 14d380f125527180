/* The hash index and the sort. */
#include "check.h"
#include "dice.h"
#include "sgc_int.h"

static bool less(const void *a, const void *b)
{
    return *(const uint64_t *)a < *(const uint64_t *)b;
}

static void test_any_order_is_sorted(void)
{
    enum { MOST = 300 };
    uint64_t list[MOST];

    for (size_t n = 0; n < MOST; n++) {
        uint64_t sum = 0, after = 0;
        bool rises = true;
        for (size_t i = 0; i < n; i++)
            sum += list[i] = n % 3 == 0 ? i : n % 3 == 1 ? n - i : dice_bits() % 50;
        sgc__sort(list, n, sizeof *list, less);
        for (size_t i = 0; i < n; i++) {
            after += list[i];
            rises = rises && (!i || list[i - 1] <= list[i]);
        }
        CHECK(rises && sum == after);
    }
}

static char names[5000][16];

static sgc_str name_at(const void *owner, size_t position)
{
    (void)owner;
    return (sgc_str){names[position], strlen(names[position])};
}

static void test_every_key_is_found_again_and_no_other(void)
{
    sgc__index index = {0};
    unsigned wrong = 0;
    uint32_t hash;

    for (size_t i = 0; i < 5000; i++) {
        snprintf(names[i], sizeof names[i], "name_%zu", i * 7);
        wrong += sgc__index_find(&index, name_at(NULL, i), &hash, name_at, NULL) != SIZE_MAX;
        wrong += !sgc__index_add(&index, hash);
    }
    for (size_t i = 0; i < 5000; i++)
        wrong += sgc__index_find(&index, name_at(NULL, i), &hash, name_at, NULL) != i;
    CHECK(wrong == 0);
    CHECK(sgc__index_find(&index, SGC__STR("name_1"), &hash, name_at, NULL) == SIZE_MAX);
    sgc__index_clear(&index);
    CHECK(sgc__index_find(&index, name_at(NULL, 3), &hash, name_at, NULL) == SIZE_MAX);
    sgc__index_free(&index);
}

int main(void)
{
    test_any_order_is_sorted();
    test_every_key_is_found_again_and_no_other();
    return check_done("test_table");
}
