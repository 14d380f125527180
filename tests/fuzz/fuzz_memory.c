/*
 * Memory runs out in the middle: the reading says so, gives nothing, and keeps
 * nothing. Which allocation fails, and whether those behind it do, the bytes of
 * the page decide.
 */
#include "wanted.h"

static size_t made, live, fail_at;
static bool fail_on;

static bool fails(void)
{
    size_t n = made++;

    return n == fail_at || (fail_on && n > fail_at);
}

static void *limited_alloc(void *ctx, size_t size)
{
    void *ptr = fails() ? NULL : malloc(size);

    (void)ctx;
    live += ptr != NULL;
    return ptr;
}

static void *limited_resize(void *ctx, void *ptr, size_t size)
{
    (void)ctx;
    return fails() ? NULL : realloc(ptr, size);
}

static void limited_release(void *ctx, void *ptr)
{
    (void)ctx;
    live--;
    free(ptr);
}

static bool as_expected(sgc_status status, const void *out, const sgc_error *err)
{
    return status == SGC_OK ? out != NULL : !out && err->code == status && status != SGC_ARGUMENT;
}

static void page_try(const char *data, size_t len, const sgc_options *options)
{
    sgc_error err;
    sgc_page *page;
    sgc_status status = sgc_page_parse(data, len, options, &page, &err);

    MUST(as_expected(status, page, &err));
    MUST(status != SGC_NOMEM || made > fail_at);
    sgc_page_free(page);
}

static void folds_try(const char *data, size_t len, const sgc_options *options)
{
    sgc_error err;
    sgc_steady *steady;
    sgc_fold *fold;
    sgc_status status = sgc_steady_new(wanted_plan(), &steady, &err);

    MUST(as_expected(status, steady, &err));
    for (int i = 0; status == SGC_OK && i < 2; i++) {
        status = sgc_steady_fold(steady, data, len, options, &fold, &err);
        MUST(as_expected(status, fold, &err));
        sgc_fold_free(fold);
    }
    sgc_steady_free(steady);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const sgc_allocator limited = {limited_alloc, limited_resize, limited_release, NULL};
    const char *input = fuzz_input(data, size);
    size_t choice = fuzz_choice((const char *)data, size, 1 << 16);
    sgc_options options;

    if (!input)
        return 0;
    wanted_plan();
    sgc_allocator_set(&limited);
    fail_on = choice % 2;
    for (fuzz_mode mode = FUZZ_TEXT; mode <= FUZZ_STRICT; mode++) {
        fuzz_options(&options, mode);
        made = 0, fail_at = choice / 2 % 24;
        page_try(input, size, &options);
        made = 0, fail_at = choice / 2 % 60;
        folds_try(input, size, &options);
        MUST(live == 0);
    }
    sgc_allocator_set(NULL);
    return 0;
}
