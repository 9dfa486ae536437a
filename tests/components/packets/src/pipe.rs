//! What is served, and what both sides make of packets.

use rpc::Signal;
use services::Packets;

/// Slots of each queue.
pub const SLOTS: usize = 8;
/// Bytes of the buffer. With both queues in front they take a page more.
pub const BUFFER: usize = 32 << 10;
/// Most bytes of a packet.
pub const MOST: usize = 4096;

/// A stream of packets. The session's label says which side the server is, and how it waits.
#[rpc::interface(version = "1.0", ram = "36K", caps = 1)]
pub trait Pipe {
    /// The ring; the server raises the signal from now on.
    fn packets(&mut self, wake: Signal) -> Packets;
    /// What the server's side has seen: packets, their sum, and what its client did that it must not.
    fn counts(&mut self) -> (u64, u64, u64);
    /// What the server uses: RAM in bytes, and selectors.
    fn used(&mut self) -> (u64, u64);
}

/// Sum of all packets so far, which depends on their order and length.
pub fn add(sum: u64, packet: &[u8]) -> u64 {
    let one = |sum: u64, part: &[u8]| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        (sum.rotate_left(7) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    packet.chunks(8).fold(one(sum, &(packet.len() as u64).to_le_bytes()), one)
}

/// A stream that both sides know: the length of packet `n`.
pub fn len_of(n: u64) -> usize {
    1 + (n.wrapping_mul(2_654_435_761) % MOST as u64) as usize
}

/// Its bytes: the first ones, which say which packet it is, and others that do not.
pub fn fill(n: u64, packet: &mut [u8]) {
    packet.chunks_mut(8).enumerate().for_each(|(i, part)| {
        let word = (n << 32 | i as u64).to_le_bytes();
        part.copy_from_slice(&word[..part.len()]);
    });
}

/// Sum of the first `packets` of the stream.
pub fn sum_of(packets: u64) -> u64 {
    let mut bytes = [0; MOST];
    (0..packets).fold(0, |sum, n| {
        let packet = &mut bytes[..len_of(n)];
        fill(n, packet);
        add(sum, packet)
    })
}
