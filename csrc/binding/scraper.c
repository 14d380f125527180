/*
 * scraper.c - scrapes in, results out:
 *
 *     class Scraper:
 *         def __init__(*, guard=None, max_connections=1000, max_lookups=64)
 *         def submit(endpoint, plan=None, /) -> int
 *         def submit_all(endpoints, plan=None, /) -> list[int]
 *         def wait(timeout=None, /, *, max_results=256) -> list[Result]
 *         def attend(*, max_results=256) -> list[Result]
 *         def cancel(id=None, /), wake(), close()
 *         pending: int
 *         with scraper: ...
 *
 * One thread at a time waits, without the GIL, in slices of at most 100 ms; in
 * between it lets Python handle signals and looks whether somebody has woken or
 * closed the scraper. Everything else is quick and keeps the GIL, or where there
 * is none the scraper's lock, which is what guards the fields below: functions
 * whose names end in _locked are called with it. A scraper that is closed while a
 * thread waits is freed by that thread on its way out.
 */
#include "binding.h"

#include <limits.h>
#include <math.h>
#include <time.h>

enum { SLICE_MS = 100, RESULTS_MAX = 4096 };

typedef struct ScraperObject {
    PyObject ob_base;
    sgc_scraper *scraper; /* NULL once it is freed */
    PyObject *pending;    /* dict: id to (Endpoint, Plan or None), which keeps both alive */
    uint64_t process;     /* the one that `pending` and `waiting` are about */
    bool waiting;         /* a thread is inside wait() */
    bool woken;
    bool closed;
} ScraperObject;

/* A fork leaves the waiting thread and what is pending behind in the parent. */
static void adopt(ScraperObject *self)
{
    if (self->process != sgc_process()) {
        self->process = sgc_process();
        self->waiting = false;
        PyDict_Clear(self->pending);
    }
}

static int check_open(const ScraperObject *self)
{
    if (self->closed)
        PyErr_SetString(PyExc_RuntimeError, "scraper is closed");
    return self->closed ? -1 : 0;
}

/* --------------------------------------------------- construction and its end */

static int options_read(core_state *state, sgc_scraper_options *options, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"guard", "max_connections", "max_lookups", NULL};
    sgc_scraper_options_init(options);
    PyObject *guard = Py_None;
    int connections = (int)options->max_connections, lookups = (int)options->max_lookups;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$Oii:Scraper", names, &guard, &connections, &lookups))
        return -1;
    if (guard != Py_None) {
        if (!Py_IS_TYPE(guard, state->guard)) {
            PyErr_Format(PyExc_TypeError, "guard must be a Guard or None, not %.100s",
                         Py_TYPE(guard)->tp_name);
            return -1;
        }
        options->guard = ((GuardObject *)guard)->guard;
    }
    options->max_connections = (unsigned)connections; /* the core refuses what is out of range */
    options->max_lookups = (unsigned)lookups;
    return 0;
}

static PyObject *scraper_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    core_state *state = PyType_GetModuleState(type);
    sgc_scraper_options options;
    sgc_error err;

    if (options_read(state, &options, args, kwargs) < 0)
        return NULL;
    ScraperObject *self = (ScraperObject *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->closed = true; /* until there is something to close */
    self->process = sgc_process();
    self->pending = PyDict_New();
    if (!self->pending) {
        Py_CLEAR(self);
    } else if (sgc_scraper_new(&options, &self->scraper, &err) != SGC_OK) {
        core_raise(state, &err);
        Py_CLEAR(self);
    } else {
        self->closed = false;
    }
    return (PyObject *)self;
}

/* Frees the core's scraper; nobody is inside it any more. */
static void release(ScraperObject *self)
{
    sgc_scraper *scraper = self->scraper;
    self->scraper = NULL;
    PyThreadState *gil = PyEval_SaveThread();
    sgc_scraper_free(scraper);
    PyEval_RestoreThread(gil);
    PyDict_Clear(self->pending);
}

