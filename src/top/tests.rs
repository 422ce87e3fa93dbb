//! What keys do and what is seen, on a screen in memory.

use super::*;
use crate::api::cache::{CacheStatus, CacheTier, RuleCacheStatus};
use crate::api::status::{AdminState, OperatorOverride, PoolStatus, ProcessStatus, StickyStatus};
use crate::history::Figures;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::time::Duration;
use time::macros::datetime;

fn figures(rate: f64, p99: f64, errors: f64) -> Figures {
    let figures = Figures { requests_per_second: rate, error_ratio: errors, ..Figures::default() };
    Figures { p50_ms: Some(p99 / 4.0), p99_ms: Some(p99), ..figures }
}

fn server(name: &str, state: ReportedState, in_flight: u32, figures: Figures) -> ServerStatus {
    let by_operator = matches!(state, ReportedState::Drain | ReportedState::Maint)
        .then(|| OperatorOverride { state, actor: "alice".to_owned(), at: datetime!(2026-01-31 12:00 UTC) });
    ServerStatus {
        name: name.to_owned(),
        address: format!("10.0.0.{}:8080", name.len()),
        state,
        health: if state == ReportedState::Down { ReportedState::Down } else { ReportedState::Up },
        since: datetime!(2026-01-31 11:00 UTC),
        probed: true,
        last_failure: (state == ReportedState::Down).then(|| "status 503, expected 200-299".to_owned()),
        admin: AdminState { by_configuration: false, by_operator },
        in_flight,
        figures,
        weight: 100,
        weight_by_operator: false,
        ramp: None,
        missing: false,
        stands_in: false,
        backup: false,
        ejection: None,
        max_connections: None,
    }
}

fn pool(name: &str, servers: Vec<ServerStatus>) -> PoolStatus {
    PoolStatus {
        name: name.to_owned(),
        balance: "least_connections".to_owned(),
        failing_open: false,
        up: servers.iter().filter(|server| server.state == ReportedState::Up).count(),
        in_flight: servers.iter().map(|server| server.in_flight).sum(),
        waiting: 0,
        served_by: None,
        may_be_out: None,
        sticky: None,
        figures: figures(120.0, 80.0, 0.002),
        servers,
        sources: Vec::new(),
        absent: Vec::new(),
    }
}

fn status() -> Status {
    Status {
        process: ProcessStatus {
            version: "0.1.0".to_owned(),
            pid: 4242,
            generation: 7,
            started: datetime!(2026-01-31 09:00 UTC),
            now: datetime!(2026-01-31 12:03 UTC),
            configuration: "/etc/evenkeel/evenkeel.yaml".to_owned(),
            draining: false,
            connections: 12,
            upgrading: false,
            upgrade_waits_until: None,
            before: None,
            last_upgrade_failure: None,
        },
        last_reload: None,
        guard: None,
        earlier_guards: Vec::new(),
        listeners: Vec::new(),
        maintenance: Vec::new(),
        limits: None,
        cache: None,
        pools: vec![
            pool(
                "app",
                vec![
                    server("app1", ReportedState::Up, 3, figures(60.0, 40.0, 0.0)),
                    server("app22", ReportedState::Down, 0, figures(0.5, 900.0, 0.5)),
                    server("app333", ReportedState::Drain, 9, figures(60.0, 4_000.0, 0.0)),
                ],
            ),
            pool("cache", vec![server("c1", ReportedState::Up, 1, figures(600.0, 2.0, 0.0))]),
        ],
    }
}

/// The screen as lines of text.
fn seen(top: &mut Top, width: u16, height: u16, now: Instant) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| top.draw(frame, now, Look { color: true })).unwrap();
    let buffer = terminal.backend().buffer();
    (0..height)
        .map(|y| {
            let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            line.trim_end().to_owned()
        })
        .collect()
}

fn screen(top: &mut Top) -> String {
    seen(top, 80, 24, Instant::now()).join("\n")
}

fn press(top: &mut Top, keys: &str) -> Option<Action> {
    let mut action = None;
    for key in keys.chars() {
        action = top.press(match key {
            '\n' => KeyPress::Enter,
            '\u{1b}' => KeyPress::Escape,
            letter => KeyPress::Char(letter),
        });
    }
    action
}

