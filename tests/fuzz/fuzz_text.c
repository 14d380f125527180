/* Text 0.0.4: whatever the bytes, a page that makes sense or an error that tells where. */
#include "fuzz.h"

/* A page that ends earlier, behind a line, holds the same samples up to there. */
static void prefix_check(const fuzz_reading *whole, const char *data, size_t len)
{
    size_t cut = fuzz_choice(data, len, len + 1);
    fuzz_reading part;

    while (cut && data[cut - 1] != '\n')
        cut--;
    fuzz_read_part(&part, data, cut, FUZZ_TEXT);
    if (whole->status == SGC_OK)
        MUST(part.status == SGC_OK && fuzz_begins(whole, &part));
    else if (part.status != SGC_OK)
        MUST(fuzz_same_error(&part.err, &whole->err));
    fuzz_reading_free(&part);
}

/* Where the last line does not say that this is OpenMetrics, it is text. */
static void format_check(const fuzz_reading *whole, const char *data, size_t len)
{
    sgc_options options;
    fuzz_reading r;

    fuzz_options(&options, FUZZ_TEXT);
    options.format = SGC_FORMAT_AUTO;
    fuzz_read(&r, data, len, &options);
    if (r.status == SGC_OK && sgc_page_format(r.page) == SGC_FORMAT_TEXT)
        MUST(fuzz_same(&r, whole));
    fuzz_reading_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *input = fuzz_input(data, size);
    sgc_options options;
    fuzz_reading whole;

    if (!input)
        return 0;
    fuzz_options(&options, FUZZ_TEXT);
    fuzz_read(&whole, input, size, &options);
    fuzz_check(&whole, input, size, FUZZ_TEXT);
    fuzz_limits_check(&whole, input, size, FUZZ_TEXT);
    prefix_check(&whole, input, size);
    format_check(&whole, input, size);
    fuzz_reading_free(&whole);
    return 0;
}
