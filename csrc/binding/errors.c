/*
 * errors.c - the core's failures as exceptions. The classes stand in
 * sglang_collect/errors.py; here is who becomes which, and how the message reads:
 *
 *     line 3, column 7: expected a value
 *     http://host:30000/metrics: HTTP status 503; expected 200 (after 0.012 s)
 */
#include "binding.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const class_names[CORE_N_ERRORS] = {
    [SGC_FAIL_SCRAPE] = "ScrapeError",     [SGC_FAIL_CONNECT] = "ConnectError",
    [SGC_FAIL_TIMEOUT] = "ScrapeTimeout",  [SGC_FAIL_STATUS] = "HTTPStatusError",
    [SGC_FAIL_TLS] = "TLSError",           [SGC_FAIL_REFUSED] = "TargetRefused",
    [SGC_FAIL_NOT_PAGE] = "NotExposition", [SGC_FAIL_EXPOSITION] = "ExpositionError",
    [SGC_FAIL_LIMIT] = "LimitExceeded",    [SGC_FAIL_MEMORY] = "MemoryError",
};

int core_errors_import(core_state *state)
{
    PyObject *module = PyImport_ImportModule("sglang_collect.errors");
    if (!module)
        return -1;
    int done = 0;
    for (int kind = 0; kind < CORE_N_ERRORS && done == 0; kind++) {
        state->errors[kind] = kind == SGC_FAIL_MEMORY ? Py_NewRef(PyExc_MemoryError)
                                                      : PyObject_GetAttrString(module, class_names[kind]);
        done = state->errors[kind] ? 0 : -1;
    }
    Py_DECREF(module);
    return done;
}

static int add_reason(PyObject *reasons, sgc_reason reason)
{
    PyObject *name = PyUnicode_FromString(class_names[sgc_reason_kind(reason)]);
    int done = name ? PyDict_SetItemString(reasons, sgc_reason_slug(reason), name) : -1;
    Py_XDECREF(name);
    return done;
}

PyObject *core_reasons(void)
{
    static const sgc_reason all[] = {
#define REASON(name, slug, kind) SGC_REASON_##name,
        SGC_REASON_LIST(REASON)
#undef REASON
    };
    PyObject *reasons = PyDict_New();
    for (size_t i = 0; reasons && i < sizeof all / sizeof *all; i++) {
        if (all[i] != SGC_REASON_NONE && add_reason(reasons, all[i]) < 0)
            Py_CLEAR(reasons);
    }
    return reasons;
}

/* --------------------------------------------------------------- messages */

enum { MESSAGE_MAX = 300 };

/* `what` alone, or where there is an endpoint: <label>: <what> (after 0.012 s),
 * with as much of `what` as fits. */
static PyObject *message(const char *what, const char *label, double elapsed)
{
    if (!label)
        return core_text_z(what);

    char text[MESSAGE_MAX + 1], after[40];
    size_t end = (size_t)snprintf(after, sizeof after, " (after %.3f s)", elapsed);
    size_t fixed = strlen(label) + 2 + (end < sizeof after ? end : sizeof after - 1);
    size_t room = fixed < MESSAGE_MAX ? MESSAGE_MAX - fixed : 0;
    size_t len = strlen(what);
    snprintf(text, sizeof text, "%s: %.*s%s", label, (int)(len < room ? len : room), what, after);
    return core_text_z(text);
}

/* "line 3, column 7: <what>"; without the place where there is none. */
static void placed(char *out, size_t size, const sgc_error *err, const char *what)
{
    if (err->line)
        snprintf(out, size, "line %" PRIu64 ", column %" PRIu64 ": %s", err->line, err->column, what);
    else
        snprintf(out, size, "%s", what);
}

/* An instance of `type`; consumes both, each of which may be NULL with an exception. */
static PyObject *make(PyObject *type, PyObject *text, PyObject *keywords)
{
    PyObject *args = text && keywords ? PyTuple_Pack(1, text) : NULL;
    PyObject *error = args ? PyObject_Call(type, args, keywords) : NULL;
    Py_XDECREF(args);
    Py_XDECREF(text);
    Py_XDECREF(keywords);
    return error;
}

/* ---------------------------------------------------------- a failed call */

