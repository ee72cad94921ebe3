//! Denial codes and SQLSTATEs: the one list that documentation, audit and wire share. Layer 0.
//!
//! A [`Denial`] never carries policy text, upstream addresses or another tenant's data: its object
//! is the client's own spelling of what it asked for.

use std::fmt;

/// A five-character SQLSTATE (PostgreSQL, appendix A "Error Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SqlState(pub &'static str);

impl SqlState {
    /// `42501`: a denial.
    pub const INSUFFICIENT_PRIVILEGE: Self = Self("42501");
    /// `28000`: no valid identity.
    pub const INVALID_AUTHORIZATION: Self = Self("28000");
    /// `28P01`: the token given as password is not valid.
    pub const INVALID_PASSWORD: Self = Self("28P01");
    /// `08P01`: the peer broke the protocol.
    pub const PROTOCOL_VIOLATION: Self = Self("08P01");
    /// `08006`: the upstream was lost.
    pub const CONNECTION_FAILURE: Self = Self("08006");
    /// `08007`: the upstream was lost while the outcome was open.
    pub const TRANSACTION_RESOLUTION_UNKNOWN: Self = Self("08007");
    /// `53300`: too many clients.
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    /// `53400`: a quota is spent.
    pub const CONFIGURATION_LIMIT_EXCEEDED: Self = Self("53400");
    /// `53200`: too much is held in memory.
    pub const OUT_OF_MEMORY: Self = Self("53200");
    /// `53100`: audit cannot be written.
    pub const DISK_FULL: Self = Self("53100");
    /// `54000`: a statement over `max_statement`.
    pub const PROGRAM_LIMIT_EXCEEDED: Self = Self("54000");
    /// `57P01`: expiry and drain.
    pub const ADMIN_SHUTDOWN: Self = Self("57P01");
    /// `57P03`: not ready.
    pub const CANNOT_CONNECT_NOW: Self = Self("57P03");
    /// `25P03`: idle in transaction for too long.
    pub const IDLE_IN_TRANSACTION_TIMEOUT: Self = Self("25P03");
}

macro_rules! denial_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $reason:literal, $hint:literal;)*) => {
        /// Why something was denied. The number is public interface.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DenialCode { $($(#[$doc])* $variant,)* }

        impl DenialCode {
            /// Every code, in numeric order: the source of the documentation's table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// `HR1003`
            pub const fn code(self) -> &'static str { match self { $(Self::$variant => $code,)* } }

            /// The reason in plain words, for the client.
            pub const fn reason(self) -> &'static str { match self { $(Self::$variant => $reason,)* } }

            /// What the reader of the error can do about it.
            pub const fn hint(self) -> &'static str { match self { $(Self::$variant => $hint,)* } }
        }
    };
}

