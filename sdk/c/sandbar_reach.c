/* The imports that an operator must grant, with the flat types and layouts that the canonical
 * ABI gives to wit/0.1.1. The linker leaves out what a program does not call. */
#include "sandbar_internal.h"

/* ---- layouts ---- */

typedef struct {
    uint32_t kind; /* of the error, one byte, then padding */
    list_t message;
} error_t;

typedef struct {
    uint32_t failed;
    error_t error;
} done_t;

typedef struct {
    _Alignas(8) uint32_t failed;
    union {
        struct {
            _Alignas(8) uint32_t there;
            _Alignas(8) list_t value;
            uint64_t version;
        } entry;
        struct {
            _Alignas(8) error_t error;
        };
    };
} got_t;

typedef struct {
    _Alignas(8) uint32_t failed;
    union {
        _Alignas(8) int64_t sum;
        struct {
            _Alignas(8) error_t error;
        };
    };
} sum_t;

typedef struct {
    uint32_t failed;
    union {
        list_t keys;
        error_t error;
    };
} keys_t;

typedef struct {
    _Alignas(8) uint32_t failed;
    _Alignas(8) uint32_t kind;
    union {
        _Alignas(8) uint64_t limit;
        list_t message;
    };
} published_t;

_Static_assert(sizeof(done_t) == 16, "layout of `result<_, state-error>`");
_Static_assert(sizeof(got_t) == 32 && offsetof(got_t, entry.version) == 24 &&
                   offsetof(got_t, entry.value) == 16 && offsetof(got_t, error.message) == 12,
               "layout of `result<option<entry>, state-error>`");
_Static_assert(sizeof(sum_t) == 24 && offsetof(sum_t, error.message) == 12,
               "layout of `result<s64, state-error>`");
_Static_assert(sizeof(keys_t) == 16, "layout of `result<list<string>, state-error>`");
_Static_assert(sizeof(published_t) == 24 && offsetof(published_t, message) == 16,
               "layout of `result<_, publish-error>`");

/* ---- imports ---- */

IMPORT(EVENTS("state"), "get")
void import_state_get(const void *key, size_t key_len, got_t *result);
IMPORT(EVENTS("state"), "set")
void import_state_set(const void *key, size_t key_len, const void *value, size_t value_len,
                      uint32_t has_ttl, uint64_t ttl, done_t *result);
IMPORT(EVENTS("state"), "compare-and-set")
void import_state_compare_and_set(const void *key, size_t key_len, const void *value,
                                  size_t value_len, uint32_t has_expected, uint64_t expected,
                                  uint32_t has_ttl, uint64_t ttl, done_t *result);
IMPORT(EVENTS("state"), "increment")
void import_state_increment(const void *key, size_t key_len, int64_t delta, sum_t *result);
IMPORT(EVENTS("state"), "delete")
void import_state_delete(const void *key, size_t key_len, done_t *result);
IMPORT(EVENTS("state"), "list-keys")
void import_state_list_keys(const void *prefix, size_t prefix_len, uint32_t has_cursor,
                            const void *cursor, size_t cursor_len, uint32_t limit,
                            keys_t *result);
IMPORT(EVENTS("publisher"), "publish")
void import_publish(const outgoing_t *events, size_t count, published_t *result);
IMPORT(EVENTS("secrets"), "get")
void import_secret(const void *name, size_t name_len, optional_t *result);
IMPORT(EVENTS("metrics"), "count")
void import_count(const void *name, size_t name_len, uint64_t delta, const pair_t *labels,
                  size_t count);
IMPORT(EVENTS("metrics"), "observe")
void import_observe(const void *name, size_t name_len, double value, const pair_t *labels,
                    size_t count);

/* ---- faults ---- */

#define FINE ((sandbar_fault_t){.kind = SANDBAR_FINE, .message = ""})

static const char *text(list_t list)
{
    return list.len ? list.at : "";
}

static sandbar_fault_t state_fault(uint32_t failed, error_t error)
{
    static const sandbar_fault_kind_t kinds[] = {
        SANDBAR_CONFLICT, SANDBAR_QUOTA, SANDBAR_UNAVAILABLE, SANDBAR_OTHER};
    if (!(failed & 0xff))
        return FINE;
    sandbar_fault_kind_t kind = kinds[error.kind & 3];
    const char *message =
        kind == SANDBAR_CONFLICT ? "the key has changed meanwhile" : text(error.message);
    return (sandbar_fault_t){kind, sandbar_format("state: %s", message)};
}

