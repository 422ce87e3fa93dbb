//! Routes that are taken out of service and brought back.

use super::Admin;
use super::access::Actor;
use super::answer::{ApiRefusal, PathNames, ask};
use crate::api::ApiError;
use crate::api::maintenance::{MaintenanceChanged, MaintenanceList, MaintenanceOverride, MaintenanceStatus};
use crate::control::{ControlMessage, MaintenanceCommand, MaintenanceRefused};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use tokio::sync::oneshot;

/// The body of a change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MaintenanceBody {
    enabled: bool,
}

/// Every rule that is in maintenance or of which an operator has said something.
pub(super) fn status(admin: &Admin) -> Vec<MaintenanceStatus> {
    let (snapshot, overrides) = (admin.live.snapshot(), admin.live.overrides.load());
    let told = snapshot.maintenance().map(|rule| {
        let said = rule.route.and_then(|(routes, rule)| overrides.of_rule(routes, rule));
        MaintenanceStatus {
            listener: rule.listener.to_string(),
            route: rule.route.map(|(_, rule)| rule.to_string()),
            enabled: rule.is_enabled,
            by_operator: said.map(|said| MaintenanceOverride { actor: said.actor.clone(), at: said.at }),
        }
    });
    told.filter(|rule| rule.enabled || rule.by_operator.is_some()).collect()
}

pub(super) async fn list(State(admin): State<Admin>) -> Json<MaintenanceList> {
    Json(MaintenanceList { maintenance: status(&admin) })
}

pub(super) async fn change(
    State(admin): State<Admin>,
    Extension(Actor(actor)): Extension<Actor>,
    PathNames(route): PathNames<String>,
    body: Result<Json<MaintenanceBody>, JsonRejection>,
) -> Result<Json<MaintenanceChanged>, ApiRefusal> {
    let Json(MaintenanceBody { enabled }) = body.map_err(|error| {
        ApiRefusal::new(StatusCode::BAD_REQUEST, error.body_text())
            .help(r#"send JSON like {"enabled": true}"#)
    })?;
    let (answer, outcome) = oneshot::channel();
    let command = MaintenanceCommand { route: route.clone(), enabled, actor, answer };
    match ask(&admin, ControlMessage::Maintain(command), outcome).await? {
        Ok(done) => Ok(Json(MaintenanceChanged { enabled, rules: done.rules, notes: done.notes })),
        Err(MaintenanceRefused::NoRoute(_)) => {
            let snapshot = admin.live.snapshot();
            let plans = snapshot.plan.routes.iter();
            let names = plans.flat_map(|routes| {
                [&*routes.name].into_iter().chain(routes.rules.iter().map(|rule| &*rule.name))
            });
            Err(ApiRefusal::not_found(ApiError::no_route(&route, names)))
        }
        Err(refused @ MaintenanceRefused::Relieved) => {
            Err(ApiRefusal::new(StatusCode::CONFLICT, refused.to_string()).help("say it again"))
        }
    }
}
