//! From a request to its answer: identity, route, handler, record. Layer 5.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use moka::sync::Cache;
use tokio::sync::Semaphore;

use super::answer::Answer;
use super::budget::Budget;
use super::dry_run::ReadAlike;
use super::exchange::Exchange;
use super::fault::Fault;
use super::form::{is_name, is_word};
use super::judge::Judge;
use super::keyring::{Keyring, Owner};
use super::meters::Meters;
use super::recorder::{Counts, Facts, Recorder, SUCCESS};
use super::routes::{Handler, Method, route};
use super::upload::Uploads;
use super::upstream::{Call, Reply, Upstream};
use super::{
    Settings, Shared, caller, datasets, insert_all, jobs, query, results, scrub, tabledata, tables,
    target, upload,
};
use crate::claims::TenantClaim;
use crate::error::{Denial, DenialCode};
use crate::identity::VerifiedIdentity;
use crate::limiter::{self, Demand, Rules};
use crate::policy::BigQueryPolicy;
use crate::sql::bigquery::Place;
use crate::sql::bigquery::names::Env;

/// Memory for what is known of jobs, in bytes.
const KNOWN_JOBS_BYTES: u64 = 32 << 20;

/// What all requests share.
pub(super) struct Front {
    pub(super) settings: Settings,
    pub(super) shared: Shared,
    pub(super) upstream: Upstream,
    pub(super) keyring: Keyring,
    pub(super) meters: Arc<Meters>,
    pub(super) judge: Judge,
    /// Jobs that went through here, by upstream id. A job that is not among them is told less of.
    pub(super) jobs: KnownJobs,
    /// Uploads under way.
    pub(super) uploads: Uploads,
    /// Bytes of the tenants' days.
    pub(super) budget: Budget,
    /// Texts that the service reads as they were decided, where that is asked for.
    pub(super) read_alike: Option<ReadAlike>,
    /// KiB of bodies that may be held at a time.
    pub(super) room: Arc<Semaphore>,
}

/// What is known of a job that went through here.
#[derive(Debug)]
pub(super) struct KnownJob {
    /// The client's own text.
    pub(super) text: Arc<str>,
    /// Whether it reads tables that tenants share.
    pub(super) protected: bool,
}

impl KnownJob {
    /// What may be said of its failure.
    pub(super) fn told(&self) -> scrub::Known<'_> {
        scrub::Known { text: &self.text, protected: self.protected }
    }
}

/// What is known of jobs, by upstream id, bounded by bytes.
pub(super) struct KnownJobs(Cache<String, Arc<KnownJob>>);

impl KnownJobs {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        let weigh = |id: &String, job: &Arc<KnownJob>| {
            u32::try_from(id.len() + job.text.len() + 256).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(KNOWN_JOBS_BYTES).weigher(weigh).build())
    }

    /// What is known of a job.
    pub(super) fn get(&self, id: &str) -> Option<Arc<KnownJob>> {
        self.0.get(id)
    }

    /// Remembers a job, if the reply says that the request made it.
    ///
    /// SECURITY: clients choose ids. A second request with the id of a job that is there fails, and must
    /// not say what that job is: the errors of a job over tenants' tables would be told as those of
    /// `SELECT 1`. For the same reason a job never becomes less protected.
    pub(super) fn made(&self, id: String, known: &Arc<KnownJob>, reply: &Reply) {
        let kept = self.0.get(&id).is_some_and(|job| job.protected && !known.protected);
        if reply.is_good() && !kept {
            self.0.insert(id, Arc::clone(known));
        }
    }
}

/// A request whose caller and method are known.
pub(super) struct Asked<'a> {
    pub(super) front: &'a Front,
    pub(super) identity: VerifiedIdentity,
    pub(super) tenant: TenantClaim,
    /// One policy from the request's beginning to its end.
    pub(super) policy: Arc<BigQueryPolicy>,
    pub(super) recorder: &'a Recorder,
    pub(super) method: &'static Method,
    /// The path's names behind the project.
    pub(super) names: Vec<String>,
    pub(super) project: String,
    pub(super) parameters: BTreeMap<String, String>,
    begun: Instant,
    /// The monitored quota that would have refused the request.
    would_deny: OnceLock<Denial>,
}

