//! The sections about the process itself: threads, the admin address, the log and the access log.

use super::keys::KeyKind;
use super::plan::{
    AccessLogFormat, AccessLogPath, AccessLogPlan, AdminPlan, EventsPlan, Log, LogFormat, LogLevel,
    ProcessPlan,
};
use super::problem::{Fault, quoted};
use super::section::{Section, out_of_range};
use super::tree::Scalar;
use crate::limit::ClientPrefix;
use std::net::SocketAddr;
use std::path::PathBuf;

pub(super) fn process(section: Section<'_>) -> ProcessPlan {
    ProcessPlan {
        threads: section.value("threads", threads),
        max_connections: section.count("max_connections"),
        shutdown_timeout: section.duration("shutdown_timeout"),
        client_prefix: section.section("client_prefix", |prefix| client_prefix(&prefix)).unwrap_or_default(),
        limit_keys: section.count("limit_keys"),
        max_tarpits: section.count("max_tarpits"),
        compressors: section.count("compressors"),
    }
}

fn client_prefix(section: &Section<'_>) -> ClientPrefix {
    let length = |name| u8::try_from(section.count(name)).expect("the table's range ends at 128");
    ClientPrefix { v4: length("v4"), v6: length("v6") }
}

fn threads(scalar: &Scalar<'_>) -> Result<Option<usize>, Fault> {
    if scalar.text == "auto" {
        return Ok(None);
    }
    match scalar.as_number().and_then(|number| usize::try_from(number).ok()) {
        Some(number @ 1..=256) => Ok(Some(number)),
        Some(_) => Err(out_of_range(scalar, &KeyKind::Text("1 to 256, or `auto` for one per core"))),
        None => Err(Fault::new(
            format!("{} is not a number of threads", quoted(&scalar.text)),
            "use 1 to 256, or `auto` for one per core",
        )),
    }
}

pub(super) fn admin(section: Section<'_>) -> AdminPlan {
    let admin = AdminPlan {
        socket: section.nullable("socket", file_path),
        address: section.nullable("address", admin_address),
        token_file: section.nullable("token_file", file_path),
        state_file: section.nullable("state_file", file_path),
    };
    if let (Some(address), None) = (admin.address, &admin.token_file)
        && !address.ip().is_loopback()
        && let Some(at) = section.get("address")
    {
        at.refuse(Fault::new(
            format!("{address} can be reached from other machines, and there is no `token_file`"),
            format!("add `token_file`, or use a loopback address like `127.0.0.1:{}`", address.port()),
        ));
    }
    admin
}

pub(super) fn events(section: Section<'_>) -> EventsPlan {
    EventsPlan { path: section.nullable("path", file_path), keep: section.count("keep") }
}

fn admin_address(scalar: &Scalar<'_>) -> Result<SocketAddr, Fault> {
    scalar.text.parse().map_err(|_| {
        Fault::new(
            format!("{} is not an IP address with a port", quoted(&scalar.text)),
            "write it like `127.0.0.1:9900`, or `null` to switch it off",
        )
    })
}

pub(super) fn file_path(scalar: &Scalar<'_>) -> Result<PathBuf, Fault> {
    match &*scalar.text {
        "" => Err(Fault::new("is empty", "write the path of a file, or `null` for none")),
        path if path.ends_with('/') => {
            Err(Fault::new(format!("{} is a directory", quoted(path)), "write the path of a file"))
        }
        path => Ok(PathBuf::from(path)),
    }
}

pub(super) const LOG_LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

pub(super) const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

pub(super) const ACCESS_LOG_FORMATS: [(&str, AccessLogFormat); 2] =
    [("json", AccessLogFormat::Json), ("combined", AccessLogFormat::Combined)];

pub(super) fn log(section: Section<'_>) -> Log {
    Log { level: section.choice("level", &LOG_LEVELS), format: section.choice("format", &LOG_FORMATS) }
}

/// What the file says, or the default when it says nothing.
pub(super) fn access_log(file: &Section<'_>) -> Option<AccessLogPlan> {
    if let Some(at) = file.get("access_log") {
        if at.is_null() {
            at.refuse(Fault::new("has no value", "write `off`, or a section with `path` and `format`"));
            return None;
        }
        if at.is_scalar() {
            return at.scalar(&"`off`", off)?;
        }
    }
    file.section("access_log", |section| {
        Some(AccessLogPlan {
            path: section.value("path", access_log_path),
            format: section.choice("format", &ACCESS_LOG_FORMATS),
        })
    })?
}

fn off<T>(scalar: &Scalar<'_>) -> Result<Option<T>, Fault> {
    if scalar.text == "off" {
        return Ok(None);
    }
    Err(Fault::new(
        format!("{} is not known here", quoted(&scalar.text)),
        "write `off`, or a section with `path` and `format`",
    ))
}

fn access_log_path(scalar: &Scalar<'_>) -> Result<AccessLogPath, Fault> {
    match &*scalar.text {
        "" => Err(Fault::new("is empty", "write `stdout` or the path of a file")),
        "stdout" => Ok(AccessLogPath::Stdout),
        path if path.ends_with('/') => {
            Err(Fault::new(format!("{} is a directory", quoted(path)), "write the path of a file"))
        }
        path => Ok(AccessLogPath::File(PathBuf::from(path))),
    }
}