static sandbar_fault_t publish_fault(published_t said)
{
    if (!(said.failed & 0xff))
        return FINE;
    switch (said.kind & 0xff) {
    case 0:
        return (sandbar_fault_t){
            SANDBAR_DENIED,
            sandbar_format("publish: %s is not among the topics that this plugin may publish to",
                           text(said.message))};
    case 1:
        return (sandbar_fault_t){SANDBAR_TOO_LARGE,
                                 sandbar_format("publish: the event has more than %llu bytes",
                                                (unsigned long long)said.limit)};
    case 2:
        return (sandbar_fault_t){SANDBAR_TIMEOUT,
                                 "publish: the broker did not confirm in time"};
    case 3:
        return (sandbar_fault_t){SANDBAR_UNAVAILABLE,
                                 sandbar_format("publish: %s", text(said.message))};
    default:
        return (sandbar_fault_t){SANDBAR_OTHER, sandbar_format("publish: %s", text(said.message))};
    }
}

/* ---- state ---- */

sandbar_fault_t sandbar_state_get(const char *key, sandbar_bytes_t *value, uint64_t *version)
{
    got_t got;
    list_t k = sandbar_put(key);
    import_state_get(k.at, k.len, &got);
    *value = (sandbar_bytes_t){NULL, 0};
    if (!(got.failed & 0xff) && (got.entry.there & 0xff)) {
        *value = (sandbar_bytes_t){text(got.entry.value), got.entry.value.len};
        if (version)
            *version = got.entry.version;
    }
    return state_fault(got.failed, got.error);
}

sandbar_fault_t sandbar_state_set(const char *key, sandbar_bytes_t value, uint64_t ttl_ms)
{
    done_t done;
    list_t k = sandbar_put(key);
    import_state_set(k.at, k.len, value.data, value.len, ttl_ms > 0, ttl_ms, &done);
    return state_fault(done.failed, done.error);
}

sandbar_fault_t sandbar_state_compare_and_set(const char *key, sandbar_bytes_t value,
                                              const uint64_t *expected, uint64_t ttl_ms)
{
    done_t done;
    list_t k = sandbar_put(key);
    import_state_compare_and_set(k.at, k.len, value.data, value.len, expected != NULL,
                                 expected ? *expected : 0, ttl_ms > 0, ttl_ms, &done);
    return state_fault(done.failed, done.error);
}

sandbar_fault_t sandbar_state_increment(const char *key, int64_t delta, int64_t *sum)
{
    sum_t said;
    list_t k = sandbar_put(key);
    import_state_increment(k.at, k.len, delta, &said);
    if (sum)
        *sum = said.failed & 0xff ? 0 : said.sum;
    return state_fault(said.failed, said.error);
}

sandbar_fault_t sandbar_state_delete(const char *key)
{
    done_t done;
    list_t k = sandbar_put(key);
    import_state_delete(k.at, k.len, &done);
    return state_fault(done.failed, done.error);
}

sandbar_fault_t sandbar_state_keys(const char *prefix, const char *after, uint32_t limit,
                                   const char ***keys, size_t *count)
{
    keys_t said;
    list_t p = sandbar_put(prefix), a = sandbar_put(after);
    import_state_list_keys(p.at, p.len, after != NULL, a.at, a.len, limit, &said);
    *count = said.failed & 0xff ? 0 : said.keys.len;
    *keys = sandbar_alloc(*count * sizeof **keys);
    const list_t *found = said.keys.at;
    for (size_t i = 0; i < *count; i++)
        (*keys)[i] = text(found[i]);
    return state_fault(said.failed, said.error);
}

/* ---- the rest ---- */

sandbar_fault_t sandbar_publish_now(const sandbar_outgoing_t *event)
{
    published_t said;
    outgoing_t outgoing = sandbar_put_outgoing(event);
    import_publish(&outgoing, 1, &said);
    return publish_fault(said);
}

sandbar_bytes_t sandbar_secret(const char *name)
{
    optional_t secret;
    list_t n = sandbar_put(name);
    import_secret(n.at, n.len, &secret);
    if (!(secret.there & 0xff))
        return (sandbar_bytes_t){NULL, 0};
    return (sandbar_bytes_t){text(secret.list), secret.list.len};
}

static pair_t *put_labels(const sandbar_option_t *labels, size_t *count)
{
    for (*count = 0; labels && labels[*count].name;)
        ++*count;
    pair_t *pairs = sandbar_arena(*count * sizeof *pairs);
    for (size_t i = 0; i < *count; i++)
        pairs[i] = (pair_t){sandbar_put(labels[i].name), sandbar_put(labels[i].value)};
    return pairs;
}

void sandbar_count(const char *name, uint64_t delta, const sandbar_option_t *labels)
{
    size_t count;
    pair_t *pairs = put_labels(labels, &count);
    list_t n = sandbar_put(name);
    import_count(n.at, n.len, delta, pairs, count);
}

void sandbar_observe(const char *name, double value, const sandbar_option_t *labels)
{
    size_t count;
    pair_t *pairs = put_labels(labels, &count);
    list_t n = sandbar_put(name);
    import_observe(n.at, n.len, value, pairs, count);
}