impl Front {
    /// Answers a request; every refusal is on record before.
    pub(super) async fn answer(&self, exchange: &mut Exchange) -> Answer {
        let begun = Instant::now();
        let agent = exchange.header("user-agent").ok().flatten();
        let mut recorder = Recorder::new(
            self.shared.audit.clone(),
            Arc::clone(&self.meters),
            exchange.peer,
            Arc::clone(&self.upstream.name),
            agent,
        );
        let outcome = self.handle(exchange, &mut recorder, begun).await;
        let fault = match outcome {
            Ok(answer) => return answer,
            Err(fault) => fault,
        };
        match &fault {
            Fault::Denied(denial) => match recorder.denied(denial).await {
                Ok(record) => fault.answer(Some(record)),
                Err(_unavailable) => Fault::NoAudit.answer(None),
            },
            Fault::NotFound(_)
            | Fault::Invalid(_)
            | Fault::Upstream(_)
            | Fault::Unavailable
            | Fault::NoAudit
            | Fault::Body(_) => fault.answer(None),
        }
    }

    async fn handle(
        &self,
        exchange: &mut Exchange,
        recorder: &mut Recorder,
        begun: Instant,
    ) -> Result<Answer, Fault> {
        let identity = caller::identify(exchange, &self.shared.authenticator).await?;
        recorder.identified(&identity);
        let Some(tenant) = identity.tenant().cloned() else {
            return Err(Denial::new(DenialCode::TokenTenant).into());
        };
        exchange.check_head()?;
        let target = target::parse(&exchange.target())?;
        let route = route(&exchange.verb(), &target)?;
        let policy = self.shared.policy.load_full();
        let mut names = route.names;
        let project = if names.is_empty() { None } else { Some(names.remove(0)) };
        recorder.routed(route.method.id, project.as_deref(), policy.epoch);
        let project = match project {
            Some(project) if self.serves(&project, &policy) => project,
            Some(project) => return Err(Denial::of(DenialCode::ApiProject, project).into()),
            None => String::new(),
        };
        let asked = Asked {
            front: self,
            identity,
            tenant,
            policy,
            recorder,
            method: route.method,
            names,
            project,
            parameters: target.parameters,
            begun,
            would_deny: OnceLock::new(),
        };
        asked.run(route.handler, exchange).await
    }

    /// Whether tenants may use a project: the configured one, and those that the policy names.
    pub(super) fn serves(&self, project: &str, policy: &BigQueryPolicy) -> bool {
        self.projects(policy).any(|known| known == project)
    }

    /// The projects that tenants may use.
    pub(super) fn projects<'a>(
        &'a self,
        policy: &'a BigQueryPolicy,
    ) -> impl Iterator<Item = &'a str> {
        let tables = policy.tables.iter().map(|(pattern, _)| pattern.project.as_str());
        let datasets = policy.datasets.keys().map(|(project, _)| project.as_str());
        let named = tables.chain(datasets).filter(|project| !project.contains('*'));
        self.settings.default_project.as_deref().into_iter().chain(named)
    }
}

