//! Mailboxes: no item and no interrupt is lost.

mod explore;

use explore::{Line, explore};
use loom::sync::Arc;
use loom::thread;
use smp_loom::Mailbox;

struct Cpu {
    mail: Mailbox<Vec<u32>>,
    line: Line,
}

/// Two senders; the owner looks into its mailbox on interrupts only. If one were lost it would halt for ever, which loom
/// reports.
#[test]
fn the_owner_reads_everything_by_interrupts_alone() {
    explore(|| {
        let cpu = Arc::new(Cpu { mail: Mailbox::new(Vec::new()), line: Line::new() });
        let senders: Vec<_> = [[1, 2], [3, 4]]
            .into_iter()
            .map(|items| {
                let cpu = cpu.clone();
                thread::spawn(move || {
                    for i in items {
                        if cpu.mail.post(|m| m.push(i)) {
                            cpu.line.send();
                        }
                    }
                })
            })
            .collect();
        let mut got = Vec::new();
        while got.len() < 4 {
            assert!(cpu.line.halt());
            got.extend(cpu.mail.open(std::mem::take));
        }
        let of = |sender: [u32; 2]| got.iter().copied().filter(|i| sender.contains(i)).collect::<Vec<_>>();
        assert_eq!((of([1, 2]), of([3, 4])), (vec![1, 2], vec![3, 4]), "nothing twice, in order");
        senders.into_iter().for_each(|s| s.join().unwrap());
    });
}
