//! What a third party does to a ring when one side is gone: the other side finds it [`Broken`](crate::Broken) instead of
//! waiting for ever. Whoever does this wakes that side afterwards.

use crate::RingMemory;

/// Too far from any counter that keeps the rules, whatever the length of the data area below 2^31.
const FAR: u32 = 1 << 31;

/// The consumer is gone: the ring breaks for the producer. `rest` gets the bytes that were not taken, in order and in
/// parts; none if the counters were impossible already. What the producer puts in meanwhile may be lost.
pub fn cut_producer(memory: &impl RingMemory, mut rest: impl FnMut(&[u8])) {
    let mut head = memory.load_head();
    memory.store_head(memory.load_tail().wrapping_add(FAR));
    let mut left = memory.load_tail().wrapping_sub(head) as usize;
    if left > memory.data_len() {
        return;
    }
    let mut part = [0; 256];
    while left > 0 {
        let offset = head as usize & (memory.data_len() - 1);
        let len = left.min(part.len()).min(memory.data_len() - offset);
        memory.read_bytes(offset, &mut part[..len]);
        rest(&part[..len]);
        head = head.wrapping_add(len as u32);
        left -= len;
    }
}

/// The producer is gone: the ring breaks for the consumer, which gets nothing of what was still in there.
pub fn cut_consumer(memory: &impl RingMemory) {
    memory.store_tail(memory.load_head().wrapping_add(FAR));
}
