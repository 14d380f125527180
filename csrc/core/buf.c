/*
 * buf.c - a growing buffer that refuses to pass its ceiling.
 */
#include "sgc_int.h"

void sgc__buf_init(sgc__buf *buf, size_t ceiling)
{
    memset(buf, 0, sizeof *buf);
    buf->ceiling = ceiling;
}

/* A failure frees what there was: nobody can go on with half an answer. */
sgc_status sgc__buf_reserve(sgc__buf *buf, size_t more)
{
    size_t need, room;
    char *ptr;

    if (more > buf->ceiling - buf->len) {
        sgc__buf_free(buf);
        return SGC_LIMIT;
    }
    need = buf->len + more;
    if (need <= buf->room)
        return SGC_OK;
    room = sgc__grow(buf->room, need < 256 ? 256 : need);
    if (room > buf->ceiling)
        room = buf->ceiling;
    ptr = sgc__resize(buf->ptr, room, 1);
    if (!ptr) {
        sgc__buf_free(buf);
        return SGC_NOMEM;
    }
    buf->ptr = ptr;
    buf->room = room;
    return SGC_OK;
}

sgc_status sgc__buf_append(sgc__buf *buf, const void *data, size_t len)
{
    sgc_status status = sgc__buf_reserve(buf, len);

    if (status == SGC_OK && len) {
        memcpy(buf->ptr + buf->len, data, len);
        buf->len += len;
    }
    return status;
}

void sgc__buf_reset(sgc__buf *buf)
{
    buf->len = 0;
}

void sgc__buf_free(sgc__buf *buf)
{
    sgc__release(buf->ptr);
    buf->ptr = NULL;
    buf->len = buf->room = 0;
}
