/* Shared by the library's own files. */
#ifndef SANDBAR_INTERNAL_H
#define SANDBAR_INTERNAL_H

#include <stdarg.h>

#include "sandbar.h"

/* Memory that lives as long as the event, not zeroed, with a NUL after it; aligned for
 * anything. */
void *sandbar_arena(size_t size);
/* As vprintf. */
sandbar_bytes_t sandbar_vformat(const char *format, va_list arguments);
/* Length of the UTF-8 sequence that begins here; 0 where there is none. */
size_t sandbar_utf8(const char *at, const char *end);
/* Reads a whole number without sign, up to `most`. */
bool sandbar_whole(const char *text, uint64_t most, uint64_t *value);

#endif
