//! What to show, and the keys that change it.
//!
//! Key type: [`Keys`].

/// What is shown below the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Show {
    /// Components.
    #[default]
    Components,
    /// Sessions.
    Sessions,
    /// The keys.
    Help,
}

/// In which order components are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Children below their parents.
    #[default]
    Tree,
    /// Who used most CPU time since the last picture first.
    Cpu,
    /// Who uses most RAM first.
    Ram,
}

/// What a key asks of who shows pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// A new picture at once.
    Refresh,
    /// The end.
    Quit,
}

/// What to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keys {
    /// See above.
    pub show: Show,
    /// See above.
    pub order: Order,
    /// Lines that are scrolled away.
    pub first: usize,
}

/// Lines that a key scrolls.
const PAGE: usize = 10;

impl Keys {
    /// A key; what it is not for changes nothing.
    pub fn typed(&mut self, key: u8) -> Option<Command> {
        let before = *self;
        match key {
            b'q' => return Some(Command::Quit),
            b' ' => return Some(Command::Refresh),
            b't' => self.look(Show::Components, Order::Tree),
            b'c' => self.look(Show::Components, Order::Cpu),
            b'r' => self.look(Show::Components, Order::Ram),
            b's' => self.look(Show::Sessions, self.order),
            b'?' | b'h' => self.look(Show::Help, self.order),
            b'j' => self.first = self.first.saturating_add(PAGE),
            b'k' => self.first = self.first.saturating_sub(PAGE),
            _ => {}
        }
        (*self != before).then_some(Command::Refresh)
    }

    fn look(&mut self, show: Show, order: Order) {
        *self = Keys { show, order, first: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_change_what_is_shown() {
        let mut k = Keys::default();
        for (key, show, order, first) in [
            (b'c', Show::Components, Order::Cpu, 0),
            (b'j', Show::Components, Order::Cpu, PAGE),
            (b's', Show::Sessions, Order::Cpu, 0),
            (b'h', Show::Help, Order::Cpu, 0),
            (b'r', Show::Components, Order::Ram, 0),
            (b't', Show::Components, Order::Tree, 0),
            (b'j', Show::Components, Order::Tree, PAGE),
            (b'j', Show::Components, Order::Tree, 2 * PAGE),
            (b'k', Show::Components, Order::Tree, PAGE),
            (b'k', Show::Components, Order::Tree, 0),
        ] {
            assert_eq!(k.typed(key), Some(Command::Refresh), "{key}");
            assert_eq!(k, Keys { show, order, first });
        }
        assert_eq!([b't', b'k', b'x', b'\r'].map(|key| k.typed(key)), [None; 4]);
        assert_eq!((k.typed(b' '), k.typed(b'q')), (Some(Command::Refresh), Some(Command::Quit)));
    }
}
