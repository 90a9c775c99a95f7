use super::record::ViewRecord;
use super::*;
use crate::clock::{Clock, Ids};
use crate::meta::EmbeddedStore;
use crate::meta::keys::secrets::Secret;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::Constraints;
use std::collections::BTreeMap;
use std::path::Path;
use windlass_engine::stores::{StoreOptions, with_settings};

async fn open(folder: &Path) -> Arc<Catalog> {
    let stores = StoreRegistry::new();
    Catalog::open(CatalogConfig {
        sealer: crate::meta::Sealer::ephemeral().unwrap(),
        store: Arc::new(EmbeddedStore::open(&folder.join("meta.redb")).unwrap()),
        stores,
        runtime: Arc::new(RuntimeEnv::default()),
        warehouse: folder.join("warehouse").display().to_string(),
        grace: Duration::ZERO,
        limits: Default::default(),
        connectors: Default::default(),
        clock: Clock::system(),
        ids: Ids::random(),
        tasks: Default::default(),
    })
    .await
    .unwrap()
}

fn name(table: &str) -> TableName {
    TableName::new(DEFAULT_CATALOG, DEFAULT_SCHEMA, table)
}

fn table(catalog: &Catalog, of: &str) -> TableRecord {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    Record::managed(catalog.warehouse(), &name(of), schema, &Constraints::default(), &[], None, catalog.ids()).unwrap()
}

fn view(of: &str, references: &[&str]) -> Record {
    Record::View(ViewRecord {
        id: of.to_string(),
        definition: format!("CREATE VIEW {of} AS SELECT * FROM {}", references.join(", ")),
        reading: BTreeMap::new(),
        default_catalog: DEFAULT_CATALOG.into(),
        default_schema: DEFAULT_SCHEMA.into(),
        references: references.iter().map(|table| name(table)).collect(),
    })
}

#[tokio::test]
async fn what_was_created_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let version = {
        let catalog = open(folder.path()).await;
        catalog.create_schema(None, DEFAULT_CATALOG, "odd/name%", false).await.unwrap();
        let record = Record::Table(table(&catalog, "t"));
        assert!(catalog.create(None, &name("t"), record.clone(), OnExists::Fail).await.unwrap());
        assert!(!catalog.create(None, &name("t"), record, OnExists::Keep).await.unwrap());
        catalog.create(None, &name("v"), view("v", &["t"]), OnExists::Fail).await.unwrap();
        catalog.create(None, &name("gone"), view("gone", &["t"]), OnExists::Fail).await.unwrap();
        catalog.drop_table(None, &name("gone"), true, false).await.unwrap();
        catalog.version()
    };
    let catalog = open(folder.path()).await;
    assert_eq!(catalog.version(), version);
    let snapshot = catalog.snapshot();
    assert_eq!(snapshot.names_in(DEFAULT_CATALOG, DEFAULT_SCHEMA), ["t", "v"]);
    assert_eq!(snapshot.schemas(DEFAULT_CATALOG).collect::<Vec<_>>(), ["odd/name%", "public"]);
    let provider = catalog.provider(&name("v")).await.unwrap().unwrap();
    assert_eq!(provider.schema().field(0).data_type(), &DataType::Int64);
}

#[tokio::test]
async fn a_view_follows_the_tables_that_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path()).await;
    catalog.create(None, &name("t"), Record::Table(table(&catalog, "t")), OnExists::Fail).await.unwrap();
    catalog.create(None, &name("v"), view("v", &["t"]), OnExists::Fail).await.unwrap();
    assert_eq!(catalog.provider(&name("v")).await.unwrap().unwrap().schema().fields().len(), 1);
    let mut wider = table(&catalog, "t");
    wider.schema = crate::statements::catalog::record::StoredSchema(Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
    ])));
    catalog.create(None, &name("t"), Record::Table(wider), OnExists::Replace).await.unwrap();
    assert_eq!(catalog.provider(&name("v")).await.unwrap().unwrap().schema().fields().len(), 2);
    catalog.drop_table(None, &name("t"), false, false).await.unwrap();
    let error = catalog.provider(&name("v")).await.unwrap_err();
    assert!(error.to_string().contains("table 't' not found"), "{error}");
}

