//! The one table of BigQuery's methods: what becomes of each. Layer 5, pure.
//!
//! `docs/bigquery-methods.md` is rendered from it. A path, a method or a query parameter that is not
//! here is denied. Source of ids and paths: the discovery document of v2, revision 20261009.

use super::fault::Fault;
use super::target::{Target, printable};
use crate::error::{Denial, DenialCode};

/// What becomes of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Its SQL is decided and what is sent is written anew.
    Rewritten,
    /// What it would change is checked: the tenant's own datasets, or rows that are the tenant's.
    Checked,
    /// Only for jobs that the tenant made.
    Owned,
    /// Its answer shows what the policy shows.
    Filtered,
    /// Hedgerow answers by itself.
    Answered,
    /// Denied (HR5001).
    Denied,
}

impl Treatment {
    /// The word in the documentation.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rewritten => "rewritten",
            Self::Checked => "checked",
            Self::Owned => "owned",
            Self::Filtered => "filtered",
            Self::Answered => "answered",
            Self::Denied => "denied",
        }
    }
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// jobs.query
    Query,
    /// jobs.getQueryResults
    Results,
    /// jobs.insert
    InsertJob,
    /// jobs.get
    Job,
    /// jobs.list
    Jobs,
    /// jobs.cancel
    CancelJob,
    /// jobs.delete
    DeleteJob,
    /// projects.list
    Projects,
    /// datasets.list
    Datasets,
    /// datasets.get
    Dataset,
    /// tables.list
    Tables,
    /// tables.get
    Table,
    /// tables.insert
    InsertTable,
    /// tables.patch, tables.update
    ChangeTable,
    /// tables.delete
    DeleteTable,
    /// routines.list, models.list
    Nothing,
    /// tabledata.list
    Rows,
    /// tabledata.insertAll
    InsertAll,
    /// An upload begins.
    Upload,
    /// An upload goes on.
    UploadMore,
}

/// One method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its id in the discovery document.
    pub id: &'static str,
    /// The HTTP method.
    pub verb: &'static str,
    /// The path below `/bigquery/v2/`, or a whole one if it begins with `/`. `{…}` is one segment.
    pub path: &'static str,
    /// Query parameters of its own that are read.
    pub parameters: &'static [&'static str],
    /// What becomes of it.
    pub treatment: Treatment,
    /// Who answers; nobody: denied.
    pub handler: Option<Handler>,
    /// What is done, or why it is denied.
    pub about: &'static str,
}

const fn allowed(
    id: &'static str,
    verb: &'static str,
    path: &'static str,
    parameters: &'static [&'static str],
    (treatment, handler): (Treatment, Handler),
    about: &'static str,
) -> Method {
    Method { id, verb, path, parameters, treatment, handler: Some(handler), about }
}

const fn denied(
    id: &'static str,
    verb: &'static str,
    path: &'static str,
    about: &'static str,
) -> Method {
    let treatment = Treatment::Denied;
    Method { id, verb, path, parameters: &[], treatment, handler: None, about }
}

use Treatment::{Answered, Checked, Filtered, Owned, Rewritten};

/// Parameters of every method. `fields` is not passed on: what is answered is a list of our own.
pub const COMMON_PARAMETERS: &[&str] = &["alt", "prettyPrint", "fields", "quotaUser"];

/// Prefix of the API.
pub const PREFIX: &str = "bigquery/v2/";

