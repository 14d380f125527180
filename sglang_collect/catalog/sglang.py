"""What SGLang servers expose: one table of every metric, in every release that was read (to v0.5.23).

A row says, in this order: name, type, unit, rule (how its series become one number: ``sglang_rules``),
labels it shares with the others of its writer (``own`` are those it has besides), first release, meaning.
``until`` is the last release that has it, ``was`` what it was before: a metric that the next release
renames gets the old name there, and nothing else changes. Which fields are made of it stands in
``sglang_fields``; a metric that no field names is in ``raw_metrics`` alone. ``docs/metrics.md`` is made of
both.

What to know of SGLang's pages:

- The tokenizer's counters (requests and tokens) move when a request has finished, the scheduler's
  (``realtime_tokens_total``) while it runs.
- Gauges are written when a batch is reported: on each prefill, each 40th decode step, and 30 s after the
  last one (from v0.4.3.post3); in between they are old.
- The TYPE line tells what a metric is, never its suffix: ``lora_pool_slots_total`` is a gauge.
- A metric that was never touched is not on the page at all, which is not the same as 0.
"""

from __future__ import annotations

import functools
import threading

from .._core import Plan
from . import Form, Metric, compile_plan
from .formula import formula_of
from .sglang_fields import FIELDS, FLAGS, LABELS, MAX_MODELS, VIEWS
from .sglang_rules import (
    D_LOGGED,
    D_MEAN,
    E_EACH,
    E_MAX,
    PLAIN,
    A,
    B,
    C,
    D,
    Di,
    E,
    En,
    F,
    G,
    K,
    N,
    R,
    Rx,
    S,
    St,
    X,
)

__all__ = ["METRICS", "NEWEST", "PREFIXES", "READ", "model_plan", "plan"]

NEWEST = "v0.5.23"
"""The newest release that was read."""

PREFIXES = ("sglang:", "sglang_", "ray_sglang_")
"""A server writes ``sglang:``. The model gateway's ``/engine_metrics`` turns every colon of its engines'
pages into an underscore, those in label values too (a model ``a:b`` is ``a_b`` there), and adds the label
``worker_addr``; ``/v1/loads`` writes ``sglang_`` too; Ray puts ``ray_`` before that."""

