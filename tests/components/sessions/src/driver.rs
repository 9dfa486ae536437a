//! A driver is started again under its running clients: by a fault, by its own end, and as it answers no heartbeats.

use crate::echo::{Echo, EchoClient};
use crate::{Outcome, done, equal, open};
use rt::rpc::Portal;
use rt::session::Session;
use std::time::Duration;

/// How often the driver ends before its clients are content.
const ENDS: u64 = 4;

type Open = (Session<dyn Echo>, EchoClient<Portal>);

/// Uses a session; when that is gone, another one, from its beginning.
pub fn client() -> Outcome {
    let (mut using, mut lives, mut count) = (done("open", open("use"))?, 1, 0);
    while lives <= ENDS {
        std::thread::sleep(Duration::from_millis(2));
        match using.1.add(1) {
            Ok(n) => {
                count += 1;
                equal("no call is lost, and none of another session counts", n, count)?;
            }
            Err(rpc::Error::Gone) => {
                using = again()?;
                (lives, count) = (lives + 1, 0);
            }
            Err(e) => return Err(format!("add: {e:?}")),
        }
    }
    for n in count + 1..count + 10 {
        equal("the last life serves on", using.1.add(1), Ok(n))?;
    }
    println!("used {lives} lives");
    Ok(())
}

/// A session of the next life, or of the one after that: it may end before it has answered.
fn again() -> Result<Open, String> {
    for _ in 0..10 {
        match open("use") {
            Err(rt::session::Error::Gone) => {}
            other => return done("open again", other),
        }
    }
    Err("ten times gone while it was opened".into())
}

/// Ends the driver, each time in another way.
pub fn enemy() -> Outcome {
    for n in 0..ENDS {
        // Its clients are at work meanwhile.
        std::thread::sleep(Duration::from_millis(300));
        let (_session, driver) = again()?;
        let end = match n % 3 {
            0 => driver.end(9),
            1 => driver.crash(),
            _ => driver.hang(),
        };
        equal("it ends", end, Err(rpc::Error::Gone))?;
    }
    Ok(())
}