static PyObject *syntax_error(core_state *state, const sgc_error *err, const char *label, double elapsed)
{
    char what[MESSAGE_MAX];
    placed(what, sizeof what, err, err->reason);
    return make(state->errors[SGC_FAIL_EXPOSITION], message(what, label, elapsed),
                Py_BuildValue("{s:K,s:K,s:s,s:s,s:z}", "line", (unsigned long long)err->line, "column",
                              (unsigned long long)err->column, "reason", err->reason, "excerpt", err->excerpt,
                              "endpoint", label));
}

/* `what` may be NULL: the limit and its value say enough. */
static PyObject *limit_error(core_state *state, const sgc_error *err, const char *what, const char *label,
                             double elapsed)
{
    char limit[100], text[MESSAGE_MAX];
    if (!what) {
        snprintf(limit, sizeof limit, "the limit %s = %" PRIu64 " is exceeded", err->limit, err->allowed);
        placed(text, sizeof text, err, limit);
        what = text;
    }
    return make(state->errors[SGC_FAIL_LIMIT], message(what, label, elapsed),
                Py_BuildValue("{s:s,s:K,s:z}", "limit", err->limit, "allowed",
                              (unsigned long long)err->allowed, "endpoint", label));
}

static PyObject *argument_error(const sgc_error *err)
{
    if (err->excerpt[0])
        return PyObject_CallFunction(PyExc_ValueError, "N",
                                     PyUnicode_FromFormat("%s: %s", err->reason, err->excerpt));
    return PyObject_CallFunction(PyExc_ValueError, "s", err->reason);
}

PyObject *core_error(core_state *state, const sgc_error *err, const char *label, double elapsed)
{
    switch (err->code) {
    case SGC_SYNTAX:
        return syntax_error(state, err, label, elapsed);
    case SGC_LIMIT:
        return limit_error(state, err, NULL, label, elapsed);
    case SGC_ARGUMENT:
        return argument_error(err);
    case SGC_BUSY:
        return PyObject_CallFunction(PyExc_RuntimeError, "s", "scraper is in use by another thread");
    default:
        return PyErr_NoMemory();
    }
}

PyObject *core_raise_error(PyObject *error)
{
    if (error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return NULL;
}

void core_raise_key(PyObject *key)
{
    core_raise_error(PyObject_CallOneArg(PyExc_KeyError, key));
}

PyObject *core_raise(core_state *state, const sgc_error *err)
{
    return core_raise_error(core_error(state, err, NULL, 0.0));
}

/* --------------------------------------------------------- a failed scrape */

static PyObject *status_keywords(const sgc_failure *failure, const char *label, double elapsed)
{
    const char *slug = sgc_reason_slug(failure->reason);
    if (isnan(failure->retry_after))
        return Py_BuildValue("{s:s,s:d,s:s,s:i}", "endpoint", label, "elapsed", elapsed, "reason", slug,
                             "status", failure->status);
    return Py_BuildValue("{s:s,s:d,s:s,s:i,s:d}", "endpoint", label, "elapsed", elapsed, "reason", slug,
                         "status", failure->status, "retry_after", failure->retry_after);
}

PyObject *core_failure(core_state *state, const sgc_failure *failure, const char *label, double elapsed)
{
    sgc_fail_kind kind = sgc_reason_kind(failure->reason);
    PyObject *text;

    switch (kind) {
    case SGC_FAIL_EXPOSITION:
        return syntax_error(state, &failure->parse, label, elapsed);
    case SGC_FAIL_LIMIT:
        return limit_error(state, &failure->parse, failure->what[0] ? failure->what : NULL, label, elapsed);
    case SGC_FAIL_MEMORY:
        text = message("out of memory", label, elapsed);
        return text ? PyObject_CallFunction(PyExc_MemoryError, "N", text) : NULL;
    case SGC_FAIL_STATUS:
        return make(state->errors[kind], message(failure->what, label, elapsed),
                    status_keywords(failure, label, elapsed));
    default:
        return make(state->errors[kind], message(failure->what, label, elapsed),
                    Py_BuildValue("{s:s,s:d,s:s}", "endpoint", label, "elapsed", elapsed, "reason",
                                  sgc_reason_slug(failure->reason)));
    }
}
