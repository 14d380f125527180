/*
 * fallen.c - what of one fold is less than in an earlier one:
 *
 *     def fallen(later, earlier, names, /) -> tuple[str, ...]
 *
 * Counters grow. Every window between two scrapes asks of each whether it did.
 */
#include "binding.h"

#include <string.h>

static bool hist_fell(const sgc_hist *now, const sgc_hist *before)
{
    if (now->n != before->n || now->count < before->count || now->sum < before->sum)
        return true;
    for (size_t i = 0; i < now->n; i++)
        if (now->bounds[i] != before->bounds[i] || now->counts[i] < before->counts[i])
            return true;
    return false;
}

static bool is_key(const sgc_entry *entry, sgc_str key)
{
    return entry->key.len == key.len && memcmp(entry->key.ptr, key.ptr, key.len) == 0;
}

/* The entry of that key, which mostly stands at the same place; NULL. */
static const sgc_entry *find(const sgc_slot *slot, sgc_str key, size_t place)
{
    if (place < slot->n_entries && is_key(&slot->entries[place], key))
        return &slot->entries[place];
    for (size_t i = 0; i < slot->n_entries; i++)
        if (is_key(&slot->entries[i], key))
            return &slot->entries[i];
    return NULL;
}

static bool map_fell(const sgc_slot *now, const sgc_slot *before)
{
    for (size_t i = 0; i < before->n_entries; i++) {
        const sgc_entry *was = &before->entries[i], *is = find(now, was->key, i);
        if (was->hist ? !is || !is->hist || hist_fell(is->hist, was->hist)
                      : (is ? is->value : 0) < was->value)
            return true;
    }
    return false;
}

static bool slot_fell(const sgc_slot *now, const sgc_slot *before)
{
    if (before->n_series && !now->n_series)
        return true;
    if (before->kind == SGC_SLOT_ABSENT)
        return false;
    if (now->kind != before->kind)
        return true;
    switch (now->kind) {
    case SGC_SLOT_VALUE:
        return now->value < before->value;
    case SGC_SLOT_HIST:
        return hist_fell(now->hist, before->hist);
    default:
        return map_fell(now, before);
    }
}

PyObject *core_fallen(PyObject *module, PyObject *const *args, Py_ssize_t n_args)
{
    core_state *state = PyModule_GetState(module);
    if (n_args != 3 || !Py_IS_TYPE(args[0], state->fold) || !Py_IS_TYPE(args[1], state->fold) ||
        !PyTuple_CheckExact(args[2]))
        return PyErr_Format(PyExc_TypeError, "fallen() takes two Folds and a tuple of names");
    PyObject *list = PyList_New(0), *tuple;
    for (Py_ssize_t i = 0; list && i < PyTuple_GET_SIZE(args[2]); i++) {
        PyObject *name = PyTuple_GET_ITEM(args[2], i);
        sgc_slot now, before;
        if (core_fold_look(args[0], name, &now) < 0 || core_fold_look(args[1], name, &before) < 0 ||
            (slot_fell(&now, &before) && PyList_Append(list, name) < 0))
            Py_CLEAR(list);
    }
    tuple = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return tuple;
}
