-- The demo's schema: a small cost-management product that many companies share.
-- Run by the owner of the tables, who is not the role that the application signs in as.

CREATE TABLE tenants (
  id          uuid PRIMARY KEY,
  name        text NOT NULL,
  plan        text NOT NULL CHECK (plan IN ('free', 'team', 'enterprise')),
  created_at  timestamptz NOT NULL
);

CREATE TABLE users (
  id             bigint GENERATED ALWAYS AS IDENTITY,
  tenant_id      uuid NOT NULL REFERENCES tenants (id),
  email          text NOT NULL,
  full_name      text NOT NULL,
  role           text NOT NULL,
  password_hash  text NOT NULL,
  PRIMARY KEY (id),
  UNIQUE (tenant_id, email)
);

CREATE TABLE regions (
  code      text PRIMARY KEY,
  provider  text NOT NULL,
  name      text NOT NULL
);

CREATE TABLE currencies (
  code         char(3) PRIMARY KEY,
  name         text NOT NULL,
  usd_per_unit numeric(12, 6) NOT NULL
);

CREATE TABLE cloud_accounts (
  id              uuid PRIMARY KEY,
  tenant_id       uuid NOT NULL REFERENCES tenants (id),
  provider        text NOT NULL,
  account_number  text NOT NULL,
  name            text NOT NULL,
  currency        char(3) NOT NULL REFERENCES currencies (code),
  UNIQUE (tenant_id, provider, account_number)
);

-- No tenant column of its own: a resource belongs to whoever owns its account.
CREATE TABLE resources (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  account_id    uuid NOT NULL REFERENCES cloud_accounts (id),
  kind          text NOT NULL,
  name          text NOT NULL,
  region        text NOT NULL REFERENCES regions (code),
  monthly_cost  numeric(12, 2) NOT NULL,
  tags          jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX ON resources (account_id);

CREATE TABLE recommendations (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id       uuid NOT NULL REFERENCES tenants (id),
  resource_id     bigint NOT NULL REFERENCES resources (id),
  title           text NOT NULL,
  monthly_saving  numeric(12, 2) NOT NULL,
  status          text NOT NULL
);
CREATE INDEX ON recommendations (tenant_id);

CREATE TABLE policies (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id  uuid NOT NULL REFERENCES tenants (id),
  name       text NOT NULL,
  rule       jsonb NOT NULL,
  enabled    boolean NOT NULL DEFAULT true,
  UNIQUE (tenant_id, name)
);

CREATE TABLE cost_metrics_daily (
  tenant_id   uuid NOT NULL REFERENCES tenants (id),
  account_id  uuid NOT NULL REFERENCES cloud_accounts (id),
  day         date NOT NULL,
  service     text NOT NULL,
  cost        numeric(12, 4) NOT NULL,
  PRIMARY KEY (tenant_id, account_id, day, service)
) PARTITION BY RANGE (day);

DO $$
BEGIN
  FOR month IN 1..12 LOOP
    EXECUTE format(
      'CREATE TABLE cost_metrics_daily_2025_%s PARTITION OF cost_metrics_daily
         FOR VALUES FROM (%L) TO (%L)',
      lpad(month::text, 2, '0'), make_date(2025, month, 1),
      make_date(2025, month, 1) + interval '1 month');
  END LOOP;
END $$;

-- The vendor's own: denied to every tenant by name.
CREATE TABLE vendor_margins (
  provider  text PRIMARY KEY,
  margin    numeric(5, 2) NOT NULL
);

-- Made by a migration that nobody told the policies about: denied because no policy names it.
CREATE TABLE support_tickets (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id  uuid NOT NULL,
  subject    text NOT NULL
);
