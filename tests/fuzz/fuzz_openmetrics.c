/* OpenMetrics: what the strict reading takes the lenient one takes alike; a page cut short is an error. */
#include "fuzz.h"

static void cut_check(const char *data, size_t len)
{
    fuzz_reading part;
    size_t cut = fuzz_choice(data, len, len); /* loses at least the last byte */

    if (cut + 1 == len && data[cut] == '\n')
        return; /* "# EOF" ends a page without its newline, too */
    fuzz_read_part(&part, data, cut, FUZZ_OPENMETRICS);
    MUST(part.status != SGC_OK);
    fuzz_reading_free(&part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *input = fuzz_input(data, size);
    sgc_options options;
    fuzz_reading lenient, strict;

    if (!input)
        return 0;
    fuzz_options(&options, FUZZ_OPENMETRICS);
    fuzz_read(&lenient, input, size, &options);
    fuzz_check(&lenient, input, size, FUZZ_OPENMETRICS);
    fuzz_options(&options, FUZZ_STRICT);
    fuzz_read(&strict, input, size, &options);
    fuzz_check(&strict, input, size, FUZZ_STRICT);
    if (strict.status == SGC_OK)
        MUST(fuzz_same_samples(&strict, &lenient));
    if (lenient.status == SGC_OK)
        cut_check(input, size);
    else
        MUST(strict.status != SGC_OK && strict.err.line <= lenient.err.line);
    fuzz_limits_check(&lenient, input, size, FUZZ_OPENMETRICS);
    fuzz_limits_check(&strict, input, size, FUZZ_STRICT);
    fuzz_reading_free(&lenient);
    fuzz_reading_free(&strict);
    return 0;
}
