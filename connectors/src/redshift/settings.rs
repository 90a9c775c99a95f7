//! Where a warehouse is, how to talk to it, and where rows are staged for it: of a table's location and options.

use super::staging::STORE_OPTIONS;
use crate::aws::{self, Access};
use crate::postgres::settings::{Dialect, Settings as Wire, of_password_file};
use crate::server::{self, Form, SslMode};
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use std::collections::BTreeMap;
use std::path::PathBuf;
use windlass_engine::Place;
use windlass_engine::connector::{OptionSpec, Options, TableSpec};

const PORT: u16 = 5439;
const FORM: Form = Form {
    schemes: &["redshift"],
    example: "redshift://user@host:5439/database",
    parameters: &["sslmode", "sslrootcert", "connect_timeout"],
    passwords: "OPTIONS (password '…') or a password file",
};

/// How statements reach a warehouse.
#[derive(Clone, Debug)]
pub(super) enum Via {
    /// Over the protocol of PostgreSQL.
    Wire(Box<Wire>),
    /// Over the Redshift Data API.
    Api(Api),
}

/// A database as the Data API names it.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub access: Access,
    pub cluster: Option<String>,
    pub workgroup: Option<String>,
    pub database: String,
    pub user: Option<String>,
    /// ARN of a secret of AWS's Secrets Manager that has user and password.
    pub secret: Option<String>,
}

/// As whom COPY reads the staged files.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Reader {
    Role(String),
    /// The default role of the cluster.
    Default,
    Keys {
        key: String,
        secret: String,
        token: Option<String>,
    },
}

/// What a table's location and options say.
pub(super) struct Settings<'a> {
    spec: &'a TableSpec,
    location: server::Location,
}

impl<'a> Settings<'a> {
    /// # Errors
    /// The location or an option is wrong.
    pub fn of(spec: &'a TableSpec) -> Result<Self> {
        let options = &spec.options;
        let settings = Self { spec, location: server::Location::parse(&spec.location, &FORM)? };
        for (option, least, most) in [
            ("file_bytes", 1 << 16, 1 << 30),
            ("varchar_length", 1, 65_535),
            ("varbyte_length", 1, 16_777_216),
            ("statement_timeout", 0, i64::from(i32::MAX)),
            ("connect_timeout", 0, 86_400),
        ] {
            let value = options.integer(option).unwrap_or(least);
            if !(least..=most).contains(&value) {
                return plan_err!("the option '{option}' is {value}: expected {least} to {most}");
            }
        }
        let of_api = ["cluster_identifier", "workgroup_name", "db_user", "secret_arn", "endpoint"];
        match settings.uses_api() {
            true => _ = settings.api()?,
            false => {
                if let Some(option) = of_api.into_iter().find(|option| options.given().contains_key(*option)) {
                    return plan_err!("the option '{option}' is for the Data API: use it with via 'data-api'");
                }
            }
        }
        settings.reader()?;
        settings.staging()?;
        Ok(settings)
    }

    fn text(&self, option: &str) -> Option<String> {
        text(&self.spec.options, option)
    }

    fn uses_api(&self) -> bool {
        self.text("via").is_some_and(|via| via.eq_ignore_ascii_case("data-api"))
    }

    /// Reads the files that complete it, which are those of this machine.
    pub async fn via(&self) -> Result<Via> {
        Ok(match self.uses_api() {
            true => Via::Api(self.api()?),
            false => Via::Wire(Box::new(self.wire().await?)),
        })
    }

    async fn wire(&self) -> Result<Wire> {
        let at = &self.location;
        let parameter = |name: &str| self.text(name).or_else(|| at.parameters.get(name).cloned());
        let Some(host) = at.host.clone() else {
            return plan_err!("the location has no host: expected {}", FORM.example);
        };
        let Some(user) = at.user.clone() else {
            return plan_err!("the location does not say as which user to connect: expected {}", FORM.example);
        };
        let (database, port) = (self.database()?, at.port.unwrap_or(PORT));
        let file = std::env::var_os("PGPASSFILE").filter(|file| !file.is_empty()).map(PathBuf::from);
        let password = match self.text("password") {
            Some(password) => Some(password),
            None => of_password_file(file, &host, port, &database, &user).await,
        };
        Ok(Wire {
            dialect: Dialect::Redshift,
            host,
            port,
            user,
            database,
            password,
            sslmode: SslMode::parse(parameter("sslmode").as_deref())?,
            sslrootcert: parameter("sslrootcert"),
            requires_binding: false,
            connect_timeout: server::connect_timeout(parameter("connect_timeout"))?,
            statement_timeout: server::statement_timeout(self.spec),
        })
    }