/// The names in the order in which they are shown.
fn names(top: &Top) -> Vec<String> {
    rows::servers(&top.status, top.order, &top.filter).into_iter().map(|(_, server)| server).collect()
}

fn selected(top: &Top) -> &str {
    top.selected.as_ref().map_or("nothing", |(_, server)| server)
}

fn drained(name: &str) -> CommandOutcome {
    let server = Box::new(server(name, ReportedState::Drain, 2, Figures::default()));
    CommandOutcome::Done { server: Some(server), notes: vec!["a note".to_owned()] }
}

#[test]
fn the_screen_has_it_all_in_80_columns() {
    let lines = seen(&mut Top::new(status(), Instant::now()), 80, 24, Instant::now());
    let expected = "\
evenkeel 0.1.0  generation 7  up 3h 3m  process 4242  12 connections
no reload since the start
  SERVER        STATE   HEALTH      FOR  FLIGHT  REQ/S    P50    P99    ERR   WT
  app           1/3 up                       12    120   20ms   80ms   0.2%
>   app1        up      up        1h 3m       3     60   10ms   40ms     0%  100
    app22       down    down      1h 3m       0    0.5  225ms  900ms    50%  100
    app333      drain   up           3m       9     60   1.0s   4.0s     0%  100
  cache         1/1 up                        1    120   20ms   80ms   0.2%
    c1          up      up        1h 3m       1    600  0.5ms  2.0ms     0%  100";
    assert_eq!(lines[..9].join("\n"), expected);
    assert_eq!(lines[21], "app/app1 at 10.0.0.4:8080; health up for 1h 3m");
    assert_eq!(lines[23], "q quit  j/k select  s/S sort  / filter  d drain  m maint  r ready  ? help");
}

#[test]
fn a_server_of_a_sticky_pool_says_what_becomes_of_clients() {
    let mut status = status();
    let results = [("kept", 40), ("moved", 2), ("new", 3), ("none", 0), ("waited", 0)];
    let results = results.into_iter().map(|(result, count)| (result.to_owned(), count)).collect();
    status.pools[0].sticky =
        Some(StickyStatus { cookie: "EK".to_owned(), mode: "insert".to_owned(), results });
    let screen = seen(&mut Top::new(status, Instant::now()), 100, 24, Instant::now()).join("\n");
    assert!(screen.contains("sticky by EK (insert): 40 kept, 2 moved, 3 new"), "{screen}");
}

#[test]
fn what_the_cache_spares_servers_is_told_above_them() {
    let mut status = status();
    let rule = |route: &str, requests_per_second, hit_ratio| RuleCacheStatus {
        route: route.to_owned(),
        requests_per_second,
        hit_ratio,
        ..RuleCacheStatus::default()
    };
    let memory = CacheTier {
        tier: "memory".to_owned(),
        bytes: 12 << 20,
        limit: 256 << 20,
        objects: 830,
        evictions: 4,
    };
    let rules = vec![rule("shop", 90.0, Some(0.9)), rule("api", 10.0, Some(0.5)), rule("idle", 0.0, None)];
    status.cache = Some(CacheStatus { tiers: vec![memory], rules, ..CacheStatus::default() });
    let screen = seen(&mut Top::new(status, Instant::now()), 100, 24, Instant::now()).join("\n");
    let expected = "86% of 100 requests/s from the cache  memory 12 MiB of 256 MiB  830 objects, 4 evicted";
    assert!(screen.contains(expected), "{screen}");
}

#[test]
fn no_size_is_too_small() {
    let mut loud = status();
    loud.pools[0].failing_open = true;
    for (width, height) in [(40, 24), (40, 10), (20, 5), (80, 3), (80, 1), (1, 1), (3, 40), (200, 60)] {
        let mut top = Top::new(loud.clone(), Instant::now());
        for keys in ["", "G", "d", "n?", " /app", "\nsss"] {
            press(&mut top, keys);
            seen(&mut top, width, height, Instant::now());
        }
    }
    let narrow = seen(&mut Top::new(status(), Instant::now()), 40, 12, Instant::now()).join("\n");
    assert!(narrow.contains("  SERVER          STATE    FLIGHT  REQ/S\n"), "{narrow}");
}

