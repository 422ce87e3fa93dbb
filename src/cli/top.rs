//! `top`: the terminal, the socket and the clock around the live view.

use super::client::{ProcessAddress, RequestFailed, Target};
use super::complain;
use super::operate::Operated;
use super::table::in_color;
use crate::api::Status;
use crate::top::{Action, CommandOutcome, KeyPress, Look, StateCommand, Top};
use crate::units;
use clap::Args;
use http::{Method, StatusCode};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::json;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{MissedTickBehavior, interval};

/// How long the process may take for an answer.
const WITHIN: Duration = Duration::from_secs(5);
/// And for a change, which it writes to its disk.
const CHANGE_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct TopOptions {
    /// How often the process is asked.
    #[arg(long, value_name = "DURATION", value_parser = often, default_value = "1s")]
    interval: Duration,
    #[command(flatten)]
    reach: ProcessAddress,
}

fn often(text: &str) -> Result<Duration, String> {
    let interval = units::duration(text)?;
    match (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&interval) {
        true => Ok(interval),
        false => Err("use 100ms to 1h".to_owned()),
    }
}

pub(super) fn run(options: &TopOptions) -> Result<ExitCode, RequestFailed> {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() || is_dumb {
        complain("top needs a terminal; use `evenkeel status`, or `evenkeel status --json` in scripts");
        return Err(RequestFailed);
    }
    // Whoever is not there at all is told of before the screen is taken.
    let status = options.reach.get("/api/v1/status")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.and_then(|runtime| runtime.block_on(watch(options, status)));
    ended.map_err(|error| {
        complain(&format!("the terminal cannot be used: {error}; use `evenkeel status`"));
        RequestFailed
    })
}

/// The terminal while it is ours. However this ends, a panic included, it is given back.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // If it has gone there is nothing to give back.
        let _ = ratatui::try_restore();
    }
}

/// What happens to the view.
enum InputEvent {
    Key(KeyPress),
    Resized,
    /// The terminal has gone.
    Gone(io::Error),
    Status(Result<Box<Status>, String>),
    Outcome(CommandOutcome),
}

/// Those that end programs; the terminal has to be given back first.
struct EndSignals([Signal; 3]);

impl EndSignals {
    fn new() -> io::Result<Self> {
        let of = |kind| signal(kind);
        Ok(Self([of(SignalKind::interrupt())?, of(SignalKind::terminate())?, of(SignalKind::hangup())?]))
    }

    /// The number of the one that came.
    async fn next(&mut self) -> u8 {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
            _ = hangup.recv() => 1,
        }
    }
}

async fn watch(options: &TopOptions, status: Status) -> io::Result<ExitCode> {
    let mut endings = EndSignals::new()?;
    let look = Look { color: in_color() };
    let mut screen = Screen::take()?;
    let (tell, mut heard) = mpsc::unbounded_channel();
    read_keys(tell.clone());
    let mut top = Top::new(status, Instant::now());
    let mut clock = interval(options.interval);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock.tick().await;
    // One question at a time: a process that is slow is not asked more.
    let mut is_asked = false;
    loop {
        screen.0.draw(|frame| top.draw(frame, Instant::now(), look))?;
        let next = tokio::select! {
            number = endings.next() => return Ok(ExitCode::from(128 + number)),
            _ = clock.tick() => {
                if !std::mem::replace(&mut is_asked, true) {
                    tokio::spawn(ask(options.reach.clone(), tell.clone()));
                }
                continue;
            }
            next = next(&mut heard) => next,
        };
        match next {
            InputEvent::Key(key) => match top.press(key) {
                Some(Action::Quit) => return Ok(ExitCode::SUCCESS),
                Some(Action::Operate(command)) => {
                    tokio::spawn(operate(options.reach.clone(), command, tell.clone()));
                }
                None => {}
            },
            InputEvent::Status(answer) => {
                is_asked = false;
                match answer {
                    Ok(status) => top.refresh(*status, Instant::now()),
                    Err(why) => top.lose(why),
                }
            }
            InputEvent::Outcome(outcome) => top.conclude(outcome),
            InputEvent::Resized => {}
            InputEvent::Gone(error) => return Err(error),
        }
    }
}

async fn next(heard: &mut UnboundedReceiver<InputEvent>) -> InputEvent {
    match heard.recv().await {
        Some(heard) => heard,
        // Its sender is kept beside it.
        None => std::future::pending().await,
    }
}

/// On a thread of its own, which ends with the process: it waits in read(2).
fn read_keys(tell: UnboundedSender<InputEvent>) {
    std::thread::spawn(move || {
        loop {
            let heard = match event::read() {
                Ok(Event::Key(pressed)) => key(pressed).map(InputEvent::Key),
                Ok(Event::Resize(..)) => Some(InputEvent::Resized),
                Ok(_) => None,
                Err(error) => {
                    let _ = tell.send(InputEvent::Gone(error));
                    return;
                }
            };
            if heard.is_some_and(|heard| tell.send(heard).is_err()) {
                return;
            }
        }
    });
}

fn key(pressed: KeyEvent) -> Option<KeyPress> {
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    if pressed.modifiers.contains(KeyModifiers::CONTROL) {
        return (pressed.code == KeyCode::Char('c')).then_some(KeyPress::Interrupt);
    }
    Some(match pressed.code {
        KeyCode::Char(letter) => KeyPress::Char(letter),
        KeyCode::Up => KeyPress::Up,
        KeyCode::Down => KeyPress::Down,
        KeyCode::PageUp => KeyPress::PageUp,
        KeyCode::PageDown => KeyPress::PageDown,
        KeyCode::Home => KeyPress::Home,
        KeyCode::End => KeyPress::End,
        KeyCode::Enter => KeyPress::Enter,
        KeyCode::Esc => KeyPress::Escape,
        KeyCode::Backspace => KeyPress::Backspace,
        _ => return None,
    })
}

async fn ask(reach: ProcessAddress, tell: UnboundedSender<InputEvent>) {
    let answer = match reach.exchange(Method::GET, "/api/v1/status", None, WITHIN).await {
        Ok(answer) => reach.read(&answer).map(Box::new).map_err(|error| error.message),
        Err(error) => Err(reach.unreached(&error)),
    };
    let _ = tell.send(InputEvent::Status(answer));
}

async fn operate(reach: ProcessAddress, command: StateCommand, tell: UnboundedSender<InputEvent>) {
    let target = Target { pool: command.pool, server: command.server };
    let body = json!({ "state": command.state.word(), "force": command.force }).to_string();
    let outcome = match reach.exchange(Method::PUT, &target.path("/state"), Some(body), CHANGE_WITHIN).await {
        Err(error) => CommandOutcome::Failed(reach.unreached(&error)),
        Ok(answer) => match reach.read::<Operated>(&answer) {
            Ok(Operated { server, notes }) => CommandOutcome::Done { server: server.map(Box::new), notes },
            // A conflict that force does not help against says something else.
            Err(error)
                if answer.status == StatusCode::CONFLICT
                    && error.help.as_ref().is_some_and(|help| help.contains("--force")) =>
            {
                CommandOutcome::CannotSpare(error)
            }
            Err(error) => CommandOutcome::Failed(
                [Some(error.message), error.help].into_iter().flatten().collect::<Vec<_>>().join("; "),
            ),
        },
    };
    let _ = tell.send(InputEvent::Outcome(outcome));
}
