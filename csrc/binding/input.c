/*
 * input.c - where an exposition comes from. Reading runs without the GIL, so
 * what is read must not change meanwhile: exact bytes and a Body are held as
 * they are, everything else is copied once into bytes before.
 */
#include "binding.h"

static int limit_read(PyObject *object, const char *name, uint64_t *out)
{
    PyObject *value = PyObject_GetAttrString(object, name);
    if (!value) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError))
            PyErr_Format(PyExc_TypeError, "limits must be a Limits or None, not %.100s",
                         Py_TYPE(object)->tp_name);
        return -1;
    }
    int done = -1;
    if (!PyLong_Check(value) || PyBool_Check(value)) {
        PyErr_Format(PyExc_TypeError, "limits.%s must be an int, not %.100s", name, Py_TYPE(value)->tp_name);
    } else {
        *out = PyLong_AsUnsignedLongLong(value);
        if (!PyErr_Occurred()) {
            done = 0;
        } else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "limits.%s must be from 0 to 2**64 - 1", name);
        }
    }
    Py_DECREF(value);
    return done;
}

int core_limits_read(PyObject *object, sgc_limits *limits)
{
    sgc_limits_init(limits);
    if (!object || object == Py_None)
        return 0;
#define READ_LIMIT(name, dflt)                        \
    if (limit_read(object, #name, &limits->name) < 0) \
        return -1;
    SGC_LIMIT_LIST(READ_LIMIT)
#undef READ_LIMIT
    return 0;
}

static const char *const format_words[] = {
    [SGC_FORMAT_TEXT] = "text",
    [SGC_FORMAT_OPENMETRICS] = "openmetrics",
    [SGC_FORMAT_AUTO] = "auto",
    NULL,
};

PyObject *core_format_text(sgc_format format)
{
    return PyUnicode_FromString(format_words[format]);
}

static int options_read(sgc_options *options, PyObject *format, int strict, PyObject *limits)
{
    sgc_options_init(options);
    options->strict = strict != 0;
    if (format) {
        int word = core_word(format, format_words, "format");
        if (word < 0)
            return -1;
        options->format = (sgc_format)word;
    }
    return core_limits_read(limits, &options->limits);
}

/* A copy of any contiguous buffer; one that is too large is refused before it is copied. */
static PyObject *copy_buffer(core_state *state, PyObject *data, const sgc_limits *limits)
{
    Py_buffer view;
    PyObject *copy = NULL;

    if (!PyObject_CheckBuffer(data)) {
        PyErr_Format(PyExc_TypeError, "data must be a str or a bytes-like object, not %.100s",
                     Py_TYPE(data)->tp_name);
        return NULL;
    }
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_BEGIN_CRITICAL_SECTION(data); /* other threads may write there */
    if ((uint64_t)view.len > limits->body_bytes) {
        sgc_error err = {.code = SGC_LIMIT, .limit = "body_bytes", .allowed = limits->body_bytes};
        core_raise(state, &err);
    } else {
        copy = PyBytes_FromStringAndSize(view.buf, view.len);
    }
    Py_END_CRITICAL_SECTION();
    PyBuffer_Release(&view);
    return copy;
}

int core_input_init(core_state *state, core_input *input, PyObject *data, PyObject *format, int strict,
                    PyObject *limits)
{
    if (options_read(&input->options, format, strict, limits) < 0)
        return -1;

    if (PyBytes_CheckExact(data) || Py_IS_TYPE(data, state->body))
        input->owner = Py_NewRef(data);
    else if (PyUnicode_Check(data)) /* a lone surrogate becomes bytes that the core refuses by place */
        input->owner = PyUnicode_AsEncodedString(data, "utf-8", "surrogatepass");
    else
        input->owner = copy_buffer(state, data, &input->options.limits);
    if (!input->owner)
        return -1;

    if (Py_IS_TYPE(input->owner, state->body)) {
        BodyObject *body = (BodyObject *)input->owner;
        input->data = body->data ? body->data : "";
        input->len = body->len;
    } else {
        input->data = PyBytes_AS_STRING(input->owner);
        input->len = (size_t)PyBytes_GET_SIZE(input->owner);
    }
    return 0;
}

void core_input_clear(core_input *input)
{
    Py_CLEAR(input->owner);
}
