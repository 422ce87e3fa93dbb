//! The live view of `evenkeel top`: what keys do and what is shown. Sockets, the terminal and clocks are its caller's.

mod columns;
mod rows;
mod screen;

use crate::api::ApiError;
use crate::api::status::{ReportedState, ServerStatus, Status};
use columns::SortOrder;
use ratatui::widgets::TableState;
use std::time::Instant;

pub use screen::Look;

/// A key, as far as it means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPress {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    /// Ctrl-C.
    Interrupt,
}

/// A state that the operator wants of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateCommand {
    pub pool: String,
    pub server: String,
    pub state: WantedState,
    pub force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedState {
    Drain,
    Maint,
    Ready,
}

impl WantedState {
    pub fn word(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Maint => "maint",
            Self::Ready => "ready",
        }
    }

    fn state(self) -> Option<ReportedState> {
        match self {
            Self::Drain => Some(ReportedState::Drain),
            Self::Maint => Some(ReportedState::Maint),
            Self::Ready => None,
        }
    }
}

/// What a key asks of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Quit,
    Operate(StateCommand),
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandOutcome {
    Done {
        /// None if it has left meanwhile.
        server: Option<Box<ServerStatus>>,
        notes: Vec<String>,
    },
    /// The rest of the pool could not carry its load; it can be had by force.
    CannotSpare(ApiError),
    Failed(String),
}

/// What the keys mean just now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    Look,
    Filter,
    Help,
    /// A command waits for a yes.
    Confirm(StateCommand),
    /// It has been sent.
    Working(StateCommand),
    /// It was refused, for these reasons, and could be forced.
    Refused(StateCommand, String),
}

/// A line about what has happened, until the next key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Notice {
    Good(String),
    Bad(String),
}

/// The whole view.
#[derive(Debug)]
pub struct Top {
    status: Status,
    /// When it came.
    answered: Instant,
    /// Why there has been no answer since.
    lost: Option<String>,
    order: SortOrder,
    filter: String,
    mode: Mode,
    notice: Option<Notice>,
    /// Pool and name of the server that keys are about; it stays selected wherever it moves.
    selected: Option<(String, String)>,
    table: TableState,
    /// Rows that were shown last.
    page: usize,
}

impl Top {
    pub fn new(status: Status, now: Instant) -> Self {
        let mut top = Self {
            status,
            answered: now,
            lost: None,
            order: SortOrder::default(),
            filter: String::new(),
            mode: Mode::Look,
            notice: None,
            selected: None,
            table: TableState::default(),
            page: 1,
        };
        top.settle();
        top
    }

    /// The process has answered.
    pub fn refresh(&mut self, status: Status, at: Instant) {
        let (before, after) = (self.status.process.pid, status.process.pid);
        if before != after {
            self.notice = Some(Notice::Good(format!("process {after} has taken the place of {before}")));
        }
        self.answered = at;
        self.lost = None;
        self.status = status;
        self.settle();
    }

    /// It does not answer.
    pub fn lose(&mut self, why: String) {
        self.lost = Some(why);
    }

    /// What came of the command that was sent last.
    pub fn conclude(&mut self, outcome: CommandOutcome) {
        let Mode::Working(command) = std::mem::replace(&mut self.mode, Mode::Look) else { return };
        match outcome {
            CommandOutcome::Done { server, notes } => {
                let target = format!("{}/{}", command.pool, command.server);
                let said = server.as_ref().map_or(target.clone(), |server| {
                    format!("{target}: {}, {} in flight", server.state.word(), server.in_flight)
                });
                self.notice = Some(Notice::Good([vec![said], notes].concat().join("; ")));
                if let Some(server) = server {
                    self.replace(&command, *server);
                }
            }
            CommandOutcome::CannotSpare(error) => self.mode = Mode::Refused(command, error.message),
            CommandOutcome::Failed(why) => self.notice = Some(Notice::Bad(why)),
        }
    }

    /// The answer is newer than the status before the next one.
    fn replace(&mut self, command: &StateCommand, server: ServerStatus) {
        let pools = self.status.pools.iter_mut().filter(|pool| pool.name == command.pool);
        for old in pools.flat_map(|pool| &mut pool.servers).filter(|old| old.name == command.server) {
            *old = server.clone();
        }
    }

    pub fn press(&mut self, key: KeyPress) -> Option<Action> {
        if key == KeyPress::Interrupt {
            return Some(Action::Quit);
        }
        self.notice = None;
        match std::mem::replace(&mut self.mode, Mode::Look) {
            Mode::Look => return self.look(key),
            Mode::Filter => self.type_filter(key),
            Mode::Help => {}
            Mode::Confirm(command) => match key {
                KeyPress::Char('y') | KeyPress::Enter => return Some(self.send(command)),
                KeyPress::Char('n' | 'q') | KeyPress::Escape => self.leave(&command),
                _ => self.mode = Mode::Confirm(command),
            },
            Mode::Refused(command, why) => match key {
                KeyPress::Char('f') => return Some(self.send(StateCommand { force: true, ..command })),
                KeyPress::Char('n' | 'q') | KeyPress::Escape => self.leave(&command),
                _ => self.mode = Mode::Refused(command, why),
            },
            Mode::Working(command) => {
                // Its outcome comes, or that there is none.
                self.mode = Mode::Working(command);
                return (key == KeyPress::Char('q')).then_some(Action::Quit);
            }
        }
        None
    }