#[test]
fn sorting_goes_by_one_column_of_all_servers_and_back() {
    let mut top = Top::new(status(), Instant::now());
    let orders = [
        "app1 app22 app333 c1",
        "app22 app333 app1 c1",
        "app333 app1 c1 app22",
        "c1 app1 app333 app22",
        "app333 app22 app1 c1",
        "app333 app22 app1 c1",
        "app22 app1 app333 c1",
        "app1 app22 app333 c1",
    ];
    for expected in orders {
        press(&mut top, "s");
        assert_eq!(names(&top).join(" "), expected, "{}", top.order.word());
        assert!(screen(&mut top).contains("app/app22"));
        assert_eq!(selected(&top), "app1", "the selected server stays so, wherever it is");
    }
    press(&mut top, "s");
    assert_eq!(top.order, SortOrder::File);
    press(&mut top, "S");
    assert_eq!(top.order, SortOrder::By(columns::Column::Weight));
}

#[test]
fn a_filter_leaves_what_fits() {
    let mut top = Top::new(status(), Instant::now());
    for (filter, expected) in [("down", "app22"), ("CACHE", "c1"), ("10.0.0.6", "app333"), ("none", "")] {
        press(&mut top, "/");
        press(&mut top, filter);
        assert_eq!(names(&top).join(" "), expected, "{filter}");
        press(&mut top, "\n");
        assert!(screen(&mut top).contains(&format!("of 4 servers fit {filter:?}")));
        // Nothing is selected where nothing is shown.
        assert_eq!(selected(&top), if expected.is_empty() { "nothing" } else { expected });
        press(&mut top, "\u{1b}");
        assert_eq!(names(&top).len(), 4);
    }
    press(&mut top, "/q");
    assert_eq!(top.press(KeyPress::Backspace), None);
    assert_eq!((top.filter.as_str(), top.mode.clone()), ("", Mode::Filter), "letters are letters here");
}

#[test]
fn a_drain_is_asked_for_once_it_was_confirmed() {
    let mut top = Top::new(status(), Instant::now());
    assert_eq!(press(&mut top, "d"), None);
    let text = screen(&mut top);
    assert!(
        text.contains("drain app/app1? It gets nothing new; its 3 in flight finish; probes go on."),
        "{text}"
    );
    assert_eq!(press(&mut top, "xj"), None, "neither yes nor no");
    let command =
        StateCommand { pool: "app".into(), server: "app1".into(), state: WantedState::Drain, force: false };
    assert_eq!(press(&mut top, "y"), Some(Action::Operate(command)));
    assert_eq!(press(&mut top, "d"), None, "one at a time");
    top.conclude(drained("app1"));
    let text = screen(&mut top);
    assert!(text.contains("app/app1: drain, 2 in flight; a note"), "{text}");
    assert!(text.contains(">   app1        drain"), "before the next answer: {text}");
    for no in ["n", "\u{1b}", "q"] {
        press(&mut top, "m");
        assert!(screen(&mut top).contains("not even probes"));
        assert_eq!(press(&mut top, no), None);
        assert!(screen(&mut top).contains("app/app1 stays as it is"));
    }
    assert_eq!(press(&mut top, "q"), Some(Action::Quit));
}

#[test]
fn what_has_no_effect_is_said_instead_of_asked() {
    let mut top = Top::new(status(), Instant::now());
    press(&mut top, "r");
    assert!(screen(&mut top).contains("app/app1: no operator keeps it out"));
    let mut ejected = status();
    ejected.pools[0].servers[0].state = ReportedState::Ejected;
    let mut of_ejected = Top::new(ejected, Instant::now());
    press(&mut of_ejected, "r");
    let text = screen(&mut of_ejected);
    assert!(text.contains("app/app1 is ejected") && text.contains("ready app/app1 --force"), "{text}");
    press(&mut top, "jjd");
    assert!(screen(&mut top).contains("app/app333 is in drain already, by alice"));
    press(&mut top, "r");
    assert!(screen(&mut top).contains("ready app/app333? The drain by alice ends. It gets requests again."));
    press(&mut top, "n/none\nd");
    assert!(screen(&mut top).contains("no server is selected"));
}