# fmt: off
METRICS = (
    # --------------------------------------------- requests and tokens, when a request has finished
    Metric("num_requests_total", "counter", "requests", A, K, "v0.4.1.post6", own=("is_streaming",),
           by=("worker_addr",),
           help="Finished requests, aborted ones included; a request for n answers counts n+1."),
    Metric("num_aborted_requests_total", "counter", "calls", A, K, "v0.4.7",
           help="Abort calls, by clients that left or by /abort_request; one call may end many or none."),
    Metric("num_so_requests_total", "counter", "requests", A, K, "v0.4.6.post4",
           help="Finished requests with a structured output."),
    Metric("num_retractions", "histogram", "times", A, K, "v0.5.4.post2", until="v0.5.10.post1",
           help="How often a request was put back into the queue."),
    Metric("prompt_tokens_total", "counter", "tokens", A, K, "v0.3.5.post1", own=("is_streaming",),
           help="Prompt tokens of finished requests, cached ones included."),
    Metric("generation_tokens_total", "counter", "tokens", A, K, "v0.3.5.post1", own=("is_streaming",),
           help="Output tokens of finished requests."),
    Metric("cached_tokens_total", "counter", "tokens", A, K, "v0.4.3.post4", own=("cache_source",),
           by=("cache_source",),
           help="Prompt tokens of finished requests that came from a cache; missing until the first hit. "
                "cache_source (v0.5.9): device, host, storage_..., or total."),
    Metric("prompt_tokens_histogram", "histogram", "tokens", A, K, "v0.4.6.post4",
           help="Prompt length; before v0.5.11 only with --collect-tokens-histogram."),
    Metric("uncached_prompt_tokens_histogram", "histogram", "tokens", A, K, "v0.5.12",
           help="Prompt length without what came from a cache."),
    Metric("generation_tokens_histogram", "histogram", "tokens", A, K, "v0.4.6.post4",
           help="Output length; before v0.5.11 only with --collect-tokens-histogram."),
    Metric("e2e_request_latency_seconds", "histogram", "seconds", A, K, "v0.3.5.post1", own=("is_streaming",),
           help="From arrival to the last token."),
    Metric("time_to_first_token_seconds", "histogram", "seconds", A, K, "v0.3.5.post1", own=("is_streaming",),
           help="From arrival to the first token; far too long for answers that are not streamed; none on a "
                "prefill node."),
    Metric("inter_token_latency_seconds", "histogram", "seconds", A, K, "v0.4.3.post3",
           help="Time between tokens; its count is tokens, those of one chunk share their time."),
    Metric("time_per_output_token_seconds", "histogram", "seconds", A, K, "v0.3.5.post1",
           until="v0.4.4.post3",
           help="A mixture of running means and whole requests divided by their tokens: an indication only."),
    Metric("request_time_per_output_token_seconds", "histogram", "seconds", A, K, "v0.5.22",
           own=("is_streaming",),
           help="Time per token of a request after its first one."),
    Metric("time_to_first_token_seconds_offline_batch", "histogram", "seconds", A, K, "v0.5.2",
           until="v0.5.3rc1",
           emitted=False, help="Time to first token of offline batches."),
    Metric("spec_verify_calls_total", "counter", "calls", A, K, "v0.5.13",
           help="Verification steps of speculative decoding."),
    Metric("get_loads_duration_seconds", "histogram", "seconds", A, K, "v0.5.12",
           help="Time to answer /v1/loads."),
    Metric("mm_frontend_stage_seconds", "histogram", "seconds", A, K, "main", own=("stage", "outcome"),
           help="Time of a stage before the scheduler, of requests with images, video or audio."),
    Metric("mm_frontend_inflight", "gauge", "requests", A, K, "main", own=("stage",),
           help="Requests in such a stage."),
    Metric("mm_frontend_items_total", "counter", "items", A, K, "main", own=("modality",),
           help="Images, videos and sounds prepared."),
    Metric("mm_frontend_feature_bytes_total", "counter", "bytes", A, K, "main", own=("modality",),
           help="Bytes of their features."),

    # --------------------------------------------------------------------- processes of the server
    Metric("http_requests_total", "counter", "requests", G, X, "v0.5.7", own=("endpoint", "method"),
           help="HTTP requests by path and method; /metrics and /health among them."),
    Metric("http_responses_total", "counter", "responses", G, X, "v0.5.6.post2",
           own=("endpoint", "method", "status_code"), by=("status_code",),
           help="HTTP answers by path, method and status; /metrics and /health among them."),
    Metric("http_requests_active", "gauge", "requests", G, X, "v0.5.8", own=("endpoint", "method"),
           help="HTTP requests under way, the scrape itself among them."),
    Metric("routing_keys_active", "gauge", "keys", G, X, "v0.5.8",
           help="Different routing keys among the HTTP requests under way."),
    Metric("process_cpu_seconds_total", "counter", "seconds", G, X, "v0.5.8", own=("component",),
           help="CPU time of the tokenizer, the detokenizer and the data-parallel controller."),
    Metric("func_latency_seconds", "histogram", "seconds", G, X, "v0.3.5.post1", own=("name",),
           help="Time of single functions; declared, but not measured after v0.4.1."),
    Metric("startup_latency_breakdown_seconds_max", "gauge", "seconds", E_MAX, X, "v0.5.2", own=("context",),
           emitted=False, help="Longest time of each step of the start."),
    Metric("failed_session_recoveries_total", "counter", "sessions", F, X, "v0.5.13",
           help="Transfer sessions taken back after a failure; it has no label at all."),
    Metric("startup_time_seconds", "gauge", "seconds", E_MAX, K, "v0.5.17", own=("phase",),
           help="Time that each phase of the start took."),
    Metric("startup_cuda_graph_time_seconds", "gauge", "seconds", E_MAX, K, "v0.5.17", own=("phase",),
           help="Time to capture device graphs, by phase."),

    # --------------------------------------------------------------------- queues, by the scheduler
    Metric("num_running_reqs", "gauge", "requests", B, R, "v0.3.5.post1", by=("dp_rank", "worker_addr"),
           help="Requests in the running batch; on a prefill node 0 before v0.5.16."),
    Metric("num_queue_reqs", "gauge", "requests", B, R, "v0.3.5.post1", by=("dp_rank",),
           help="Requests in the waiting queue; those of the queues below are not in it."),
    Metric("num_grammar_queue_reqs", "gauge", "requests", B, R, "v0.4.6.post4",
           help="Requests that wait for their grammar to be compiled."),
    Metric("num_paused_reqs", "gauge", "requests", B, R, "v0.5.2", own=("pid",),
           help="Requests paused by a weight update since the last report."),
    Metric("num_retracted_reqs", "gauge", "requests", B, R, "v0.5.2", own=("pid",),
           help="Requests put back into the queue since the last report; scrapes miss most of them."),
    Metric("num_retracted_requests_total", "counter", "requests", D, R, "v0.5.7",
           was=(Form("total_retracted_reqs", "gauge", "v0.4.9.post3", "v0.5.3rc1"),),
           help="Requests put back into the queue for want of memory; before, a gauge that only grew."),
    Metric("num_retracted_input_tokens_total", "counter", "tokens", D, R, "v0.5.7",
           help="Prompt tokens of requests put back."),
    Metric("num_retracted_output_tokens_total", "counter", "tokens", D, R, "v0.5.7",
           help="Output tokens of requests put back."),
    Metric("num_running_reqs_offline_batch", "gauge", "requests", B, R, "v0.5.2", until="v0.5.10.post1",
           help="Running requests of low priority, of offline batches."),
    Metric("queue_time_seconds", "histogram", "seconds", D, R, "v0.5.3rc2",
           help="Time in the waiting queue."),
    Metric("queue_time_s", "histogram", "seconds", D, R, "v0.5.2", until="v0.5.3rc1", emitted=False,
           help="Time in the waiting queue, under its first name."),
    Metric("avg_request_queue_latency", "gauge", "seconds", C, R, "v0.4.5.post1", until="v0.5.3rc1",
           help="Mean time in the queue of the last prefill batch; stays when idle."),
    Metric("per_stage_req_latency_seconds", "histogram", "seconds", D, R, "v0.5.3rc2", own=("stage",),
           was=(Form("request_latency_seconds", "histogram", "v0.5.3rc1", "v0.5.3rc1"),),
           help="Time of a request in each stage: request_process, prefill_forward, decode_waiting, ..."),
    Metric("new_token_ratio", "gauge", "ratio", C, R, "v0.5.5.post1",
           help="Part of the output a request may still ask for that its admission counts on."),
    Metric("max_running_requests_under_SLO", "gauge", "requests", E_MAX, R, "v0.5.2", emitted=False,
           help="Requests that may run under a service-level objective."),
    Metric("utilization", "gauge", "ratio", C, R, "v0.5.2",
           help="Running requests over the metric above, which nothing sets: 0; -1 on a prefill node."),
    Metric("num_unique_running_routing_keys", "gauge", "keys", B, R, "v0.5.8",
           help="Different routing keys in the running batch."),
    Metric("routing_key_running_req_count", "gauge", "keys", D_LOGGED, R, "v0.5.8", own=("gt", "le"),
           help="Routing keys by their number of running requests; a bucket holds (gt, le], no more."),
    Metric("routing_key_all_req_count", "gauge", "keys", D_LOGGED, R, "v0.5.8", own=("gt", "le"),
           help="The same by running and waiting requests."),
    Metric("num_streaming_sessions", "gauge", "sessions", B, R, "v0.5.11",
           help="Open streaming sessions."),
    Metric("streaming_session_held_tokens", "gauge", "tokens", B, R, "v0.5.11",
           help="KV slots that they hold."),

    # ----------------------------------------------------------- work, by the scheduler as it is done
    Metric("gen_throughput", "gauge", "tokens/s", B, R, "v0.3.5.post1", by=("dp_rank",),
           help="Tokens decoded per second over the last log interval, as old as the last report."),
    Metric("realtime_tokens_total", "counter", "tokens", D_LOGGED, R, "v0.5.7", own=("mode",), by=("mode",),
           help="Tokens as they are processed; mode: prefill_compute, prefill_cache, decode."),
    Metric("prefill_effective_tokens_total", "counter", "tokens", D_LOGGED, R, "v0.5.18", own=("mode",),
           by=("mode",),
           help="Prompt tokens, not counted again after a retraction; mode: input, device_hit, host_hit, "
                "storage_hit. On every rank from the start, 0 on those that do not log."),
    Metric("cache_hit_rate", "gauge", "ratio", C, R, "v0.3.5.post1",
           help="Up to v0.4.3.post2 of all requests; later of the last prefill batch, 0 after a decode."),
    Metric("decode_sum_seq_lens", "gauge", "tokens", B, R, "v0.5.7",
           help="Context of all requests of the decode batch."),
    Metric("is_cuda_graph", "gauge", "0 or 1", C, R, "v0.5.4",
           help="Did the last batch run as a device graph?"),
    Metric("cuda_graph_passes_total", "counter", "passes", D_LOGGED, R, "v0.5.7", own=("mode",),
           help="Forward passes with a device graph and without."),
    Metric("forward_execution_seconds_total", "counter", "seconds", D, R, "v0.5.11", own=("category",),
           was=(Form("gpu_execution_seconds_total", "counter", "v0.5.7", "v0.5.10.post1"),),
           help="Time the device spends in forward passes, by kind; needs the device timer."),
    Metric("gpu_overlap_wait_seconds_total", "counter", "seconds", D, R, "v0.5.10rc0", own=("category",),
           until="v0.5.10.post1", help="Time the device waited for the scheduler."),
    Metric("fwd_occupancy", "gauge", "percent", C, R, "v0.5.12",
           help="Part of the time in forward passes; NaN when idle, and without the device timer."),
    Metric("estimated_flops_per_gpu_total", "counter", "operations", D_LOGGED, R, "v0.5.10",
           help="Arithmetic of a device, estimated; with --enable-mfu-metrics."),
    Metric("estimated_read_bytes_per_gpu_total", "counter", "bytes", D_LOGGED, R, "v0.5.10",
           help="Memory read by a device, estimated; with --enable-mfu-metrics."),
    Metric("estimated_write_bytes_per_gpu_total", "counter", "bytes", D_LOGGED, R, "v0.5.10",
           help="Memory written by a device, estimated; with --enable-mfu-metrics."),
    Metric("scheduler_idle_seconds_total", "counter", "seconds", D, R, "v0.5.20",
           help="Time without anything to run or in a queue."),
    Metric("scheduler_process_cpu_seconds_total", "counter", "seconds", D, R, "v0.5.20",
           help="CPU time of the scheduler's process."),
    Metric("scheduler_stage_seconds_total", "counter", "seconds", D, R, "v0.5.20",
           own=("category", "forward_overlap"),
           help="Time of each stage of the scheduler's loop; forward_overlap from v0.5.22."),
    Metric("eplb_balancedness", "summary", "ratio", D_LOGGED, R, "v0.5.7", own=("forward_mode",),
           help="How evenly experts are used; sum and count alone."),
    Metric("eplb_gpu_physical_count", "histogram", "ranks", F, X, "v0.5.4.post2", own=("layer",),
           help="Choices of experts by layer, over the ranks that hold them."),

    # --------------------------------------------------------- data parallelism, prefill delayed for it
    Metric("dp_cooperation_realtime_tokens_total", "counter", "tokens", D_LOGGED, R, "v0.5.7",
           own=("mode", "num_prefill_ranks"),
           help="realtime_tokens_total by how many ranks prefill at once."),
    Metric("dp_cooperation_forward_execution_seconds_total", "counter", "seconds", D, R, "v0.5.11",
           own=("category", "num_prefill_ranks"),
           was=(Form("dp_cooperation_gpu_execution_seconds_total", "counter", "v0.5.7", "v0.5.10.post1"),),
           help="forward_execution_seconds_total by how many ranks prefill at once."),
    Metric("dp_attention_tokens_total", "counter", "tokens", D_LOGGED, R, "v0.5.22", own=("kind",),
           help="Tokens of a rank in steps taken together, and those that the busiest rank had more."),
    Metric("dp_attention_pairs_total", "counter", "pairs", D_LOGGED, R, "v0.5.22", own=("kind",),
           help="The same in pairs of query and key."),
    Metric("dp_attention_steps_total", "counter", "steps", D_LOGGED, R, "v0.5.22", own=("rank_state",),
           help="Steps taken together, and those in which the rank had nothing to do."),
    Metric("dp_attention_token_imbalance_ratio", "histogram", "ratio", D_LOGGED, R, "v0.5.22",
           help="Tokens of the busiest rank over their mean; written by rank 0 alone."),
    Metric("dp_attention_sync_wait_seconds", "histogram", "seconds", D_LOGGED, R, "v0.5.22",
           help="Time a rank waits for the others at each step."),
    Metric("prefill_delayer_wait_forward_passes", "histogram", "passes", D_LOGGED, R, "v0.5.8",
           help="Forward passes for which a prefill was put off."),
    Metric("prefill_delayer_wait_seconds", "histogram", "seconds", D_LOGGED, R, "v0.5.8",
           help="Time for which a prefill was put off."),
    Metric("prefill_delayer_outcomes_total", "counter", "decisions", D_LOGGED, R, "v0.5.8",
           own=("input_estimation", "output_allow", "output_reason", "actual_execution"),
           help="Decisions to put off a prefill or not."),

    # ------------------------------------------------------------------------------ pools of the cache
    Metric("num_used_tokens", "gauge", "tokens", B, R, "v0.3.5.post1", by=("dp_rank",),
           help="KV slots in use, without those that the radix cache would give up; of the fuller pool where "
                "there are two."),
    Metric("token_usage", "gauge", "ratio", C, R, "v0.3.5.post1", by=("dp_rank",),
           help="Used part of the KV slots, rounded to percent; of the fullest pool."),
    Metric("max_total_num_tokens", "gauge", "tokens", E, R, "v0.5.6", by=("dp_rank",),
           help="KV slots in all; of every rank from v0.5.11."),
    Metric("max_total_num_tokens_swa", "gauge", "tokens", E, R, "v0.5.17",
           help="Slots of the sliding-window pool in all."),
    Metric("kv_used_tokens", "gauge", "tokens", B, R, "v0.5.11", help="KV slots that running requests hold."),
    Metric("kv_available_tokens", "gauge", "tokens", B, R, "v0.5.11", help="Free KV slots."),
    Metric("kv_evictable_tokens", "gauge", "tokens", B, R, "v0.5.11",
           help="KV slots that the radix cache holds and would give up."),
    Metric("full_token_usage", "gauge", "ratio", C, R, "v0.5.10rc0",
           help="Used part of the pool of full attention, not rounded."),
    Metric("swa_token_usage", "gauge", "ratio", C, R, "v0.5.2", help="Used part of the sliding-window pool."),
    Metric("swa_used_tokens", "gauge", "tokens", B, R, "v0.5.12",
           help="Used slots of the sliding-window pool."),
    Metric("swa_available_tokens", "gauge", "tokens", B, R, "v0.5.12", help="Free slots of the same."),
    Metric("swa_evictable_tokens", "gauge", "tokens", B, R, "v0.5.12",
           help="Slots of the same that a cache holds."),
    Metric("mamba_usage", "gauge", "ratio", C, R, "v0.5.4.post3",
           help="Used part of the pool of Mamba states."),
    Metric("mamba_used_tokens", "gauge", "states", B, R, "v0.5.12",
           help="Used slots of the pool of Mamba states."),
    Metric("mamba_available_tokens", "gauge", "states", B, R, "v0.5.12", help="Free slots of the same."),
    Metric("mamba_evictable_tokens", "gauge", "states", B, R, "v0.5.12",
           help="Slots of the same that a cache holds."),
    Metric("page_size", "gauge", "tokens", E_MAX, R, "v0.5.11", help="KV slots of one page."),
    Metric("num_pages", "gauge", "pages", E, R, "v0.5.11", help="Pages in all."),
    Metric("cache_config_info", "gauge", "1", E_MAX, X, "v0.5.9", until="v0.5.10.post1",
           own=("page_size", "num_pages"), by=("page_size",), help="The cache's settings, as labels."),
    Metric("context_len", "gauge", "tokens", E_MAX, R, "v0.5.11", help="Longest context."),
    Metric("kv_cache_memory_usage_gb", "gauge", "GB of 2^30 bytes", E_EACH, R, "v0.5.17",
           help="Memory of the KV pools of a rank, used or not."),
    Metric("weight_memory_usage_gb", "gauge", "GB", E_EACH, R, "v0.5.17",
           help="Memory of the weights of a rank."),
    Metric("graph_memory_usage_gb", "gauge", "GB", E_EACH, R, "v0.5.17", own=("phase",),
           help="Memory of the device graphs of a rank."),
    Metric("startup_available_gpu_memory_gb", "gauge", "GB", E_EACH, R, "v0.5.11",
           help="Free memory of a device at the start."),
    Metric("engine_startup_time", "gauge", "seconds", E_MAX, R, "v0.5.2", until="v0.5.16",
           help="Time the start took."),
    Metric("engine_load_weights_time", "gauge", "seconds", E_MAX, R, "v0.5.2", until="v0.5.16",
           help="Time to load the weights."),
    Metric("weight_load_duration_seconds", "gauge", "seconds", E_MAX, R, "v0.5.13", own=("source",),
           help="Time of the last weight update, by where from."),

    # ------------------------------------------------------- speculative decoding, LoRA and grammars
    Metric("spec_accept_length", "gauge", "tokens", C, R, "v0.4.1.post7", by=("dp_rank",),
           help="Tokens a verification step gave over the last log interval; 0 without speculation."),
    Metric("spec_accept_rate", "gauge", "ratio", C, R, "v0.5.3.post2", by=("dp_rank",),
           help="Accepted part of the drafted tokens; 0 without speculation."),
    Metric("spec_block_accept_length", "gauge", "tokens", C, R, "v0.5.16",
           help="Accept length before it is capped (DSpark)."),
    Metric("spec_cap_length", "gauge", "tokens", C, R, "v0.5.16", help="The cap (DSpark)."),
    Metric("spec_num_steps", "gauge", "steps", C, R, "v0.5.13", help="Draft steps in use."),
    Metric("spec_num_draft_tokens", "gauge", "tokens", C, R, "v0.5.13", help="Draft tokens in use."),
    Metric("lora_pool_slots_used", "gauge", "slots", B, R, "v0.5.7", help="Adapters in the running batch."),
    Metric("lora_pool_slots_total", "gauge", "slots", B, R, "v0.5.7", help="Adapters a batch can hold."),
    Metric("lora_pool_utilization", "gauge", "ratio", C, R, "v0.5.7", help="Used part of the adapter slots."),
    Metric("num_grammar_total", "counter", "requests", D, R, "v0.5.2", emitted=False,
           help="Requests with a grammar."),
    Metric("num_grammar_cache_hit_total", "counter", "requests", D, R, "v0.5.2", emitted=False,
           help="Grammars found compiled."),
    Metric("num_grammar_aborted_total", "counter", "requests", D, R, "v0.5.2", emitted=False,
           help="Grammars given up."),
    Metric("num_grammar_timeout_total", "counter", "requests", D, R, "v0.5.6", emitted=False,
           help="Grammars that took too long."),
    Metric("grammar_compilation_time_seconds", "histogram", "seconds", D, R, "v0.5.2", emitted=False,
           help="Time to compile a grammar."),
    Metric("grammar_schema_count", "histogram", "schemas", D, R, "v0.5.2", emitted=False,
           help="Schemas of a request."),
    Metric("grammar_ebnf_size", "histogram", "characters", D, R, "v0.5.2", emitted=False,
           help="Size of a grammar."),
    Metric("grammar_tree_traversal_time_avg", "histogram", "seconds", D, R, "v0.5.2", emitted=False,
           help="Mean time to walk a grammar."),
    Metric("grammar_tree_traversal_time_max", "histogram", "seconds", D, R, "v0.5.2", emitted=False,
           help="Longest time to walk a grammar."),

    # ---------------------------------------------------------------------- prefill and decode nodes
    Metric("num_prefill_bootstrap_queue_reqs", "gauge", "requests", B, R, "v0.5.12",
           was=(Form("num_prefill_prealloc_queue_reqs", "gauge", "v0.4.6.post4", "v0.5.11"),),
           help="Prefill node: requests that wait for their decode node."),
    Metric("num_prefill_inflight_queue_reqs", "gauge", "requests", B, R, "v0.5.1.post2",
           was=(Form("num_prefill_infight_queue_reqs", "gauge", "v0.4.6.post4", "v0.5.1.post1"),),
           help="Prefill node: requests whose cache is being sent."),
    Metric("num_prefill_retries_total", "counter", "attempts", D, R, "v0.5.8",
           help="Prefill node: second attempts."),
    Metric("num_decode_prealloc_queue_reqs", "gauge", "requests", B, R, "v0.4.6.post4",
           help="Decode node: requests that wait for memory."),
    Metric("num_decode_transfer_queue_reqs", "gauge", "requests", B, R, "v0.4.6.post4",
           help="Decode node: requests whose cache is on its way."),
    Metric("num_decode_host_receive_queue_reqs", "gauge", "requests", B, R, "v0.5.21",
           help="Decode node: those of the queue above whose cache goes to host memory first."),
    Metric("num_decode_host_receive_reqs_total", "counter", "requests", D_LOGGED, R, "v0.5.21",
           help="Decode node: requests whose cache went to host memory first."),
    Metric("num_decode_deferred_kv_release_reqs", "gauge", "requests", B, R, "v0.5.22",
           help="Decode node: failed requests whose memory is held until their transfer ends."),
    Metric("decode_deferred_kv_release_seconds", "histogram", "seconds", D, R, "v0.5.22",
           help="Decode node: how long it is held."),
    Metric("decode_deferred_kv_release_total", "counter", "releases", D, R, "v0.5.22", own=("outcome",),
           help="Decode node: how that ended: drained, timeout, error."),
    Metric("num_bootstrap_failed_reqs_total", "counter", "requests", D, R, "v0.4.6.post4",
           help="Requests that found no partner node."),
    Metric("num_transfer_failed_reqs_total", "counter", "requests", D, R, "v0.4.6.post4",
           help="Requests whose cache did not arrive."),
    Metric("kv_transfer_latency_ms", "histogram", "milliseconds", D_MEAN, R, "v0.5.10rc0",
           was=(Form("kv_transfer_latency_ms", "gauge", "v0.5.2", "v0.5.9"),),
           help="Time to send the cache of a request; as a gauge, of the last one."),
    Metric("kv_transfer_speed_gb_s", "histogram", "GB of 2^30 bytes/s", D_MEAN, R, "v0.5.10rc0",
           was=(Form("kv_transfer_speed_gb_s", "gauge", "v0.5.2", "v0.5.9"),),
           help="Speed at which the cache of a request was sent; as a gauge, of the last one."),
    Metric("kv_transfer_bootstrap_ms", "histogram", "milliseconds", D_MEAN, R, "v0.5.10rc0",
           was=(Form("kv_transfer_bootstrap_ms", "gauge", "v0.5.4.post3", "v0.5.9"),),
           help="Time to find the partner node; as a gauge, of the last request."),
    Metric("kv_transfer_alloc_ms", "histogram", "milliseconds", D_MEAN, R, "v0.5.10rc0",
           was=(Form("kv_transfer_alloc_ms", "gauge", "v0.5.4.post3", "v0.5.9"),),
           help="Time to wait for memory; as a gauge, of the last request."),
    Metric("kv_transfer_total_mb", "histogram", "MB", D_MEAN, R, "v0.5.10rc0",
           was=(Form("kv_transfer_total_mb", "gauge", "v0.5.7", "v0.5.9"),),
           help="Size of the cache of a request; as a gauge, of the last one."),
    Metric("pending_prealloc_token_usage", "gauge", "ratio", C, R, "v0.5.3.post2",
           help="Decode node: tokens still without memory over KV slots in all."),
    Metric("prealloc_full_token_usage", "gauge", "ratio", C, R, "v0.5.23",
           help="Decode node: part of the KV slots held by requests whose cache is on its way."),
    Metric("prealloc_swa_token_usage", "gauge", "ratio", C, R, "v0.5.23",
           help="Decode node: the same of the sliding-window pool."),

    # ------------------------------------------------------------- cache in device and in host memory
    Metric("evicted_tokens_total", "counter", "tokens", F, Rx, "v0.5.5.post1",
           help="Tokens evicted from the device's cache."),
    Metric("eviction_duration_seconds", "histogram", "seconds", F, Rx, "v0.5.5.post1",
           help="Time of an eviction."),
    Metric("load_back_tokens_total", "counter", "tokens", F, Rx, "v0.5.5.post1", own=("pool",),
           help="Tokens brought back from the host memory's cache; by pool from v0.5.18."),
    Metric("load_back_duration_seconds", "histogram", "seconds", F, Rx, "v0.5.5.post1",
           help="Time to bring them."),
    Metric("load_back_bytes_total", "counter", "bytes", F, Rx, "v0.5.18", help="Bytes brought back."),
    Metric("hicache_backup_tokens_total", "counter", "tokens", F, Rx, "v0.5.18", own=("pool",),
           help="Tokens copied to host memory."),
    Metric("hicache_backup_bytes_total", "counter", "bytes", F, Rx, "v0.5.18",
           help="Bytes copied to host memory."),
    Metric("hicache_backup_duration_seconds", "histogram", "seconds", F, Rx, "v0.5.18",
           help="Time of such a copy."),
    Metric("hicache_dropped_tokens_total", "counter", "tokens", F, Rx, "v0.5.18", own=("reason", "pool"),
           help="Tokens evicted without a copy."),
    Metric("hicache_host_used_tokens", "gauge", "tokens", B, R, "v0.5.10rc0",
           help="Used slots of the host memory's cache."),
    Metric("hicache_host_total_tokens", "gauge", "tokens", B, R, "v0.5.10rc0",
           help="Slots of the host memory's cache."),
    Metric("hicache_host_mamba_used_states", "gauge", "states", B, R, "v0.5.23",
           help="Used slots of the host memory's Mamba states."),
    Metric("hicache_host_mamba_total_states", "gauge", "states", B, R, "v0.5.23",
           help="Slots of the host memory's Mamba states."),

    # ------------------------------------------------------------------------ storage behind the cache
    Metric("prefetched_tokens_total", "counter", "tokens", S, St, "v0.5.2", help="Tokens read from storage."),
    Metric("backuped_tokens_total", "counter", "tokens", S, St, "v0.5.2", help="Tokens written to storage."),
    Metric("prefetch_pgs", "histogram", "pages", S, St, "v0.5.2", help="Pages of a read."),
    Metric("backup_pgs", "histogram", "pages", S, St, "v0.5.2", help="Pages of a write."),
    Metric("prefetch_bandwidth", "histogram", "GB/s", S, St, "v0.5.2", help="Speed of a read."),
    Metric("backup_bandwidth", "histogram", "GB/s", S, St, "v0.5.2", help="Speed of a write."),
    Metric("hicache_backup_dropped_tokens_total", "counter", "tokens", S, St, "v0.5.19",
           help="Tokens that were to be written and were not."),
    Metric("hicache_prefetch_aux_alloc_failed_tokens_total", "counter", "tokens", S, St, "v0.5.19",
           help="Tokens not read, for want of memory in a smaller pool."),
    Metric("hicache_prefetch_outcomes_total", "counter", "reads", S, St, "main", own=("outcome",),
           help="How reads from storage ended."),
    Metric("storage_prefetch_hit_tokens_total", "counter", "tokens", S, St, "v0.5.20",
           help="Tokens that storage said it has."),
    Metric("storage_prefetch_unfulfilled_tokens_total", "counter", "tokens", S, St, "v0.5.20",
           own=("reason",),
           help="Those of them that a read did not bring."),
    Metric("storage_prefetch_deferred_tokens_total", "counter", "tokens", S, St, "v0.5.20", own=("reason",),
           help="Those put off for want of memory."),

    # --------------------------------------------------------------------------------- encoder servers
    Metric("encoder_requests_received_total", "counter", "requests", N, En, "v0.5.15", own=("modality",),
           help="Requests that came."),
    Metric("encoder_requests_total", "counter", "requests", N, En, "v0.5.15", own=("modality", "status"),
           help="Requests that ended, by how."),
    Metric("encoder_request_e2e_latency_seconds", "histogram", "seconds", N, En, "v0.5.15", own=("modality",),
           help="Time of a request."),
    Metric("encoder_queue_wait_seconds", "histogram", "seconds", N, En, "v0.5.15", own=("modality",),
           help="Time in the queue."),
    Metric("encoder_preprocess_seconds", "histogram", "seconds", N, En, "v0.5.15", own=("modality",),
           help="Time to prepare the input."),
    Metric("encoder_model_forward_seconds", "histogram", "seconds", N, En, "v0.5.15", own=("modality",),
           help="Time of the forward pass."),
    Metric("encoder_transfer_seconds", "histogram", "seconds", N, En, "v0.5.15", own=("backend",),
           help="Time to send the result."),
    Metric("encoder_mm_items_per_batch", "histogram", "items", N, En, "v0.5.15", own=("modality",),
           help="Images, videos or sounds of a batch."),
    Metric("encoder_mm_items_per_request", "histogram", "items", N, En, "v0.5.15", own=("modality",),
           help="Images, videos or sounds of a request."),
    Metric("encoder_cache_entries", "gauge", "entries", N, En, "v0.5.15",
           help="Results in the encoder's cache."),
    Metric("encoder_cache_size_mb", "gauge", "MB", N, En, "v0.5.15", help="Their size."),
    Metric("encoder_cache_evictions_total", "counter", "entries", N, En, "v0.5.15", own=("modality",),
           help="Results evicted."),
    Metric("encoder_cache_hit_files_total", "counter", "files", N, En, "v0.5.15", own=("modality",),
           help="Files whose result was in the cache."),
    Metric("encoder_cache_total_files_total", "counter", "files", N, En, "v0.5.15", own=("modality",),
           help="Files looked up."),
    Metric("encoder_cache_hit_tokens_total", "counter", "tokens", N, En, "v0.5.15", own=("modality",),
           help="Tokens whose result was in the cache."),
    Metric("encoder_cache_total_tokens_total", "counter", "tokens", N, En, "v0.5.15", own=("modality",),
           help="Tokens looked up."),
    Metric("encoder_dp_pending_requests", "gauge", "requests", N, En, "v0.5.15",
           help="Requests handed to each rank."),

    # ------------------------------------------------------------------- servers of diffusion models
    Metric("diffusion_num_queue_reqs", "gauge", "requests", A, Di, "v0.5.21", help="Requests that wait."),
    Metric("diffusion_num_running_reqs", "gauge", "requests", A, Di, "v0.5.21", help="Requests that run."),
    Metric("diffusion_requests_total", "counter", "requests", A, Di, "v0.5.21", own=("status", "is_warmup"),
           help="Requests that ended, by how."),
    Metric("diffusion_request_latency_seconds", "histogram", "seconds", A, Di, "v0.5.21",
           own=("status", "is_warmup"), help="Time of a request."),
    Metric("diffusion_queue_time_seconds", "histogram", "seconds", A, Di, "v0.5.21", own=("is_warmup",),
           help="Time in the queue."),
    Metric("diffusion_generation_batch_size", "histogram", "requests", A, Di, "v0.5.21", own=("stop_reason",),
           help="Requests of a batch."),
    Metric("diffusion_stage_host_latency_seconds", "histogram", "seconds", A, Di, "v0.5.21", own=("stage",),
           help="Time of each stage as the host sees it."),
    Metric("diffusion_lora_loaded_adapters", "gauge", "adapters", A, Di, "v0.5.21", help="Adapters loaded."),
    Metric("diffusion_lora_active_adapters", "gauge", "adapters", A, Di, "v0.5.21", help="Adapters in use."),
    Metric("diffusion_lora_active_modules", "gauge", "modules", A, Di, "v0.5.21",
           help="Modules with an adapter."),
    Metric("diffusion_lora_module_active", "gauge", "0 or 1", A, Di, "v0.5.21", own=("module",),
           help="Has this module an adapter?"),
)
# fmt: on

