//! Projects and datasets: what the policy shows. Layer 5.

use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::dispatch::{Asked, uncounted};
use super::fault::Fault;
use super::keyring::Use;
use super::resource::keep;
use super::scrub;
use super::upstream::{Call, Verb};
use crate::error::{Denial, DenialCode};
use crate::policy::{Protection, wildcard};

/// Most entries on one page of a list.
pub(super) const MAX_PAGE: u64 = 1_000;
/// Most pages of the service's list that are looked through for one page of the tenant's.
pub(super) const MAX_PAGES: usize = 50;

/// projects.list: those that are served.
pub(super) async fn projects(asked: &Asked<'_>) -> Result<Answer, Fault> {
    asked.by_itself().await?;
    let mut names: Vec<&str> = asked.front.projects(&asked.policy).collect();
    names.sort_unstable();
    names.dedup();
    let projects: Vec<Value> = names
        .iter()
        .map(|name| {
            json!({
                "kind": "bigquery#project", "id": name, "friendlyName": name,
                "projectReference": {"projectId": name},
            })
        })
        .collect();
    let count = projects.len();
    Ok(Answer::json(
        200,
        &json!({"kind": "bigquery#projectList", "projects": projects, "totalItems": count}),
    ))
}

/// routines.list and models.list: there are none for tenants.
pub(super) async fn nothing(asked: &Asked<'_>) -> Result<Answer, Fault> {
    let dataset = asked.name(0)?;
    visible(asked, dataset)?;
    asked.by_itself().await?;
    Ok(Answer::json(200, &json!({})))
}

/// Whether the policy shows a dataset: `Some(true)` if it is the tenant's own.
pub(super) fn shows(asked: &Asked<'_>, dataset: &str) -> Option<bool> {
    let place = asked.place();
    if let Some(own) = asked.env(&place).own(&asked.project, dataset) {
        return own.then_some(true);
    }
    let opens = asked.policy.tables.iter().any(|(pattern, rule)| {
        wildcard(&pattern.project, &asked.project)
            && wildcard(&pattern.dataset, dataset)
            && !matches!(rule.protection, Protection::Deny)
    });
    opens.then_some(false)
}

/// A dataset that the policy shows, and whether it is the tenant's own.
///
/// # Errors
/// HR1003 for any other.
pub(super) fn visible(asked: &Asked<'_>, dataset: &str) -> Result<bool, Fault> {
    let unknown =
        || Denial::of(DenialCode::UnknownRelation, format!("{}.{dataset}", asked.project));
    Ok(shows(asked, dataset).ok_or_else(unknown)?)
}

/// datasets.get
pub(super) async fn show(asked: &Asked<'_>) -> Result<Answer, Fault> {
    let dataset = asked.name(0)?;
    let own = visible(asked, dataset)?;
    let call = Call::new(Verb::Get, ["projects", &asked.project, "datasets", dataset])
        .parameter("datasetView", "METADATA");
    let reply = asked.perform(&call, &asked.facts(), uncounted).await?;
    if reply.status == 404 {
        return Err(Fault::NotFound(format!("Dataset {}:{dataset}", asked.project)));
    }
    if !reply.is_good() {
        return Err(scrub::fault(&reply, scrub::Known::NOTHING));
    }
    Ok(Answer::json(200, &resource(asked, &Value::Object(reply.object()?), own)))
}

/// datasets.list
pub(super) async fn list(asked: &Asked<'_>) -> Result<Answer, Fault> {
    let most = asked.count("maxResults")?.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let mut pages = Pages::open(asked, "datasets")?;
    let mut datasets = Vec::new();
    while pages.more && datasets.is_empty() {
        // `all` would show those that the service makes for results, `filter` labels of the operator.
        let call = Call::new(Verb::Get, ["projects", &asked.project, "datasets"])
            .parameter("maxResults", most.to_string());
        let page = pages.next(asked, call).await?;
        for dataset in page.get("datasets").and_then(Value::as_array).into_iter().flatten() {
            let id = dataset.get("datasetReference").and_then(|of| of.get("datasetId"));
            if let Some(own) = id.and_then(Value::as_str).and_then(|id| shows(asked, id)) {
                datasets.push(resource(asked, dataset, own));
            }
        }
    }
    Ok(pages.answer(asked, "bigquery#datasetList", "datasets", datasets))
}

/// What is told of a dataset.
fn resource(asked: &Asked<'_>, dataset: &Value, own: bool) -> Value {
    let mut built = Map::new();
    keep(dataset, &["kind", "friendlyName", "description", "location"], &mut built);
    if own {
        let names = [
            "etag",
            "labels",
            "creationTime",
            "lastModifiedTime",
            "defaultTableExpirationMs",
            "defaultPartitionExpirationMs",
        ];
        keep(dataset, &names, &mut built);
    }
    if let Some(id) = dataset.get("datasetReference").and_then(|of| of.get("datasetId")?.as_str()) {
        built.insert("id".to_owned(), format!("{}:{id}", asked.project).into());
        let reference = json!({"projectId": asked.project, "datasetId": id});
        built.insert("datasetReference".to_owned(), reference);
    }
    Value::Object(built)
}

/// The pages of a list of the service's that are looked through for one of the tenant's.
pub(super) struct Pages {
    context: String,
    token: Option<String>,
    seen: usize,
    /// Whether there is a page to be asked for.
    pub(super) more: bool,
}

impl Pages {
    /// Where the client's page token leads, or the first page.
    ///
    /// # Errors
    /// HR5007 for a token that this tenant was not given for this list.
    pub(super) fn open(asked: &Asked<'_>, context: &str) -> Result<Self, Fault> {
        let token = match asked.parameter("pageToken") {
            Some(token) => Some(
                asked
                    .owner()
                    .open(Use::Page, context, token)
                    .ok_or_else(|| Fault::foreign("Page"))?,
            ),
            None => None,
        };
        Ok(Self { context: context.to_owned(), token, seen: 0, more: true })
    }

    /// Asks for the next page.
    ///
    /// # Errors
    /// The service's, scrubbed.
    pub(super) async fn next(
        &mut self,
        asked: &Asked<'_>,
        call: Call,
    ) -> Result<Map<String, Value>, Fault> {
        let call = call.maybe("pageToken", self.token.take());
        let reply = asked.perform(&call, &asked.facts(), uncounted).await?;
        if reply.status == 404 {
            return Err(Fault::NotFound(format!("Dataset {}", asked.project)));
        }
        if !reply.is_good() {
            return Err(scrub::fault(&reply, scrub::Known::NOTHING));
        }
        let page = reply.object()?;
        self.token = page.get("nextPageToken").and_then(Value::as_str).map(str::to_owned);
        self.seen += 1;
        self.more = self.token.is_some() && self.seen < MAX_PAGES;
        Ok(page)
    }

    /// The tenant's page.
    pub(super) fn answer(
        self,
        asked: &Asked<'_>,
        kind: &str,
        name: &str,
        entries: Vec<Value>,
    ) -> Answer {
        let mut body = Map::new();
        body.insert("kind".to_owned(), kind.into());
        body.insert(name.to_owned(), Value::Array(entries));
        if let Some(token) = self.token {
            let sealed = asked.owner().seal(Use::Page, &self.context, &token);
            body.insert("nextPageToken".to_owned(), sealed.into());
        }
        Answer::json(200, &Value::Object(body))
    }
}
