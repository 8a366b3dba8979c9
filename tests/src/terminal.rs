//! A terminal with a program in it, as a person sees it: a pseudo-terminal, and what stands on its screen.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::signal::Signal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use vt100::Parser;

use crate::process::Process;
use crate::wait::{DEADLINE, until};

/// A program in a terminal. Dropping it kills the program.
pub struct Terminal {
    process: Process,
    keyboard: File,
    /// Kept open, so that the terminal outlives the program.
    _line: OwnedFd,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    parser: Parser,
    bytes: Vec<u8>,
}

impl Terminal {
    /// Starts a program in a terminal of this size.
    pub fn start(name: &str, mut command: Command, columns: u16, rows: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags).expect("a pseudo-terminal");
        grantpt(&controller).expect("it is ours");
        unlockpt(&controller).expect("it is ours");
        let line = ioctl_tiocgptpeer(&controller, flags).expect("its other end");
        tcsetwinsize(&controller, size(columns, rows)).expect("terminals have sizes");
        let end = || line.try_clone().expect("a file can be shared");
        command.env("TERM", "xterm-256color");
        let process = Process::start_in(name, command, end);
        let keyboard = File::from(controller);
        let mut output = keyboard.try_clone().expect("a file can be shared");
        let seen = Arc::new(Mutex::new(Seen {
            parser: Parser::new(cells(rows), cells(columns), 0),
            bytes: Vec::new(),
        }));
        let writer = Arc::clone(&seen);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                let mut seen = writer.lock().expect("readers do not panic");
                seen.parser.process(&buffer[..count]);
                seen.bytes.extend_from_slice(&buffer[..count]);
            }
        });
        Self {
            process,
            keyboard,
            _line: line,
            seen,
        }
    }

    /// Presses keys, as the bytes that they send.
    pub fn press(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .expect("a terminal takes keys");
    }

    /// The rows on the screen, without blanks at the end of a line, and without empty ones at the end of all.
    pub fn screen(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("readers do not panic");
        let screen = seen.parser.screen();
        let (_, columns) = screen.size();
        let rows = screen.rows(0, columns.get()).zip(0..);
        let line = |(row, number): (String, u16)| {
            // A line that goes on in the next row ends there.
            let is_end = !screen.row_wrapped(number);
            let shown = if is_end { row.trim_end() } else { &row };
            shown.to_owned()
        };
        let mut rows: Vec<String> = rows.map(line).collect();
        while rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        rows
    }

    /// Where the cursor is: its row and column, from 0.
    pub fn cursor(&self) -> (u16, u16) {
        let seen = self.seen.lock().expect("readers do not panic");
        seen.parser.screen().cursor_position()
    }

    /// All that the program has written.
    pub fn bytes(&self) -> String {
        let seen = self.seen.lock().expect("readers do not panic");
        String::from_utf8_lossy(&seen.bytes).into_owned()
    }

    /// Waits until the screen is as it should be, and gives it.
    pub async fn shows(&self, what: &str, is_so: impl Fn(&[String]) -> bool) -> Vec<String> {
        let shown = until(DEADLINE, format!("the screen: {what}"), async || {
            let screen = self.screen();
            if is_so(&screen) {
                return Ok(screen);
            }
            Err(format!("cursor {:?} in {screen:#?}", self.cursor()))
        });
        shown.await.0
    }

    /// Waits until the last line is this one, which is where one writes.
    pub async fn shows_last(&self, line: &str) -> Vec<String> {
        let what = format!("{line:?} is the last line");
        self.shows(&what, |screen| {
            screen.last().is_some_and(|last| last == line)
        })
        .await
    }

    /// Gives the terminal another size, and tells the program.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        let mut seen = self.seen.lock().expect("readers do not panic");
        seen.parser
            .screen_mut()
            .set_size(cells(rows), cells(columns));
        tcsetwinsize(&self.keyboard, size(columns, rows)).expect("terminals have sizes");
        // By itself the system tells only programs that have this as their controlling terminal.
        self.process.signal(Signal::SIGWINCH);
    }

    /// Whether the terminal itself edits lines and shows what is typed, as it does for a program that knows nothing of terminals.
    pub fn is_as_before(&self) -> bool {
        let modes = tcgetattr(&self.keyboard).expect("terminals have modes");
        let ordinary = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        modes.local_modes.contains(ordinary)
    }

    /// Waits for the program to end by itself.
    pub async fn exit(&mut self) -> ExitStatus {
        self.process.exit(DEADLINE).await
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }
}

fn cells(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).expect("a terminal has room")
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