static void end_locked(ScraperObject *self)
{
    if (self->closed)
        return;
    self->closed = true;
    adopt(self);
    if (self->waiting) {
        sgc_scraper_cancel(self->scraper, 0);
        sgc_scraper_wake(self->scraper);
    } else {
        release(self);
    }
}

static void scraper_end(PyObject *object)
{
    Py_BEGIN_CRITICAL_SECTION(object);
    end_locked((ScraperObject *)object);
    Py_END_CRITICAL_SECTION();
}

static void warn_unclosed(PyObject *object)
{
#if PY_VERSION_HEX >= 0x030c0000
    PyObject *raised = PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
#endif
    if (PyErr_ResourceWarning(object, 1, "unclosed %R", object) < 0)
        PyErr_WriteUnraisable(object);
#if PY_VERSION_HEX >= 0x030c0000
    PyErr_SetRaisedException(raised);
#else
    PyErr_Restore(type, value, traceback);
#endif
}

static void scraper_finalize(PyObject *object)
{
    ScraperObject *self = (ScraperObject *)object;
    if (self->closed)
        return;
    warn_unclosed(object);
    scraper_end(object);
}

static void scraper_dealloc(PyObject *object)
{
    if (PyObject_CallFinalizerFromDealloc(object) < 0)
        return; /* a warning's handler keeps it */
    Py_XDECREF(((ScraperObject *)object)->pending);
    core_free(object);
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\n"
                        "Drops what is pending and closes every connection.\n\n"
                        "A thread inside wait() gets what is finished and what this cancelled, and\n"
                        "returns. Whatever is called afterwards raises RuntimeError, but for close().");

static PyObject *scraper_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    scraper_end(object);
    Py_RETURN_NONE;
}

static PyObject *scraper_enter(PyObject *object, PyObject *unused)
{
    int open;
    (void)unused;
    Py_BEGIN_CRITICAL_SECTION(object);
    open = check_open((ScraperObject *)object);
    Py_END_CRITICAL_SECTION();
    return open < 0 ? NULL : Py_NewRef(object);
}

/* Scrapes whose results are to come; -1 where it is closed. */
static Py_ssize_t count_pending(PyObject *object)
{
    ScraperObject *self = (ScraperObject *)object;
    Py_ssize_t n;
    Py_BEGIN_CRITICAL_SECTION(object);
    n = self->closed ? -1 : (Py_ssize_t)sgc_scraper_pending(self->scraper);
    Py_END_CRITICAL_SECTION();
    return n;
}

static PyObject *scraper_repr(PyObject *object)
{
    Py_ssize_t n = count_pending(object);
    return n < 0 ? PyUnicode_FromString("<Scraper: closed>")
                 : PyUnicode_FromFormat("<Scraper: %zd pending>", n);
}

/* ------------------------------------------------------- submit, cancel, wake */

PyDoc_STRVAR(submit_doc, "submit($self, endpoint, plan=None, /)\n--\n\n"
                         "Queues one scrape, folded by the plan, and returns its id (int).\n\n"
                         "Without a plan the page is fetched and not read. Its timeout runs from here.\n"
                         "Any thread may call it. Raises RuntimeError after close().");

/* Notes in `pending` what a new scrape keeps alive, and puts its id into the list. */
static bool note(ScraperObject *self, PyObject *ids, Py_ssize_t at, uint64_t id, PyObject *endpoint,
                 PyObject *plan)
{
    PyObject *number = PyLong_FromUnsignedLongLong(id);
    PyObject *kept = number ? PyTuple_Pack(2, endpoint, plan) : NULL;
    bool noted = kept && PyDict_SetItem(self->pending, number, kept) == 0;

    if (noted)
        PyList_SET_ITEM(ids, at, Py_NewRef(number));
    Py_XDECREF(number);
    Py_XDECREF(kept);
    return noted;
}

/* The ids of new scrapes, from `first` on. Where there is no memory to note them all
 * they are cancelled, and nobody hears of their results. */
