/*
 * endpoint.c - whom to ask and who may be asked:
 *
 *     class Guard:
 *         def __init__(allow=())
 *         allow: tuple[str, ...]
 *
 *     class Endpoint:
 *         def __init__(url, *, timeout=10.0, headers=None, ...)
 *         url, label: str
 *         timeout: float
 *
 * Values of headers and credentials go to the core and nowhere else: no error
 * and no repr shows one.
 */
#include "binding.h"

#include <math.h>

/* ------------------------------------------------------------------- Guard */

static PyObject *guard_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"allow", NULL};
    PyObject *allow = NULL;
    sgc_error err;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Guard", names, &allow))
        return NULL;
    GuardObject *self = (GuardObject *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->allow = allow ? core_strings(allow, "allow") : PyTuple_New(0);
    sgc_str *entries = self->allow ? core_views(self->allow, "allow") : NULL;
    if (!entries)
        Py_CLEAR(self);
    else if (sgc_guard_new(entries, (size_t)PyTuple_GET_SIZE(self->allow), &self->guard, &err) != SGC_OK) {
        core_raise(PyType_GetModuleState(type), &err);
        Py_CLEAR(self);
    }
    PyMem_Free(entries);
    return (PyObject *)self;
}

static void guard_dealloc(PyObject *object)
{
    GuardObject *self = (GuardObject *)object;
    sgc_guard_free(self->guard);
    Py_XDECREF(self->allow);
    core_free(object);
}

static PyObject *guard_allow(PyObject *object, void *unused)
{
    (void)unused;
    return Py_NewRef(((GuardObject *)object)->allow);
}

static PyObject *guard_repr(PyObject *object)
{
    return PyUnicode_FromFormat("Guard(allow=%R)", ((GuardObject *)object)->allow);
}