#[test]
fn backups_and_the_pool_that_serves_in_place_of_another_are_marked() {
    let mut with_backup = status();
    with_backup.pools[0].servers[1].backup = true;
    with_backup.pools[0].served_by = Some("cache".to_owned());
    let text = screen(&mut Top::new(with_backup, Instant::now()));
    assert!(text.contains("  b app22  ") && text.contains("app -> cache"), "{text}");
}

#[test]
fn a_refusal_shows_its_figures_and_can_be_forced() {
    let mut top = Top::new(status(), Instant::now());
    press(&mut top, "dy");
    let message = "app has 12 in flight, and the others have room for 4".to_owned();
    top.conclude(CommandOutcome::CannotSpare(ApiError { message: message.clone(), help: None }));
    let text = screen(&mut top);
    assert!(text.contains(&message) && text.contains("f: force it"), "{text}");
    assert_eq!(press(&mut top, "y"), None, "yes is not enough");
    let Some(Action::Operate(command)) = press(&mut top, "f") else { panic!("it is forced") };
    assert!(command.force);
    top.conclude(CommandOutcome::Failed("the process is stopping".to_owned()));
    assert!(screen(&mut top).contains("the process is stopping"));
}

#[test]
fn a_silent_process_is_loud_and_its_successor_is_told_of() {
    let began = Instant::now();
    let mut top = Top::new(status(), began);
    top.lose("connection refused".to_owned());
    let text = seen(&mut top, 80, 24, began + Duration::from_secs(5)).join("\n");
    assert!(
        text.contains("NO ANSWER for 5s, what is shown is old: connection refused; trying again"),
        "{text}"
    );
    let mut next = status();
    next.process.pid = 4300;
    top.refresh(next, Instant::now());
    let text = screen(&mut top);
    assert!(
        text.contains("process 4300 has taken the place of 4242") && !text.contains("NO ANSWER"),
        "{text}"
    );
}

#[test]
fn failing_open_is_loud() {
    let mut status = status();
    status.pools[1].failing_open = true;
    let text = screen(&mut Top::new(status, Instant::now()));
    assert!(text.contains("NO HEALTHY SERVER in cache: requests go to every server"), "{text}");
}

#[test]
fn a_server_that_goes_leaves_the_selection_to_its_neighbour() {
    let mut top = Top::new(status(), Instant::now());
    press(&mut top, "j");
    assert_eq!(selected(&top), "app22");
    let mut next = status();
    next.pools[0].servers.remove(1);
    top.refresh(next, Instant::now());
    assert_eq!(selected(&top), "app333");
    press(&mut top, "G");
    assert_eq!(selected(&top), "c1");
    top.refresh(Status { pools: Vec::new(), ..status() }, Instant::now());
    assert_eq!(selected(&top), "nothing");
    screen(&mut top);
    top.refresh(status(), Instant::now());
    assert_eq!(selected(&top), "app1");
}

#[test]
fn many_servers_scroll_with_the_selection() {
    let mut status = status();
    let up = |n: usize| server(&format!("s{n:03}"), ReportedState::Up, 0, Figures::default());
    status.pools[0].servers = (0..100).map(up).collect();
    let mut top = Top::new(status, Instant::now());
    screen(&mut top);
    top.press(KeyPress::PageDown);
    top.press(KeyPress::PageDown);
    let at = selected(&top).to_owned();
    assert!(*at > *"s020" && screen(&mut top).contains(&format!(">   {at}")), "{at}");
    press(&mut top, "g");
    let text = screen(&mut top);
    assert!(
        text.contains("\n  app ") && text.contains(">   s000"),
        "the pool comes with its first server: {text}"
    );
    press(&mut top, "?");
    assert!(screen(&mut top).contains("drain: nothing new, what is in flight finishes"));
}