_OF_FIELDS = frozenset(metric for field in FIELDS for metric in field.metrics)
READ = tuple(metric for metric in METRICS if metric.name in _OF_FIELDS)
"""The metrics that fields are made of: what a plan reads of a page."""


_FORMULAS = {
    **{field.name: steps for field in FIELDS if (steps := formula_of(field)) is not None},
    **{name: flag.compiled() for name, flag in FLAGS.items()},
}
_OF_ANY_MODEL = {field.name: steps for field in FIELDS if (steps := formula_of(field, own=False)) is not None}


@functools.cache
def _compile() -> Plan:
    return compile_plan(
        PREFIXES, READ, views=VIEWS, fields=FIELDS, own=PLAIN, labels=LABELS, formulas=_FORMULAS
    )


_compiling = threading.Lock()


def plan() -> Plan:
    """The plan of this catalogue, compiled at first use."""
    with _compiling:
        return _compile()


@functools.lru_cache(maxsize=MAX_MODELS)
def model_plan(model: str) -> Plan:
    """The plan over the series of one model alone."""
    only = (("model_name", "is", (model,)),)
    return compile_plan(
        PREFIXES, READ, views=VIEWS, own=PLAIN, labels=LABELS, where=only, formulas=_OF_ANY_MODEL
    )