/// Every method of the API.
#[rustfmt::skip] // a table
pub const METHODS: &[Method] = &[
    allowed("jobs.query", "POST", "projects/{project}/queries", &[], (Rewritten, Handler::Query),
        "Decided; the body is built from the fields on the list; labels, byte limit and result id are the tenant's."),
    allowed("jobs.getQueryResults", "GET", "projects/{project}/queries/{job}",
        &["location", "maxResults", "pageToken", "startIndex", "timeoutMs", "formatOptions.useInt64Timestamp", "formatOptions.timestampOutputFormat"],
        (Owned, Handler::Results), "Pages of a job of the tenant's; page tokens are bound to job and tenant."),
    allowed("jobs.insert", "POST", "projects/{project}/jobs", &[], (Rewritten, Handler::InsertJob),
        "Queries as in jobs.query; results and copies into the tenant's own datasets only."),
    allowed("jobs.get", "GET", "projects/{project}/jobs/{job}", &["location", "projection"], (Owned, Handler::Job),
        "Without query plan, users and sizes of tables that tenants share."),
    allowed("jobs.list", "GET", "projects/{project}/jobs",
        &["allUsers", "maxCreationTime", "maxResults", "minCreationTime", "pageToken", "parentJobId", "projection", "stateFilter"],
        (Filtered, Handler::Jobs), "The tenant's own jobs only; `allUsers` is denied."),
    allowed("jobs.cancel", "POST", "projects/{project}/jobs/{job}/cancel", &["location", "projection"], (Owned, Handler::CancelJob), "As jobs.get."),
    allowed("jobs.delete", "DELETE", "projects/{project}/jobs/{job}/delete", &["location"], (Owned, Handler::DeleteJob), "As jobs.get."),
    allowed("projects.list", "GET", "projects", &["maxResults", "pageToken"], (Answered, Handler::Projects),
        "The configured projects; the service is not asked."),
    denied("projects.getServiceAccount", "GET", "projects/{project}/serviceAccount", "Names the upstream identity."),
    allowed("datasets.list", "GET", "projects/{project}/datasets", &["all", "filter", "maxResults", "pageToken"], (Filtered, Handler::Datasets),
        "Datasets in which the policy shows something, and the tenant's own."),
    allowed("datasets.get", "GET", "projects/{project}/datasets/{dataset}", &["datasetView", "accessPolicyVersion"], (Filtered, Handler::Dataset),
        "Without access lists, encryption keys and links."),
    denied("datasets.insert", "POST", "projects/{project}/datasets", "Grants access, links other projects; datasets are the operator's."),
    denied("datasets.update", "PUT", "projects/{project}/datasets/{dataset}", "Access lists open a dataset to anyone."),
    denied("datasets.patch", "PATCH", "projects/{project}/datasets/{dataset}", "Access lists open a dataset to anyone."),
    denied("datasets.delete", "DELETE", "projects/{project}/datasets/{dataset}", "Destroys data of every tenant."),
    denied("datasets.undelete", "POST", "projects/{project}/datasets/{dataset}:undelete", "Brings back what was erased."),
    allowed("tables.list", "GET", "projects/{project}/datasets/{dataset}/tables", &["maxResults", "pageToken"], (Filtered, Handler::Tables),
        "Tables that the policy shows."),
    allowed("tables.get", "GET", "projects/{project}/datasets/{dataset}/tables/{table}", &["selectedFields", "view"], (Filtered, Handler::Table),
        "For tables that tenants share: the schema without denied columns; no counts, sizes or times. Results of the tenant's jobs."),
    allowed("tables.insert", "POST", "projects/{project}/datasets/{dataset}/tables", &[], (Checked, Handler::InsertTable),
        "Plain tables in the tenant's own datasets; views are made by SQL, which is decided."),
    allowed("tables.update", "PUT", "projects/{project}/datasets/{dataset}/tables/{table}", &["autodetect_schema"], (Checked, Handler::ChangeTable),
        "In the tenant's own datasets."),
    allowed("tables.patch", "PATCH", "projects/{project}/datasets/{dataset}/tables/{table}", &["autodetect_schema"], (Checked, Handler::ChangeTable),
        "In the tenant's own datasets."),
    allowed("tables.delete", "DELETE", "projects/{project}/datasets/{dataset}/tables/{table}", &[], (Checked, Handler::DeleteTable),
        "In the tenant's own datasets."),
    denied("tables.getIamPolicy", "POST", "projects/{project}/datasets/{dataset}/tables/{table}:getIamPolicy", "Names the principals of every tenant."),
    denied("tables.setIamPolicy", "POST", "projects/{project}/datasets/{dataset}/tables/{table}:setIamPolicy", "Grants a way around Hedgerow."),
    denied("tables.testIamPermissions", "POST", "projects/{project}/datasets/{dataset}/tables/{table}:testIamPermissions", "Tells which tables there are."),
    allowed("tabledata.list", "GET", "projects/{project}/datasets/{dataset}/tables/{table}/data",
        &["maxResults", "pageToken", "startIndex", "selectedFields", "formatOptions.useInt64Timestamp", "formatOptions.timestampOutputFormat"],
        (Rewritten, Handler::Rows), "Of tables that tenants share by a query, decided like any other; the tenant's own and its results as they are."),
    allowed("tabledata.insertAll", "POST", "projects/{project}/datasets/{dataset}/tables/{table}/insertAll", &[], (Checked, Handler::InsertAll),
        "Each row's tenant is checked, or filled in; `templateSuffix` is denied."),
    allowed("routines.list", "GET", "projects/{project}/datasets/{dataset}/routines", &["filter", "maxResults", "pageToken", "readMask"], (Answered, Handler::Nothing),
        "An empty list: routines are the operator's."),
    denied("routines.get", "GET", "projects/{project}/datasets/{dataset}/routines/{routine}", "Shows the operator's code and endpoints."),
    denied("routines.insert", "POST", "projects/{project}/datasets/{dataset}/routines", "Code that would run later, out of sight."),
    denied("routines.update", "PUT", "projects/{project}/datasets/{dataset}/routines/{routine}", "Code that would run later, out of sight."),
    denied("routines.delete", "DELETE", "projects/{project}/datasets/{dataset}/routines/{routine}", "Routines are the operator's."),
    denied("routines.getIamPolicy", "POST", "projects/{project}/datasets/{dataset}/routines/{routine}:getIamPolicy", "Names principals."),
    denied("routines.setIamPolicy", "POST", "projects/{project}/datasets/{dataset}/routines/{routine}:setIamPolicy", "Grants a way around Hedgerow."),
    denied("routines.testIamPermissions", "POST", "projects/{project}/datasets/{dataset}/routines/{routine}:testIamPermissions", "Tells which routines there are."),
    allowed("models.list", "GET", "projects/{project}/datasets/{dataset}/models", &["maxResults", "pageToken"], (Answered, Handler::Nothing),
        "An empty list: models are the operator's."),
    denied("models.get", "GET", "projects/{project}/datasets/{dataset}/models/{model}", "Holds values and statistics of every tenant's rows."),
    denied("models.patch", "PATCH", "projects/{project}/datasets/{dataset}/models/{model}", "Models are the operator's."),
    denied("models.delete", "DELETE", "projects/{project}/datasets/{dataset}/models/{model}", "Models are the operator's."),
    denied("rowAccessPolicies.list", "GET", "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies", "Filters and grantees are a list of tenants."),
    denied("rowAccessPolicies.get", "GET", "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies/{policy}", "Filters and grantees are a list of tenants."),
    denied("rowAccessPolicies.insert", "POST", "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies", "A filter that is TRUE opens the table."),
    denied("rowAccessPolicies.update", "PUT", "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies/{policy}", "A filter that is TRUE opens the table."),
    denied("rowAccessPolicies.delete", "DELETE", "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies/{policy}", "Without policies the table is open."),
    denied("rowAccessPolicies.batchDelete", "POST", "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies:batchDelete", "Without policies the table is open."),
    denied("rowAccessPolicies.getIamPolicy", "POST", "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies/{policy}:getIamPolicy", "Names principals."),
    denied("rowAccessPolicies.testIamPermissions", "POST", "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies/{policy}:testIamPermissions", "Tells which policies there are."),
    allowed("jobs.insert (upload)", "POST", "/upload/bigquery/v2/projects/{project}/jobs", &["uploadType"], (Checked, Handler::Upload),
        "Load jobs, `multipart` and `resumable`; JSON and CSV rows for tables that tenants share are checked or filled, and written anew."),
    allowed("jobs.insert (upload, continued)", "PUT", "/upload/bigquery/v2/projects/{project}/jobs", &["uploadType", "upload_id"], (Owned, Handler::UploadMore),
        "By the tenant who began it."),
    denied("jobs.insert (resumable alias)", "POST", "/resumable/upload/bigquery/v2/projects/{project}/jobs", "Another spelling of the upload; no client uses it."),
    denied("batch", "POST", "/batch/bigquery/v2", "Holds whole requests in its body."),
    denied("discovery", "GET", "/discovery/v1/apis/bigquery/v2/rest", "Names methods that are not served."),
    denied("mcp", "POST", "/mcp", "Runs SQL for tools, in another form."),
];

