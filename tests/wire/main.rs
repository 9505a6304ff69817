//! The real process over real sockets, beside Debian's redis-server: the same commands must bring
//! the same bytes, with one shard, with two and with four.
//!
//! Most of it is data: `cases/*.txt`, in the language `transcript` describes. What a transcript
//! cannot say (signals, limits, split packets) stands in the modules beside it.

mod acks;
mod client;
mod compare;
mod cycles;
mod differential;
#[path = "../rdb/fixtures.rs"]
mod fixtures;
mod following;
mod framing;
mod grammar;
mod journal;
mod lifecycle;
mod limits;
mod migrate;
mod operator;
mod order;
mod persistence;
mod process;
mod pubsub;
mod rdb;
mod replicas;
mod rewrites;
mod sameness;
mod scanning;
mod scripts;
mod serializable;
mod slowlog;
mod soak;
mod syncing;
mod table;
mod tools;
mod tracking;
mod transcript;
mod tree;
mod users;
mod waiting;

macro_rules! cases {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                compare::run(concat!(stringify!($name), ".txt"));
            }
        )*

        #[test]
        fn every_case_file_has_its_test() {
            let named: Vec<&str> = vec![$(stringify!($name)),*];
            for entry in std::fs::read_dir(compare::cases_dir()).expect("the cases") {
                let path = entry.expect("the cases").path();
                let stem = path.file_stem().expect("a name").to_string_lossy();
                assert!(named.contains(&stem.as_ref()), "{stem}.txt has no test");
            }
        }
    };
}

cases! {
    bitmaps collections connection deployment expire hashes interplay introspection keyspace large lists protocol
    functions replica scripts sets sorted_sets streams strings transactions users
}