    fn look(&mut self, key: KeyPress) -> Option<Action> {
        match key {
            KeyPress::Char('q') => return Some(Action::Quit),
            KeyPress::Char('?' | 'h') => self.mode = Mode::Help,
            KeyPress::Char('/') => self.mode = Mode::Filter,
            KeyPress::Char('s') => self.sort(self.order.next()),
            KeyPress::Char('S') => self.sort(self.order.previous()),
            KeyPress::Char('d') => self.ask(WantedState::Drain),
            KeyPress::Char('m') => self.ask(WantedState::Maint),
            KeyPress::Char('r') => self.ask(WantedState::Ready),
            KeyPress::Escape => {
                self.filter.clear();
                self.settle();
            }
            KeyPress::Up | KeyPress::Char('k') => self.walk(-1),
            KeyPress::Down | KeyPress::Char('j') => self.walk(1),
            KeyPress::PageUp => self.walk(-page(self.page)),
            KeyPress::PageDown => self.walk(page(self.page)),
            KeyPress::Home | KeyPress::Char('g') => self.walk(isize::MIN),
            KeyPress::End | KeyPress::Char('G') => self.walk(isize::MAX),
            _ => {}
        }
        None
    }

    fn type_filter(&mut self, key: KeyPress) {
        self.mode = Mode::Filter;
        match key {
            KeyPress::Char(letter) => self.filter.push(letter),
            KeyPress::Backspace => _ = self.filter.pop(),
            KeyPress::Enter => self.mode = Mode::Look,
            KeyPress::Escape => {
                self.filter.clear();
                self.mode = Mode::Look;
            }
            KeyPress::Up => self.walk(-1),
            KeyPress::Down => self.walk(1),
            _ => {}
        }
        self.settle();
    }

    fn sort(&mut self, order: SortOrder) {
        self.order = order;
        self.settle();
    }

    /// Asks whether the selected server shall have this state; says so if it has it already.
    fn ask(&mut self, state: WantedState) {
        let Some((pool, server)) = self.selected.clone() else {
            self.notice = Some(Notice::Bad("no server is selected".to_owned()));
            return;
        };
        let said = self.server(&pool, &server).and_then(|server| server.admin.by_operator.clone());
        let has_it = said.as_ref().map(|said| said.state) == state.state();
        self.notice = has_it.then(|| match said {
            Some(said) => {
                Notice::Good(format!("{pool}/{server} is in {} already, by {}", state.word(), said.actor))
            }
            None if self.is_ejected(&pool, &server) => Notice::Good(format!(
                "{pool}/{server} is ejected: back by `evenkeel ready {pool}/{server} --force`"
            )),
            None => Notice::Good(format!("{pool}/{server}: no operator keeps it out")),
        });
        if !has_it {
            self.mode = Mode::Confirm(StateCommand { pool, server, state, force: false });
        }
    }

    fn is_ejected(&self, pool: &str, server: &str) -> bool {
        self.server(pool, server).is_some_and(|server| server.state == ReportedState::Ejected)
    }

    fn send(&mut self, command: StateCommand) -> Action {
        self.mode = Mode::Working(command.clone());
        Action::Operate(command)
    }

    fn leave(&mut self, command: &StateCommand) {
        self.notice = Some(Notice::Good(format!("{}/{} stays as it is", command.pool, command.server)));
    }

    fn server(&self, pool: &str, server: &str) -> Option<&ServerStatus> {
        self.status.pool(pool)?.server(server)
    }

    /// Selects the server that is so many further down, or the last there is.
    fn walk(&mut self, by: isize) {
        let servers = rows::servers(&self.status, self.order, &self.filter);
        let at = self.selected.as_ref().and_then(|it| servers.iter().position(|server| server == it));
        let at = at.unwrap_or(0).saturating_add_signed(by).min(servers.len().saturating_sub(1));
        self.selected = servers.into_iter().nth(at);
        self.settle();
    }

    /// After whatever may have moved rows: the selected server is one that is shown, and its row the selected one.
    fn settle(&mut self) {
        let rows = rows::rows(&self.status, self.order, &self.filter);
        let place =
            |wanted: &(String, String)| rows.iter().position(|row| row.target().as_ref() == Some(wanted));
        let mut at = self.selected.as_ref().and_then(place);
        if at.is_none() {
            // Where it was, or the next server to that.
            let was = self.table.selected().unwrap_or(0).min(rows.len().saturating_sub(1));
            let is_server = |at: &usize| rows[*at].target().is_some();
            at = (was..rows.len()).find(is_server).or_else(|| (0..was).rev().find(is_server));
            self.selected = at.and_then(|at| rows[at].target());
        }
        self.table.select(at);
    }
}

fn page(rows: usize) -> isize {
    isize::try_from(rows).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests;
