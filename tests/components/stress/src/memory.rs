//! Mappings that change under readers.

use crate::work::{Frame, Outcome, RW, Setting, Slot, done, equal, map};
use abi::{CreatePdOp, perm};
use parent::sel;
use rt::Semaphore;
use rt::hypercall as hc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

/// Frames that take turns behind a page: a stale translation shows one that is long over.
const FRAMES: u64 = 64;
/// Tells the words of different workers and rounds apart.
fn stamp(worker: usize, round: u64) -> u64 {
    (worker as u64 + 1) << 32 | round
}

/// Maps frame `round % FRAMES`, with the number of the round in it, at `page`.
fn next(frames: Frame, page: Frame, round: u64, unmap_first: bool) -> Result<(), String> {
    let frame = frames.page(round % FRAMES);
    frame.word(0).store(round, SeqCst);
    if unmap_first {
        done("unmap", frame.map(sel::HST, page, perm::Mem::empty()))?;
    }
    done("map", frame.map(sel::HST, page, RW))
}

/// One maps, all others read, in turns, and the next one maps. Everybody has the page in its TLB when it changes.
pub fn turns(s: &Setting) -> Outcome {
    let (count, rounds) = (s.workers(), s.part(1));
    let (frames, page) = (Frame::block(FRAMES as usize), Frame::window(1));
    next(frames, page, 0, false)?;
    let go: Vec<_> = (0..count).map(|i| Semaphore::new(u64::from(i == 1))).collect();
    let read = Semaphore::new(0);
    s.all_pass(count, |i| {
        let mut result = Ok(());
        for round in 1..=rounds {
            go[i].down();
            if round as usize % count == i {
                result = result.and(next(frames, page, round, round % 3 == 0));
                (0..count).filter(|n| *n != i).for_each(|n| go[n].up());
                (1..count).for_each(|_| read.down());
                go[(i + 1) % count].up();
            } else {
                result = result.and(equal(&format!("round {round}"), page.word(0).load(SeqCst), round));
                read.up();
            }
        }
        result
    })?;
    Ok(format!("{rounds} pages, {} readers each", count - 1))
}

/// One maps as fast as it can; the others read all the time and never see a page that was over before they looked.
pub fn any_time(s: &Setting) -> Outcome {
    // Few: each waits for CPUs that spin, and in an emulator they may be waiting for the one CPU that the host has.
    let (count, rounds) = (s.workers(), s.part(4));
    let reads = AtomicU64::new(0);
    for mapper in 0..s.cpus.len().min(4) {
        let (frames, page) = (Frame::block(FRAMES as usize), Frame::window(1));
        next(frames, page, 0, false)?;
        let (mapped, over, start) = (AtomicU64::new(0), AtomicBool::new(false), Barrier::new(count));
        s.all_pass(count, |i| {
            start.wait();
            if i == mapper {
                let all = (1..=rounds).try_for_each(|round| {
                    next(frames, page, round, false)?;
                    mapped.store(round, SeqCst);
                    Ok(())
                });
                over.store(true, SeqCst);
                return all;
            }
            while !over.load(SeqCst) {
                let least = mapped.load(SeqCst);
                let seen = page.word(0).load(SeqCst);
                reads.fetch_add(1, Relaxed);
                if seen < least {
                    return Err(format!("saw page {seen} when {least} was mapped already"));
                }
            }
            Ok(())
        })?;
    }
    Ok(format!("{rounds} pages from each of {} CPUs, {} reads", s.cpus.len().min(4), reads.into_inner()))
}

/// All workers map pages into the host space of another domain, in the same tables, take them back from there to look at
/// them, and unmap them.
pub fn one_space(s: &Setting) -> Outcome {
    const FAR: u64 = 1 << 30;
    const NEAR: u64 = 2 << 20;
    let (pd, hst) = (Slot::new()?, Slot::new()?);
    done("create_pd", hc::create_pd(CreatePdOp::Pd, pd.0, sel::PD))?;
    done("create_pd of a host space", hc::create_pd(CreatePdOp::Hst, hst.0, pd.0))?;
    let (count, rounds) = (s.workers(), s.part(4));
    s.all_pass(count, |i| {
        let (mut random, frame, window) = (s.random(i), Frame::block(2), Frame::window(1));
        let mut last = None;
        for round in 0..rounds {
            let there = Frame(FAR + random.below(3) * FAR + random.below(3) * NEAR).page(i as u64);
            let frame = frame.page(round % 2);
            frame.word(i).store(stamp(i, round), SeqCst);
            done("map", frame.map(hst.0, there, RW))?;
            done("take back", map(hst.0, there, sel::HST, window, perm::Mem::R))?;
            equal(&format!("round {round}"), window.word(i).load(SeqCst), stamp(i, round))?;
            // One stays until the next is there.
            if let Some(last) = last.replace(there).filter(|l: &Frame| l.0 != there.0) {
                done("unmap", frame.map(hst.0, last, perm::Mem::empty()))?;
            }
        }
        Ok(())
    })?;
    Ok(format!("{} pages by {count} workers", rounds * count as u64))
}

/// All workers map pages of theirs at one address. Whoever looks sees a page that is not older than the last that its
/// worker is known to have mapped.
pub fn one_page(s: &Setting) -> Outcome {
    let (count, rounds) = (s.workers(), s.part(2));
    let page = Frame::window(1);
    done("map", Frame::new().map(sel::HST, page, RW))?;
    let mapped: Vec<_> = (0..count).map(|_| AtomicU64::new(0)).collect();
    s.all_pass(count, |i| {
        let frames = Frame::block(FRAMES as usize);
        for round in 1..=rounds {
            let frame = frames.page(round % FRAMES);
            frame.word(0).store(stamp(i, round), SeqCst);
            done("map", frame.map(sel::HST, page, RW))?;
            mapped[i].store(round, SeqCst);
            let least: Vec<_> = mapped.iter().map(|m| m.load(SeqCst)).collect();
            let seen = page.word(0).load(SeqCst);
            let (worker, seen) = ((seen >> 32) as usize, seen & 0xffff_ffff);
            match worker.checked_sub(1).and_then(|w| least.get(w)) {
                Some(least) if seen >= *least => {}
                other => return Err(format!("saw page {seen} of worker {worker}, which had mapped {other:?}")),
            }
        }
        Ok(())
    })?;
    Ok(format!("{} pages by {count} workers", rounds * count as u64))
}