    fn api(&self) -> Result<Api> {
        let (mut cluster, mut workgroup) = (self.text("cluster_identifier"), self.text("workgroup_name"));
        let host = self.location.host.as_deref().unwrap_or_default();
        let mut region = self.text("region");
        // NAME.ID.REGION.redshift.amazonaws.com, WORKGROUP.ACCOUNT.REGION.redshift-serverless.amazonaws.com
        if let [name, _, of, service, "amazonaws", ..] = host.split('.').collect::<Vec<_>>().as_slice() {
            if cluster.is_none() && workgroup.is_none() {
                match *service {
                    "redshift" => cluster = Some(name.to_string()),
                    "redshift-serverless" => workgroup = Some(name.to_string()),
                    _ => {}
                }
            }
            region = region.or_else(|| Some(of.to_string()));
        }
        if cluster.is_some() == workgroup.is_some() {
            return plan_err!(
                "via 'data-api' wants the option 'cluster_identifier' or 'workgroup_name', and not both: the name of a cluster, or of a \
                 workgroup of Redshift Serverless"
            );
        }
        let secret = self.text("secret_arn");
        let user = match &secret {
            Some(_) => self.text("db_user"),
            None => self.text("db_user").or_else(|| self.location.user.clone()),
        };
        let access = aws::access(region, &self.spec.options)?;
        Ok(Api { access, cluster, workgroup, database: self.database()?, user, secret })
    }

    fn database(&self) -> Result<String> {
        let named = self.location.database.clone();
        named.ok_or_else(|| plan_datafusion_err!("the location names no database: expected {}", FORM.example))
    }

    /// The folder below which the files of loads are staged.
    pub fn staging(&self) -> Result<Place> {
        let Some(text) = self.text("staging") else {
            return plan_err!(
                "tables stored as REDSHIFT want the option 'staging': a folder of S3, s3://bucket/folder/, in the region of the warehouse"
            );
        };
        let place = Place::parse(&text)?.as_folder();
        if !place.store().as_str().starts_with("s3://") {
            return plan_err!("the option 'staging' is '{text}': expected a folder of S3, s3://bucket/folder/");
        }
        if text.contains(['\'', '\\']) {
            return plan_err!("the option 'staging' has a quote or a backslash, which COPY of Redshift does not read");
        }
        Ok(place)
    }

    /// The options of the staging bucket, as stores name them. Empty: it is reached as the engine reaches it.
    pub fn store_options(&self) -> BTreeMap<String, String> {
        let options = &self.spec.options;
        let stored = |spec: &OptionSpec| Some((spec.name.replacen('_', ".", 1), text(options, spec.name)?));
        let mut named: BTreeMap<String, String> = STORE_OPTIONS.iter().filter_map(stored).collect();
        if !named.contains_key("aws.access_key_id") {
            for of in ["access_key_id", "secret_access_key", "session_token"] {
                named.extend(self.text(of).map(|value| (format!("aws.{of}"), value)));
            }
        }
        if !named.is_empty()
            && let Some(region) = self.text("region")
        {
            named.entry("aws.region".to_string()).or_insert(region);
        }
        named
    }

    pub fn reader(&self) -> Result<Reader> {
        let options = self.store_options();
        let keys = (options.get("aws.access_key_id"), options.get("aws.secret_access_key"));
        let reader = match (self.text("iam_role"), keys) {
            (Some(role), _) if role.eq_ignore_ascii_case("default") => Reader::Default,
            (Some(role), _) => Reader::Role(role),
            (None, (Some(key), Some(secret))) => {
                let token = options.get("aws.session_token").cloned();
                Reader::Keys { key: key.clone(), secret: secret.clone(), token }
            }
            _ => {
                return plan_err!(
                    "tables stored as REDSHIFT want the option 'iam_role', the ARN of a role of the warehouse that may read the staging folder, \
                     or 'default'; else 'aws_access_key_id' and 'aws_secret_access_key'"
                );
            }
        };
        match reader.has(['\'', '\\', ';']) {
            true => plan_err!(
                "the role or a key of S3 has a quote, a backslash or a semicolon, which no role and no key has"
            ),
            false => Ok(reader),
        }
    }
}

impl Reader {
    fn has(&self, characters: [char; 3]) -> bool {
        match self {
            Self::Role(role) => role.contains(characters),
            Self::Default => false,
            Self::Keys { key, secret, token } => {
                [Some(key), Some(secret), token.as_ref()].into_iter().flatten().any(|text| text.contains(characters))
            }
        }
    }

    /// As COPY names it.
    pub fn sql(&self) -> String {
        match self {
            Self::Role(role) => format!("IAM_ROLE '{role}'"),
            Self::Default => "IAM_ROLE default".to_string(),
            Self::Keys { key, secret, token } => {
                // COPY of columnar files has no other parameters for keys.
                let token = token.as_ref().map(|token| format!(";token={token}")).unwrap_or_default();
                format!("CREDENTIALS 'aws_access_key_id={key};aws_secret_access_key={secret}{token}'")
            }
        }
    }
}

fn text(options: &Options, option: &str) -> Option<String> {
    options.text(option).filter(|text| !text.is_empty()).map(str::to_string)
}
