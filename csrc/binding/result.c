/*
 * result.c - what one scrape gave:
 *
 *     class Body:     the bytes of the page, by the buffer protocol
 *     class Result:   id, endpoint, error, fold, body, page, format, status, framing,
 *                     started, at, elapsed, timings, wire_bytes, reused, retried
 *
 * A body stays in the memory it was received into, however many pages and
 * views are made of it.
 */
#include "binding.h"

/* -------------------------------------------------------------------- Body */

/* Takes the body out of the result. */
static PyObject *body_new(core_state *state, sgc_result *result)
{
    BodyObject *self = (BodyObject *)state->body->tp_alloc(state->body, 0);
    if (!self)
        return NULL;
    self->data = result->body;
    self->len = result->body_len;
    self->room = result->body_room;
    result->body = NULL;
    return (PyObject *)self;
}

static void body_dealloc(PyObject *object)
{
    BodyObject *self = (BodyObject *)object;
    sgc_body_free(self->data, self->room);
    core_free(object);
}

static Py_ssize_t body_len(PyObject *object)
{
    return (Py_ssize_t)((BodyObject *)object)->len;
}

static int body_get_buffer(PyObject *object, Py_buffer *view, int flags)
{
    BodyObject *self = (BodyObject *)object;
    char *data = self->data ? self->data : "";
    return PyBuffer_FillInfo(view, object, data, (Py_ssize_t)self->len, 1, flags);
}

static PyObject *body_repr(PyObject *object)
{
    return PyUnicode_FromFormat("<Body: %zu bytes>", ((BodyObject *)object)->len);
}

static PyType_Slot body_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The bytes of a page, inflated. Read-only; bytes(body) copies.")},
    {Py_tp_dealloc, body_dealloc},
    {Py_tp_repr, body_repr},
    {Py_tp_methods, core_buffer_methods},
    {Py_sq_length, body_len},
    {Py_bf_getbuffer, body_get_buffer},
    {0, NULL},
};