static PyObject *note_all(ScraperObject *self, PyObject *endpoints, PyObject *plan, uint64_t first)
{
    Py_ssize_t n = PyTuple_GET_SIZE(endpoints), noted = 0;
    PyObject *ids = PyList_New(n);

    while (ids && noted < n &&
           note(self, ids, noted, first + (uint64_t)noted, PyTuple_GET_ITEM(endpoints, noted), plan))
        noted++;
    if (ids && noted == n)
        return ids;
    PyErr_Clear();
    for (Py_ssize_t i = 0; i < n; i++)
        sgc_scraper_cancel(self->scraper, first + (uint64_t)i);
    while (noted-- > 0)
        if (PyDict_DelItem(self->pending, PyList_GET_ITEM(ids, noted)) < 0)
            PyErr_Clear();
    Py_XDECREF(ids);
    return PyErr_NoMemory();
}

static PyObject *submit_core(ScraperObject *self, PyObject *endpoints, PyObject *plan)
{
    Py_ssize_t n = PyTuple_GET_SIZE(endpoints);
    sgc_endpoint **cores = PyMem_New(sgc_endpoint *, (size_t)n + 1);
    uint64_t first;
    sgc_error err;

    if (!cores)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < n; i++)
        cores[i] = ((EndpointObject *)PyTuple_GET_ITEM(endpoints, i))->endpoint;
    sgc_status status = sgc_scraper_submit_all(
        self->scraper, cores, (size_t)n, plan == Py_None ? NULL : ((PlanObject *)plan)->plan, &first, &err);
    PyMem_Free(cores);
    if (status != SGC_OK)
        return core_raise(core_state_of((PyObject *)self), &err);
    return note_all(self, endpoints, plan, first);
}

/* The ids of new scrapes. No other thread comes between the core and `pending`: what a
 * waiter takes from the core it finds there. */
static PyObject *submit_locked(ScraperObject *self, PyObject *endpoints, PyObject *plan)
{
    adopt(self);
    return check_open(self) < 0 ? NULL : submit_core(self, endpoints, plan);
}

static bool is_plan(core_state *state, PyObject *plan)
{
    return plan == Py_None || Py_IS_TYPE(plan, state->plan);
}

static bool are_endpoints(core_state *state, PyObject *tuple)
{
    bool are = true;
    for (Py_ssize_t i = 0; are && i < PyTuple_GET_SIZE(tuple); i++)
        are = Py_IS_TYPE(PyTuple_GET_ITEM(tuple, i), state->endpoint);
    return are;
}

static PyObject *submit(PyObject *object, PyObject *endpoints, PyObject *plan)
{
    PyObject *ids;
    Py_BEGIN_CRITICAL_SECTION(object);
    ids = submit_locked((ScraperObject *)object, endpoints, plan);
    Py_END_CRITICAL_SECTION();
    return ids;
}

static PyObject *scraper_submit(PyObject *object, PyObject *const *args, Py_ssize_t n_args)
{
    core_state *state = core_state_of(object);

    if (n_args < 1 || n_args > 2 || !Py_IS_TYPE(args[0], state->endpoint) ||
        (n_args == 2 && !is_plan(state, args[1]))) {
        PyErr_SetString(PyExc_TypeError, "submit() takes an Endpoint, and a Plan or None");
        return NULL;
    }
    PyObject *endpoints = PyTuple_Pack(1, args[0]);
    PyObject *ids = endpoints ? submit(object, endpoints, n_args == 2 ? args[1] : Py_None) : NULL;
    PyObject *number = ids ? Py_NewRef(PyList_GET_ITEM(ids, 0)) : NULL;
    Py_XDECREF(endpoints);
    Py_XDECREF(ids);
    return number;
}

PyDoc_STRVAR(submit_all_doc,
             "submit_all($self, endpoints, plan=None, /)\n--\n\n"
             "Queues a scrape of each endpoint, or of none where it raises, and returns their ids\n"
             "(list[int]). The thread inside wait() is woken once. Else as submit().");

