/*
 * The page after a page: a steady reader folds each as a cold read does. The
 * pages are the input, the same lines with other values, again, one of the two
 * with a byte changed, and halves of it; and the lines with some of them gone,
 * doubled, changed, at another place.
 */
#include "wanted.h"
#include "fold_same.h"

enum { PAGE_ROOM = 1 << 16 };

static sgc_options options;

static void page_try(sgc_steady *steady, const char *text, size_t len)
{
    char *at = fuzz_edge(FUZZ_PART, len);
    sgc_error cold_err = {.code = SGC_OK}, warm_err = {.code = SGC_OK};
    sgc_fold *cold, *warm;
    sgc_status status;

    if (len)
        memcpy(at, text, len);
    status = sgc_plan_fold(wanted_plan(), at, len, &options, &cold, &cold_err);
    MUST(sgc_steady_fold(steady, at, len, &options, &warm, &warm_err) == status);
    if (status == SGC_OK)
        MUST(fold_same(cold, warm));
    else
        MUST(!warm && !sgc_steady_hit(steady) && fuzz_same_error(&cold_err, &warm_err));
    sgc_fold_free(cold);
    sgc_fold_free(warm);
}

static const char *number_text(size_t choice)
{
    static const char *const numbers[] = {"0",
                                          "1.0",
                                          "3.0",
                                          "13.0",
                                          "1234567.0",
                                          "12345678.0",
                                          "0.25",
                                          "1e3",
                                          "NaN",
                                          "-1",
                                          "+Inf",
                                          "1.4986231e+07",
                                          "123456789012345678",
                                          "x",
                                          "1 5",
                                          "",
                                          "7",
                                          "2.0",
                                          "99.0",
                                          "0.0"};

    /* What is no value makes a page of other lines, so that it is rare. */
    return numbers[choice % 97 < 3 ? choice % 97 + 13 : choice % 13];
}

/* Writes the page with another number at the end of each line. */
static size_t page_revalue(char *out, const char *page, size_t len, size_t seed)
{
    const char *p = page, *end = page + len, *stop, *value;
    size_t used = 0;

    for (; p < end; p = stop) {
        stop = memchr(p, '\n', (size_t)(end - p));
        stop = stop ? stop + 1 : end;
        for (value = stop - (stop[-1] == '\n'); value > p && value[-1] != ' ';)
            value--;
        if (*p == '#' || value == p || used + (size_t)(stop - p) + 32 > PAGE_ROOM)
            value = stop;
        memcpy(out + used, p, (size_t)(value - p));
        used += (size_t)(value - p);
        if (value < stop)
            used += (size_t)sprintf(out + used, "%s\n", number_text(seed = seed * 31 + 7));
    }
    return used;
}

static size_t put(char *out, size_t used, const char *text, size_t len)
{
    if (used + len > PAGE_ROOM)
        return used;
    memcpy(out + used, text, len);
    return used + len;
}

/* Writes the page with other lines here and there, one in `rarely`. */
static size_t page_reline(char *out, const char *page, size_t len, size_t seed, size_t rarely)
{
    const char *p = page, *end = page + len, *stop, *first, *held = NULL;
    size_t used = 0, held_len = 0;

    for (; p < end; p = stop) {
        size_t choice = (seed = seed * 6364136223846793005u + 1442695040888963407u) >> 33, start = used;
        stop = memchr(p, '\n', (size_t)(end - p));
        stop = stop ? stop + 1 : end;
        if (choice % rarely) {
            used = put(out, used, p, (size_t)(stop - p));
            continue;
        }
        switch (choice / rarely % 6) {
        case 0: /* goes */
            break;
        case 1: /* stands further down */
            held = p, held_len = (size_t)(stop - p);
            break;
        case 2:
            used = put(out, used, p, (size_t)(stop - p));
            used = held ? put(out, used, held, held_len) : used;
            break;
        case 3: /* stands twice */
            used = put(out, used, p, (size_t)(stop - p));
            used = put(out, used, p, (size_t)(stop - p));
            break;
        case 4: /* a line of the beginning comes again */
            used = put(out, used, p, (size_t)(stop - p));
            first = memchr(page, '\n', len);
            used = first ? put(out, used, page, (size_t)(first + 1 - page)) : used;
            break;
        default:
            used = put(out, used, p, (size_t)(stop - p));
            if (used > start)
                out[start + choice / 8 % (used - start)] = "0123456789\"}{ _xn=,+"[choice / 64 % 20];
        }
    }
    return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char other[PAGE_ROOM];
    const char *page = fuzz_input(data, size);
    size_t seed = fuzz_choice((const char *)data, size, 1 << 20), half = size / 2, len;
    sgc_steady *steady;

    if (size > PAGE_ROOM / 2)
        return 0;
    fuzz_options(&options, seed % 4 ? FUZZ_TEXT : FUZZ_OPENMETRICS);
    options.limits.number_length = seed % 3 ? 1024 : 12;
    MUST(sgc_steady_new(wanted_plan(), &steady, NULL) == SGC_OK);
    page_try(steady, page, size);
    len = page_revalue(other, page, size, seed);
    page_try(steady, other, len);
    page_try(steady, page, size);
    len = page_revalue(other, page, size, seed + 1);
    if (len && seed % 2)
        other[seed % len] = (char)(seed >> 8);
    page_try(steady, other, len);
    page_try(steady, page, half);
    page_try(steady, page + half, size - half);
    for (size_t i = 0; i < 4; i++) {
        page_try(steady, page, size);
        len = page_reline(other, page, size, seed + i, 2 + seed / 8 % 8 * i);
        page_try(steady, other, len);
    }
    sgc_steady_free(steady);
    return 0;
}
