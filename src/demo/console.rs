//! What the demo says: notes, each on its own line, and one status line below them that is written over.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};

/// Back to the line's start, and empty it.
const CLEAR: &str = "\r\x1b[K";

/// Standard output, shared by everything on the demo's one thread.
#[derive(Debug)]
pub struct Console {
    terminal: bool,
    status: RefCell<String>,
}

impl Console {
    pub fn new() -> Self {
        Self {
            terminal: std::io::stdout().is_terminal(),
            status: RefCell::new(String::new()),
        }
    }

    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Says something that stays. Control characters other than line ends do not reach the terminal.
    pub fn note(&self, text: &str) {
        let text: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
        if self.terminal {
            self.put(&format!("{CLEAR}{text}\n{}", self.status.borrow()));
        } else {
            self.put(&format!("{text}\n"));
        }
    }

    /// Replaces the status line; where there is no terminal, it is a note.
    pub fn status(&self, text: String) {
        if self.terminal {
            self.put(&format!("{CLEAR}{text}"));
            self.status.replace(text);
        } else {
            self.note(&text);
        }
    }

    /// A reader that left (`demo | head`) must not end the demo with a panic.
    fn put(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}