static PyObject *scraper_submit_all(PyObject *object, PyObject *const *args, Py_ssize_t n_args)
{
    core_state *state = core_state_of(object);
    PyObject *endpoints = n_args == 1 || n_args == 2 ? PySequence_Tuple(args[0]) : NULL, *ids = NULL;

    if (!endpoints && PyErr_Occurred())
        return NULL;
    if (endpoints && are_endpoints(state, endpoints) && (n_args == 1 || is_plan(state, args[1])))
        ids = submit(object, endpoints, n_args == 2 ? args[1] : Py_None);
    else
        PyErr_SetString(PyExc_TypeError, "submit_all() takes Endpoints, and a Plan or None");
    Py_XDECREF(endpoints);
    return ids;
}

PyDoc_STRVAR(cancel_doc, "cancel($self, id=None, /)\n--\n\n"
                         "Ends one pending scrape, or all: the next wait() returns it with a ScrapeError\n"
                         "whose reason is 'cancelled'. Unknown ids are ignored. Any thread may call it.");

/* NULL: all. */
static int cancel_locked(ScraperObject *self, PyObject *number)
{
    uint64_t id = 0;
    int known = 1;

    if (number) {
        known = PyDict_Contains(self->pending, number);
        id = known > 0 ? PyLong_AsUnsignedLongLong(number) : 0;
        if (PyErr_Occurred())
            return -1;
    }
    if (check_open(self) < 0) /* last: to compare an id may run any code */
        return -1;
    if (known)
        sgc_scraper_cancel(self->scraper, id);
    return 0;
}

