//! Packets to another component: from cutting one out of the buffer until it is back, with its bytes written here and read there.

use crate::clock::{OVERHEAD, missing, now, report, sample};
use crate::peer::{DONATION, LONGEST, Peer, PeerClient};
use rt::packet::{self, Source, Waiter, Wake};
use rt::rpc::Entrypoint;
use rt::session::{self, Session};

/// Packets of a sample of a stream, of which one is the figure.
const STREAM: u32 = 64;

fn ring(session: &Session<dyn Peer>) -> Result<Source<Waiter>, String> {
    let waiter = Waiter::new().map_err(|e| format!("a semaphore: {e:?}"))?;
    let packets = PeerClient::new(session.portal()).packets(waiter.signal()).map_err(|e| e.to_string())?;
    let packets = packets.ok_or("the peer has no memory for packets")?;
    packet::attach(session, packets, waiter).and_then(packet::End::source).map_err(|e| e.to_string())
}

/// Sends so many packets of that length; the source waits when it must.
fn send(source: &mut Source<Waiter>, packets: u32, bytes: &[u8]) -> Result<(), String> {
    for _ in 0..packets {
        let packet = source.room(bytes.len()).map_err(|e| e.to_string())?;
        source.write(&packet, 0, bytes);
        source.submit(packet, 0).map_err(|(e, _)| e.to_string())?;
    }
    while source.out() > 0 {
        let back = source.back().map_err(|e| e.to_string())?;
        source.release(back.packet);
    }
    Ok(())
}

fn stream(source: &mut Source<Waiter>, packets: u32, len: usize) -> Result<Vec<u32>, String> {
    let bytes = [7; LONGEST];
    sample(|| {
        let before = now();
        send(source, packets, &bytes[..len])?;
        Ok(now().wrapping_sub(before) / packets)
    })
}

/// All rows of this file.
pub fn run(cpu: u16) -> Result<(), String> {
    let rows = [
        ("packet_alone_64_bytes", 1, 64),
        ("packet_64_bytes", STREAM, 64),
        ("packet_alone_4096_bytes", 1, LONGEST),
        ("packet_4096_bytes", STREAM, LONGEST),
    ];
    let at = Entrypoint::new(cpu, 16 << 10).map_err(|e| format!("an entry point: {e:?}"))?;
    session::attend(at).map_err(|e| e.to_string())?;
    let opened = session::open_with::<dyn Peer>("", &[], DONATION).map_err(|e| e.to_string());
    let made = opened.and_then(|session| Ok((ring(&session)?, session)));
    match made {
        Ok((mut source, _session)) => {
            for (name, packets, len) in rows {
                report(name, stream(&mut source, packets, len), OVERHEAD);
            }
        }
        Err(why) => rows.iter().for_each(|(name, ..)| missing(name, &why)),
    }
    Ok(())
}
