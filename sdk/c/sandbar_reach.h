/* What an operator must grant: state, publishing at once, secrets, metrics. A plugin imports
 * what it calls and nothing else, and does not load where that is not granted. */
#ifndef SANDBAR_REACH_H
#define SANDBAR_REACH_H

#include "sandbar.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    SANDBAR_FINE,
    SANDBAR_CONFLICT,    /* the key has changed meanwhile */
    SANDBAR_QUOTA,       /* more keys or bytes than the plugin may keep */
    SANDBAR_DENIED,      /* not among the topics that the plugin may publish to */
    SANDBAR_TOO_LARGE,   /* larger than the host or the broker takes */
    SANDBAR_TIMEOUT,     /* the broker did not confirm in time: it may have the event or not */
    SANDBAR_UNAVAILABLE, /* the store or the broker is away */
    SANDBAR_OTHER,
} sandbar_fault_kind_t;

/* What the host says of a call. To try again later, which starts from clean state:
 * `if (fault.kind) return sandbar_retry("%s", fault.message);` */
typedef struct {
    sandbar_fault_kind_t kind;
    const char *message; /* for people; "" where it is fine */
} sandbar_fault_t;

/* ---- state: the grant `state` ----
 *
 * Durable, and private to the plugin. A call sees its own writes at once. They become visible
 * to others, and durable, when the event is acknowledged, and vanish when the attempt fails. */

/* The value of `key`, whose `.data` is NULL where there is none; `version` may be NULL. */
sandbar_fault_t sandbar_state_get(const char *key, sandbar_bytes_t *value, uint64_t *version);
/* `ttl_ms` of 0 is for good. */
sandbar_fault_t sandbar_state_set(const char *key, sandbar_bytes_t value, uint64_t ttl_ms);
/* Sets `key` if it still has this version, or if it still is not there for NULL; else
 * SANDBAR_CONFLICT. */
sandbar_fault_t sandbar_state_compare_and_set(const char *key, sandbar_bytes_t value,
                                              const uint64_t *expected, uint64_t ttl_ms);
/* Adds to a counter, 0 where there is none; `sum`, as this call sees it, may be NULL. */
sandbar_fault_t sandbar_state_increment(const char *key, int64_t delta, int64_t *sum);
sandbar_fault_t sandbar_state_delete(const char *key);
/* At most `limit` keys with the prefix, in byte order, after the key `after` unless that is
 * NULL. */
sandbar_fault_t sandbar_state_keys(const char *prefix, const char *after, uint32_t limit,
                                   const char ***keys, size_t *count);

/* ---- publishing at once: the grant `publisher` ---- */

/* Publishes now, whatever the handler returns, and waits until the broker has confirmed it. A
 * retried attempt publishes again: prefer sandbar_publish. */
sandbar_fault_t sandbar_publish_now(const sandbar_outgoing_t *event);

/* ---- secrets: the table `secrets` of NAME.toml ---- */

/* The secret of that name; `.data` is NULL where it was not granted. */
sandbar_bytes_t sandbar_secret(const char *name);

/* ---- metrics: the grant `metrics` ----
 *
 * Exported by the runtime as `sandbar_plugin_user_NAME`. What is counted is counted at once,
 * also in an attempt that fails later. Labels are for few values, not for ids: what goes beyond
 * the runtime's bounds is dropped, counted, and told in the plugin's log. */

#define SANDBAR_LABELS(...) ((const sandbar_option_t[]){__VA_ARGS__, {NULL, NULL}})

/* Adds to a counter; `labels` is SANDBAR_LABELS({"name", "value"}), or NULL. */
void sandbar_count(const char *name, uint64_t delta, const sandbar_option_t *labels);
/* Adds an observation to a histogram. */
void sandbar_observe(const char *name, double value, const sandbar_option_t *labels);

#ifdef __cplusplus
}
#endif

#endif