static PyObject *scraper_cancel(PyObject *object, PyObject *const *args, Py_ssize_t n_args)
{
    int done;

    if (n_args > 1)
        return PyErr_Format(PyExc_TypeError, "cancel() takes at most one id");
    Py_BEGIN_CRITICAL_SECTION(object);
    done = cancel_locked((ScraperObject *)object, n_args == 0 || args[0] == Py_None ? NULL : args[0]);
    Py_END_CRITICAL_SECTION();
    return done < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(wake_doc, "wake($self, /)\n--\n\n"
                       "Makes the thread inside wait(), or the next that calls it, return at once. Any\n"
                       "thread may call it.");

static int wake_locked(ScraperObject *self)
{
    if (check_open(self) < 0)
        return -1;
    self->woken = true;
    sgc_scraper_wake(self->scraper);
    return 0;
}

static PyObject *scraper_wake(PyObject *object, PyObject *unused)
{
    int done;
    (void)unused;
    Py_BEGIN_CRITICAL_SECTION(object);
    done = wake_locked((ScraperObject *)object);
    Py_END_CRITICAL_SECTION();
    return done < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *scraper_pending(PyObject *object, void *unused)
{
    (void)unused;
    Py_ssize_t n = count_pending(object);
    return PyLong_FromSsize_t(n < 0 ? 0 : n);
}

/* --------------------------------------------------------------------- wait */

static double monotonic(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

/* Milliseconds; negative for ever. */
static int slice_ms(double left, bool attends)
{
    double ms = ceil(left * 1000.0);
    if (attends)
        return -1;
    return ms <= 0.0 ? 0 : ms >= SLICE_MS ? SLICE_MS : (int)ms;
}

/* Drives the scraper until something is finished, the time is over, somebody
 * calls wake() or close(), or nothing is pending, which does not matter where the
 * time is negative: that is for ever. Returns the number of results, or -1 with an
 * exception: Ctrl-C, mostly. */
static Py_ssize_t drive_locked(ScraperObject *self, double timeout, sgc_result **results, size_t cap)
{
    bool attends = timeout < 0.0;
    double end = monotonic() + (attends ? INFINITY : timeout);

    for (;;) {
        size_t n = 0;
        sgc_error err;
        int ms = slice_ms(end - monotonic(), attends);

        PyThreadState *gil = PyEval_SaveThread();
        sgc_status status = sgc_scraper_wait(self->scraper, ms, results, cap, &n, &err);
        PyEval_RestoreThread(gil);
        if (status != SGC_OK) {
            core_raise(core_state_of((PyObject *)self), &err);
            return -1;
        }
        if (n)
            return (Py_ssize_t)n;
        if (PyErr_CheckSignals() < 0)
            return -1;
        if (self->woken || self->closed || monotonic() >= end ||
            (!attends && sgc_scraper_pending(self->scraper) == 0))
            return 0;
    }
}

/* Takes the (Endpoint, Plan or None) of an id out of `pending`; NULL where there
 * is none, with an exception where that is an error. */
static PyObject *take_pending(ScraperObject *self, uint64_t id)
{
    PyObject *number = PyLong_FromUnsignedLongLong(id);
    PyObject *kept = number ? Py_XNewRef(PyDict_GetItemWithError(self->pending, number)) : NULL;
    if (kept && PyDict_DelItem(self->pending, number) < 0)
        Py_CLEAR(kept);
    Py_XDECREF(number);
    return kept;
}

/* Makes a Result of what the core gave, which is consumed, and appends it. */
static int append_result(ScraperObject *self, PyObject *list, sgc_result *result)
{
    PyObject *kept = take_pending(self, result->id);
    if (!kept) {
        sgc_result_free(result);
        return PyErr_Occurred() ? -1 : 0; /* no entry: a submit() that failed half-way */
    }
    PyObject *plan = PyTuple_GET_ITEM(kept, 1);
    PyObject *object =
        core_result_new(core_state_of((PyObject *)self), (EndpointObject *)PyTuple_GET_ITEM(kept, 0),
                        plan == Py_None ? NULL : (PlanObject *)plan, result);
    int done = object ? PyList_Append(list, object) : -1;
    Py_XDECREF(object);
    Py_DECREF(kept);
    return done;
}

/* The list of the results; all are consumed, the ones after a failure unseen. */
static PyObject *results_list(ScraperObject *self, sgc_result **results, size_t n)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; i < n; i++) {
        if (list && append_result(self, list, results[i]) < 0)
            Py_CLEAR(list);
        else if (!list)
            sgc_result_free(results[i]);
    }
    return list;
}

/* None waits without end. */
static int timeout_read(PyObject *given, double *timeout)
{
    *timeout = INFINITY;
    if (given == Py_None)
        return 0;
    *timeout = PyFloat_AsDouble(given);
    if (*timeout == -1.0 && PyErr_Occurred())
        return -1;
    if (!(*timeout >= 0.0)) {
        PyErr_Format(PyExc_ValueError, "timeout must be None or at least 0 seconds, not %R", given);
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(wait_doc, "wait($self, timeout=None, /, *, max_results=256)\n--\n\n"
                       "Moves the transfers on until at least one is finished, and returns the finished\n"
                       "ones (list[Result], at most max_results).\n\n"
                       "Returns [] after `timeout` seconds, when wake() is called, and at once when\n"
                       "nothing is pending. A scrape that failed is a result, not an exception. Signals\n"
                       "are handled within 0.1 s, and what is pending stays pending when one raises.\n"
                       "Raises RuntimeError while another thread waits, and after close().");

static PyObject *wait_locked(ScraperObject *self, double timeout, Py_ssize_t cap)
{
    PyObject *list = NULL;

    if (check_open(self) < 0)
        return NULL;
    adopt(self);
    if (self->waiting)
        return PyErr_Format(PyExc_RuntimeError, "scraper is in use by another thread");
    sgc_result **results = PyMem_New(sgc_result *, (size_t)cap);
    if (!results)
        return PyErr_NoMemory();

    self->waiting = true;
    Py_ssize_t n = drive_locked(self, timeout, results, (size_t)cap);
    if (n >= 0)
        list = results_list(self, results, (size_t)n);
    self->waiting = false;
    self->woken = false;
    if (self->closed)
        release(self);
    PyMem_Free(results);
    return list;
}

static PyObject *wait_for(PyObject *object, double timeout, Py_ssize_t cap)
{
    PyObject *list;
    if (cap < 1)
        return PyErr_Format(PyExc_ValueError, "max_results must be at least 1, not %zd", cap);
    Py_BEGIN_CRITICAL_SECTION(object);
    list = wait_locked((ScraperObject *)object, timeout, cap < RESULTS_MAX ? cap : RESULTS_MAX);
    Py_END_CRITICAL_SECTION();
    return list;
}

static PyObject *scraper_wait(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "max_results", NULL};
    PyObject *timeout_given = Py_None;
    Py_ssize_t cap = 256;
    double timeout;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$n:wait", names, &timeout_given, &cap) ||
        timeout_read(timeout_given, &timeout) < 0)
        return NULL;
    return wait_for(object, timeout, cap);
}

PyDoc_STRVAR(attend_doc,
             "attend($self, /, *, max_results=256)\n--\n\n"
             "As wait(), also while nothing is pending: returns [] when wake() or close() is called.\n\n"
             "For a thread that does nothing else, and no signal's handler: Ctrl-C does not end it.");

static PyObject *scraper_attend(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"max_results", NULL};
    Py_ssize_t cap = 256;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$n:attend", names, &cap))
        return NULL;
    return wait_for(object, -1.0, cap);
}

