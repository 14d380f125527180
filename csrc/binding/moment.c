/*
 * moment.c - the datetime of a time, of which every snapshot has one:
 *
 *     def moment(seconds, /) -> datetime
 *
 * What datetime.fromtimestamp does takes as long as all the rest of a snapshot.
 */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE 1

#include "binding.h"

#include <datetime.h>
#include <math.h>
#include <time.h>

/* Not at import: an interpreter with a GIL of its own may have no such module. */
static PyDateTime_CAPI *calendar_of(core_state *state)
{
    PyDateTime_CAPI *calendar = atomic_load_explicit(&state->calendar, memory_order_acquire);
    (void)PyDateTimeAPI; /* the header's own, of which there is one for all interpreters */
    if (!calendar) {
        calendar = PyCapsule_Import(PyDateTime_CAPSULE_NAME, 0);
        atomic_store_explicit(&state->calendar, calendar, memory_order_release);
    }
    return calendar;
}

/* Seconds, and the nearest microsecond of the next one; as fromtimestamp rounds. */
static double split(double value, int *micros)
{
    double whole, part = nearbyint(modf(value, &whole) * 1e6);
    int carry = part >= 1e6 ? 1 : part < 0 ? -1 : 0;
    *micros = (int)part - carry * 1000000;
    return whole + carry;
}

PyObject *core_moment(PyObject *module, PyObject *seconds)
{
    const double first = -62135596800.0, end = 253402300800.0; /* years 1 to 9999 */
    PyDateTime_CAPI *calendar = calendar_of(PyModule_GetState(module));
    double value = PyFloat_AsDouble(seconds);
    struct tm at;
    int micros = 0;

    if (!calendar || (value == -1.0 && PyErr_Occurred()))
        return NULL;
    double whole = isfinite(value) ? split(value, &micros) : end;
    time_t time = whole >= first && whole < end ? (time_t)whole : 0;
    if ((double)time != whole || !gmtime_r(&time, &at))
        return PyErr_Format(PyExc_ValueError, "%R s after 1970 is in no calendar", seconds);
    return calendar->DateTime_FromDateAndTime(at.tm_year + 1900, at.tm_mon + 1, at.tm_mday, at.tm_hour,
                                              at.tm_min, at.tm_sec, micros, calendar->TimeZone_UTC,
                                              calendar->DateTimeType);
}
