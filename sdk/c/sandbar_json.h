/* JSON for plugins: read it into values that live as long as the event, write it piece by
 * piece. Included by sandbar.h. */
#ifndef SANDBAR_JSON_H
#define SANDBAR_JSON_H

#include "sandbar.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- reading ---- */

typedef enum {
    SANDBAR_JSON_NULL,
    SANDBAR_JSON_FALSE,
    SANDBAR_JSON_TRUE,
    SANDBAR_JSON_NUMBER,
    SANDBAR_JSON_STRING,
    SANDBAR_JSON_ARRAY,
    SANDBAR_JSON_OBJECT,
} sandbar_json_kind_t;

typedef struct sandbar_json sandbar_json_t;

/* A value. */
struct sandbar_json {
    sandbar_json_kind_t kind;
    const char *name;             /* in an object; else NULL */
    sandbar_bytes_t text;         /* a string's value, a number as it is written */
    const sandbar_json_t *parent; /* NULL for the whole */
    const sandbar_json_t *first;  /* of an array or object, or NULL */
    const sandbar_json_t *next;   /* in the same array or object, or NULL */
    size_t count;                 /* values in an array or object */
    const char *start, *at;       /* for errors: of the whole text, and where this ends in it */
};

/* Whether something that is missing or null fails. */
typedef enum { SANDBAR_OPTIONAL, SANDBAR_REQUIRED } sandbar_need_t;

/* All of these take a result and do nothing once it is a failure, so that one look at it after
 * the last of them is enough. Where something does not fit they make it a rejection with code
 * "invalid-json" that names path, line and column. A `parent` may be NULL: nothing is in it. */

/* The event's payload; a tombstone is rejected with code "no-payload". NULL on failure. */
const sandbar_json_t *sandbar_event_json(const sandbar_event_t *event, sandbar_result_t *result);
const sandbar_json_t *sandbar_json_parse(sandbar_bytes_t text, sandbar_result_t *result);

/* The value of that name, of any kind but null, or NULL. */
const sandbar_json_t *sandbar_json_get(const sandbar_json_t *parent, const char *name,
                                       sandbar_need_t need, sandbar_result_t *result);
/* As above, and it must be an object, an array. */
const sandbar_json_t *sandbar_json_object(const sandbar_json_t *parent, const char *name,
                                          sandbar_need_t need, sandbar_result_t *result);
const sandbar_json_t *sandbar_json_array(const sandbar_json_t *parent, const char *name,
                                         sandbar_need_t need, sandbar_result_t *result);
/* A string, or NULL. */
const char *sandbar_json_text(const sandbar_json_t *parent, const char *name, sandbar_need_t need,
                              sandbar_result_t *result);
/* Whether it is there; if it is, `value` is set. */
bool sandbar_json_u64(const sandbar_json_t *parent, const char *name, sandbar_need_t need,
                      uint64_t *value, sandbar_result_t *result);
bool sandbar_json_i64(const sandbar_json_t *parent, const char *name, sandbar_need_t need,
                      int64_t *value, sandbar_result_t *result);
bool sandbar_json_double(const sandbar_json_t *parent, const char *name, sandbar_need_t need,
                         double *value, sandbar_result_t *result);
bool sandbar_json_bool(const sandbar_json_t *parent, const char *name, sandbar_need_t need,
                       bool *value, sandbar_result_t *result);

/* ---- writing ---- */

/* Starts as {0}. Compact, and with the escapes only that JSON demands. */
typedef struct {
    char *text;
    size_t len, capacity;
    bool separate;
} sandbar_json_writer_t;

/* `name` is the field's name in an object, NULL in an array and for the whole. */
void sandbar_json_begin_object(sandbar_json_writer_t *to, const char *name);
void sandbar_json_end_object(sandbar_json_writer_t *to);
void sandbar_json_begin_array(sandbar_json_writer_t *to, const char *name);
void sandbar_json_end_array(sandbar_json_writer_t *to);
/* `null` for NULL. */
void sandbar_json_put_text(sandbar_json_writer_t *to, const char *name, const char *value);
void sandbar_json_put_u64(sandbar_json_writer_t *to, const char *name, uint64_t value);
void sandbar_json_put_i64(sandbar_json_writer_t *to, const char *name, int64_t value);
/* `null` for what is no number. */
void sandbar_json_put_double(sandbar_json_writer_t *to, const char *name, double value);
void sandbar_json_put_bool(sandbar_json_writer_t *to, const char *name, bool value);
void sandbar_json_put_null(sandbar_json_writer_t *to, const char *name);
/* What was written. */
sandbar_bytes_t sandbar_json_written(const sandbar_json_writer_t *from);

#ifdef __cplusplus
}
#endif

#endif