/* --------------------------------------------------------------------- type */

PyDoc_STRVAR(scraper_doc, "Scraper(*, guard=None, max_connections=1000, max_lookups=64)\n--\n\n"
                          "Scrapes endpoints over kept connections.\n\n"
                          "guard: which targets may be connected to; None for all.\n"
                          "max_connections: connections open at once.\n"
                          "max_lookups: name look-ups in flight at once.\n\n"
                          "Any thread submits and cancels; one thread at a time waits. Close it, or use it\n"
                          "in a with statement: one that is dropped unclosed gives a ResourceWarning.");

static PyMethodDef scraper_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))scraper_submit, METH_FASTCALL, submit_doc},
    {"submit_all", (PyCFunction)(void (*)(void))scraper_submit_all, METH_FASTCALL, submit_all_doc},
    {"wait", (PyCFunction)(void (*)(void))scraper_wait, METH_VARARGS | METH_KEYWORDS, wait_doc},
    {"attend", (PyCFunction)(void (*)(void))scraper_attend, METH_VARARGS | METH_KEYWORDS, attend_doc},
    {"cancel", (PyCFunction)(void (*)(void))scraper_cancel, METH_FASTCALL, cancel_doc},
    {"wake", scraper_wake, METH_NOARGS, wake_doc},
    {"close", scraper_close, METH_NOARGS, close_doc},
    {"__enter__", scraper_enter, METH_NOARGS, PyDoc_STR("__enter__($self, /)\n--\n\nThe scraper itself.")},
    {"__exit__", scraper_close, METH_VARARGS, PyDoc_STR("__exit__($self, /, *exc)\n--\n\nCloses it.")},
    {CORE_NO_PICKLE},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef scraper_getset[] = {
    {"pending", scraper_pending, NULL, PyDoc_STR("int: scrapes submitted that no wait() has returned."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot scraper_slots[] = {
    {Py_tp_doc, (void *)scraper_doc},   {Py_tp_new, scraper_new},
    {Py_tp_finalize, scraper_finalize}, {Py_tp_dealloc, scraper_dealloc},
    {Py_tp_repr, scraper_repr},         {Py_tp_methods, scraper_methods},
    {Py_tp_getset, scraper_getset},     {0, NULL},
};

PyType_Spec core_scraper_spec = {
    .name = "sglang_collect._core.Scraper",
    .basicsize = sizeof(ScraperObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = scraper_slots,
};
