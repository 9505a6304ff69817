//! INFO memory: of this process, and of what Pinion knows to hold.

use super::{Context, NodeFigures, lines, total};
use crate::server::memory::{Memory, human, over, system_bytes};

pub fn memory(nodes: &[NodeFigures], context: &Context) -> String {
    let memory = Memory::of(nodes);
    let system = system_bytes();
    let max = context.config.bytes("maxmemory") as usize;
    let mut text = lines(&[
        ("used_memory", memory.used.to_string()),
        ("used_memory_human", human(memory.used)),
        ("used_memory_rss", memory.resident.to_string()),
        ("used_memory_rss_human", human(memory.resident)),
        ("used_memory_peak", memory.peak.to_string()),
        ("used_memory_peak_human", human(memory.peak)),
        (
            "used_memory_peak_perc",
            format!("{:.2}%", memory.peak_percent()),
        ),
        ("used_memory_overhead", memory.overhead.to_string()),
        ("used_memory_startup", memory.startup.to_string()),
        ("used_memory_dataset", memory.dataset.to_string()),
        (
            "used_memory_dataset_perc",
            format!("{:.2}%", memory.dataset_percent()),
        ),
        ("allocator_allocated", memory.used.to_string()),
        ("allocator_active", memory.active.to_string()),
        ("allocator_resident", memory.allocated.to_string()),
        ("total_system_memory", system.to_string()),
        ("total_system_memory_human", human(system)),
    ]);
    text += &scripts(nodes);
    text += &lines(&[
        ("maxmemory", max.to_string()),
        ("maxmemory_human", human(max)),
        (
            "maxmemory_policy",
            context.config.text("maxmemory-policy").into(),
        ),
    ]);
    text += &layers(&memory);
    let buffers = memory.clients + memory.aof_buffer;
    text + &lines(&[
        // `maxmemory` is about keys alone.
        ("mem_not_counted_for_evict", buffers.to_string()),
        ("mem_replication_backlog", memory.backlog.to_string()),
        (
            "mem_total_replication_buffers",
            (memory.backlog + memory.replicas).to_string(),
        ),
        ("mem_clients_slaves", memory.replicas.to_string()),
        ("mem_clients_normal", memory.clients.to_string()),
        ("mem_cluster_links", "0".into()),
        ("mem_aof_buffer", memory.aof_buffer.to_string()),
        ("mem_allocator", "mimalloc".into()),
        ("active_defrag_running", "0".into()),
        (
            "lazyfree_pending_objects",
            total(nodes, |n| n.lazyfree_pending).to_string(),
        ),
        (
            "lazyfreed_objects",
            total(nodes, |n| n.keyspace.lazyfreed).to_string(),
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
            (ratio, format!("{:.2}", over(whole, part))),
            (bytes, (whole as i64 - part as i64).to_string()),
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
        ("used_memory_lua", vm.to_string()),
        ("used_memory_vm_eval", vm.to_string()),
        ("used_memory_lua_human", human(vm)),
        ("used_memory_scripts_eval", bytes.to_string()),
        ("number_of_cached_scripts", count.to_string()),
        ("used_memory_vm_total", vm.to_string()),
        ("used_memory_vm_total_human", human(vm)),
        ("number_of_functions", functions.to_string()),
        ("number_of_libraries", libraries.to_string()),
        ("used_memory_vm_functions", "0".into()),
        ("used_memory_functions", function_bytes.to_string()),
        ("used_memory_scripts", all.to_string()),
        ("used_memory_scripts_human", human(all)),
    ])
}