PyType_Spec core_body_spec = {
    .name = "sglang_collect._core.Body",
    .basicsize = sizeof(BodyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = body_slots,
};

/* ------------------------------------------------------------------ Result */

typedef struct ResultObject {
    PyObject ob_base;
    sgc_result *result; /* without body and fold, which moved into these: */
    PyObject *body;     /* Body, or NULL */
    PyObject *fold;     /* Fold, or NULL */
    EndpointObject *endpoint;
    PyObject *page;  /* NULL until asked for */
    PyObject *error; /* NULL until asked for */
} ResultObject;

static bool succeeded(const sgc_result *result)
{
    return result->failure.reason == SGC_REASON_NONE;
}

/* Moves what the core made into objects. */
static int result_fill(core_state *state, ResultObject *self, PlanObject *plan)
{
    sgc_result *result = self->result;
    if (succeeded(result)) {
        self->body = body_new(state, result);
        if (!self->body)
            return -1;
    }
    if (result->fold) {
        sgc_fold *fold = result->fold;
        result->fold = NULL;
        self->fold = core_fold_new(plan, fold);
        if (!self->fold)
            return -1;
    }
    return 0;
}

PyObject *core_result_new(core_state *state, EndpointObject *endpoint, PlanObject *plan, sgc_result *result)
{
    ResultObject *self = (ResultObject *)state->result->tp_alloc(state->result, 0);
    if (!self) {
        sgc_result_free(result);
        return NULL;
    }
    self->result = result;
    self->endpoint = (EndpointObject *)Py_NewRef(endpoint);
    if (result_fill(state, self, plan) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int result_traverse(PyObject *object, visitproc visit, void *arg)
{
    ResultObject *self = (ResultObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->fold);
    Py_VISIT(self->error);
    return 0;
}

/* A cycle can only go through the error's traceback or the fold's dicts. */
static int result_clear(PyObject *object)
{
    Py_CLEAR(((ResultObject *)object)->error);
    return 0;
}

static void result_dealloc(PyObject *object)
{
    ResultObject *self = (ResultObject *)object;
    PyObject_GC_UnTrack(object);
    Py_XDECREF(self->error);
    Py_XDECREF(self->page);
    Py_XDECREF(self->fold);
    Py_XDECREF(self->body);
    Py_XDECREF(self->endpoint);
    sgc_result_free(self->result);
    core_free(object);
}

static const sgc_result *result_of(PyObject *object)
{
    return ((ResultObject *)object)->result;
}

static PyObject *result_repr(PyObject *object)
{
    ResultObject *self = (ResultObject *)object;
    const char *word = succeeded(self->result) ? "ok" : sgc_reason_slug(self->result->failure.reason);
    return PyUnicode_FromFormat("<Result %s: %s>", self->endpoint->label, word);
}

static PyObject *object_or_none(PyObject *object)
{
    return Py_NewRef(object ? object : Py_None);
}

static PyObject *result_id(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(result_of(object)->id);
}

static PyObject *result_endpoint(PyObject *object, void *unused)
{
    (void)unused;
    return Py_NewRef(((ResultObject *)object)->endpoint);
}

static PyObject *result_error(PyObject *object, void *unused)
{
    (void)unused;
    ResultObject *self = (ResultObject *)object;
    const sgc_result *result = self->result;
    if (succeeded(result))
        Py_RETURN_NONE;
    PyObject *error = core_kept(object, &self->error);
    if (error)
        return error;
    return core_keep(
        object, &self->error,
        core_failure(core_state_of(object), &result->failure, self->endpoint->label, result->timings.done));
}

static PyObject *result_fold(PyObject *object, void *unused)
{
    (void)unused;
    return object_or_none(((ResultObject *)object)->fold);
}

static PyObject *result_body(PyObject *object, void *unused)
{
    (void)unused;
    return object_or_none(((ResultObject *)object)->body);
}

static PyObject *page_read(ResultObject *self)
{
    BodyObject *body = (BodyObject *)self->body;
    core_input input = {.owner = Py_NewRef(body), .data = body->data ? body->data : "", .len = body->len};
    sgc_options_init(&input.options);
    input.options.format = self->result->format;
    input.options.limits = self->endpoint->limits;
    return core_page_new(core_state_of((PyObject *)self), &input, self->endpoint->label,
                         self->result->timings.done);
}

static PyObject *result_page(PyObject *object, void *unused)
{
    (void)unused;
    ResultObject *self = (ResultObject *)object;
    if (!self->body)
        Py_RETURN_NONE;
    PyObject *page = core_kept(object, &self->page);
    return page ? page : core_keep(object, &self->page, page_read(self));
}

static PyObject *result_format(PyObject *object, void *unused)
{
    (void)unused;
    return core_format_text(result_of(object)->format);
}

static PyObject *result_status(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromLong(result_of(object)->status);
}

static PyObject *result_framing(PyObject *object, void *unused)
{
    (void)unused;
    static const char *const words[] = {
        [SGC_FRAMING_NONE] = "",
        [SGC_FRAMING_LENGTH] = "length",
        [SGC_FRAMING_CHUNKED] = "chunked",
        [SGC_FRAMING_CLOSE] = "close",
    };
    return PyUnicode_FromString(words[result_of(object)->framing]);
}

static PyObject *result_started(PyObject *object, void *unused)
{
    (void)unused;
    return PyFloat_FromDouble(result_of(object)->started);
}

static PyObject *result_at(PyObject *object, void *unused)
{
    (void)unused;
    return PyFloat_FromDouble(result_of(object)->at);
}

static PyObject *result_elapsed(PyObject *object, void *unused)
{
    (void)unused;
    return PyFloat_FromDouble(result_of(object)->timings.done);
}

static PyObject *result_timings(PyObject *object, void *unused)
{
    (void)unused;
    const sgc_timings *at = &result_of(object)->timings;
    return Py_BuildValue("{s:d,s:d,s:d,s:d,s:d,s:d}", "resolved", at->resolved, "connected", at->connected,
                         "tls", at->tls, "first_byte", at->first_byte, "received", at->received, "done",
                         at->done);
}

static PyObject *result_wire_bytes(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(result_of(object)->wire_bytes);
}

static PyObject *result_reused(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(result_of(object)->reused);
}

static PyObject *result_retried(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(result_of(object)->retried);
}

static PyMethodDef result_methods[] = {
    {"__deepcopy__", core_itself, METH_O,
     PyDoc_STR("__deepcopy__($self, memo, /)\n--\n\nThe result itself.")},
    {CORE_NO_PICKLE},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef result_getset[] = {
    {"id", result_id, NULL, PyDoc_STR("int: what submit() gave."), NULL},
    {"endpoint", result_endpoint, NULL, PyDoc_STR("Endpoint: whom it asked."), NULL},
    {"error", result_error, NULL,
     PyDoc_STR("Exception | None: the exception to raise, the same each time; None where it went well."),
     NULL},
    {"fold", result_fold, NULL, PyDoc_STR("Fold | None: None where it failed or had no plan."), NULL},
    {"body", result_body, NULL, PyDoc_STR("Body | None: the page, inflated; None where it failed."), NULL},
    {"page", result_page, NULL,
     PyDoc_STR("Page | None: the body, parsed when first asked for; None where it failed.\n\n"
               "Raises what parse() raises, where no plan has read the body before."),
     NULL},
    {"format", result_format, NULL, PyDoc_STR("str: 'text' or 'openmetrics', by the Content-Type."), NULL},
    {"status", result_status, NULL, PyDoc_STR("int: HTTP status; 0 where none came."), NULL},
    {"framing", result_framing, NULL,
     PyDoc_STR("str: how the end of the body was told: 'length', 'chunked', 'close'; '' where none came."),
     NULL},
    {"started", result_started, NULL, PyDoc_STR("float: seconds since 1970 at submission."), NULL},
    {"at", result_at, NULL, PyDoc_STR("float: the same moment by time.monotonic()."), NULL},
    {"elapsed", result_elapsed, NULL, PyDoc_STR("float: seconds from submission to the end."), NULL},
    {"timings", result_timings, NULL,
     PyDoc_STR(
         "dict[str, float]: seconds from submission to the end of each stage, 0.0 where it did not come:\n"
         "resolved, connected, tls, first_byte, received, done."),
     NULL},
    {"wire_bytes", result_wire_bytes, NULL, PyDoc_STR("int: bytes of the body as they were sent."), NULL},
    {"reused", result_reused, NULL, PyDoc_STR("bool: over a connection that was kept."), NULL},
    {"retried", result_retried, NULL,
     PyDoc_STR("bool: a kept connection had died; asked again on a new one."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot result_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("What one scrape gave: a page, or the error that came in its place.")},
    {Py_tp_dealloc, result_dealloc},
    {Py_tp_traverse, result_traverse},
    {Py_tp_clear, result_clear},
    {Py_tp_repr, result_repr},
    {Py_tp_methods, result_methods},
    {Py_tp_getset, result_getset},
    {0, NULL},
};

PyType_Spec core_result_spec = {
    .name = "sglang_collect._core.Result",
    .basicsize = sizeof(ResultObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = result_slots,
};