denial_codes! {
    /// One of the two parsers cannot read the statement.
    CannotParse = "HR1001", "the statement cannot be parsed", "Check the syntax; if PostgreSQL accepts the statement, rewrite it in a plainer form.";
    /// A kind of statement that no tenant may send.
    StatementKind = "HR1002", "this kind of statement is not allowed", "Tenants may send queries, data changes and transaction control; schema changes need a migration identity.";
    /// A relation that no policy names, or that does not exist.
    UnknownRelation = "HR1003", "the relation is not known", "Check the spelling, or ask the operator to add the relation to the policy.";
    /// A relation that the policy denies.
    RelationDenied = "HR1004", "the relation is not available to tenants", "Ask the operator whether this relation should be part of the policy.";
    /// A function or operator outside the safe list.
    Function = "HR1005", "the function is not allowed", "Use a built-in function of the safe list, or ask the operator to allow the function in the policy.";
    /// A setting that tenants may not change.
    ProtectedSetting = "HR1006", "this setting is protected", "Leave the setting to the operator; harmless session settings can be changed.";
    /// A catalog or statistics view that shows other tenants' data.
    Catalog = "HR1007", "this catalog shows data of other tenants", "Use information_schema, or the catalogs that describe tables and columns.";
    /// PostgreSQL's grammar and the rewriting parser read the text differently.
    ParsersDisagree = "HR1008", "the statement is read differently by two parsers", "Rewrite the statement in a plainer form.";
    /// The statement could carry another tenant's data in a way that cannot be closed.
    LeakPossible = "HR1009", "a leak cannot be excluded for this form of statement", "Rewrite the statement in a plainer form, for example with a derived table.";
    /// A column that the policy denies.
    ColumnDenied = "HR1010", "the column is not available", "Leave the column out of the statement.";
    /// A write whose row would belong to another tenant.
    WriteOutsideTenant = "HR1011", "the row would not belong to the tenant", "Leave the tenant column out, or give the tenant of the token.";
    /// An update that would move a row to another tenant.
    TenantColumnChange = "HR1012", "the tenant of a row cannot be changed", "Leave the tenant column out of SET.";
    /// A write to a relation that tenants may only read.
    ReadOnly = "HR1013", "the relation is read only", "Read from the relation; writing needs another identity or policy.";
    /// A form of COPY that is not allowed.
    Copy = "HR1014", "this form of COPY is not allowed", "Use COPY table FROM STDIN, COPY … TO STDOUT, or INSERT.";
    /// A protocol message that a tenant may not send.
    ProtocolMessage = "HR1015", "this protocol message is not allowed", "Use queries; function calls and replication are not available.";
    /// A token that cannot be read or whose signature is wrong.
    TokenInvalid = "HR2001", "the token is not valid", "Send a signed JWT of a configured issuer as the password.";
    /// A token past its time.
    TokenExpired = "HR2002", "the token has expired", "Fetch a new token and connect again.";
    /// A token that is not valid yet.
    TokenNotYetValid = "HR2003", "the token is not valid yet", "Check the clocks of the issuer and of this machine.";
    /// An issuer that is not configured.
    TokenIssuer = "HR2004", "the token's issuer is not accepted", "Use a token of a configured issuer.";
    /// An audience that is not configured.
    TokenAudience = "HR2005", "the token is meant for another audience", "Ask the issuer for a token with this service's audience.";
    /// A signing algorithm outside the configured list.
    TokenAlgorithm = "HR2006", "the token's algorithm is not accepted", "Sign with an algorithm that is configured for the issuer.";
    /// A key id that the issuer's key set does not hold.
    TokenKey = "HR2007", "the token's key is not known", "Check that the issuer publishes the key.";
    /// A claim that is missing or malformed.
    TokenClaim = "HR2008", "a claim of the token is missing or malformed", "The token needs iss, sub, aud, iat and exp, and a lifetime within the limit.";
    /// No usable tenant claim.
    TokenTenant = "HR2009", "the token names no usable tenant", "The tenant claim must be one value of the tenant column's type.";
    /// A revoked token.
    TokenRevoked = "HR2010", "the token was revoked", "Fetch a new token.";
    /// No token at all.
    TokenMissing = "HR2011", "no token was given", "Send the JWT as the password, or as the startup option hedgerow.token.";
    /// The list of revoked tokens has not been read yet.
    RevocationsUnknown = "HR2012", "it is not known yet which tokens were revoked", "Try again later; the operator's log has the reason.";
    /// A tenant's rate of statements is spent.
    Quota = "HR3001", "the tenant's quota is spent", "Send fewer statements, or ask the operator for a larger quota.";
    /// A tenant has as much at work as it may.
    QuotaConcurrent = "HR3002", "the tenant has too many statements at work", "Wait until some have ended, or ask the operator for a larger quota.";
    /// The bytes that a tenant may scan a day.
    ByteBudget = "HR3003", "the bytes that the tenant may scan a day are spent", "Read less, or wait for the next day (UTC); the operator sets the bound.";
    /// Audit cannot be written.
    AuditUnavailable = "HR4001", "the audit record cannot be written", "Try again later; the operator has been told.";
    /// A fault of Hedgerow itself: closed, not open.
    Internal = "HR4002", "the statement could not be checked", "Report this to the operator with the record's id.";
    /// A statement over one of the limits on size, nesting or count.
    StatementTooLarge = "HR4003", "the statement is over a limit", "Send a smaller or simpler statement.";
    /// A method or path of BigQuery's API that tenants may not use, or that nobody knows.
    ApiMethod = "HR5001", "this method of the API is not available", "Use jobs, queries and the tables of the policy; docs/bigquery-methods.md lists the methods.";
    /// A parameter, field, header or encoding of a request that is not on the list.
    ApiForm = "HR5002", "this form of the request is not allowed", "Leave the named part of the request out.";
    /// A project that is not the operator's.
    ApiProject = "HR5003", "the project is not available", "Use the project that the operator configured.";
    /// A query in legacy SQL.
    LegacySql = "HR5004", "legacy SQL is not allowed", "Send GoogleSQL, with useLegacySql false.";
    /// Results, tables or rows that would go where they are not the tenant's own.
    Destination = "HR5005", "the destination is not the tenant's own", "Write into a dataset of your own.";
    /// A kind of job that tenants may not run.
    JobKind = "HR5006", "this kind of job is not allowed", "Run query jobs, or copy and load into a dataset of your own.";
    /// A job, page, session or table that belongs to someone else, or to nobody.
    ForeignObject = "HR5007", "there is no such object", "Check the id; ids are bound to the tenant who was given them.";
}

