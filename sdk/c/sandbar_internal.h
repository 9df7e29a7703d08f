/* Shared by the library's own files. */
#ifndef SANDBAR_INTERNAL_H
#define SANDBAR_INTERNAL_H

#include <stdarg.h>

#include "sandbar.h"

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))
#define EVENTS(interface) "sandbar:events/" interface "@0.1.1"

/* ---- layouts of the canonical ABI ---- */

typedef struct {
    const void *at;
    uint32_t len;
} list_t;

typedef struct {
    uint32_t there; /* one byte, then padding */
    list_t list;
} optional_t;

typedef struct {
    list_t name, value;
} pair_t; /* a header too */

typedef struct {
    optional_t connection;
    list_t topic;
    optional_t key, payload;
    list_t headers, attributes;
} outgoing_t;

/* The host ends a plugin that hands it text that is no UTF-8. */
list_t sandbar_put_text(sandbar_bytes_t bytes);
list_t sandbar_put(const char *text);
outgoing_t sandbar_put_outgoing(const sandbar_outgoing_t *event);

/* ---- memory and texts ---- */

/* Memory that lives as long as the event, not zeroed, with a NUL after it; aligned for
 * anything. */
void *sandbar_arena(size_t size);
/* A moment: what is made later can be freed before the rest. */
typedef struct {
    struct sandbar_block *block;
    size_t used;
} sandbar_mark_t;
sandbar_mark_t sandbar_mark(void);
void sandbar_rewind(sandbar_mark_t mark);
/* Frees all but what `init` has made. */
void sandbar_forget(void);
/* As vprintf. */
sandbar_bytes_t sandbar_vformat(const char *format, va_list arguments);
/* Length of the UTF-8 sequence that begins here; 0 where there is none. */
size_t sandbar_utf8(const char *at, const char *end);
/* Reads a whole number without sign, up to `most`. */
bool sandbar_whole(const char *text, uint64_t most, uint64_t *value);

/* ---- one event ---- */

sandbar_result_t sandbar_call(const sandbar_event_t *event);
/* What the last call has published. */
sandbar_outgoing_t *const *sandbar_outputs(size_t *count);
_Noreturn void sandbar_not_a_result(sandbar_result_t result);

#endif