static PyObject *guard_compare(PyObject *a, PyObject *b, int op)
{
    if (!Py_IS_TYPE(b, Py_TYPE(a)) || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    return PyObject_RichCompare(((GuardObject *)a)->allow, ((GuardObject *)b)->allow, op);
}

static Py_hash_t guard_hash(PyObject *object)
{
    return PyObject_Hash(((GuardObject *)object)->allow);
}

static PyObject *guard_reduce(PyObject *object, PyObject *unused)
{
    (void)unused;
    return Py_BuildValue("O(O)", Py_TYPE(object), ((GuardObject *)object)->allow);
}

PyDoc_STRVAR(guard_doc, "Guard(allow=())\n--\n\n"
                        "Which targets may be connected to.\n\n"
                        "allow: entries such as '*' (any address but those always denied),\n"
                        "'10.1.0.0/16:30000-30099', '10.1.2.3', '[fd00::/8]:30000', 'sglang-*.svc:30000';\n"
                        "ports 30000 to 30099 where an entry gives none. Without an entry every target is\n"
                        "refused. Raises ValueError for an entry it cannot read. Immutable; compares by\n"
                        "its entries; can be pickled.");

static PyMethodDef guard_methods[] = {
    {"__reduce__", guard_reduce, METH_NOARGS, PyDoc_STR("For pickle and copy.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef guard_getset[] = {
    {"allow", guard_allow, NULL, PyDoc_STR("tuple[str, ...]: the entries, as they were given."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot guard_slots[] = {
    {Py_tp_doc, (void *)guard_doc}, {Py_tp_new, guard_new},       {Py_tp_dealloc, guard_dealloc},
    {Py_tp_repr, guard_repr},       {Py_tp_hash, guard_hash},     {Py_tp_richcompare, guard_compare},
    {Py_tp_methods, guard_methods}, {Py_tp_getset, guard_getset}, {0, NULL},
};

PyType_Spec core_guard_spec = {
    .name = "sglang_collect._core.Guard",
    .basicsize = sizeof(GuardObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = guard_slots,
};

/* ------------------------------------------------- Endpoint: its arguments */

/* What the options point at while an endpoint is made. */
typedef struct draft {
    sgc_endpoint_options options;
    PyObject *kept; /* list of the objects whose text is viewed */
    sgc_header *headers;
} draft;

static int timeout_read(PyObject *given, double *timeout)
{
    if (!given)
        return 0;
    if (PyBool_Check(given) || !PyNumber_Check(given)) {
        PyErr_Format(PyExc_TypeError, "timeout must be a number of seconds, not %.100s",
                     Py_TYPE(given)->tp_name);
        return -1;
    }
    *timeout = PyFloat_AsDouble(given);
    if (*timeout == -1.0 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError))
            return -1;
        PyErr_Clear();
        *timeout = INFINITY; /* which the core refuses, as it does every other out of range */
    }
    return 0;
}

/* A str or None. */
static int view_or_none(PyObject *given, const char *what, sgc_str *view)
{
    return given && given != Py_None ? core_view(given, what, view) : 0;
}

/* An exact pair of str, read from a tuple. */
static int pair_read(PyObject *given, const char *what, const char *name_a, const char *name_b, sgc_str *a,
                     sgc_str *b)
{
    if (!PyTuple_Check(given) || PyTuple_GET_SIZE(given) != 2) {
        PyErr_Format(PyExc_TypeError, "%s must be a tuple of two", what);
        return -1;
    }
    return core_view(PyTuple_GET_ITEM(given, 0), name_a, a) < 0 ||
                   core_view(PyTuple_GET_ITEM(given, 1), name_b, b) < 0
               ? -1
               : 0;
}

/* Consumes an object that has to live as long as the draft. */
static int keep(draft *draft, PyObject *object)
{
    int done = PyList_Append(draft->kept, object);
    Py_DECREF(object);
    return done;
}

/* A path: str, bytes or os.PathLike. */
static int path_read(draft *draft, PyObject *given, sgc_str *view)
{
    PyObject *path = NULL;
    if (!PyUnicode_FSConverter(given, &path))
        return -1;
    *view = (sgc_str){PyBytes_AS_STRING(path), (size_t)PyBytes_GET_SIZE(path)};
    return keep(draft, path);
}

static int cert_read(draft *draft, PyObject *given)
{
    sgc_endpoint_options *options = &draft->options;
    if (!PyTuple_Check(given))
        return path_read(draft, given, &options->client_cert);
    if (PyTuple_GET_SIZE(given) != 2) {
        PyErr_SetString(PyExc_TypeError, "client_cert must be a path, or a tuple of two");
        return -1;
    }
    return path_read(draft, PyTuple_GET_ITEM(given, 0), &options->client_cert) < 0 ||
                   path_read(draft, PyTuple_GET_ITEM(given, 1), &options->client_key) < 0
               ? -1
               : 0;
}

static int headers_read(draft *draft, PyObject *given)
{
    PyObject *items = core_items(given, "headers");
    if (!items || keep(draft, items) < 0)
        return -1;
    int done = 0;
    size_t n = (size_t)PyList_GET_SIZE(items);
    draft->headers = PyMem_New(sgc_header, n + 1);
    if (!draft->headers) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; done == 0 && i < n; i++)
        done = pair_read(PyList_GET_ITEM(items, (Py_ssize_t)i), "an item of headers", "a header name",
                         "a header value", &draft->headers[i].name, &draft->headers[i].value);
    draft->options.headers = draft->headers;
    draft->options.n_headers = n;
    return done;
}

/* `hint` is what to say besides of something else than a bool. */
static int bool_read(PyObject *given, const char *what, const char *hint, bool *flag)
{
    if (!given)
        return 0;
    if (!PyBool_Check(given)) {
        PyErr_Format(PyExc_TypeError, "%s must be a bool, not %.100s%s", what, Py_TYPE(given)->tp_name, hint);
        return -1;
    }
    *flag = given == Py_True;
    return 0;
}

/* The keywords of Endpoint, each NULL where it was not given. */
typedef struct keywords {
    PyObject *url, *timeout, *headers, *user_agent, *bearer_token, *basic_auth, *ca_file, *client_cert,
        *verify, *json, *limits;
} keywords;

static int keywords_parse(keywords *given, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"url",     "timeout",     "headers", "user_agent", "bearer_token", "basic_auth",
                            "ca_file", "client_cert", "verify",  "json",       "limits",       NULL};
    return PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOOOOOOOOO:Endpoint", names, &given->url,
                                       &given->timeout, &given->headers, &given->user_agent,
                                       &given->bearer_token, &given->basic_auth, &given->ca_file,
                                       &given->client_cert, &given->verify, &given->json, &given->limits)
               ? 0
               : -1;
}

static bool is_given(PyObject *object)
{
    return object && object != Py_None;
}

static int draft_init(draft *draft, const keywords *given)
{
    sgc_endpoint_options *options = &draft->options;
    sgc_endpoint_options_init(options);
    draft->headers = NULL;
    draft->kept = PyList_New(0);
    if (!draft->kept || core_view(given->url, "url", &options->url) < 0 ||
        timeout_read(given->timeout, &options->timeout) < 0 ||
        view_or_none(given->user_agent, "user_agent", &options->user_agent) < 0 ||
        view_or_none(given->bearer_token, "bearer_token", &options->bearer_token) < 0 ||
        bool_read(given->verify, "verify", " (ca_file= names a file)", &options->verify) < 0 ||
        bool_read(given->json, "json", "", &options->json) < 0 ||
        core_limits_read(given->limits, &options->limits) < 0)
        return -1;
    if (is_given(given->headers) && headers_read(draft, given->headers) < 0)
        return -1;
    if (is_given(given->basic_auth) &&
        pair_read(given->basic_auth, "basic_auth", "the user of basic_auth", "the password of basic_auth",
                  &options->basic_user, &options->basic_password) < 0)
        return -1;
    if (is_given(given->ca_file) && path_read(draft, given->ca_file, &options->ca_file) < 0)
        return -1;
    return is_given(given->client_cert) ? cert_read(draft, given->client_cert) : 0;
}

static void draft_clear(draft *draft)
{
    PyMem_Free(draft->headers);
    Py_CLEAR(draft->kept);
}

/* ---------------------------------------------------------------- Endpoint */

static PyObject *endpoint_make(PyTypeObject *type, const draft *draft, PyObject *url)
{
    core_state *state = PyType_GetModuleState(type);
    EndpointObject *self = (EndpointObject *)type->tp_alloc(type, 0);
    sgc_failure failure;
    sgc_error err;

    if (!self)
        return NULL;
    self->url = core_exact(url, "url");
    self->timeout = draft->options.timeout;
    self->limits = draft->options.limits;
    sgc_url_label(draft->options.url, self->label);
    sgc_status status = SGC_OK;
    if (self->url) { /* certificate files are read and tried */
        PyThreadState *gil = PyEval_SaveThread();
        status = sgc_endpoint_new(&draft->options, &self->endpoint, &failure, &err);
        PyEval_RestoreThread(gil);
    }
    if (self->endpoint)
        return (PyObject *)self;
    if (status != SGC_OK)
        core_raise(state, &err);
    else if (self->url)
        core_raise_error(core_failure(state, &failure, self->label, 0.0));
    Py_DECREF(self);
    return NULL;
}

static PyObject *endpoint_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    keywords given = {0};
    draft draft;
    PyObject *endpoint = NULL;

    if (keywords_parse(&given, args, kwargs) < 0)
        return NULL;
    if (draft_init(&draft, &given) == 0)
        endpoint = endpoint_make(type, &draft, given.url);
    draft_clear(&draft);
    return endpoint;
}

static void endpoint_dealloc(PyObject *object)
{
    EndpointObject *self = (EndpointObject *)object;
    sgc_endpoint_free(self->endpoint);
    Py_XDECREF(self->url);
    core_free(object);
}

static PyObject *endpoint_repr(PyObject *object)
{
    return PyUnicode_FromFormat("<Endpoint %s>", ((EndpointObject *)object)->label);
}

static PyObject *endpoint_url(PyObject *object, void *unused)
{
    (void)unused;
    return Py_NewRef(((EndpointObject *)object)->url);
}

static PyObject *endpoint_label(PyObject *object, void *unused)
{
    (void)unused;
    return core_text_z(((EndpointObject *)object)->label);
}

static PyObject *endpoint_timeout(PyObject *object, void *unused)
{
    (void)unused;
    return PyFloat_FromDouble(((EndpointObject *)object)->timeout);
}

PyDoc_STRVAR(endpoint_doc,
             "Endpoint(url, *, timeout=10.0, headers=None, user_agent='', bearer_token=None,\n"
             "         basic_auth=None, ca_file=None, client_cert=None, verify=True, json=False,\n"
             "         limits=None)\n--\n\n"
             "A URL and how to ask it.\n\n"
             "url: http or https, without user info.\n"
             "timeout: seconds from submission to the last number, 0.001 to 3600.\n"
             "headers: mapping of further request headers.\n"
             "basic_auth: (user, password).\n"
             "ca_file, client_cert: PEM files; (certificate, key) where they are two.\n"
             "verify: check the certificate and the host name.\n"
             "json: the answer is JSON and no page; it is asked for as such, and not read.\n"
             "limits: object with the attributes of LIMITS; None for the defaults.\n\n"
             "Raises TypeError and ValueError for arguments, TargetRefused for a URL that is\n"
             "none, TLSError for files that cannot be used. Immutable.");

static PyMethodDef endpoint_methods[] = {
    {CORE_NO_PICKLE},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef endpoint_getset[] = {
    {"url", endpoint_url, NULL, PyDoc_STR("str: the URL as it was given."), NULL},
    {"label", endpoint_label, NULL, PyDoc_STR("str: the URL as it may be shown, without query values."),
     NULL},
    {"timeout", endpoint_timeout, NULL, PyDoc_STR("float: seconds a whole scrape may take."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot endpoint_slots[] = {
    {Py_tp_doc, (void *)endpoint_doc},
    {Py_tp_new, endpoint_new},
    {Py_tp_dealloc, endpoint_dealloc},
    {Py_tp_repr, endpoint_repr},
    {Py_tp_methods, endpoint_methods},
    {Py_tp_getset, endpoint_getset},
    {0, NULL},
};

PyType_Spec core_endpoint_spec = {
    .name = "sglang_collect._core.Endpoint",
    .basicsize = sizeof(EndpointObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = endpoint_slots,
};