impl fmt::Display for DenialCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl DenialCode {
    /// Whether it is about what a tenant may use, and not about what it may see or do.
    pub const fn is_quota(self) -> bool {
        matches!(self, Self::Quota | Self::QuotaConcurrent | Self::ByteBudget)
    }
}

/// A refusal: code, and the object it is about in the client's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub code: DenialCode,
    /// The client's own name for the thing: a relation, function, setting or statement kind.
    pub object: Option<String>,
}

impl Denial {
    /// A denial without an object.
    pub const fn new(code: DenialCode) -> Self {
        Self { code, object: None }
    }

    /// A denial that names its object.
    pub fn of(code: DenialCode, object: impl Into<String>) -> Self {
        Self { code, object: Some(object.into()) }
    }

    /// The SQLSTATE that a client sees.
    pub const fn sqlstate(&self) -> SqlState {
        match self.code {
            DenialCode::TokenInvalid
            | DenialCode::TokenExpired
            | DenialCode::TokenNotYetValid
            | DenialCode::TokenIssuer
            | DenialCode::TokenAudience
            | DenialCode::TokenAlgorithm
            | DenialCode::TokenKey
            | DenialCode::TokenClaim
            | DenialCode::TokenTenant
            | DenialCode::TokenRevoked
            | DenialCode::RevocationsUnknown
            | DenialCode::TokenMissing => SqlState::INVALID_AUTHORIZATION,
            DenialCode::Quota | DenialCode::QuotaConcurrent | DenialCode::ByteBudget => {
                SqlState::CONFIGURATION_LIMIT_EXCEEDED
            }
            DenialCode::AuditUnavailable => SqlState::DISK_FULL,
            DenialCode::StatementTooLarge => SqlState::PROGRAM_LIMIT_EXCEEDED,
            _ => SqlState::INSUFFICIENT_PRIVILEGE,
        }
    }

    /// `hedgerow: <reason in plain words>`, for the client's MESSAGE field.
    pub fn message(&self) -> String {
        format!("hedgerow: {}", self.code.reason())
    }

    /// The code and the object, for the client's DETAIL field.
    pub fn detail(&self) -> String {
        match &self.object {
            Some(object) => format!("{}: {}", self.code, object),
            None => self.code.to_string(),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code.code(), self.code.reason())?;
        if let Some(object) = &self.object {
            write!(f, " ({object})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Denial {}