/// A request that has a route.
#[derive(Debug)]
pub(super) struct Route {
    /// The method.
    pub(super) method: &'static Method,
    /// Who answers.
    pub(super) handler: Handler,
    /// The segments that stand for `{…}`, in order.
    pub(super) names: Vec<String>,
}

/// Finds the method of a request.
///
/// # Errors
/// HR5001 for what is not in the table or denied there, HR5002 for a parameter that is not on the
/// method's list.
pub(super) fn route(verb: &str, target: &Target) -> Result<Route, Fault> {
    let (method, names) = METHODS
        .iter()
        .filter(|method| method.verb == verb)
        .find_map(|method| Some((method, matches(method.path, &target.segments)?)))
        .ok_or_else(|| {
            let path = printable(&target.segments.join("/"));
            Fault::from(Denial::of(DenialCode::ApiMethod, format!("{verb} {path}")))
        })?;
    let Some(handler) = method.handler else {
        return Err(Denial::of(DenialCode::ApiMethod, method.id).into());
    };
    for (name, value) in &target.parameters {
        let common = COMMON_PARAMETERS.contains(&name.as_str());
        if !common && !method.parameters.contains(&name.as_str()) {
            return Err(Fault::form(format!("query parameter {}", printable(name))));
        }
        if name == "alt" && value != "json" {
            return Err(Fault::form("query parameter alt"));
        }
    }
    Ok(Route { method, handler, names })
}