impl Asked<'_> {
    async fn run(&self, handler: Handler, exchange: &mut Exchange) -> Result<Answer, Fault> {
        let _at_work = self.demand(Demand { statements: 0, place: true })?;
        match handler {
            Handler::Query => query::run(self, exchange).await,
            Handler::Results => results::page(self).await,
            Handler::InsertJob => jobs::insert(self, exchange).await,
            Handler::Job => jobs::show(self).await,
            Handler::Jobs => jobs::list(self).await,
            Handler::CancelJob => jobs::cancel(self).await,
            Handler::DeleteJob => jobs::delete(self).await,
            Handler::Projects => datasets::projects(self).await,
            Handler::Datasets => datasets::list(self).await,
            Handler::Dataset => datasets::show(self).await,
            Handler::Tables => tables::list(self).await,
            Handler::Table => tables::show(self).await,
            Handler::InsertTable => tables::insert(self, exchange).await,
            Handler::ChangeTable => tables::change(self, exchange).await,
            Handler::DeleteTable => tables::delete(self).await,
            Handler::Rows => tabledata::list(self).await,
            Handler::InsertAll => insert_all::run(self, exchange).await,
            Handler::Upload => upload::begin(self, exchange).await,
            Handler::UploadMore => upload::go_on(self, exchange).await,
            Handler::Nothing => datasets::nothing(self).await,
        }
    }

    /// Lets statements through that are about to be sent: queries, jobs, rows. What only asks about them
    /// costs nothing.
    ///
    /// # Errors
    /// HR3001.
    pub(super) fn admit(&self, statements: usize) -> Result<(), Fault> {
        let statements = u32::try_from(statements).unwrap_or(u32::MAX);
        self.demand(Demand { statements, place: false }).map(|_| ())
    }

    fn demand(&self, demand: Demand) -> Result<Option<limiter::Place>, Fault> {
        let rules = Rules { epoch: self.policy.epoch, quotas: &self.policy.quotas };
        let admitted = self.front.shared.limiter.admit(rules, &self.tenant.text(), demand)?;
        if let Some(denial) = admitted.would_deny {
            // The first is enough for the record.
            let _ = self.would_deny.set(denial);
        }
        Ok(admitted.place)
    }

    /// Everything that is the tenant's in this project.
    pub(super) fn owner(&self) -> Owner<'_> {
        self.front.keyring.of(&self.tenant, &self.project)
    }

    /// Where names without a project belong.
    pub(super) fn place(&self) -> Place {
        Place { project: self.project.clone(), default_dataset: None, session: false }
    }

    /// What names are judged by.
    pub(super) fn env<'b>(&'b self, place: &'b Place) -> Env<'b> {
        Env { policy: &self.policy, principal: self.identity.principal(), place }
    }

    /// The path's name at a place behind the project: of a dataset or table.
    ///
    /// # Errors
    /// HR5002 for one that cannot be.
    pub(super) fn name(&self, index: usize) -> Result<&str, Fault> {
        let name = self.names.get(index).map(String::as_str).unwrap_or_default();
        if is_name(name) { Ok(name) } else { Err(Fault::form("name in the path")) }
    }

    /// A query parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A query parameter that is a count.
    pub(super) fn count(&self, name: &'static str) -> Result<Option<u64>, Fault> {
        let parse =
            |text: &str| text.parse().map_err(|_| Fault::form(format!("query parameter {name}")));
        self.parameter(name).map(parse).transpose()
    }

    /// A query parameter that is one plain word.
    pub(super) fn word(&self, name: &'static str) -> Result<Option<&str>, Fault> {
        match self.parameter(name) {
            Some(text) if !is_word(text) => Err(Fault::form(format!("query parameter {name}"))),
            known => Ok(known),
        }
    }

    /// What a record says of a method without SQL.
    pub(super) fn facts(&self) -> Facts {
        Facts { kind: self.method.id, ..Facts::default() }
    }

    /// Sends a call and records it.
    ///
    /// # Errors
    /// [`Fault::NoAudit`] before anything is sent, [`Fault::Unavailable`].
    pub(super) async fn perform(
        &self,
        call: &Call,
        facts: &Facts,
        counts: fn(&Reply) -> Counts,
    ) -> Result<Reply, Fault> {
        let record = self.recorder.open(facts, self.would_deny.get()).await?;
        self.front.meters.before_upstream(self.begun.elapsed());
        let outcome = self.front.upstream.send(call, record.permit()).await;
        let (result, counts) = match &outcome {
            Ok(reply) if reply.is_good() => (SUCCESS.to_owned(), counts(reply)),
            Ok(reply) => {
                (scrub::fault(reply, scrub::Known::NOTHING).result().to_owned(), Counts::default())
            }
            Err(fault) => (fault.result().to_owned(), Counts::default()),
        };
        self.recorder.close(record, &result, counts).await?;
        outcome
    }

    /// Records a method that Hedgerow answers by itself.
    ///
    /// # Errors
    /// [`Fault::NoAudit`]
    pub(super) async fn by_itself(&self) -> Result<(), Fault> {
        let record = self.recorder.open(&self.facts(), self.would_deny.get()).await?;
        Ok(self.recorder.close(record, SUCCESS, Counts::default()).await?)
    }
}

/// A reply in which nothing is counted.
pub(super) fn uncounted(_reply: &Reply) -> Counts {
    Counts::default()
}
