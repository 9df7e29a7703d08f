//! Events to be measured with.

/// What events look like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Bytes of a payload, which do not compress.
    pub payload: usize,
    /// Different keys, taken in turn.
    pub keys: usize,
}

/// 1 KiB, 1,000 keys.
pub const PLAIN: Shape = Shape { payload: 1024, keys: 1000 };

/// The same, with more keys than are ever under way.
pub const MANY_KEYS: Shape = Shape { keys: 100_000, ..PLAIN };

pub struct Generated {
    pub key: String,
    pub payload: Vec<u8>,
}

/// The same each time.
pub fn events(count: usize, shape: &Shape) -> impl Iterator<Item = Generated> + use<> {
    let Shape { payload, keys } = *shape;
    // one stretch of noise, from which each payload takes another part
    let noise = noise(payload + 4096);
    (0..count).map(move |n| Generated {
        key: format!("key-{}", n % keys.max(1)),
        payload: noise[n % 4096..][..payload].to_vec(),
    })
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(|_| next()).collect()
}