/// The segments that stand for `{…}`, if the path is this one. Below `/bigquery/v2/` the prefix may
/// be left out: the Node client leaves it out when it talks to what it takes for an emulator.
fn matches(path: &str, segments: &[String]) -> Option<Vec<String>> {
    if let Some(whole) = path.strip_prefix('/') {
        return same(whole, segments);
    }
    match segments {
        [api, version, rest @ ..] if api == "bigquery" && version == "v2" => same(path, rest),
        rest => same(path, rest),
    }
}

fn same(path: &str, segments: &[String]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut given = segments.iter();
    for part in path.split('/') {
        let segment = given.next()?;
        match part.strip_prefix('{') {
            Some(variable) => {
                let (_, action) = variable.split_once('}')?;
                let name = segment.strip_suffix(action)?;
                // An action that the template does not have is not part of a name.
                if name.is_empty() || name.contains(':') {
                    return None;
                }
                names.push(name.to_owned());
            }
            None if part == segment => {}
            None => return None,
        }
    }
    given.next().is_none().then_some(names)
}

#[cfg(test)]
mod tests {
    use super::super::target::parse;
    use super::*;

    fn found(verb: &str, target: &str) -> Result<&'static str, String> {
        let code = |fault| match fault {
            Fault::Denied(denial) => denial.code.to_string(),
            other => format!("{other:?}"),
        };
        let target = parse(target.as_bytes()).map_err(code)?;
        route(verb, &target).map(|route| route.method.id).map_err(code)
    }

    #[test]
    fn every_method_is_found_at_its_own_path_or_denied() {
        for method in METHODS {
            let path = match method.path.strip_prefix('/') {
                Some(whole) => format!("/{whole}"),
                None => format!("/{PREFIX}{}", method.path),
            };
            let path = path.replace(['{', '}'], "");
            let expected = match method.handler {
                Some(_) => Ok(method.id),
                None => Err("HR5001".to_owned()),
            };
            assert_eq!(found(method.verb, &path), expected, "{path}");
            assert_eq!(method.handler.is_none(), method.treatment == Treatment::Denied);
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_denied() {
        for (verb, target) in [
            ("GET", "/"),
            ("GET", "/bigquery/v2"),
            ("GET", "/bigquery/v3/projects/p/jobs"),
            ("GET", "/Bigquery/v2/projects/p/jobs"),
            ("GET", "/bigquery/v2/bigquery/v2/projects/p/jobs"),
            ("PUT", "/bigquery/v2/projects/p/jobs"),
            ("HEAD", "/bigquery/v2/projects/p/jobs"),
            ("OPTIONS", "/bigquery/v2/projects/p/jobs"),
            ("POST", "/batch"),
            ("POST", "/google.cloud.bigquery.v2.JobService/Query"),
            ("POST", "/$rpc/google.cloud.bigquery.v2.JobService/Query"),
            ("POST", "/bigquery/v2/projects/p/datasets/d/tables/t:anything"),
            ("GET", "/bigquery/v2/projects/p/datasets/d/tables/t:getIamPolicy"),
        ] {
            assert_eq!(found(verb, target), Err("HR5001".to_owned()), "{verb} {target}");
        }
    }

    #[test]
    fn parameters_are_those_of_the_method() {
        assert_eq!(
            found("GET", "/bigquery/v2/projects/p/jobs/j?location=EU&alt=json"),
            Ok("jobs.get")
        );
        assert_eq!(found("GET", "/projects/p/queries/j?maxResults=0"), Ok("jobs.getQueryResults"));
        for parameter in [
            "key=x",
            "access_token=x",
            "oauth_token=x",
            "callback=x",
            "$httpMethod=DELETE",
            "$alt=json",
            "upload_protocol=raw",
            "uploadType=media",
            "userIp=1",
            "alt=media",
            "maxResults=1",
            "LOCATION=EU",
            "x",
        ] {
            let target = format!("/bigquery/v2/projects/p/jobs/j?{parameter}");
            assert_eq!(found("GET", &target), Err("HR5002".to_owned()), "{parameter}");
        }
    }
}
