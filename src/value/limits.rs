//! Where compact encodings end, in the words of redis.conf.

/// Sizes up to which collections keep their compact encodings.
#[derive(Clone, Debug)]
pub struct Limits {
    pub hash_max_listpack_entries: usize,
    pub hash_max_listpack_value: usize,
    /// Positive: elements per node. Negative: -1 to -5 for 4 to 64 KiB per node.
    pub list_max_listpack_size: i64,
    pub list_compress_depth: usize,
    pub set_max_intset_entries: usize,
    pub set_max_listpack_entries: usize,
    pub set_max_listpack_value: usize,
    pub zset_max_listpack_entries: usize,
    pub zset_max_listpack_value: usize,
    /// 0: no limit.
    pub stream_node_max_bytes: usize,
    /// 0: no limit.
    pub stream_node_max_entries: usize,
    /// Seed of the hash tables made from now on.
    pub seed: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            list_max_listpack_size: -2,
            list_compress_depth: 0,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 0,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
            seed: 0,
        }
    }
}