#[tokio::test]
async fn views_cannot_read_themselves_through_others() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path()).await;
    catalog.create(None, &name("a"), view("a", &["t"]), OnExists::Fail).await.unwrap();
    catalog.create(None, &name("b"), view("b", &["a"]), OnExists::Fail).await.unwrap();
    let error = catalog.create(None, &name("a"), view("a", &["b"]), OnExists::Replace).await.unwrap_err();
    assert!(error.to_string().contains("read itself"), "{error}");
}

#[tokio::test]
async fn names_that_are_taken_or_missing_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path()).await;
    let record = || Record::Table(table(&catalog, "flights"));
    catalog.create(None, &name("flights"), record(), OnExists::Fail).await.unwrap();
    let taken = catalog.create(None, &name("flights"), record(), OnExists::Fail).await.unwrap_err();
    assert_eq!(taken, QueryError::AlreadyExists("table 'flights' already exists".into()));
    let kind = catalog.create(None, &name("flights"), view("flights", &[]), OnExists::Replace).await.unwrap_err();
    assert!(kind.to_string().contains("is a table"), "{kind}");
    let missing = catalog.drop_table(None, &name("fligths"), false, false).await.unwrap_err();
    assert_eq!(missing.to_string(), "table 'fligths' not found; did you mean flights?");
    assert!(!catalog.drop_table(None, &name("fligths"), false, true).await.unwrap());
    let as_view = catalog.drop_table(None, &name("flights"), true, false).await.unwrap_err();
    assert!(as_view.to_string().contains("use DROP TABLE"), "{as_view}");
    let schema = catalog.create(None, &TableName::new(DEFAULT_CATALOG, "publc", "x"), record(), OnExists::Fail).await;
    assert_eq!(schema.unwrap_err().to_string(), "schema 'publc' not found; did you mean public?");
    let full = catalog.drop_schema(None, DEFAULT_CATALOG, DEFAULT_SCHEMA, false, false).await.unwrap_err();
    assert!(full.to_string().contains("CASCADE"), "{full}");
}

#[tokio::test]
async fn files_of_dropped_tables_go_once_their_time_has_come() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path()).await;
    let record = table(&catalog, "t");
    let root = record.managed().unwrap().root.place().local_path().unwrap();
    std::fs::create_dir_all(root.join("1")).unwrap();
    std::fs::write(root.join("1/x.parquet"), "x").unwrap();
    catalog.create(None, &name("t"), Record::Table(record), OnExists::Fail).await.unwrap();
    assert_eq!(catalog.collect_garbage().await.unwrap(), 0);
    catalog.drop_table(None, &name("t"), false, false).await.unwrap();
    assert!(root.exists());
    assert_eq!(catalog.collect_garbage().await.unwrap(), 1);
    assert!(!root.exists());
}

/// An option of the table counts before that of its secret, when the table is made and whenever a primary starts.
#[tokio::test]
async fn a_tables_own_options_count_before_those_of_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path()).await;
    let options = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    };
    let lent = options(&[("aws.region", "lent"), ("aws.access_key_id", "key"), ("aws.secret_access_key", "x")]);
    let secret = Secret::of(catalog.sealer(), "mine", &lent, 0).unwrap();
    catalog.change(None, |_| Ok(vec![Edit::PutSecret("mine".into(), secret)])).await.unwrap();
    let mut record = table(&catalog, "t");
    record.storage = Storage::External(External {
        locations: vec![record::Location { url: "s3://bucket/t/".into(), glob: None }],
        format: "CSV".into(),
        options: options(&[(SECRET, "mine"), ("aws.region", "own")]),
        sealed: None,
        extension: String::new(),
        partitions: 0,
        order: Vec::new(),
    });
    let of_table = with_settings("s3://bucket/t/a.csv", &record.id);
    catalog.create(None, &name("t"), Record::Table(record), OnExists::Fail).await.unwrap();
    catalog.configure_stores(&catalog.snapshot(), |_| true);
    assert!(catalog.stores().options("s3://bucket/t/a.csv").is_none(), "others of the bucket do not see them");
    let known = catalog.stores().options(&of_table).unwrap();
    assert_eq!((known["aws.region"].as_str(), known["aws.access_key_id"].as_str()), ("own", "key"));
}
