//! INFO memory: of this process, and of what Pinion knows to hold.

use super::{Context, NodeFigures, lines, total};
use crate::server::memory::{Memory, human, over, system_bytes};

pub fn memory(nodes: &[NodeFigures], context: &Context) -> String {
    let memory = Memory::of(nodes);
    let system = system_bytes();
    let max = context.config.bytes("maxmemory") as usize;
    let mut text = lines(&[
        ("used_memory", memory.used.into()),
        ("used_memory_human", human(memory.used).into()),
        ("used_memory_rss", memory.resident.into()),
        ("used_memory_rss_human", human(memory.resident).into()),
        ("used_memory_peak", memory.peak.into()),
        ("used_memory_peak_human", human(memory.peak).into()),
        (
            "used_memory_peak_perc",
            format!("{:.2}%", memory.peak_percent()).into(),
        ),
        ("used_memory_overhead", memory.overhead.into()),
        ("used_memory_startup", memory.startup.into()),
        ("used_memory_dataset", memory.dataset.into()),
        (
            "used_memory_dataset_perc",
            format!("{:.2}%", memory.dataset_percent()).into(),
        ),
        ("allocator_allocated", memory.used.into()),
        ("allocator_active", memory.active.into()),
        ("allocator_resident", memory.allocated.into()),
        ("total_system_memory", system.into()),
        ("total_system_memory_human", human(system).into()),
    ]);
    text += &scripts(nodes);
    text += &lines(&[
        ("maxmemory", max.into()),
        ("maxmemory_human", human(max).into()),
        (
            "maxmemory_policy",
            context.config.text("maxmemory-policy").into(),
        ),
    ]);
    text += &layers(&memory);
    text + &lines(&[
        ("mem_not_counted_for_evict", memory.not_limited().into()),
        ("mem_replication_backlog", memory.backlog.into()),
        (
            "mem_total_replication_buffers",
            (memory.backlog + memory.kept_for_replicas).into(),
        ),
        ("mem_clients_slaves", memory.replicas().into()),
        ("mem_clients_normal", memory.clients.into()),
        ("mem_cluster_links", "0".into()),
        ("mem_aof_buffer", memory.aof_buffer.into()),
        ("mem_allocator", "mimalloc".into()),
        ("active_defrag_running", "0".into()),
        (
            "lazyfree_pending_objects",
            total(nodes, |n| n.lazyfree_pending).into(),
        ),
        (
            "lazyfreed_objects",
            total(nodes, |n| n.keyspace.lazyfreed).into(),
        ),
    ])
}

/// How much more memory each layer holds than the one above it.
fn layers(memory: &Memory) -> String {
    let mut text = String::new();
    let names = [
        ("allocator_frag_ratio", "allocator_frag_bytes"),
        ("allocator_rss_ratio", "allocator_rss_bytes"),
        ("rss_overhead_ratio", "rss_overhead_bytes"),
        ("mem_fragmentation_ratio", "mem_fragmentation_bytes"),
    ];
    for ((_, part, whole), (ratio, bytes)) in memory.ratios().into_iter().zip(names) {
        text += &lines(&[
            (ratio, format!("{:.2}", over(whole, part)).into()),
            (bytes, (whole as i64 - part as i64).into()),
        ]);
    }
    text
}

/// What INFO memory tells of scripts and functions, which share their interpreters.
fn scripts(nodes: &[NodeFigures]) -> String {
    let vm: usize = nodes.iter().map(|node| node.lua_bytes).sum();
    let (count, bytes) = nodes.first().map_or((0, 0), |node| node.scripts);
    let functions = nodes.first().map_or((0, 0, 0), |node| node.functions);
    let (libraries, functions, function_bytes) = functions;
    let all = bytes + function_bytes;
    lines(&[
        ("used_memory_lua", vm.into()),
        ("used_memory_vm_eval", vm.into()),
        ("used_memory_lua_human", human(vm).into()),
        ("used_memory_scripts_eval", bytes.into()),
        ("number_of_cached_scripts", count.into()),
        ("used_memory_vm_total", vm.into()),
        ("used_memory_vm_total_human", human(vm).into()),
        ("number_of_functions", functions.into()),
        ("number_of_libraries", libraries.into()),
        ("used_memory_vm_functions", "0".into()),
        ("used_memory_functions", function_bytes.into()),
        ("used_memory_scripts", all.into()),
        ("used_memory_scripts_human", human(all).into()),
    ])
}
