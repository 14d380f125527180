/* wanted.c - the plan of the fold targets. */
#include "wanted.h"

#define S(text) {(text), sizeof(text) - 1}
#define LIST(list) (list), sizeof(list) / sizeof *(list)

const sgc_str wanted_prefixes[] = {S("sglang:"), S("sglang_"), S("ray_sglang_")};
const size_t wanted_n_prefixes = sizeof wanted_prefixes / sizeof *wanted_prefixes;

static const sgc_str running[] = {S("num_running_reqs")};
static const sgc_str queue[] = {S("num_queue_reqs"), S("num_queued")};
static const sgc_str requests[] = {S("num_requests_total")};
static const sgc_str responses[] = {S("http_responses_total")};
static const sgc_str usage[] = {S("token_usage")};
static const sgc_str first_token[] = {S("time_to_first_token_seconds")};
static const sgc_str latency[] = {S("inter_token_latency_seconds"), S("time_per_output_token_seconds")};

static const sgc_str ranks[] = {S("tp_rank"), S("pp_rank"), S("moe_ep_rank"), S("pid")};
static const sgc_str lowest[] = {S("pp_rank"), S("tp_rank")};
static const sgc_str nothing[] = {S("")}, failed[] = {S("5")}, zero[] = {S("0"), S("1")};
static const sgc_str paths[] = {S("/metrics"), S("/health")}, info[] = {S("_info")},
                     bounds[] = {S("0.1"), S("+Inf")};

static const sgc_cond no_priority[] = {{S("priority"), SGC_OP_IS, false, LIST(nothing)}};
static const sgc_cond failures[] = {
    {S("status_code"), SGC_OP_STARTS, false, LIST(failed)},
    {S("endpoint"), SGC_OP_STARTS, true, LIST(paths)},
    {S("endpoint"), SGC_OP_ENDS, true, LIST(info)},
};
static const sgc_cond other_ranks[] = {{S("dp_rank"), SGC_OP_IS, true, LIST(zero)}};
static const sgc_cond two_bounds[] = {{S("le"), SGC_OP_IS, false, LIST(bounds)}};

const sgc_extract wanted_extracts[] = {
    {.names = LIST(running), .where = LIST(no_priority), .without = LIST(ranks), .lowest = LIST(lowest)},
    {.names = LIST(running),
     .where = LIST(no_priority),
     .without = LIST(ranks),
     .lowest = LIST(lowest),
     .by = S("dp_rank")},
    {.names = LIST(queue), .without = LIST(ranks), .lowest = LIST(lowest), .reduce = SGC_REDUCE_MAX},
    {.names = LIST(queue), .where = LIST(other_ranks), .by = S("priority"), .reduce = SGC_REDUCE_MEAN},
    {.names = LIST(requests)},
    {.names = LIST(responses), .where = LIST(failures)},
    {.names = LIST(responses), .by = S("status_code"), .reduce = SGC_REDUCE_MAX},
    {.names = LIST(usage),
     .where = LIST(no_priority),
     .without = LIST(ranks),
     .lowest = LIST(lowest),
     .reduce = SGC_REDUCE_MEAN},
    {.kind = SGC_KIND_HISTOGRAM, .names = LIST(first_token)},
    {.kind = SGC_KIND_HISTOGRAM, .names = LIST(first_token), .without = LIST(ranks), .lowest = LIST(lowest)},
    {.kind = SGC_KIND_HISTOGRAM, .names = LIST(first_token), .by = S("dp_rank")},
    {.kind = SGC_KIND_HISTOGRAM, .names = LIST(latency), .where = LIST(two_bounds)},
    {.kind = SGC_KIND_HISTOGRAM,
     .names = LIST(latency),
     .where = LIST(other_ranks),
     .without = LIST(ranks),
     .lowest = LIST(lowest),
     .by = S("model_name")},
    {.kind = SGC_KIND_LABEL, .by = S("model_name")},
    {.kind = SGC_KIND_LABEL, .by = S("le"), .where = LIST(other_ranks)},
};
const size_t wanted_n_extracts = sizeof wanted_extracts / sizeof *wanted_extracts;

sgc_plan *wanted_plan(void)
{
    static sgc_plan *plan;

    if (plan)
        return plan;
    MUST(sgc_plan_new(wanted_prefixes, wanted_n_prefixes, &plan, NULL) == SGC_OK);
    for (size_t i = 0; i < wanted_n_extracts; i++)
        MUST(sgc_plan_add(plan, &wanted_extracts[i], NULL) == SGC_OK);
    return plan;
}
